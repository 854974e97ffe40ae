//! References to content in a registry, read strictly. The Docker-familiar reading is in `familiar.rs`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::host::{Host, HostError, looks_like_host};
use crate::name::{Name, NameError};
use crate::tag::{Tag, TagError};
use crate::text::{Excerpt, deserialize_from_str};

/// Longest reference, in bytes; more than its longest parts together.
pub(crate) const MAX_LENGTH: usize = 1024;

/// A repository on a registry, and in it perhaps a tag, a digest, or both (the digest then decides).
///
/// The strict form is `host[:port]/name[:tag][@digest]`: parsing it adds neither a host nor a tag, and writing it
/// gives back exactly what was parsed. [`Reference::parse_familiar`] reads Docker's short forms.
///
/// ```
/// # use oci_spec_types::Reference;
/// let reference: Reference = "localhost:5000/team/app:1.2".parse()?;
/// assert_eq!(reference.host().port(), Some(5000));
/// assert_eq!(reference.tag().map(|tag| tag.as_str()), Some("1.2"));
/// assert_eq!(reference.to_string(), "localhost:5000/team/app:1.2");
/// # Ok::<(), oci_spec_types::ReferenceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: Host,
    name: Name,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// A repository, without tag and digest.
    pub fn new(host: Host, name: Name) -> Self {
        Self { host, name, tag: None, digest: None }
    }

    /// The same with this tag.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self
    }

    /// The same with this digest.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The registry's host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The repository's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        let fail = |problem| ReferenceError::new(input, problem);
        let parts = Parts::split(input)?;
        let (host, name) = parts.path.split_once('/').ok_or_else(|| fail(Problem::NoHost))?;
        if !looks_like_host(host) {
            return Err(fail(Problem::NoHost));
        }
        let host = host.parse().map_err(|error| fail(Problem::Host(error)))?;
        let name = name.parse().map_err(|error| fail(Problem::Name(error)))?;
        let (tag, digest) = parts.tag_and_digest(input)?;
        Ok(Self { host, name, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)?;
        self.fmt_suffix(f)
    }
}

impl Reference {
    /// Writes `[:tag][@digest]`.
    pub(crate) fn fmt_suffix(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

deserialize_from_str!(Reference);

/// A reference cut at its marks: host and name together, tag, digest. Nothing is checked but the length.
pub(crate) struct Parts<'a> {
    pub(crate) path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(crate) fn split(input: &'a str) -> Result<Self, ReferenceError> {
        if input.len() > MAX_LENGTH {
            return Err(ReferenceError::new(input, Problem::TooLong));
        }
        let (rest, digest) = match input.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (input, None),
        };
        // A colon before the last slash belongs to a port.
        let last_component = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[last_component..].find(':') {
            Some(at) => (&rest[..last_component + at], Some(&rest[last_component + at + 1..])),
            None => (rest, None),
        };
        Ok(Self { path, tag, digest })
    }

    pub(crate) fn tag_and_digest(
        &self,
        input: &str,
    ) -> Result<(Option<Tag>, Option<Digest>), ReferenceError> {
        let fail = |problem| ReferenceError::new(input, problem);
        let tag =
            self.tag.map(str::parse).transpose().map_err(|error| fail(Problem::Tag(error)))?;
        let digest = self
            .digest
            .map(str::parse)
            .transpose()
            .map_err(|error| fail(Problem::Digest(error)))?;
        Ok((tag, digest))
    }
}

/// A text that is not a reference; says which part is wrong and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference {input}: {problem}")]
pub struct ReferenceError {
    input: Excerpt,
    problem: Box<Problem>,
}

impl ReferenceError {
    pub(crate) fn new(input: &str, problem: Problem) -> Self {
        Self { input: Excerpt::new(input), problem: Box::new(problem) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("it has more than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("it does not begin with a registry host (expected host[:port]/name[:tag][@digest])")]
    NoHost,
    #[error("64 hexadecimal digits alone are an image identifier, not a repository name")]
    BareIdentifier,
    #[error(transparent)]
    Host(HostError),
    #[error(transparent)]
    Name(NameError),
    #[error(transparent)]
    Tag(TagError),
    #[error(transparent)]
    Digest(DigestError),
}
