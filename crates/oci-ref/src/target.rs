//! What a manifest is asked for by.

use std::fmt;

use oci_spec_types::{Digest, Reference, Tag};

/// The way to ask for a manifest: by a tag, a digest, or both, of which the digest counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whatever the tag names now. Only the source vouches for it.
    Tag(Tag),
    /// The content with this digest.
    Digest(Digest),
    /// The content with this digest, whatever the tag names now: it may have moved since this was
    /// written down, or be gone. A source may ask for the tag first, where that is of use, such as
    /// to a cache.
    Pinned(Tag, Digest),
}

impl Target {
    /// The target of a reference; `None` if it names a repository only. A library adds no `latest` of its own.
    pub fn of(reference: &Reference) -> Option<Self> {
        match (reference.tag(), reference.digest()) {
            (Some(tag), Some(digest)) => Some(Self::Pinned(tag.clone(), digest.clone())),
            (Some(tag), None) => Some(Self::Tag(tag.clone())),
            (None, Some(digest)) => Some(Self::Digest(digest.clone())),
            (None, None) => None,
        }
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Tag(tag) | Self::Pinned(tag, _) => Some(tag),
            Self::Digest(_) => None,
        }
    }

    /// The digest that the content must have, if one is known.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Digest(digest) | Self::Pinned(_, digest) => Some(digest),
            Self::Tag(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
            Self::Pinned(tag, digest) => write!(f, "{tag}@{digest}"),
        }
    }
}

impl From<Tag> for Target {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Target {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}
