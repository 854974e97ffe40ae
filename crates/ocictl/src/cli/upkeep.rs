//! Arguments of the commands about a server's data: gc, fsck, backup.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use oci_registry_store::Storage;

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Change nothing, and say what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Also delete manifests that have had no tag for so long, as 30d. Not shorter than the grace.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) untagged_older_than: Option<Duration>,

    /// How long the bytes of what is collected now stay for downloads under way [default: as the server was told, or 1h]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) longest_read: Option<Duration>,

    /// Also give up uploads that nobody has gone on with for so long, as --uploads=10m; without a
    /// time, all that nobody is writing just now. Their clients have to begin anew.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) uploads: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// Mend what can be mended. Each problem is shown with its remedy before it is mended.
    #[arg(long)]
    pub(crate) repair: bool,

    /// How many MB are read a second at most.
    #[arg(long, value_name = "MB/s", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,

    /// Go on where the last check was broken off.
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where to copy to: a directory that is empty or not there.
    #[arg(value_name = "DEST")]
    pub(crate) to: PathBuf,

    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Options that the commands about a server's data have in common.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Where the content lies [default: as for serve]. If a server is using it, that server does the work.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Where the metadata lies, as for serve, if no server is using the directory.
    #[arg(long, value_name = "URL", env = "OCICTL_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,

    /// Where the bytes of large blobs lie, as for serve, if no server is using the directory.
    #[arg(long, value_name = "URL", default_value = "file:")]
    pub(crate) storage: Storage,

    /// Print JSON, one document a line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}
