//! One repository of a registry: a source and a store over HTTP (distribution-spec).

mod blob_body;
mod blobs;
mod content;
mod download;
mod index_updates;
mod manifests;
mod mirrored;
mod pace;
mod parallel;
mod push;
mod reader;
mod reference;
mod referrers;
mod referrers_index;
mod referrers_list;
mod session;
mod staged;
mod store;
mod tags;
mod uploads;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use oci_ref::{Ref, Target};
use oci_spec_types::{Digest, ErrorCode, Name, Tag};
use reqwest::Url;

pub use self::content::Head;
pub(crate) use self::index_updates::IndexUpdates;
pub(crate) use self::mirrored::Unfinished;
pub use self::reader::{BlobCloser, BlobReader};

use self::referrers::Support;
use crate::auth::Scopes;
use crate::request::{About, Request};
use crate::response::Response;
use crate::{Client, Registry, Result, location};

/// A repository of a registry. Clones are cheap.
///
/// It is an [`oci_ref::Source`] and an [`oci_ref::Store`]: those traits have its operations on manifests, blobs, tags and
/// referrers, and [`oci_ref::copy`] and [`oci_ref::Ref`] work on it. What only a registry has is here.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    registry: Registry,
    name: Name,
    referrers: Mutex<Option<Support>>,
}

impl Repository {
    pub(crate) fn new(registry: Registry, name: Name) -> Self {
        Self(Arc::new(Inner { registry, name, referrers: Mutex::default() }))
    }

    /// The repository's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The registry that it belongs to.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Another repository of the same registry.
    pub fn sibling(&self, name: Name) -> Self {
        self.registry().repository(name)
    }

    /// Reads an image or an index: by tag, by digest, or by both, where the registry is asked for
    /// the tag first and the content has the digest in any case. With a tag alone the registry
    /// vouches for the content; the rest is verified.
    ///
    /// # Errors
    /// When there is neither tag nor digest, when it is not there, or when it is not what the digest says.
    pub async fn read(&self, tag: Option<&Tag>, digest: Option<&Digest>) -> oci_ref::Result<Ref> {
        let target = match (tag.cloned(), digest.cloned()) {
            (Some(tag), Some(digest)) => Target::Pinned(tag, digest),
            (Some(tag), None) => Target::Tag(tag),
            (None, Some(digest)) => Target::Digest(digest),
            (None, None) => {
                return Err(oci_ref::Error::new(
                    oci_ref::ErrorKind::Invalid,
                    format!("{self}: a tag or a digest is needed to read from it"),
                ));
            }
        };
        Ref::read(Arc::new(self.clone()), &target).await
    }

    /// Says whether the registry has the referrers API, instead of finding out. Each client of a registry without it
    /// keeps an index under a tag of its own for each subject.
    ///
    /// # Errors
    /// When the contrary was said before, or found out: what this repository was asked until now
    /// went by that.
    pub fn set_referrers_api(&self, supported: bool) -> Result<()> {
        let said = if supported { Support::Api } else { Support::Tags };
        if self.learn_support(said) == said {
            return Ok(());
        }
        let (now, before) = match supported {
            true => ("has the referrers API", "has none"),
            false => ("has no referrers API", "has one"),
        };
        let reason = format!("it {now} by what is said now, and {before} by what is known of it");
        Err(crate::Error::new(oci_ref::ErrorKind::Invalid, format!("repository {self}"), reason))
    }

    fn support(&self) -> Option<Support> {
        *self.0.referrers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns what is not known yet, and gives what was learned first.
    fn learn_support(&self, support: Support) -> Support {
        let mut known = self.0.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        *known.get_or_insert(support)
    }

    fn client(&self) -> &Client {
        self.registry().client()
    }

    fn url(&self, path: &str) -> Url {
        let url = self.registry().url(&format!("{}/{path}", self.name()));
        match self.registry().mirrored() {
            Some(primary) => location::with_query(url, "ns", primary.as_str()),
            None => url,
        }
    }

    fn about(&self, thing: impl fmt::Display, missing: ErrorCode) -> About {
        About::new(format!("{thing} of {self}"), missing)
    }

    fn request(&self, method: Method, url: Url, about: About) -> Request<'_> {
        Request::new(method, url, about).repository(self.name())
    }

    fn reading(&self, method: Method, url: Url, about: About) -> Request<'_> {
        self.request(method, url, about).scopes(Scopes::pull(self.name()))
    }

    fn writing(&self, method: Method, url: Url, about: About) -> Request<'_> {
        self.request(method, url, about).scopes(Scopes::push(self.name()))
    }

    /// Deletes what is at an address; gives the answer, unless that was lost.
    async fn delete_at(&self, url: Url, about: About) -> Result<Option<Response>> {
        let scopes = Scopes::delete(self.registry().host(), self.name());
        let request = self.request(Method::DELETE, url, about).scopes(scopes);
        let request = request.expect(&[202, 200, 204]);
        let mut attempts = self.registry().attempts();
        let mut failed_before = false;
        loop {
            attempts.ready(self.registry().state()).await;
            match self.registry().exchange(&request).await {
                Ok(answer) => return Ok(Some(answer)),
                // The answer to an attempt that deleted it may have been lost.
                Err(error) if failed_before && error.is_not_found() => return Ok(None),
                Err(error) => attempts.failed(self.registry().state(), error).await?,
            }
            failed_before = true;
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry().host(), self.name())
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Repository").field(&format_args!("{self}")).finish()
    }
}
