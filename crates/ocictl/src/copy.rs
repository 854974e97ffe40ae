//! `ocictl copy`: everything that a reference names, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard};

use oci_ref::{
    CopyEvent, CopyOptions, Format, Loss, NoMatch, OnCopyEvent, Select, Target, host_platform,
};
use oci_spec_types::{ErrorCode, Platform, PlatformError};

use crate::cli::{self, CopyArgs};
use crate::connection::{Connection, Side};
use crate::failure::Failure;
use crate::known::Known;
use crate::location::{Form, Location};
use crate::lookaside;
use crate::moved::Moved;
use crate::open;
use crate::output;
use crate::progress::Progress;
use crate::signals::Interrupt;

/// Many small blobs move at a time, since a request to a registry that is far away costs the same for each; of large
/// ones a few fill any line.
const BYTES_IN_FLIGHT: u64 = 256 << 20;

pub(crate) async fn run(args: CopyArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::take()?;
    let moved = Moved::default();
    match interrupt.or(copy(&args, &moved)).await {
        Ok(done) => done,
        Err(code) => Err(Failure::told(interrupted(&args, moved.total()), code)),
    }
}

/// The words about what an interruption leaves.
fn interrupted(args: &CopyArgs, (moved, all): (u64, u64)) -> String {
    let (moved, of) = (bytes(moved), bytes(all));
    let again = "run the same command again to resume";
    let left = match &args.destination {
        _ if all == 0 => "nothing had moved".to_owned(),
        Location::Registry(to) if args.state.directory().is_none() => {
            format!("{moved} of {of} sent to {}, where blobs that are whole stay", to.host())
        }
        Location::Registry(to) => format!("{moved} of {of} sent to {}, {again}", to.host()),
        Location::Files { form: Form::Layout | Form::Directory, path, .. } => {
            format!("{moved} of {of} kept in {}, {again}", path.display())
        }
        Location::Files { path, .. } => {
            format!("{moved} of {of} had come for {}, and were removed", path.display())
        }
    };
    format!("interrupted; {left}")
}

async fn copy(args: &CopyArgs, moved: &Moved) -> Result<(), Failure> {
    let doing = format!("copying {} to {}", args.source, args.destination);
    let (connection, other) = connections(args)?;
    let select = select(args)?;
    let platform = match &select {
        Select::Image(platform) => Some(platform),
        Select::Platforms(platforms) if platforms.len() == 1 => platforms.first(),
        _ => None,
    };
    let from = open::source(&args.source, &connection, platform).await?;
    // Before anything is made at the destination. What was read is what is copied, even if the tag moves meanwhile.
    let manifest = from.source.manifest(&from.target).await;
    let manifest =
        manifest.map_err(|error| args.manifests.hint(format!("reading {}", args.source), error))?;
    let target = Target::Digest(manifest.digest().clone());
    let single = manifest.index().is_none();
    let signatures_elsewhere = lookaside(&args.source);
    // The platform that a layout states of an entry counts, as that which an index states.
    let any_platform = args.any_platform || from.fits;
    let source = Arc::new(Known { source: from.source, manifest, signatures_elsewhere });
    let to = open::destination(&args.destination, other.as_ref().unwrap_or(&connection)).await?;
    let progress = Progress::start(args.quiet);
    let left_out = Arc::new(Mutex::new(Vec::new()));
    let options = CopyOptions {
        tags: to.tags,
        digest: to.digest,
        select,
        any_platform,
        strip: args.strip,
        format: format(args),
        loss: if args.lossy { Loss::Allow } else { Loss::Refuse },
        referrers: args.referrers,
        tag_schemes: args.tag_schemes,
        drop_signatures: args.signatures == cli::Signatures::Drop,
        dry_run: args.dry_run,
        concurrency: args.concurrency.into(),
        bytes_in_flight: BYTES_IN_FLIGHT,
        mount_from: same_registry(&args.source, &args.destination),
        progress: listen(progress.as_ref(), moved, &left_out),
        ..CopyOptions::default()
    };
    let copied = oci_ref::copy(source, &target, to.store, options).await;
    let copied = copied.map_err(|error| failure(args, single, &doing, error))?;
    if !args.dry_run {
        let ended = to.end.reach(&copied.descriptor.digest).await;
        ended.map_err(|error| Failure::of(&doing, error))?;
    }
    if let Some(file) = args.digest_file.as_ref().filter(|_| !args.dry_run) {
        std::fs::write(file, copied.descriptor.digest.as_str()).map_err(|error| {
            Failure::new(format!("writing the digest to {}", file.display())).because(error)
        })?;
    }
    drop(progress);
    match args.quiet {
        true => Ok(()),
        false => report(args, &copied, &take(&left_out)),
    }
}

/// The format in which manifests are written. An image of a `docker-archive:` becomes one of OCI in
/// a layout, as whatever else reads that one expects.
fn format(args: &CopyArgs) -> Format {
    match args.format {
        Some(cli::Format::Preserve) => Format::Preserve,
        Some(cli::Format::Oci) => Format::Oci,
        Some(cli::Format::Docker) => Format::Docker,
        Some(cli::Format::Supported) => Format::Supported,
        None if args.source.is_docker_archive() && args.destination.is_layout() => {
            Format::Supported
        }
        None => Format::Preserve,
    }
}

/// The connection to read by, and the one to write by, if that is another.
fn connections(args: &CopyArgs) -> Result<(Connection, Option<Connection>), Failure> {
    let both = Side::from(args.connection.clone());
    let from = Side::from(args.from.clone()).over(both.clone());
    let to = Side::from(args.to.clone()).over(both);
    let open = |side: &Side, location: &Location| {
        Connection::new(side.clone(), location.host(), args.retries)
            .concurrency(args.concurrency.into())
            .max_manifest(&args.manifests)
    };
    let one = from == to && args.source.host() == args.destination.host();
    if from.reads_stdin() && to.reads_stdin() && !one {
        return Err(Failure::new("one password alone can come on the standard input"));
    }
    if args.source.is_stream() && (from.reads_stdin() || to.reads_stdin()) {
        let message = "an archive comes on the standard input, so no password can";
        return Err(Failure::new(message));
    }
    let reading = open(&from, &args.source).mirrors(args.mirrors.clone());
    let uploads = args.state.uploads();
    if one {
        return Ok((reading.remember(uploads), None));
    }
    Ok((reading, Some(open(&to, &args.destination).remember(uploads))))
}

/// What failed, and which option helps.
fn failure(args: &CopyArgs, single: bool, doing: &str, error: oci_ref::Error) -> Failure {
    let converts = matches!(args.format, Some(cli::Format::Oci | cli::Format::Docker));
    let is_lost = converts && !args.lossy && error.code() == Some(&ErrorCode::ManifestInvalid);
    let misfits = error.find_source::<NoMatch>().is_some();
    // What the reference names has been read by then.
    let lacks_part = error.code() == Some(&ErrorCode::ManifestUnknown);
    let failure = args.manifests.hint(doing, error);
    if misfits {
        return failure.hint(match single {
            true => "--any-platform copies it all the same",
            false => "--platform names another, and without it all of the index is copied",
        });
    }
    if lacks_part {
        let source = &args.source;
        return failure
            .hint(format!("`ocictl inspect {source}` shows what it lists and what is missing"));
    }
    if is_lost {
        return failure
            .hint("--lossy leaves out what the format cannot hold, and says what that is");
    }
    let text = failure.chain();
    match ["its signatures can be dropped", "they can be dropped"]
        .iter()
        .any(|said| text.contains(said))
    {
        true => failure.hint("--signatures drop leaves them behind"),
        false => failure,
    }
}

/// The place at which containers' configuration says that the source's signatures lie.
fn lookaside(source: &Location) -> Option<String> {
    let Location::Registry(reference) = source else { return None };
    lookaside::of(reference).unwrap_or_else(|error| {
        tracing::warn!("whether {source} has signatures elsewhere is not known: {error}");
        None
    })
}

/// The listener: tells the line that shows progress, what has moved, the list of what is left out,
/// and whoever reads warnings.
fn listen(
    progress: Option<&Progress>,
    moved: &Moved,
    left_out: &Arc<Mutex<Vec<String>>>,
) -> Option<OnCopyEvent> {
    let shown = progress.map(Progress::handler);
    let (left_out, moved) = (left_out.clone(), moved.clone());
    Some(Arc::new(move |event| {
        moved.note(event);
        match event {
            CopyEvent::Dropped(manifest, dropped) => {
                take(&left_out).push(format!("{}: {dropped}", manifest.digest));
            }
            CopyEvent::SignaturesElsewhere(place) => tracing::warn!(
                "detached signatures may lie at {place}, which are not copied (--signatures drop: without this warning)"
            ),
            _ => {}
        }
        if let Some(shown) = &shown {
            shown(event);
        }
    }))
}

/// The list of what is left out. It is whole whoever panicked.
fn take(left_out: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    left_out.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What of an index is copied.
fn select(args: &CopyArgs) -> Result<Select, Failure> {
    if !args.instance.is_empty() {
        return Ok(Select::Instances(args.instance.clone()));
    }
    if args.strip && args.platform.is_empty() {
        return Err(Failure::new("--strip leaves out what was not chosen, and nothing was")
            .hint("--platform or --instance, once or several times, choose what stays"));
    }
    let parse = |text: &String| match text.as_str() {
        "host" => Ok(host_platform()),
        text => text.parse().map_err(|error: PlatformError| {
            Failure::new(format!("--platform {text}")).because(error)
        }),
    };
    let mut wanted: Vec<Platform> = args.platform.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(match wanted.len() {
        0 => Select::All,
        1 if !args.strip => Select::Image(wanted.remove(0)),
        _ => Select::Platforms(wanted),
    })
}

/// The source's repository, if it is at the destination's registry.
fn same_registry(source: &Location, destination: &Location) -> Option<oci_spec_types::Name> {
    match (source, destination) {
        (Location::Registry(source), Location::Registry(destination))
            if source.host() == destination.host() && source.name() != destination.name() =>
        {
            Some(source.name().clone())
        }
        _ => None,
    }
}

fn report(args: &CopyArgs, copied: &oci_ref::Copied, left_out: &[String]) -> Result<(), Failure> {
    let mut text = format!(
        "{} {}\n{} and {} ({}) {}, {} mounted, {} there\n",
        copied.descriptor.digest,
        args.destination,
        counted(copied.manifests, "manifest"),
        counted(copied.blobs, "blob"),
        bytes(copied.bytes),
        if args.dry_run { "would be copied" } else { "copied" },
        counted(copied.mounted, "blob"),
        were(copied.skipped)
    );
    for line in left_out {
        text.push_str(line);
        text.push('\n');
    }
    output::print(text.as_bytes())
}

/// A number of things for people.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// A number and its verb, for people.
pub(crate) fn were(count: u64) -> String {
    match count {
        1 => "1 was".to_owned(),
        _ => format!("{count} were"),
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_for_people() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(super::bytes(count), text);
        }
    }
}
