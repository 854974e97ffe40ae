//! `ocictl import`: everything that a distribution registry has stored, read from its directory.
//!
//! - `destination.rs`: the registry or data directory that it goes to.
//! - `tally.rs`: what was done, and what was not.

mod destination;
mod tally;

use std::sync::Arc;

use futures_util::{TryStreamExt as _, stream};
use oci_ref::{
    Copier, CopyOptions, DistributionDirectory, DistributionRepository, Error, ErrorKind,
    ManifestError, Target,
};
use oci_spec_types::{Digest, ErrorCode, Name, Tag};

use self::destination::Destination;
use self::tally::Tally;
use crate::cli::ImportArgs;
use crate::failure::Failure;
use crate::signals::Interrupt;

/// How many repositories are copied at a time, since many are small.
const REPOSITORIES: usize = 4;

/// How many bytes the blobs that move in a repository may have together.
const BYTES_IN_FLIGHT: u64 = 128 << 20;

pub(crate) async fn run(args: ImportArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::take()?;
    let shown = args.directory.display();
    let failed = |error| Failure::of(format!("reading {shown}"), error);
    let from = DistributionDirectory::open(&args.directory).await.map_err(|error| {
        let is_other = *error.kind() == ErrorKind::Invalid;
        let failure = failed(error);
        match is_other {
            true => failure.hint(
                "name the directory that the registry's configuration calls rootdirectory; in containers it is \
                 /var/lib/registry",
            ),
            false => failure,
        }
    })?;
    let found = from.repositories().await.map_err(failed)?;
    let names = choose(found.names, &args.repository)?;
    let to = Destination::open(&args).await?;
    let tally = Tally::new(&args, names.len());
    for problem in found.problems {
        tally.problem(None, &problem)?;
    }
    let copied =
        stream::iter(names.into_iter().map(Ok)).try_for_each_concurrent(REPOSITORIES, |name| {
            let (from, to, tally, args) = (&from, &to, &tally, &args);
            async move {
                copy(from.repository(&name), to, tally, args).await?;
                tally.repository_done();
                Ok(())
            }
        });
    let copied = interrupt.or(copied).await;
    to.close().await;
    copied.map_err(|code| {
        let message = "interrupted; what was copied stays, run the same command again to go on";
        Failure::told(message, code)
    })??;
    tally.finish()
}

/// The repositories that were asked for: all, or those named and what is below them.
fn choose(mut names: Vec<Name>, wanted: &[Name]) -> Result<Vec<Name>, Failure> {
    let is_in = |name: &Name, wanted: &Name| {
        let below = name.as_str().strip_prefix(wanted.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    if let Some(unknown) =
        wanted.iter().find(|wanted| !names.iter().any(|name| is_in(name, wanted)))
    {
        let error = Error::new(
            ErrorCode::NameUnknown,
            format!("repository {unknown} is not in the directory, and none below it"),
        );
        let failure = Failure::of("choosing what to import", error);
        return Err(match names.first() {
            Some(first) => failure
                .hint(format!("there are {} repositories, the first is {first}", names.len())),
            None => failure.hint("there are no repositories in it"),
        });
    }
    names.retain(|name| wanted.is_empty() || wanted.iter().any(|wanted| is_in(name, wanted)));
    Ok(names)
}

/// Copies a repository. It fails only if it makes no sense to go on.
async fn copy(
    from: DistributionRepository,
    to: &Destination,
    tally: &Tally,
    args: &ImportArgs,
) -> Result<(), Failure> {
    let name = from.name().clone();
    let contents = match from.contents().await {
        Ok(contents) => contents,
        Err(error) => return tally.problem(Some(&name), &Failure::of("listing", error).chain()),
    };
    for problem in &contents.problems {
        tally.problem(Some(&name), problem)?;
    }
    let (destination, store) = match to.repository(&name).await? {
        Ok(opened) => opened,
        Err(problem) => return tally.problem(Some(&name), &problem),
    };
    let options = CopyOptions {
        concurrency: args.concurrency.into(),
        bytes_in_flight: BYTES_IN_FLIGHT,
        siblings: Some(tally.siblings()),
        progress: Some(tally.listen(&destination)),
        dry_run: args.dry_run,
        ..CopyOptions::default()
    };
    let copier = Copier::new(Arc::new(from), store, options);
    // Those with tags first: what an index of them lists is then there.
    let (tagged, untagged): (Vec<_>, Vec<_>) =
        contents.manifests.into_iter().partition(|(_, tags)| !tags.is_empty());
    for part in [tagged, untagged] {
        let each = stream::iter(part.into_iter().map(Ok::<_, Failure>));
        let copied =
            each.try_for_each_concurrent(usize::from(args.concurrency), |(digest, tags)| {
                let (copier, name) = (&copier, &name);
                async move {
                    match copier.copy(&Target::Digest(digest.clone()), &tags).await {
                        Ok(()) => Ok(()),
                        Err(error) => not_copied(name, &digest, &tags, error, tally),
                    }
                }
            });
        copied.await?;
    }
    Ok(())
}

/// Tells of a manifest that was not copied. It is a failure of the whole if the destination does not take anything.
fn not_copied(
    name: &Name,
    digest: &Digest,
    tags: &[Tag],
    error: Error,
    tally: &Tally,
) -> Result<(), Failure> {
    let schema1 = error.find_source::<ManifestError>();
    if matches!(schema1, Some(ManifestError::Schema1(_))) {
        return tally.left_out(name, digest, tags);
    }
    // What the directory gives is never of these kinds.
    let is_over = matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::StorageFull
            | ErrorKind::Code(
                ErrorCode::Unauthorized | ErrorCode::Denied | ErrorCode::TooManyRequests
            )
    );
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let doing = match tags.is_empty() {
        true => digest.to_string(),
        false => format!("{digest} ({})", tags.join(", ")),
    };
    match is_over {
        true => Err(Failure::of(format!("importing {name}: {doing}"), error)),
        false => tally.problem(Some(name), &Failure::of(doing, error).chain()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_with_those_below_them() {
        let names =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Name>>();
        let all = names(&["a", "a-b", "a/b", "ab/c", "z"]);
        for (wanted, expected) in [
            (&[][..], &["a", "a-b", "a/b", "ab/c", "z"][..]),
            (&["a"], &["a", "a/b"]),
            (&["ab", "z"], &["ab/c", "z"]),
        ] {
            assert_eq!(choose(all.clone(), &names(wanted)).unwrap(), names(expected));
        }
        choose(all, &names(&["a", "c"])).unwrap_err();
        choose(Vec::new(), &[]).unwrap();
    }
}
