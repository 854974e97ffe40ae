//! What of a repository is meant, as people write it.

use oci_ref::{ErrorKind, Target};
use oci_spec_types::{Digest, Reference, Tag};

use super::Repository;
use crate::{Error, Result};

impl Repository {
    /// Reads what people write for a manifest of this repository: a tag, a digest, `TAG@DIGEST`, or a whole reference,
    /// which must be of this repository.
    ///
    /// With both, the digest is what is meant, even when the tag has moved or is gone
    /// ([`Target::Pinned`]). The tag must be well formed all the same: a mistake in it is told. A
    /// whole reference has a slash, which no tag and no digest has. No `latest` is added.
    ///
    /// ```
    /// # use oci_registry_client::Client;
    /// let repository = Client::builder().build()?.repository(&"registry.example/team/app".parse()?)?;
    /// let target = repository.parse_reference("1.0")?;
    /// assert_eq!(repository.parse_reference("registry.example/team/app:1.0")?, target);
    /// assert!(repository.parse_reference("registry.example/team/other:1.0").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it is none of these, or of another repository.
    pub fn parse_reference(&self, text: &str) -> Result<Target> {
        let refuse = |reason: String| {
            let about = format!("reference {text:?} in {self}");
            Error::new(ErrorKind::Invalid, about, reason)
        };
        let digest = |text: &str| text.parse::<Digest>().map_err(|error| refuse(error.to_string()));
        let tag = |text: &str| text.parse::<Tag>().map_err(|error| refuse(error.to_string()));
        if text.contains('/') {
            let reference: Reference = text.parse().map_err(|error| refuse(format!("{error}")))?;
            if reference.host() != self.registry().host() || reference.name() != self.name() {
                let named = format!("{}/{}", reference.host(), reference.name());
                return Err(refuse(format!("it is of repository {named}")));
            }
            return Target::of(&reference)
                .ok_or_else(|| refuse("it has neither tag nor digest".to_owned()));
        }
        match text.split_once('@') {
            Some(("", pin)) => Ok(Target::Digest(digest(pin)?)),
            Some((name, pin)) => Ok(Target::Pinned(tag(name)?, digest(pin)?)),
            None if text.contains(':') => Ok(Target::Digest(digest(text)?)),
            None => Ok(Target::Tag(tag(text)?)),
        }
    }
}
