//! What a request asks for, as a test distinguishes it.

use http::Method;
use oci_ref::Target;

use crate::query::Query;
use crate::route::Route;

/// Where a [`TestRegistry`](crate::TestRegistry) gives tokens.
pub(super) const TOKEN_PATH: &str = "/token";

/// What a request to a [`TestRegistry`](crate::TestRegistry) asks for. HEAD counts as GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `GET /v2/` (end-1).
    Ping,
    /// `GET /v2/_catalog`.
    Catalog,
    /// To read a blob or ask for it (end-2).
    PullBlob,
    /// To read a manifest or ask for it (end-3).
    PullManifest,
    /// To begin an upload (end-4a).
    BeginUpload,
    /// To push a whole blob with one POST (end-4b).
    PushBlob,
    /// To send a chunk of an upload (end-5).
    PatchUpload,
    /// To close an upload, with or without a last chunk (end-6).
    CloseUpload,
    /// To push a manifest (end-7).
    PushManifest,
    /// To list the tags (end-8).
    ListTags,
    /// To delete a tag (end-9).
    DeleteTag,
    /// To delete a manifest (end-9).
    DeleteManifest,
    /// To delete a blob (end-10).
    DeleteBlob,
    /// To mount a blob (end-11).
    MountBlob,
    /// To list referrers (end-12).
    ListReferrers,
    /// To ask how far an upload has come (end-13).
    UploadStatus,
    /// To cancel an upload (end-14).
    CancelUpload,
    /// To get a token, from [`TestAuth::bearer`](crate::TestAuth::bearer).
    Token,
    /// Anything else.
    Other,
}

impl Endpoint {
    pub(super) fn of(method: &Method, path: &str, query: &str) -> Self {
        if path == TOKEN_PATH {
            return Self::Token;
        }
        let Ok(route) = Route::parse(path) else {
            return Self::Other;
        };
        if !route.methods().contains(&method.as_str()) {
            return Self::Other;
        }
        match (route, method.as_str()) {
            (Route::Ping, _) => Self::Ping,
            (Route::Catalog, _) => Self::Catalog,
            (Route::Tags(_), _) => Self::ListTags,
            (Route::Referrers(..), _) => Self::ListReferrers,
            (Route::Blob(..), "DELETE") => Self::DeleteBlob,
            (Route::Blob(..), _) => Self::PullBlob,
            (Route::Manifest(..), "PUT") => Self::PushManifest,
            (Route::Manifest(_, Target::Tag(_)), "DELETE") => Self::DeleteTag,
            (Route::Manifest(..), "DELETE") => Self::DeleteManifest,
            (Route::Manifest(..), _) => Self::PullManifest,
            (Route::Uploads(_), _) => match Query::parse(Some(query)) {
                Ok(query) if query.all("mount").next().is_some() => Self::MountBlob,
                Ok(query) if query.all("digest").next().is_some() => Self::PushBlob,
                _ => Self::BeginUpload,
            },
            (Route::Upload(..), "PATCH") => Self::PatchUpload,
            (Route::Upload(..), "PUT") => Self::CloseUpload,
            (Route::Upload(..), "DELETE") => Self::CancelUpload,
            (Route::Upload(..), _) => Self::UploadStatus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint() {
        let digest = oci_spec_types::Digest::sha256(b"");
        let (blob, manifest) =
            (format!("/v2/a/blobs/{digest}"), format!("/v2/a/manifests/{digest}"));
        let cases = [
            ("GET", "/v2/", "", Endpoint::Ping),
            ("GET", "/v2/_catalog", "n=1", Endpoint::Catalog),
            ("GET", &blob, "", Endpoint::PullBlob),
            ("HEAD", &blob, "", Endpoint::PullBlob),
            ("DELETE", &blob, "", Endpoint::DeleteBlob),
            ("GET", &manifest, "", Endpoint::PullManifest),
            ("HEAD", "/v2/a/manifests/v1", "", Endpoint::PullManifest),
            ("PUT", "/v2/a/manifests/v1", "", Endpoint::PushManifest),
            ("DELETE", "/v2/a/manifests/v1", "", Endpoint::DeleteTag),
            ("DELETE", &manifest, "", Endpoint::DeleteManifest),
            ("POST", "/v2/a/blobs/uploads/", "", Endpoint::BeginUpload),
            ("POST", "/v2/a/blobs/uploads/", "digest=sha256:x", Endpoint::PushBlob),
            ("POST", "/v2/a/blobs/uploads/", "mount=sha256:x&from=b", Endpoint::MountBlob),
            ("PATCH", "/v2/a/blobs/uploads/1", "", Endpoint::PatchUpload),
            ("PUT", "/v2/a/blobs/uploads/1", "digest=sha256:x", Endpoint::CloseUpload),
            ("GET", "/v2/a/blobs/uploads/1", "", Endpoint::UploadStatus),
            ("DELETE", "/v2/a/blobs/uploads/1", "", Endpoint::CancelUpload),
            ("GET", "/v2/a/tags/list", "", Endpoint::ListTags),
            ("GET", &format!("/v2/a/referrers/{digest}"), "", Endpoint::ListReferrers),
            ("POST", "/token", "", Endpoint::Token),
            ("POST", "/v2/", "", Endpoint::Other),
            ("GET", "/", "", Endpoint::Other),
        ];
        for (method, path, query, expected) in cases {
            let method: Method = method.parse().unwrap();
            assert_eq!(Endpoint::of(&method, path, query), expected, "{method} {path}?{query}");
        }
    }
}
