//! TLS by rustls with ring, prepared for reqwest.

use std::sync::{Arc, OnceLock};

use oci_ref::ErrorKind;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::{Error, Result};

/// Whom a client trusts to vouch for https registries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Certificates to trust, in PEM.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Whether those of the platform are trusted as well.
    pub(crate) only_roots: bool,
    /// A certificate chain and its key, both in PEM, by which the client says who it is.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// A configuration for reqwest, and the platform's certificates if they count.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    pub(crate) platform: Option<Arc<Platform>>,
}

impl Trust {
    pub(crate) fn prepare(&self) -> Result<Tls> {
        let roots = self.read_roots()?;
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| invalid("root certificate", error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("TLS", error))?;
        let platform = (!self.only_roots).then(|| Arc::new(Platform::new(roots, provider)));
        let config = match platform.clone() {
            None => config.with_root_certificates(store),
            Some(platform) => config.dangerous().with_custom_certificate_verifier(platform),
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

/// The platform's certificates and those that were added, read when they are needed first: there are hundreds of files,
/// and who only speaks plain HTTP to this machine should not wait for them.
#[derive(Debug)]
pub(crate) struct Platform {
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, String>>,
}

impl Platform {
    fn new(roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider, verifier: OnceLock::new() }
    }

    fn verifier(&self) -> Result<&Verifier, &str> {
        let read = || {
            Verifier::new_with_extra_roots(self.roots.clone(), self.provider.clone())
                .map_err(|error| error.to_string())
        };
        self.verifier.get_or_init(read).as_ref().map_err(String::as_str)
    }

    /// Reads them beside the asynchronous threads. Gives why nobody can be trusted, if so: a machine without certificates
    /// can still use registries over plain HTTP.
    pub(crate) async fn unusable(self: &Arc<Self>) -> Option<String> {
        if self.verifier.get().is_none() {
            let platform = self.clone();
            // If that fails, the handshake reads them.
            let _ = tokio::task::spawn_blocking(move || platform.verifier().is_ok()).await;
        }
        self.verifier().err().map(str::to_owned)
    }

    fn ready(&self) -> Result<&Verifier, rustls::Error> {
        self.verifier().map_err(|reason| rustls::Error::General(reason.to_owned()))
    }
}

impl ServerCertVerifier for Platform {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.ready()?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ready()?.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ready()?.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn invalid(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Invalid, what, error.to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let trust = Trust { roots: vec![pem.into()], only_roots: true, identity: None };
            let error = trust.prepare().err().expect("refused");
            assert!(error.to_string().starts_with("root certificate: "), "{error}");
        }
    }

    #[test]
    fn the_platform_s_certificates_are_read_when_they_are_needed() {
        let platform = Trust::default().prepare().unwrap().platform.unwrap();
        assert!(platform.verifier.get().is_none());
        let _ = platform.verifier();
        assert!(platform.verifier.get().is_some());
    }

    #[test]
    fn both_versions_of_http_are_offered() {
        let tls = Trust { only_roots: true, ..Trust::default() }.prepare().unwrap();
        assert_eq!(tls.config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}
