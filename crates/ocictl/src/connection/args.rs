//! Options that say how registries are reached: one list of them, for a command with one side
//! (`--ca-file`) and for one with two (`--from-ca-file`, `--to-ca-file`).

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use oci_ref::ErrorKind;
use oci_registry_client::DockerConfig;
use oci_spec_types::{Host, HostError};

use super::MAX_MANIFEST;
use super::side::{Reach, Side, Who};
use crate::failure::Failure;

/// The registries that an option is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    Host(Host),
}

impl FromStr for Whom {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text {
            "" => Ok(Self::All),
            host => host.parse().map(Self::Host),
        }
    }
}

/// A name, of which nothing is asked.
fn user(text: &str) -> Result<String, Infallible> {
    Ok(text.to_owned())
}

macro_rules! reach_args {
    ($name:ident, $prefix:literal) => {
        /// Options about how registries are reached.
        #[derive(Clone, Debug, Args)]
        pub(crate) struct $name {
            /// Use HTTP instead of HTTPS for this registry; may be repeated. Without a host, all
            /// registries are asked by HTTP first, and by HTTPS if they speak it, as those on this
            /// machine are in any case.
            #[arg(long = concat!($prefix, "plain-http"), id = concat!($prefix, "plain-http"),
                        value_name = "HOST",
                        num_args = 0..=1, require_equals = true, default_missing_value = "")]
            plain_http: Vec<Whom>,

            /// Accept any TLS certificate of this registry. Whoever is on the way can then read and
            /// change what goes over it, the password included.
            #[arg(long = concat!($prefix, "insecure-tls"), id = concat!($prefix, "insecure-tls"),
                        value_name = "HOST")]
            insecure_tls: Vec<Host>,

            /// Let registries lead to this host, which is at a private, link-local or loopback
            /// address where they are not themselves: for tokens, to read and to send. May be
            /// repeated.
            #[arg(long = concat!($prefix, "allow-internal"), id = concat!($prefix, "allow-internal"),
                        value_name = "HOST")]
            allow_internal: Vec<Host>,

            /// Trust the certificates in this PEM file too. A certificate that a registry presents
            /// itself may be among them.
            #[arg(long = concat!($prefix, "ca-file"), id = concat!($prefix, "ca-file"),
                        value_name = "FILE")]
            ca_file: Vec<PathBuf>,

            /// Present this client certificate, in PEM, to the registry.
            #[arg(long = concat!($prefix, "cert"), id = concat!($prefix, "cert"),
                        value_name = "FILE",
                        requires = concat!($prefix, "key"))]
            cert: Option<PathBuf>,

            /// The private key of the client certificate, in PEM.
            #[arg(long = concat!($prefix, "key"), id = concat!($prefix, "key"),
                        value_name = "FILE",
                        requires = concat!($prefix, "cert"))]
            key: Option<PathBuf>,

            /// Trust the *.crt files in this directory, and present its *.cert with its *.key
            /// [default: HOST:PORT in ~/.config/containers/certs.d, /etc/containers/certs.d,
            /// /etc/docker/certs.d]
            #[arg(long = concat!($prefix, "cert-dir"), id = concat!($prefix, "cert-dir"),
                        value_name = "DIR",
                        conflicts_with = concat!($prefix, "cert"))]
            cert_dir: Option<PathBuf>,
        }

        impl From<$name> for Reach {
            fn from(args: $name) -> Self {
                Self {
                    plain_http: args.plain_http,
                    insecure_tls: args.insecure_tls,
                    allow_internal: args.allow_internal,
                    ca_files: args.ca_file,
                    client_certificate: args.cert.zip(args.key),
                    cert_dir: args.cert_dir,
                }
            }
        }
    };
}

macro_rules! side_args {
    ($name:ident, $reach:ident, $prefix:literal) => {
        reach_args!($reach, $prefix);

        /// Options about how registries are reached, and as whom.
        #[derive(Clone, Debug, Args)]
        pub(crate) struct $name {
            #[command(flatten)]
            reach: $reach,

            /// The file with the credentials [default: those of Podman and Docker, as `ocictl
            /// login` keeps them; or $REGISTRY_AUTH_FILE]
            #[arg(long = concat!($prefix, "authfile"), id = concat!($prefix, "authfile"),
                value_name = "FILE")]
            authfile: Option<PathBuf>,

            /// Ask registries as nobody in particular.
            #[arg(long = concat!($prefix, "no-creds"), id = concat!($prefix, "no-creds"),
                conflicts_with_all = [concat!($prefix, "authfile"), concat!($prefix, "user")])]
            no_creds: bool,

            /// The user name at the registry, for this command alone.
            #[arg(long = concat!($prefix, "user"), id = concat!($prefix, "user"),
                value_name = "NAME",
                value_parser = user, requires = concat!($prefix, "password-file"))]
            user: Option<String>,

            /// The file with that user's password; `-` is the standard input. There is no option
            /// for the password itself: everybody on this system could read it.
            #[arg(long = concat!($prefix, "password-file"), id = concat!($prefix, "password-file"),
                value_name = "FILE",
                requires = concat!($prefix, "user"))]
            password_file: Option<PathBuf>,
        }

        impl From<$name> for Side {
            fn from(args: $name) -> Self {
                let who = match (args.user.zip(args.password_file), args.authfile) {
                    (Some((name, password_file)), _) => Some(Who::User { name, password_file }),
                    (None, Some(file)) => Some(Who::InFile(file)),
                    (None, None) => args.no_creds.then_some(Who::Nobody),
                };
                Self { reach: args.reach.into(), who }
            }
        }
    };
}

side_args!(ConnectionArgs, ReachArgs, "");
side_args!(FromArgs, FromReachArgs, "from-");
side_args!(ToArgs, ToReachArgs, "to-");

/// Options about how a registry is reached, where credentials for it are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct HostArgs {
    #[command(flatten)]
    pub(super) reach: ReachArgs,

    /// The file with the credentials [default: those of Podman and Docker; or $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    #[command(flatten)]
    pub(super) retries: RetryArgs,
}

/// Options about how patient a command is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RetryArgs {
    /// The number of times that a request that failed for a passing reason is tried again.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(super) retries: u32,
}

/// The size of the documents that are read.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManifestArgs {
    /// The largest manifest that is read of a registry, in bytes. Registries must take 4 MiB, and
    /// may take more.
    #[arg(long, value_name = "BYTES", default_value_t = MAX_MANIFEST)]
    pub(crate) max_manifest: u64,
}

impl ManifestArgs {
    /// Returns the failure that an error brings, with a hint if a manifest is larger than this.
    pub(crate) fn hint(&self, doing: impl Into<String>, error: oci_ref::Error) -> Failure {
        let over = *error.kind() == ErrorKind::TooLarge { limit: self.max_manifest };
        let failure = Failure::of(doing, error);
        match over {
            true => failure.hint("--max-manifest BYTES lets larger manifests be read"),
            false => failure,
        }
    }
}

impl HostArgs {
    /// Returns the file where credentials are kept.
    pub(crate) fn credentials(&self) -> DockerConfig {
        self.authfile.as_ref().map_or_else(DockerConfig::from_env, DockerConfig::at)
    }
}
