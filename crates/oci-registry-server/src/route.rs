//! The paths below `/v2/`: one pure parser. Names hold slashes, so the last segments decide.

use std::borrow::Cow;

use oci_ref::{Target, UploadId};
use oci_spec_types::{Digest, ErrorCode, Name};

use crate::percent::{BadEscape, decode_path};

/// The longest name of an upload session that is looked at, in bytes.
const MAX_SESSION: usize = 1024;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// end-1: `/v2/`
    Ping,
    /// `/v2/_catalog`, an extension
    Catalog,
    /// end-2, end-10: `/v2/<name>/blobs/<digest>`
    Blob(Name, Digest),
    /// end-3, end-7, end-9: `/v2/<name>/manifests/<tag-or-digest>`; never a pinned target
    Manifest(Name, Target),
    /// end-4, end-11: `/v2/<name>/blobs/uploads/`
    Uploads(Name),
    /// end-5, end-6, end-13, end-14: `/v2/<name>/blobs/uploads/<session>`
    Upload(Name, UploadId),
    /// end-8: `/v2/<name>/tags/list`
    Tags(Name),
    /// end-12: `/v2/<name>/referrers/<digest>`
    Referrers(Name, Digest),
}

/// Why a path names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// It is not properly encoded.
    #[error("path: {0}")]
    Escape(#[from] BadEscape),
    /// The registry has no such endpoint.
    #[error("no endpoint of a registry has this path")]
    NoEndpoint,
    /// A part of it is malformed.
    #[error("{message}")]
    Malformed {
        /// The code that the spec has for this part.
        code: ErrorCode,
        /// What is wrong with it.
        message: String,
    },
    /// No upload can have such a name.
    #[error("no upload can have this name")]
    NoUpload,
}

impl Route {
    /// Parses a path.
    pub(crate) fn parse(path: &str) -> Result<Self, RouteError> {
        let path: Cow<'_, str> = decode_path(path)?;
        let Some(rest) = path.strip_prefix("/v2/") else {
            return if path == "/v2" { Ok(Self::Ping) } else { Err(RouteError::NoEndpoint) };
        };
        if rest.is_empty() {
            return Ok(Self::Ping);
        }
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        let Some((head, last)) = rest.rsplit_once('/') else {
            return Err(RouteError::NoEndpoint);
        };
        if let (Some(name), "list") = (below(head, "tags"), last) {
            return Ok(Self::Tags(parse_name(name)?));
        }
        if let Some(name) = below(head, "manifests") {
            return Ok(Self::Manifest(parse_name(name)?, parse_reference(last)?));
        }
        if let Some(name) = below(head, "referrers") {
            return Ok(Self::Referrers(parse_name(name)?, parse_digest(last)?));
        }
        if let Some(name) = below(head, "blobs/uploads") {
            let name = parse_name(name)?;
            return if last.is_empty() {
                Ok(Self::Uploads(name))
            } else {
                Ok(Self::Upload(name, parse_session(last)?))
            };
        }
        match (below(head, "blobs"), last) {
            // Clients are known that leave the last slash out.
            (Some(name), "uploads") => Ok(Self::Uploads(parse_name(name)?)),
            (Some(name), digest) => Ok(Self::Blob(parse_name(name)?, parse_digest(digest)?)),
            (None, _) => Err(RouteError::NoEndpoint),
        }
    }

    /// The methods that it takes, as the `Allow` header has them.
    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Ping | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => &["GET", "HEAD"],
            Self::Blob(..) => &["GET", "HEAD", "DELETE"],
            Self::Manifest(..) => &["GET", "HEAD", "PUT", "DELETE"],
            Self::Uploads(_) => &["POST"],
            Self::Upload(..) => &["GET", "HEAD", "PATCH", "PUT", "DELETE"],
        }
    }
}

impl RouteError {
    /// The spec's code for it.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Escape(_) | Self::NoEndpoint => ErrorCode::Unsupported,
            Self::Malformed { code, .. } => code.clone(),
            Self::NoUpload => ErrorCode::BlobUploadUnknown,
        }
    }
}

/// What stands before `/<last>`; nothing at all if `<last>` is all there is.
fn below<'a>(head: &'a str, last: &str) -> Option<&'a str> {
    let rest = head.strip_suffix(last)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('/') }
}

fn malformed(code: ErrorCode, error: &impl std::fmt::Display) -> RouteError {
    let message = error.to_string();
    RouteError::Malformed { code, message }
}

fn parse_name(text: &str) -> Result<Name, RouteError> {
    text.parse().map_err(|error| malformed(ErrorCode::NameInvalid, &error))
}

fn parse_digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(|error| malformed(ErrorCode::DigestInvalid, &error))
}

/// No tag holds a colon, and every digest does. The spec has no code for a malformed tag: it names no manifest that
/// could be, so the code is that of an invalid manifest.
fn parse_reference(text: &str) -> Result<Target, RouteError> {
    if text.contains(':') {
        return Ok(Target::Digest(parse_digest(text)?));
    }
    match text.parse() {
        Ok(tag) => Ok(Target::Tag(tag)),
        Err(error) => Err(malformed(ErrorCode::ManifestInvalid, &error)),
    }
}

/// The engine gave the name, and knows what it means. What no engine may have to look at is kept from it.
fn parse_session(text: &str) -> Result<UploadId, RouteError> {
    let odd = text.len() > MAX_SESSION || text == "." || text == "..";
    if odd || text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(RouteError::NoUpload);
    }
    Ok(UploadId(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    // spec: R4, R5
    #[test]
    fn paths() {
        let digest: Digest = DIGEST.parse().unwrap();
        let tag = |text: &str| Target::Tag(text.parse().unwrap());
        let escaped = DIGEST.replace(':', "%3A");
        let cases = [
            ("/v2".to_owned(), Route::Ping),
            ("/v2/".to_owned(), Route::Ping),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/tags/list".to_owned(), Route::Tags(name("a"))),
            ("/v2/a/b/c/tags/list".to_owned(), Route::Tags(name("a/b/c"))),
            ("/v2/a/manifests/tags/list".to_owned(), Route::Tags(name("a/manifests"))),
            ("/v2/a/manifests/latest".to_owned(), Route::Manifest(name("a"), tag("latest"))),
            ("/v2/a/manifests/list".to_owned(), Route::Manifest(name("a"), tag("list"))),
            ("/v2/a/tags/manifests/list".to_owned(), Route::Manifest(name("a/tags"), tag("list"))),
            (
                "/v2/a/blobs/uploads/manifests/x".to_owned(),
                Route::Manifest(name("a/blobs/uploads"), tag("x")),
            ),
            (
                format!("/v2/a/manifests/{DIGEST}"),
                Route::Manifest(name("a"), digest.clone().into()),
            ),
            (
                format!("/v2/a/manifests/{escaped}"),
                Route::Manifest(name("a"), digest.clone().into()),
            ),
            (format!("/v2/a/b/blobs/{DIGEST}"), Route::Blob(name("a/b"), digest.clone())),
            (format!("/v2/blobs/blobs/{DIGEST}"), Route::Blob(name("blobs"), digest.clone())),
            (format!("/v2/a/referrers/{DIGEST}"), Route::Referrers(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            (
                "/v2/a/blobs/uploads/1-2".to_owned(),
                Route::Upload(name("a"), UploadId("1-2".to_owned())),
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(Route::parse(&path), Ok(expected), "{path}");
        }
    }

    // spec: R4, R5, R17
    #[test]
    fn malformed_paths() {
        use ErrorCode::*;
        let long_name = format!("/v2/{}/tags/list", "a".repeat(256));
        let long_tag = format!("/v2/a/manifests/{}", "a".repeat(129));
        let slashes = format!("/v2/{}tags/list", "/".repeat(1000));
        let cases = [
            ("", Unsupported),
            ("/", Unsupported),
            ("/v1/", Unsupported),
            ("/v2x", Unsupported),
            ("/v2/a", Unsupported),
            ("/v2/a/b", Unsupported),
            ("/v2/a/tags/lists", Unsupported),
            ("/v2/a/tags/list/", Unsupported),
            ("/v2/_catalog/", Unsupported),
            ("/v2/a%2Fb/tags/list", Unsupported),
            ("/v2/a/manifests/%zz", Unsupported),
            ("/v2/a/manifests/%80", Unsupported),
            ("/v2/tags/list", NameInvalid),
            ("/v2/manifests/latest", NameInvalid),
            ("/v2//manifests/latest", NameInvalid),
            ("/v2/A/manifests/latest", NameInvalid),
            ("/v2/a//b/manifests/latest", NameInvalid),
            ("/v2/a/../b/manifests/latest", NameInvalid),
            ("/v2/%2e%2e/manifests/latest", NameInvalid),
            ("/v2/a%00/tags/list", NameInvalid),
            ("/v2/a b/tags/list", NameInvalid),
            (&long_name, NameInvalid),
            (&slashes, NameInvalid),
            ("/v2/a/manifests/", ManifestInvalid),
            ("/v2/a/manifests/.x", ManifestInvalid),
            ("/v2/a/manifests/..", ManifestInvalid),
            ("/v2/a/manifests/a@b", ManifestInvalid),
            (&long_tag, ManifestInvalid),
            ("/v2/a/manifests/sha256:baddigeststring", DigestInvalid),
            ("/v2/a/manifests/:", DigestInvalid),
            ("/v2/a/blobs/", DigestInvalid),
            ("/v2/a/blobs/latest", DigestInvalid),
            ("/v2/a/blobs/sha256:../../etc", NameInvalid),
            ("/v2/a/referrers/sha256:ab", DigestInvalid),
            ("/v2/a/referrers/", DigestInvalid),
            ("/v2/a/blobs/uploads/..", BlobUploadUnknown),
            ("/v2/a/blobs/uploads/%00", BlobUploadUnknown),
        ];
        for (path, code) in cases {
            let found = Route::parse(path);
            if path.contains("../../etc") {
                assert!(found.is_err(), "{path}");
                continue;
            }
            assert_eq!(found.map_err(|error| error.code()), Err(code), "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(path in ".*") {
            let _ = Route::parse(&path);
            let _ = Route::parse(&format!("/v2/{path}"));
        }

        #[test]
        fn pieces_never_panic(pieces in prop::collection::vec(
            prop::sample::select(vec!["a", "blobs", "uploads", "manifests", "tags", "list", "referrers", "", "..",
                "%2F", DIGEST, "_catalog"]), 0..8)) {
            let _ = Route::parse(&format!("/v2/{}", pieces.join("/")));
        }

        #[test]
        fn every_name_and_tag_is_found(
            name in "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,4}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
        ) {
            let expected = Route::Manifest(name.parse().unwrap(), Target::Tag(tag.parse().unwrap()));
            prop_assert_eq!(Route::parse(&format!("/v2/{name}/manifests/{tag}")), Ok(expected));
            let expected = Route::Tags(name.parse().unwrap());
            prop_assert_eq!(Route::parse(&format!("/v2/{name}/tags/list")), Ok(expected));
            let expected = Route::Uploads(name.parse().unwrap());
            prop_assert_eq!(Route::parse(&format!("/v2/{name}/blobs/uploads/")), Ok(expected));
        }
    }
}
