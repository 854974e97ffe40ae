//! The parsers of what a registry answers and of Docker's configuration, for fuzz targets. No part of the API: feature `fuzzing` only.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use oci_spec_types::{ErrorCode, Host, Name};
use reqwest::Url;

use crate::auth::challenge;
use crate::auth::docker::document::Document;
use crate::content_range::ContentRange;
use crate::secrets::Secrets;
use crate::{Credentials, Error, link, retry};

/// A way to authenticate that this crate knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password.
    Basic,
    /// A token.
    Bearer {
        /// Where it is to be had.
        realm: String,
        /// For which registry.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

/// `WWW-Authenticate`.
pub fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    challenge::supported(headers).into_iter().next().map(|found| match found {
        challenge::Challenge::Basic => Challenge::Basic,
        challenge::Challenge::Bearer(bearer) => {
            Challenge::Bearer { realm: bearer.realm, service: bearer.service, scope: bearer.scope }
        }
    })
}

/// `Link`, of a page with this address.
pub fn next_page(headers: &HeaderMap, base: &str) -> Result<Option<String>, String> {
    Ok(link::next(headers, &url(base)?)?.map(String::from))
}

/// `Content-Range` of a `206`: the bytes, and the size of the whole.
pub fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
    ContentRange::parse(value).map(|range| (range.range(), range.size))
}

/// `Content-Range` of a `416`.
pub fn unsatisfied_size(value: &str) -> Option<u64> {
    crate::content_range::unsatisfied_size(value)
}

/// `Range` of an upload of which so many bytes are known to be there.
pub fn upload_offset(value: &str, known: u64) -> Option<u64> {
    crate::content_range::upload_offset(value, known)
}

/// `Retry-After`, at a time in seconds since 1970.
pub fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    retry::retry_after(headers, jiff::Timestamp::from_second(now).ok()?)
}

/// `Location`, of an answer from this address.
pub fn location(value: &str, base: &str) -> Result<String, String> {
    crate::location::resolve(value, &url(base)?).map(String::from)
}

/// The error that an answer makes.
pub fn answered(status: u16, body: &[u8]) -> Error {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    Error::answered(
        status,
        "blob x of r.example/a",
        &ErrorCode::BlobUnknown,
        body,
        &Secrets::default(),
    )
}

/// A configuration file of Docker or Podman, without the helpers that it names.
pub struct DockerDocument(Document);

impl DockerDocument {
    /// Reads it; `legacy` is the form of `~/.dockercfg`.
    pub fn parse(bytes: &[u8], legacy: bool) -> Result<Self, String> {
        Document::parse(bytes, legacy).map(Self)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// The helpers to ask.
    pub fn helpers(&self, host: &Host) -> Vec<&str> {
        self.0.helpers(host)
    }

    /// What it has for a repository, or for a registry.
    pub fn find(&self, host: &Host, name: Option<&Name>) -> Result<Option<Credentials>, String> {
        self.0.find(host, name)
    }

    /// Keeps credentials.
    pub fn put(&mut self, host: &Host, credentials: &Credentials) {
        self.0.put(host, Some(credentials));
    }

    /// Forgets those of a registry.
    pub fn remove(&mut self, host: &Host) -> bool {
        self.0.remove(host)
    }
}

fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("base {text:?}: {error}"))
}
