//! What can be said on the command line.

mod upkeep;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use oci_registry_store::Storage;
use oci_spec_types::Digest;

pub(crate) use self::upkeep::{BackupArgs, DataArgs, FsckArgs, GcArgs};
pub(crate) use crate::connection::{
    ConnectionArgs, FromArgs, HostArgs, ManifestArgs, MirrorArgs, RetryArgs, ToArgs,
};
use crate::location::{Location, RegistryPlace};
pub(crate) use crate::state::StateArgs;
use oci_spec_types::{Host, Name};

const LONG_ABOUT: &str = "\
Serves, copies and inspects container images and artifacts.

REFERENCES are written as skopeo's:
  docker://host/name:tag         an image in a registry, by tag
  docker://host/name@sha256:...  by digest
  oci:path[:name]                an OCI image layout in a directory
  oci:path@sha256:...            a manifest of it by digest
  oci-archive:path[:name]        the same in a tar archive
  dir:path                       one image or list in a directory, as skopeo writes it
  docker-archive:path[:name]     what docker save writes
Archives are read from the standard input where the path is -, and may be compressed with gzip or
zstd; then they are unpacked into a temporary file ($TMPDIR, or /tmp).

EXIT CODES: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 try again later;
130 and 143 when SIGINT (Ctrl-C) or SIGTERM has ended it, after it has cleaned up; a second one ends it at once.";

const COPY_EXAMPLES: &str = "\
EXAMPLES:
  All of an index, byte for byte, with its signatures and bills of materials:
    ocictl copy --referrers --tag-schemes docker://a.example/app:v1 docker://b.example/app:v1
  One image of it, for docker load:
    ocictl copy --platform linux/arm64 docker://a.example/app:v1 docker-archive:app.tar:app:v1
  To a file, and from there:
    ocictl copy docker://a.example/app:v1 oci-archive:app.tar:v1
    ocictl copy oci-archive:app.tar docker://b.example/app:v1
  In Docker's format, for a registry that knows no other:
    ocictl copy --format docker --lossy oci:layout:v1 docker://old.example/app:v1";

const IMPORT_EXAMPLES: &str = "\
It can be repeated: what is there is not copied again. A manifest that cannot be brought over, because it or a blob of it is \
missing or damaged, is told and counted, and the rest goes on; then the exit code is 1. Docker schema 1 manifests are told and \
left out.

EXAMPLES:
  What would be copied to a registry:
    ocictl import --dry-run /var/lib/registry docker://registry.example
  Into a registry that is running:
    ocictl import /var/lib/registry docker://127.0.0.1:5000
  Only team/app and what is below team/tools, all below mirror/:
    ocictl import --repository team/app --repository team/tools /var/lib/registry docker://127.0.0.1:5000/mirror
  Into a data directory, before the server is started:
    ocictl import /var/lib/registry --data ./registry";

/// Serves, copies and inspects container images and artifacts.
#[derive(Debug, Parser)]
#[command(name = "ocictl", version, long_about = LONG_ABOUT)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a registry with embedded storage.
    Serve(ServeArgs),
    /// Copy an image, an index with all its images, or an artifact.
    #[command(after_help = COPY_EXAMPLES)]
    Copy(Box<CopyArgs>),
    /// Bring everything that a distribution registry (registry:2, registry:3) has stored into another registry.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Show what a reference names, without choosing a platform.
    Inspect(InspectArgs),
    /// Keep credentials for a registry, where Podman and Docker find them too.
    Login(LoginArgs),
    /// Forget the credentials for a registry.
    Logout(LogoutArgs),
    /// Collect garbage: what nothing references any more. A running server does it by itself.
    Gc(GcArgs),
    /// Check all that is stored, and mend it if asked to.
    Fsck(FsckArgs),
    /// Copy everything, as of one moment, to a new data directory.
    Backup(BackupArgs),
}

impl Command {
    /// Tells whether nothing but errors is to be said.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self, Self::Copy(args) if args.quiet)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,

    /// Where the content lies [default: $XDG_DATA_HOME/ocictl or ~/.local/share/ocictl]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Where the bytes of large blobs lie: `file:` (with the data), `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`. Credentials come from the environment: AWS_*, GOOGLE_* and AZURE_* variables.
    #[arg(long, value_name = "URL", default_value = "file:")]
    pub(crate) storage: Storage,

    /// All content has been moved to this storage from where it lay before. Without this, another storage than before is
    /// refused.
    #[arg(long)]
    pub(crate) storage_moved: bool,

    /// Send those who read a large blob to the bucket itself, by a URL that is good for 20 minutes. They must be able
    /// to reach it.
    #[arg(long)]
    pub(crate) redirect_reads: bool,

    /// Where the metadata lies: sqlite: is a file in the data directory, which one server uses at a time;
    /// postgres://user:password@host/name is a PostgreSQL database, which several servers can share, together with the data
    /// directory. A password is better given in the environment than here, where others on this machine can see it.
    #[arg(long, value_name = "URL", env = "OCICTL_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,

    /// How long this server is taken for alive after a database that it shares has last heard of it. Then others may go on with
    /// the uploads that it was writing. Short is soon after a crash; long outlasts a slow database.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = at_least_a_second)]
    pub(crate) lease: Duration,

    /// How many MiB of memory content that was read recently may take. 0 keeps nothing.
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    pub(crate) cache: u32,

    /// Answer before content is synced to disk. Faster, but what was pushed in the last seconds before a power cut or
    /// a crash of the system may be lost although it was acknowledged.
    #[arg(long)]
    pub(crate) no_sync: bool,

    /// What of a manifest's references must be there when it is pushed.
    #[arg(long, value_enum, default_value_t = References::Complete)]
    pub(crate) references: References,

    /// Take or refuse manifests that are neither images nor indexes. What they reference is
    /// found by their structure and kept with them.
    #[arg(long, value_enum, default_value_t = UnknownManifests::Accept)]
    pub(crate) unknown_manifests: UnknownManifests,

    /// How often garbage is collected, as 30m or 1h; 0s for never.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) gc_interval: Duration,

    /// How long content stays that nothing references. Longer than any push takes.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) gc_grace: Duration,

    /// Also delete manifests that have had no tag for so long, as 30d, unless an index that stays lists them or they are
    /// about something that stays. Without this they stay.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) gc_untagged: Option<Duration>,

    /// How long the bytes of blobs that were deleted stay for downloads under way. Those from a bucket that take longer may
    /// break off.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) longest_read: Duration,

    /// The time that transfers under way may take to finish at shutdown, in seconds. A second
    /// SIGTERM or Ctrl-C ends them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,

    /// The URL under which clients see the registry, if a proxy in front of it changes that. Without it
    /// addresses in answers are paths, which is right behind most.
    #[arg(long, value_name = "URL")]
    pub(crate) external_url: Option<String>,

    /// Another host by which clients on this machine call the registry; may be given several times.
    /// Without it, a request over loopback for any but localhost, loopback addresses and the host
    /// of --external-url is refused with 421, so that no page in a browser reaches the registry by
    /// a name of its own. `*` is any.
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<String>,

    /// An origin whose pages may use the registry in a browser, as `https://ui.example`; may be
    /// given several times. `*` is any, without the browser's credentials. Other pages may not
    /// write.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,

    /// Refuse everything but reading.
    #[arg(long)]
    pub(crate) read_only: bool,

    /// Refuse to delete tags, manifests and blobs.
    #[arg(long)]
    pub(crate) no_delete: bool,

    /// Refuse to list the repositories.
    #[arg(long)]
    pub(crate) no_catalog: bool,

    #[command(flatten, next_help_heading = "Limits")]
    pub(crate) limits: LimitArgs,
}

/// A lease is renewed four times while it lasts, and an upload goes on after an answer has come: a
/// shorter time is none.
fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time < Duration::from_secs(1) {
        true => Err("at least 1s".to_owned()),
        false => Ok(time),
    }
}

/// What one client may take of the server.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// The largest manifest, in bytes. The specification asks for at least 4 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 8 << 20)]
    pub(crate) max_manifest: u64,

    /// MiB of memory that all manifests of more than 64 KiB may take that are being received or
    /// sent. A push that finds no room is refused with 503.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) manifest_memory: u32,

    /// The largest blob, in bytes [default: no limit]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_blob: Option<u64>,

    /// The most connections at a time, and fewer where the limit of open files (ulimit -n) asks for
    /// that. For one more, that ends which has been idle longest; if none is idle, it waits.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,

    /// The most connections at a time from one IPv4 address, or one /64 network of
    /// IPv6. More are answered 503. For a trusted proxy it is the requests that count, by whom it
    /// names [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections_per_peer: Option<u32>,

    /// An address or a network of proxies, as 10.0.0.0/8, whose X-Forwarded-For says whom a request
    /// is from; may be given several times.
    #[arg(long, value_name = "CIDR")]
    pub(crate) trusted_proxy: Vec<String>,

    /// How many requests may be answered at a time. More are refused with 429 [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_requests: Option<u32>,

    /// Seconds that a connection stays open on which nothing is asked. Longer than a
    /// load balancer in front keeps its own.
    #[arg(long, value_name = "SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep_alive: u64,

    /// How long to wait for the head of a request, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) header_timeout: u64,

    /// How long to wait for a peer that sends, or takes, no more of a body, in seconds. How long a transfer takes as a
    /// whole is not limited.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) idle_timeout: u64,

    /// The least bytes a second of a transfer, while the server waits for the peer. 0 for none.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) min_rate: u64,

    /// Keep so many MiB of the data directory's disk free. What would leave less is refused
    /// with 507; reading and deleting go on. 0 for none.
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    pub(crate) min_free_space: u64,

    /// The most unfinished uploads that may hold bytes. More are refused with 503. Servers that
    /// share a database count together those at rest.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_uploads: u64,

    /// The most MiB that all of those together may hold. More is refused with 503.
    #[arg(long, value_name = "MIB", default_value_t = 256 << 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) upload_space: u64,

    /// Give up an upload that has rested for so long, as 30m or 1h. Longer than clients wait
    /// before they go on.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = at_least_a_second)]
    pub(crate) upload_idle: Duration,
}

/// What of a manifest's references must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum References {
    /// All.
    Complete,
    /// The blobs of an image. What an index lists may come later, or never.
    SparseIndexes,
    /// Nothing.
    Unchecked,
}

/// Ways to treat manifests of unknown types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnknownManifests {
    /// They are taken.
    Accept,
    /// They are refused with 400.
    Refuse,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Where to copy from.
    #[arg(value_name = "SRC")]
    pub(crate) source: Location,

    /// Where to copy to. A digest here must be the digest of what is copied.
    #[arg(value_name = "DST")]
    pub(crate) destination: Location,

    /// Copy the image for this platform in place of the index, as linux/arm64 or linux/arm/v7; `host` is this system's.
    /// Given several times, or with --strip: the index, with the images for these platforms only.
    /// A single image must fit them.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,

    /// Copy the index with this entry only, by its digest; may be given several times. The others stay listed: the
    /// destination must take indexes whose images are not all there, unless --strip is given.
    #[arg(long, value_name = "DIGEST", conflicts_with = "platform")]
    pub(crate) instance: Vec<Digest>,

    /// Write the index without the entries that are not copied. Its digest, which is printed, is
    /// then another, and its signatures and referrers stay behind.
    #[arg(long)]
    pub(crate) strip: bool,

    /// Copy a single image whatever platform it is for.
    #[arg(long, requires = "platform")]
    pub(crate) any_platform: bool,

    /// Write manifests in this format. What it cannot hold is an error. The digest that is printed
    /// is that of the copy [default: preserve; supported from docker-archive: to oci: and
    /// oci-archive:]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// Leave out what the format cannot hold, such as annotations, and say what that is.
    #[arg(long)]
    pub(crate) lossy: bool,

    /// Copy what refers to it too (signatures, bills of materials), and what refers to that.
    #[arg(long)]
    pub(crate) referrers: bool,

    /// Copy what lies under tags that are made of its digest too: sha256-HEX, and with .sig, .att and .sbom, as cosign
    /// writes them.
    #[arg(long)]
    pub(crate) tag_schemes: bool,

    /// What to do with detached signatures, as a dir: may have.
    /// Those of registries (lookaside storage) are never copied: without `drop` a warning says
    /// where they lie.
    #[arg(long, value_enum, default_value_t = Signatures::Carry)]
    pub(crate) signatures: Signatures,

    /// Write the digest of the copy to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) digest_file: Option<PathBuf>,

    /// Say what would move, and move nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many requests run at a time. Large blobs are fewer: all that move have at most 256 MiB, or there is one.
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Print nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) retries: RetryArgs,

    #[command(flatten)]
    pub(crate) mirrors: MirrorArgs,

    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,

    #[command(flatten, next_help_heading = "Of the source alone")]
    pub(crate) from: FromArgs,

    #[command(flatten, next_help_heading = "Of the destination alone")]
    pub(crate) to: ToArgs,
}

/// What to do with detached signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Signatures {
    /// Copy them. A destination that cannot keep them is an error.
    Carry,
    /// Leave them behind.
    Drop,
}

/// In which format manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As they are, byte for byte.
    Preserve,
    /// OCI manifests and indexes.
    Oci,
    /// Docker schema 2 manifests and lists.
    Docker,
    /// As they are if the destination takes that, else as it takes them; as OCI's in oci: and
    /// oci-archive:.
    Supported,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The storage directory of the registry, with docker/registry/v2 in it.
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: PathBuf,

    /// The registry to copy to, and what comes before the names there, as docker://HOST or docker://HOST/PREFIX.
    #[arg(value_name = "DESTINATION", required_unless_present = "data", conflicts_with = "data")]
    pub(crate) destination: Option<RegistryPlace>,

    /// Copy to this data directory in place of a registry. It is made if it is not there. No server may be using it, unless the
    /// metadata is in PostgreSQL.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Where the metadata lies, as for serve, with --data.
    #[arg(long, value_name = "URL", env = "OCICTL_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,

    /// Where the bytes of large blobs lie, as for serve, with --data.
    #[arg(long, value_name = "URL", default_value = "file:")]
    pub(crate) storage: Storage,

    /// Copy only this repository, and those below it; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) repository: Vec<Name>,

    /// Say what would be copied, and copy nothing. Manifests are read and verified; blobs are only looked for.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many manifests, and as many blobs, move at a time, in each of up to 4 repositories.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Print JSON, one document a line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) state: StateArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) retries: RetryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// What to show.
    #[arg(value_name = "REF")]
    pub(crate) reference: Location,

    /// Print the manifest's exact bytes.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,

    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(flatten)]
    pub(crate) retries: RetryArgs,

    #[command(flatten)]
    pub(crate) mirrors: MirrorArgs,

    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry, such as registry.example or localhost:5000.
    #[arg(value_name = "HOST")]
    pub(crate) host: Host,

    /// The user name; else it is asked for.
    #[arg(long, short, value_name = "NAME")]
    pub(crate) username: Option<String>,

    /// Read the password from the standard input; else it is asked for. There is no option for the password itself:
    /// everybody on this system could read it.
    #[arg(long)]
    pub(crate) password_stdin: bool,

    #[command(flatten)]
    pub(crate) registry: HostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry.
    #[arg(value_name = "HOST")]
    pub(crate) host: Host,

    /// The file with the credentials [default: as for login]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}
