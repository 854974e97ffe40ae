//! TLS by rustls with ring, prepared for reqwest.

mod fault;
mod options;
mod probe;
mod verify;

use std::sync::Arc;

use oci_ref::ErrorKind;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use self::verify::{Named, Unverified};
use crate::{Error, Result};

pub use self::fault::TlsFault;
pub(crate) use self::fault::find as find_fault;
pub use self::options::TlsOptions;
pub(crate) use self::options::find_directory;
pub(crate) use self::probe::speaks_tls;
pub(crate) use self::verify::Platform;

/// Certificates that a client trusts, and the one that it presents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Certificates to trust, in PEM.
    pub(crate) roots: Vec<Vec<u8>>,
    /// True if those of the platform are left out.
    pub(crate) only_roots: bool,
    /// A certificate chain and its key, both in PEM, by which the client says who it is.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    /// True if any certificate is accepted.
    pub(crate) unverified: bool,
}

/// A configuration for reqwest, and the platform's certificates if they count.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    pub(crate) platform: Option<Arc<Platform>>,
}

impl Trust {
    pub(crate) fn prepare(&self) -> Result<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS", error))?;
        let roots = self.read_roots()?;
        let mut platform = None;
        let config = if self.unverified {
            config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else if self.only_roots && roots.is_empty() {
            config.with_root_certificates(RootCertStore::empty())
        } else {
            if !self.only_roots {
                platform = Some(Arc::new(Platform::new(roots.clone(), provider.clone())));
            }
            let verifier = Named::new(roots, platform.clone(), provider)?;
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = self.with_identity(config)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { config, platform })
    }

    fn read_roots(&self) -> Result<Vec<CertificateDer<'static>>> {
        let mut roots = Vec::new();
        for pem in &self.roots {
            let before = roots.len();
            for root in CertificateDer::pem_slice_iter(pem) {
                roots.push(root.map_err(|error| invalid("root certificate", error))?);
            }
            if roots.len() == before {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "root certificate",
                    "there is none in the PEM given",
                ));
            }
        }
        Ok(roots)
    }

    fn with_identity(
        &self,
        config: ConfigBuilder<ClientConfig, WantsClientCert>,
    ) -> Result<ClientConfig> {
        let Some((chain, key)) = &self.identity else {
            return Ok(config.with_no_client_auth());
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| invalid("client certificate", error))?;
        // The error of a key says nothing of its content.
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| invalid("client key", error))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|error| invalid("client certificate", error))
    }
}

/// The error for a certificate, key or setting that cannot be used.
fn invalid(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Invalid, what, error.to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let trust = Trust { roots: vec![pem.into()], only_roots: true, ..Trust::default() };
            let error = trust.prepare().err().expect("refused");
            assert!(error.to_string().starts_with("root certificate: "), "{error}");
        }
    }

    #[test]
    fn both_versions_of_http_are_offered() {
        let tls = Trust { only_roots: true, ..Trust::default() }.prepare().unwrap();
        assert_eq!(tls.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}
