//! `ocictl copy`: everything that a reference names, byte for byte.

use std::sync::Arc;

use oci_ref::{CopyOptions, Format, Select, Target, host_platform};
use oci_spec_types::{Platform, PlatformError};

use crate::cli::{self, CopyArgs};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::known::Known;
use crate::location::Location;
use crate::open;
use crate::output;
use crate::progress::Progress;

/// Many small blobs move at a time, since a request to a registry that is far away costs the same for each; of large
/// ones a few fill any line.
const BYTES_IN_FLIGHT: u64 = 256 << 20;

pub(crate) async fn run(args: CopyArgs) -> Result<(), Failure> {
    let doing = format!("copying {} to {}", args.source, args.destination);
    let connection = Connection::new(args.connection.clone()).concurrency(args.concurrency.into());
    let from = open::source(&args.source, &connection).await?;
    // Before anything is made at the destination. What was read is what is copied, even if the tag moves meanwhile.
    let manifest = from.source.manifest(&from.target).await;
    let manifest =
        manifest.map_err(|error| Failure::of(format!("reading {}", args.source), error))?;
    let target = Target::Digest(manifest.digest().clone());
    let source = Arc::new(Known { source: from.source, manifest });
    let to = open::destination(&args.destination, &connection).await?;
    let progress = Progress::start(args.quiet);
    let options = CopyOptions {
        tags: to.tags,
        digest: to.digest,
        select: select(&args.platform)?,
        format: match args.format {
            cli::Format::Preserve => Format::Preserve,
            cli::Format::Oci => Format::Oci,
            cli::Format::Docker => Format::Docker,
            cli::Format::Supported => Format::Supported,
        },
        referrers: args.referrers,
        dry_run: args.dry_run,
        concurrency: args.concurrency.into(),
        bytes_in_flight: BYTES_IN_FLIGHT,
        mount_from: same_registry(&args.source, &args.destination),
        progress: progress.as_ref().map(Progress::handler),
        ..CopyOptions::default()
    };
    let copied = oci_ref::copy(source, &target, to.store, options)
        .await
        .map_err(|error| Failure::of(&doing, error))?;
    if !args.dry_run {
        let ended = to.end.reach(&copied.descriptor.digest).await;
        ended.map_err(|error| Failure::of(&doing, error))?;
    }
    drop(progress);
    match args.quiet {
        true => Ok(()),
        false => report(&args, &copied),
    }
}

/// What of an index is copied.
fn select(platforms: &[String]) -> Result<Select, Failure> {
    let parse = |text: &String| match text.as_str() {
        "host" => Ok(host_platform()),
        text => text.parse().map_err(|error: PlatformError| {
            Failure::new(format!("--platform {text}")).because(error)
        }),
    };
    let mut wanted: Vec<Platform> = platforms.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(match wanted.len() {
        0 => Select::All,
        1 => Select::Image(wanted.remove(0)),
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

fn report(args: &CopyArgs, copied: &oci_ref::Copied) -> Result<(), Failure> {
    let text = format!(
        "{} {}\n{} manifests and {} blobs ({}) {}, {} blobs mounted, {} were there\n",
        copied.descriptor.digest,
        args.destination,
        copied.manifests,
        copied.blobs,
        bytes(copied.bytes),
        if args.dry_run { "would be copied" } else { "copied" },
        copied.mounted,
        copied.skipped
    );
    output::print(text.as_bytes())
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
