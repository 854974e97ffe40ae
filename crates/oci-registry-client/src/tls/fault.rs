//! The ways in which TLS fails, told apart, so that a tool can say what helps.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// The way in which a connection failed over TLS, or for want of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The registry was asked by HTTPS, and its port does not speak TLS.
    PlainHttp,
    /// The registry was asked by plain HTTP, and its port speaks TLS.
    Https,
    /// No authority that is trusted vouches for the registry's certificate.
    UnknownAuthority,
    /// The registry's certificate is for other names.
    OtherName,
    /// The registry's certificate has expired, or is not valid yet.
    Dates,
    /// The registry does not accept the client's certificate, or wants one and got none.
    ClientCertificate,
    /// Another one.
    Other,
}

/// Returns the first error of TLS among an error and its causes.
pub(crate) fn find(error: &(dyn StdError + 'static)) -> Option<TlsFault> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = tls_error(cause) {
            return Some(classify(found));
        }
        next = cause.source();
    }
    None
}

/// An error of TLS may lie within several of I/O, which do not give it as their source.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    let within = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    tls_error(within)
}

fn classify(error: &rustls::Error) -> TlsFault {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFault::PlainHttp,
        rustls::Error::InvalidCertificate(error) => match error {
            UnknownIssuer | BadSignature | CertificateError::Other(_) => TlsFault::UnknownAuthority,
            NotValidForName | NotValidForNameContext { .. } => TlsFault::OtherName,
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
                TlsFault::Dates
            }
            _ => TlsFault::Other,
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied,
        ) => TlsFault::ClientCertificate,
        _ => TlsFault::Other,
    }
}
