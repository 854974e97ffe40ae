//! Decisions about the certificate that a registry presents.

use std::sync::{Arc, OnceLock};

use rustls::CertificateError::{BadSignature, Other, UnknownIssuer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::invalid;
use crate::Result;

/// The signatures of a handshake, verified by a provider, whatever the certificate.
macro_rules! verify_signatures {
    ($provider:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            verify_tls12_signature(message, cert, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            verify_tls13_signature(message, cert, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Trusts the authorities that the user named, those of the platform if they count, and each
/// certificate that is byte for byte one that the user named: a self-signed one is its own
/// authority, which the rules for chains of certificates do not allow for the end of a chain.
#[derive(Debug)]
pub(super) struct Named {
    roots: Vec<CertificateDer<'static>>,
    /// By the named certificates alone; `None` if there are none.
    named: Option<Arc<WebPkiServerVerifier>>,
    platform: Option<Arc<Platform>>,
    provider: Arc<CryptoProvider>,
}

impl Named {
    pub(super) fn new(
        roots: Vec<CertificateDer<'static>>,
        platform: Option<Arc<Platform>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for root in &roots {
            store.add(root.clone()).map_err(|error| invalid("root certificate", error))?;
        }
        let named = match roots.is_empty() {
            true => None,
            false => {
                let builder =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
                Some(builder.build().map_err(|error| invalid("root certificate", error))?)
            }
        };
        Ok(Self { roots, named, platform, provider })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |verifier: &dyn ServerCertVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match (&self.named, &self.platform) {
            (Some(named), _) if self.roots.iter().any(|root| root == end_entity) => {
                match verify(&**named) {
                    // The dates are checked before any of these is found.
                    Err(error) if is_about_the_issuer(&error) => {
                        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                        Ok(ServerCertVerified::assertion())
                    }
                    verified => verified,
                }
            }
            (_, Some(platform)) => verify(&**platform),
            (Some(named), None) => verify(&**named),
            (None, None) => Err(rustls::Error::InvalidCertificate(UnknownIssuer)),
        }
    }

    verify_signatures!(provider);
}

/// Tells whether the certificate itself is sound, and only who vouches for it is in question.
fn is_about_the_issuer(error: &rustls::Error) -> bool {
    match error {
        // The latter where an authority has the issuer's name and another key.
        rustls::Error::InvalidCertificate(UnknownIssuer | BadSignature) => true,
        rustls::Error::InvalidCertificate(Other(other)) => {
            let cause = other.0.downcast_ref::<webpki::Error>();
            cause.is_some_and(|cause| *cause == webpki::Error::CaUsedAsEndEntity)
        }
        _ => false,
    }
}

/// Accepts any certificate, of which the registry must have the key.
#[derive(Debug)]
pub(super) struct Unverified(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!(0);
}

/// The platform's certificates and those that were added, read when they are needed first: there
/// are hundreds of files, and who only speaks plain HTTP to this machine should not wait for them.
#[derive(Debug)]
pub(crate) struct Platform {
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, String>>,
}

impl Platform {
    pub(super) fn new(roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider, verifier: OnceLock::new() }
    }

    fn verifier(&self) -> Result<&Verifier, &str> {
        let read = || {
            Verifier::new_with_extra_roots(self.roots.clone(), self.provider.clone())
                .map_err(|error| error.to_string())
        };
        self.verifier.get_or_init(read).as_ref().map_err(String::as_str)
    }

    /// Reads them beside the asynchronous threads. Returns the reason why nobody can be trusted, if
    /// so: a machine without certificates can still use registries over plain HTTP.
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

    verify_signatures!(provider);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_s_certificates_are_read_when_they_are_needed() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let platform = Platform::new(Vec::new(), provider);
        assert!(platform.verifier.get().is_none());
        let _ = platform.verifier();
        assert!(platform.verifier.get().is_some());
    }
}
