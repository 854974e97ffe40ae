//! One side of a command: how its registries are reached, and as whom.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_registry_client::{
    Client, ClientBuilder, Credentials, DockerConfig, PlainHttp, RetryPolicy, StaticCredentials,
    TlsOptions,
};
use oci_spec_types::Host;

use super::args::Whom;
use crate::failure::Failure;

/// The longest password, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// The way in which the registries of one side are reached, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(super) reach: Reach,
    /// `None` where credentials are looked up as Podman and Docker keep them.
    pub(super) who: Option<Who>,
}

/// The way in which registries are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(super) plain_http: Vec<Whom>,
    pub(super) insecure_tls: Vec<Host>,
    pub(super) allow_internal: Vec<Host>,
    pub(super) ca_files: Vec<PathBuf>,
    /// The certificate and its key.
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) cert_dir: Option<PathBuf>,
}

/// As whom registries are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    InFile(PathBuf),
    User { name: String, password_file: PathBuf },
}

impl Side {
    /// This side with what is said for it alone on top of what is said for both.
    pub(crate) fn over(self, both: Self) -> Self {
        Self { reach: self.reach.over(both.reach), who: self.who.or(both.who) }
    }

    /// The settings of a client for the registry of this side.
    pub(super) fn builder(
        &self,
        host: Option<&Host>,
        retries: u32,
    ) -> Result<ClientBuilder, Failure> {
        let builder = self.reach.builder(host, retries)?;
        Ok(match (&self.who, host) {
            (None, _) => builder.credentials(DockerConfig::from_env()),
            (Some(Who::Nobody), _) | (Some(Who::User { .. }), None) => builder,
            (Some(Who::InFile(file)), _) => {
                if !file.exists() {
                    return Err(Failure::new(format!("{} is not there", file.display()))
                        .hint("`ocictl login --authfile FILE HOST` makes such a file"));
                }
                builder.credentials(DockerConfig::at(file))
            }
            (Some(Who::User { name, password_file }), Some(host)) => {
                let credentials = Credentials::basic(name.clone(), read_password(password_file)?);
                builder.credentials(StaticCredentials::new().with(host.clone(), credentials))
            }
        })
    }

    /// Tells whether the password is read from the standard input, which gives it once.
    pub(crate) fn reads_stdin(&self) -> bool {
        matches!(&self.who, Some(Who::User { password_file, .. }) if is_stdin(password_file))
    }
}

impl Reach {
    fn over(mut self, both: Self) -> Self {
        self.plain_http.extend(both.plain_http);
        self.insecure_tls.extend(both.insecure_tls);
        self.allow_internal.extend(both.allow_internal);
        self.ca_files.extend(both.ca_files);
        // What one side says of certificates is about the same as what the other says.
        let own = self.client_certificate.is_some() || self.cert_dir.is_some();
        if !own {
            self.client_certificate = both.client_certificate;
            self.cert_dir = both.cert_dir;
        }
        self
    }

    /// The settings of a client that asks as nobody. The client certificate is for `host` alone.
    pub(super) fn builder(
        &self,
        host: Option<&Host>,
        retries: u32,
    ) -> Result<ClientBuilder, Failure> {
        let retry =
            RetryPolicy::exponential(Duration::from_millis(500), Duration::from_secs(30), retries)
                .deadline(Duration::from_secs(300));
        let mut builder = Client::builder()
            .user_agent(concat!("ocictl/", env!("CARGO_PKG_VERSION")))
            .plain_http(self.plain_http())
            .certificate_directories(certs_d())
            .allow_internal(self.allow_internal.iter().cloned())
            .retry(retry)
            .on_retry(|retry| {
                let wait = retry.wait.as_secs_f64();
                tracing::warn!("{}; trying again in {wait:.1} s", retry.error);
            })
            .on_warning(|warning| tracing::warn!("{} says: {}", warning.host, warning.text));
        for file in &self.ca_files {
            builder = builder.add_root_certificates(read("--ca-file", file)?);
        }
        let mut own = None;
        if let Some((certificate, key)) = &self.client_certificate {
            let (certificate, key) = (read("--cert", certificate)?, read("--key", key)?);
            own = Some(TlsOptions::new().client_certificate(certificate, key));
        }
        if let Some(directory) = &self.cert_dir {
            let options = TlsOptions::from_directory(directory);
            own = Some(options.map_err(|error| Failure::new("--cert-dir").because(error))?);
        }
        let mut insecure: BTreeSet<&Host> = self.insecure_tls.iter().collect();
        if let (Some(own), Some(host)) = (own, host) {
            let own = if insecure.remove(host) { accept_any(own, host) } else { own };
            builder = builder.registry_tls(host.clone(), own);
        }
        for host in insecure {
            builder = builder.registry_tls(host.clone(), accept_any(TlsOptions::new(), host));
        }
        Ok(builder)
    }

    fn plain_http(&self) -> PlainHttp {
        let mut hosts = BTreeSet::new();
        for whom in &self.plain_http {
            match whom {
                Whom::All => return PlainHttp::Anywhere,
                Whom::Host(host) => hosts.insert(host.clone()),
            };
        }
        PlainHttp::LoopbackAnd(hosts)
    }
}

fn accept_any(options: TlsOptions, host: &Host) -> TlsOptions {
    tracing::warn!("the TLS certificate of {host} is not verified (--insecure-tls)");
    options.accept_any_certificate()
}

/// The directories where containers and Docker look for certificates of registries.
fn certs_d() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let own = own.filter(|path| path.is_absolute()).map(|path| path.join("containers/certs.d"));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    own.into_iter().chain(system).collect()
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::new(format!("{option} {}", file.display())).because(error))
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads a password, without the end of its line.
fn read_password(file: &Path) -> Result<String, Failure> {
    if is_stdin(file) {
        return password_from(std::io::stdin().lock(), "the password on the standard input");
    }
    let what = format!("--password-file {}", file.display());
    let opened = std::fs::File::open(file);
    password_from(opened.map_err(|error| Failure::new(&what).because(error))?, &what)
}

/// Reads a password, without the end of its line.
pub(crate) fn password_from(from: impl std::io::Read, what: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = from.take(MAX_PASSWORD + 1).read_to_string(&mut text);
    let read = read.map_err(|error| Failure::new(format!("reading {what}")).because(error))?;
    if read as u64 > MAX_PASSWORD {
        return Err(Failure::new(format!("{what} has more than {MAX_PASSWORD} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
