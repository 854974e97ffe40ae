//! From the errors of a bucket to ours.

use object_store::Error as Cause;
use oci_ref::{Error, ErrorKind};

/// How much of what a service says is passed on, in characters.
const SHOWN: usize = 300;

/// By which words a service says that there is no room left.
const FULL: [&str; 6] = [
    "status code: 507",
    "InsufficientStorage",
    "StorageFull",
    "QuotaExceeded",
    "EntityStorageLimit",
    "AccountStorageLimit",
];

/// By which words a service says that the bucket is not there.
const NO_BUCKET: [&str; 3] =
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// By which words a service says that an upload, or some of its parts, are not there any more, so that it can never be completed.
const NO_PARTS: [&str; 3] = ["NoSuchUpload", "InvalidPart", "InvalidBlockList"];

/// An error of an operation on a stored object.
pub(super) fn failed(storage: &str, doing: &str, error: &Cause) -> Error {
    Error::new(kind(error), format!("storage {storage}: cannot {doing}: {}", brief(error)))
}

/// Something that is not there, and not because its bucket is not.
pub(super) fn is_missing(error: &Cause) -> bool {
    matches!(error, Cause::NotFound { .. }) && !says(error, &NO_BUCKET)
}

/// An upload that nobody can go on with: the service does not know it, or not all of its parts.
pub(super) fn is_over(error: &Cause) -> bool {
    is_missing(error) || says(error, &NO_PARTS)
}

fn kind(error: &Cause) -> ErrorKind {
    if says(error, &FULL) {
        return ErrorKind::StorageFull;
    }
    match error {
        _ if is_missing(error) => ErrorKind::Internal,
        Cause::InvalidPath { .. }
        | Cause::NotSupported { .. }
        | Cause::NotImplemented { .. }
        | Cause::UnknownConfigurationKey { .. } => ErrorKind::Internal,
        // Gone for a while, overloaded, or its credentials are being changed.
        _ => ErrorKind::Unavailable,
    }
}

/// Why a bucket that is to be used cannot be.
pub(super) fn unusable(storage: &str, doing: &str, error: &Cause) -> Error {
    let (kind, why) = match error {
        _ if says(error, &NO_BUCKET) || matches!(error, Cause::NotFound { .. }) => {
            (ErrorKind::Invalid, "there is no such bucket: make it, or name another")
        }
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => (
            ErrorKind::Invalid,
            "the credentials in the environment are refused, or do not allow it",
        ),
        // Where machines of a cloud ask for credentials, if nothing else has them.
        _ if says(error, &["169.254.169.254", "metadata.google.internal"]) => (
            ErrorKind::Invalid,
            "the environment has no credentials, and this machine is given none",
        ),
        _ => (kind(error), "it cannot be used now"),
    };
    Error::new(kind, format!("storage {storage}: cannot {doing}: {why} ({})", brief(error)))
}

fn says(error: &Cause, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().any(|word| text.contains(word))
}

/// What a service said, in short: requests that failed are described at length, with the whole body of the answer.
pub(super) fn brief(error: &Cause) -> String {
    let text = error.to_string();
    if let Some(code) = between(&text, "<Code>", "</Code>") {
        let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
        return shorten(&format!("{code} {message}"));
    }
    shorten(&text)
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

fn shorten(text: &str) -> String {
    let mut short = String::new();
    for word in text.split_whitespace() {
        if short.len() + word.len() > SHOWN {
            short.push('…');
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Cause {
        Cause::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn kinds() {
        let missing = |text: &str| Cause::NotFound { path: "p".into(), source: text.into() };
        assert_eq!(kind(&missing("<Code>NoSuchKey</Code>")), ErrorKind::Internal);
        assert_eq!(kind(&missing("<Code>NoSuchBucket</Code>")), ErrorKind::Unavailable);
        assert_eq!(
            kind(&generic("non-2xx status code: 507 Insufficient Storage")),
            ErrorKind::StorageFull
        );
        assert_eq!(kind(&generic("<Code>QuotaExceeded</Code>")), ErrorKind::StorageFull);
        assert_eq!(kind(&generic("error sending request")), ErrorKind::Unavailable);
    }

    #[test]
    fn what_a_service_said() {
        let body = "x <Error><Code>AccessDenied</Code><Message>no\nway</Message><HostId>…</HostId></Error>";
        assert_eq!(brief(&generic(body)), "AccessDenied no way");
        assert!(brief(&generic(&"long ".repeat(1000))).len() < 400);
    }
}
