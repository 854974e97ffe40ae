//! TLS settings of one registry, as a program sets them or as directories of certificates hold
//! them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_ref::ErrorKind;
use oci_spec_types::Host;

use super::Trust;
use crate::{Error, Result};

/// TLS settings of one registry, beside those of the client.
///
/// The authorities count for the registry and for where it sends the client (a token service, a
/// bucket). The client certificate and [`accept_any_certificate`](Self::accept_any_certificate) are
/// for the registry's own address alone.
///
/// ```no_run
/// use oci_registry_client::{Client, TlsOptions};
///
/// let tls = TlsOptions::new().add_root_certificates(std::fs::read("registry-ca.pem")?);
/// let client = Client::builder().registry_tls("registry.example:5000".parse()?, tls).build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    roots: Vec<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    unverified: bool,
}

impl TlsOptions {
    /// Settings that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates in this PEM as well. A certificate that the registry presents itself
    /// is accepted if it is byte for byte one of them, its names fit and it has not expired.
    pub fn add_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Identifies the client by a certificate: the chain and its key, both in PEM.
    pub fn client_certificate(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some((chain.into(), key.into()));
        self
    }

    /// Accepts any certificate of the registry. Whoever is on the way can then read and change what
    /// goes over it, credentials included. Digests protect content that is named by its digest, and
    /// nothing else.
    pub fn accept_any_certificate(mut self) -> Self {
        self.unverified = true;
        self
    }

    /// Reads the certificates of one registry from a directory, in the form of Docker's and
    /// containers' `certs.d`: `*.crt` are authorities, `NAME.cert` with `NAME.key` is a client
    /// certificate, of which the first in the order of names is used. Other files are left alone.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read, or a `.cert` lacks its `.key` or the
    /// reverse.
    pub fn from_directory(directory: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(|error| named(directory, error))? {
            files.push(entry.map_err(|error| named(directory, error))?.path());
        }
        files.sort();
        let mut options = Self::new();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => options.roots.push(read(&file)?),
                Some("cert") => {
                    let identity = (read(&file)?, read(&partner(&file, "key")?)?);
                    options.identity.get_or_insert(identity);
                }
                Some("key") => drop(partner(&file, "cert")?),
                _ => {}
            }
        }
        Ok(options)
    }

    /// These settings with others on top: all authorities count, and what only one of the two can
    /// say, `over` says.
    pub(crate) fn overlaid(mut self, over: &Self) -> Self {
        self.roots.extend(over.roots.iter().cloned());
        if over.identity.is_some() {
            self.identity.clone_from(&over.identity);
        }
        self.unverified |= over.unverified;
        self
    }

    /// The trust of a client with these settings, at the registry's own address or elsewhere.
    pub(crate) fn applied_to(&self, client: &Trust, own_address: bool) -> Trust {
        let mut trust = client.clone();
        trust.roots.extend(self.roots.iter().cloned());
        if own_address {
            if self.identity.is_some() {
                trust.identity.clone_from(&self.identity);
            }
            trust.unverified |= self.unverified;
        }
        trust
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("roots", &self.roots.len())
            .field("client_certificate", &self.identity.is_some())
            .field("unverified", &self.unverified)
            .finish()
    }
}

/// Finds the certificates of a registry in the first of these directories that has a directory of
/// the registry's name (`HOST:PORT`), as containers does. A directory that may not be looked into
/// is passed over.
pub(crate) fn find_directory(directories: &[PathBuf], host: &Host) -> Result<Option<TlsOptions>> {
    for directory in directories {
        let path = directory.join(host.as_str());
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                continue;
            }
            Err(error) => return Err(unusable(host, named(&path, error))),
        }
        return match TlsOptions::from_directory(&path) {
            Ok(options) => Ok(Some(options)),
            Err(error) => Err(unusable(host, error)),
        };
    }
    Ok(None)
}

fn unusable(host: &Host, error: io::Error) -> Error {
    let about = format!("certificates for {host}");
    Error::new(ErrorKind::Io, about, error.to_string()).with_source(error)
}

/// The file of the same name with another ending, which must be there.
fn partner(file: &Path, extension: &str) -> io::Result<PathBuf> {
    let partner = file.with_extension(extension);
    match partner.try_exists() {
        Ok(true) => Ok(partner),
        Ok(false) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is there without {}", file.display(), partner.display()),
        )),
        Err(error) => Err(named(&partner, error)),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    fs::read(file).map_err(|error| named(file, error))
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
