//! The one decision in front of every operation.

use std::net::SocketAddr;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use oci_ref::Target;
use oci_spec_types::{Digest, Name, Tag};

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// To ask whether this is a registry (end-1). Clients use it to find out how to authenticate.
    Ping,
    /// To list the repositories.
    Catalog,
    /// To read a manifest, or ask whether it is there (end-3).
    PullManifest(&'a Target),
    /// To read a blob or a part of it, or ask whether it is there (end-2); on the source of a mount, to take it from
    /// there.
    PullBlob(&'a Digest),
    /// To begin, go on with, ask about, close or cancel the upload of a blob (end-4, 5, 6, 13, 14).
    PushBlob,
    /// To take a blob over from another repository, or from any (end-11). It is a push here; pulling there is
    /// decided on its own, as [`Operation::PullBlob`].
    MountBlob {
        /// The blob.
        digest: &'a Digest,
        /// The repository that the request names.
        from: Option<&'a Name>,
    },
    /// To store a manifest and move tags to it (end-7).
    PushManifest {
        /// What it is pushed as.
        target: &'a Target,
        /// All the tags that will name it, that of `target` too.
        tags: &'a [Tag],
    },
    /// To remove a tag (end-9).
    DeleteTag(&'a Tag),
    /// To remove a manifest and the tags that name it (end-9).
    DeleteManifest(&'a Digest),
    /// To remove a blob (end-10).
    DeleteBlob(&'a Digest),
    /// To list the tags (end-8).
    ListTags,
    /// To list what refers to a manifest (end-12).
    ListReferrers(&'a Digest),
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccessRequest<'a> {
    /// What the request is about to do.
    pub operation: Operation<'a>,
    /// The repository that it does it to; none for [`Operation::Ping`] and [`Operation::Catalog`].
    pub repository: Option<&'a Name>,
    /// The request's headers. They may hold secrets: never log them.
    pub headers: &'a HeaderMap,
    /// Where the request came from, if whoever accepted the connection said so by a [`PeerAddr`].
    pub peer: Option<SocketAddr>,
}

/// The answer to an [`AccessRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Go on.
    Allow,
    /// 403, `DENIED`.
    Deny,
    /// 401, `UNAUTHORIZED`, with this `WWW-Authenticate` header.
    Unauthenticated {
        /// The challenge, such as `Basic realm="registry"`.
        challenge: HeaderValue,
    },
}

/// Decides what a request may do, before the engine is asked for anything.
///
/// ```
/// use async_trait::async_trait;
/// use oci_registry_server::{AccessPolicy, AccessRequest, Decision, Operation};
///
/// /// Everybody may read, nobody may write.
/// struct Mirror;
///
/// #[async_trait]
/// impl AccessPolicy for Mirror {
///     async fn decide(&self, request: &AccessRequest<'_>) -> Decision {
///         match request.operation {
///             Operation::Ping | Operation::PullManifest(_) | Operation::PullBlob(_) => Decision::Allow,
///             _ => Decision::Deny,
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait AccessPolicy: Send + Sync + 'static {
    /// The decision.
    async fn decide(&self, request: &AccessRequest<'_>) -> Decision;
}

/// Lets everybody do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

#[async_trait]
impl AccessPolicy for AllowAll {
    async fn decide(&self, _request: &AccessRequest<'_>) -> Decision {
        Decision::Allow
    }
}

/// The address that a request came from, as an extension of the request. [`serve`](crate::serve()) sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);
