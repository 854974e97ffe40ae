//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::connection::ConnectionArgs;
use crate::location::Location;
use oci_spec_types::Host;

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

EXIT CODES: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 try again later.";

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
    Copy(CopyArgs),
    /// Show what a reference names, without choosing a platform.
    Inspect(InspectArgs),
    /// Keep credentials for a registry, where Podman and Docker find them too.
    Login(LoginArgs),
    /// Forget the credentials for a registry.
    Logout(LogoutArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,

    /// Where the content lies [default: $XDG_DATA_HOME/ocictl or ~/.local/share/ocictl]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Answer before content is synced to disk. Faster, but what was pushed in the last seconds before a power cut or
    /// a crash of the system may be lost although it was acknowledged.
    #[arg(long)]
    pub(crate) no_sync: bool,

    /// What of a manifest's references must be there when it is pushed.
    #[arg(long, value_enum, default_value_t = References::Complete)]
    pub(crate) references: References,

    /// How long transfers under way may take to finish at shutdown, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
}

/// What of a manifest's references must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum References {
    /// All.
    Complete,
    /// The blobs of an image. The manifests of an index may come later, or never.
    SparseIndexes,
    /// Nothing.
    Unchecked,
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
    /// Given several times: the index, with the images for these platforms only.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,

    /// Write manifests in this format. What it cannot hold is an error.
    #[arg(long, value_enum, default_value_t = Format::Preserve)]
    pub(crate) format: Format,

    /// Copy what refers to it too (signatures, bills of materials), and what refers to that.
    #[arg(long)]
    pub(crate) referrers: bool,

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
    /// As they are if the destination takes that, else as it takes them.
    Supported,
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
    pub(crate) connection: ConnectionArgs,
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
