//! How the tool fails: the chain of what went wrong, one hint, and an exit code that scripts can rely on.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use oci_ref::{Error, ErrorKind};
use oci_registry_client::{Obstacle, TlsFault};
use oci_spec_types::{ErrorCode, plain};

/// A failure of the tool.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, code: 1 }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A failure that another process has told, with its exit code.
    pub(crate) fn told(message: impl Into<String>, code: u8) -> Self {
        Self { code, ..Self::new(message) }
    }

    /// What another process is told.
    pub(crate) fn tell(&self) -> (String, u8) {
        (self.chain(), self.code)
    }

    /// An error of the libraries, with what was being done.
    pub(crate) fn of(doing: impl Into<String>, error: Error) -> Self {
        let code = exit_code(&error);
        let hint = hint_for(&error);
        Self { message: doing.into(), source: Some(error.into()), hint, code }
    }

    /// The chain in one line, each cause once.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut said = self.message.clone();
        let mut next = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = next {
            let message = error.to_string();
            if !said.contains(&message) {
                let _ = write!(text, ": {message}");
                said = message;
            }
            next = error.source();
        }
        text
    }

    /// Says it on standard error, if that can be written to, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = format!("ocictl: {}\n", plain(&self.chain()));
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {}", plain(hint));
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
}

fn exit_code(error: &Error) -> u8 {
    if error.is_not_found() {
        3
    } else if error.is_unauthorized() || error.is_denied() {
        4
    } else if error.is_retryable() {
        5
    } else {
        1
    }
}

/// The option that helps where TLS is in question.
fn hint_for_tls(fault: TlsFault) -> Option<&'static str> {
    Some(match fault {
        TlsFault::PlainHttp => {
            "the registry speaks plain HTTP: --plain-http=HOST allows that for it alone"
        }
        TlsFault::Https => "the registry speaks HTTPS: leave --plain-http out for it",
        TlsFault::UnknownAuthority => {
            "--ca-file FILE trusts the registry's certificate, or the authority that signed it"
        }
        TlsFault::OtherName => "use a name that the registry's certificate is for",
        TlsFault::Dates => "the registry's certificate has to be renewed, or this clock is wrong",
        TlsFault::ClientCertificate => {
            "--cert FILE and --key FILE present a client certificate to the registry"
        }
        _ => return None,
    })
}

/// The option that helps where the registry was not asked.
fn hint_for_obstacle(obstacle: &Obstacle) -> Option<String> {
    match obstacle {
        Obstacle::Name => {
            Some("check that name, and whether this machine has a network".to_owned())
        }
        Obstacle::Credentials => {
            Some("--no-creds asks registries as nobody in particular".to_owned())
        }
        Obstacle::Internal(host) => {
            Some(format!("--allow-internal {host} lets registries lead there"))
        }
        _ => None,
    }
}

fn hint_for(error: &Error) -> Option<String> {
    let cause = error.find_source::<oci_registry_client::Error>();
    if let Some(cause) = cause {
        if let Some(fault) = cause.tls_fault() {
            return hint_for_tls(fault).map(str::to_owned);
        }
        if let Some(obstacle) = cause.obstacle() {
            return hint_for_obstacle(obstacle);
        }
    }
    let hint = match error.kind() {
        ErrorKind::Code(ErrorCode::NameUnknown) => "check the name of the repository or layout",
        ErrorKind::Code(ErrorCode::ManifestUnknown) => "check the tag or digest",
        ErrorKind::Code(ErrorCode::ManifestBlobUnknown) => {
            "the destination wants everything that a manifest references to be there first"
        }
        // Who is asked for no credentials is not helped by some.
        ErrorKind::Code(ErrorCode::Unauthorized)
            if cause.is_none_or(|cause| cause.status() == Some(401)) =>
        {
            "`ocictl login HOST` keeps credentials for a registry"
        }
        ErrorKind::Unlisted => {
            "what was pushed is there; the registry has no referrers API, so the list of what \
             refers to an image lies under a tag"
        }
        ErrorKind::Sparse => {
            "--strip writes a smaller index in its place, which has another digest"
        }
        ErrorKind::StorageFull => "make room, and run the same command again; nothing is lost",
        ErrorKind::Unavailable => "run the same command again later; what was done stays",
        _ => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_says_each_cause_once() {
        let cause = Error::new(ErrorCode::BlobUnknown, "blob x is not known");
        let failure = Failure::of("copying", cause.context("reading blob x"));
        assert_eq!(failure.chain(), "copying: reading blob x: blob x is not known");
        assert_eq!(failure.code, 3);
    }
}
