//! References as people type them for Docker: short forms, read and written.

use crate::host::{Host, looks_like_host};
use crate::name::Name;
use crate::reference::{Parts, Problem, Reference, ReferenceError};
use crate::tag::Tag;

const HUB: &str = "docker.io";
/// An old name of the same registry.
const HUB_INDEX: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

impl Reference {
    /// Reads a reference by Docker's rules. Without a host it is on `docker.io`; there a name of one component is
    /// under `library/`; the tag is `latest` only if there is neither tag nor digest. The first component is a host
    /// if it contains `.` or `:` or is `localhost`. 64 hexadecimal digits alone are refused: that is an image's
    /// identifier.
    ///
    /// ```
    /// # use oci_spec_types::Reference;
    /// let reference = Reference::parse_familiar("busybox")?;
    /// assert_eq!(reference.to_string(), "docker.io/library/busybox:latest");
    /// assert_eq!(reference.familiar(), "busybox:latest");
    /// # Ok::<(), oci_spec_types::ReferenceError>(())
    /// ```
    ///
    /// # Errors
    /// When a part is not valid; the error says which.
    pub fn parse_familiar(input: &str) -> Result<Self, ReferenceError> {
        let fail = |problem| ReferenceError::new(input, problem);
        let parts = Parts::split(input)?;
        if is_identifier(input) {
            return Err(fail(Problem::BareIdentifier));
        }
        let (host, name) = match parts.path.split_once('/') {
            Some((host, name)) if looks_like_host(host) => (host, name),
            _ => (HUB, parts.path),
        };
        let host = if host == HUB_INDEX { HUB } else { host };
        let host: Host = host.parse().map_err(|error| fail(Problem::Host(error)))?;
        // Checked before `library/` goes in front, so that an error shows what was typed.
        let mut name: Name = name.parse().map_err(|error| fail(Problem::Name(error)))?;
        if host.as_str() == HUB && !name.as_str().contains('/') {
            name =
                format!("{OFFICIAL}{name}").parse().map_err(|error| fail(Problem::Name(error)))?;
        }
        let (mut tag, digest) = parts.tag_and_digest(input)?;
        if tag.is_none() && digest.is_none() {
            tag = Some("latest".parse::<Tag>().map_err(|error| fail(Problem::Tag(error)))?);
        }

        let mut reference = Self::new(host, name);
        if let Some(tag) = tag {
            reference = reference.with_tag(tag);
        }
        if let Some(digest) = digest {
            reference = reference.with_digest(digest);
        }
        Ok(reference)
    }

    /// The short form: without `docker.io/` and `library/` where [`Reference::parse_familiar`] adds them again.
    /// Tag and digest stay.
    pub fn familiar(&self) -> String {
        let mut text = match self.familiar_name() {
            Some(name) => name.to_owned(),
            None => format!("{}/{}", self.host(), self.name()),
        };
        self.fmt_suffix(&mut text).expect("writing to a String cannot fail");
        text
    }

    /// The name that stands for host and name together, if a short one would be read as the same repository.
    fn familiar_name(&self) -> Option<&str> {
        if self.host().as_str() != HUB {
            return None;
        }
        let name = self.name().as_str();
        match name.split_once('/') {
            Some(("library", rest)) if !rest.contains('/') => {
                (!is_identifier(rest)).then_some(rest)
            }
            Some((first, _)) => (!looks_like_host(first)).then_some(name),
            None => None,
        }
    }
}

/// Whether a text is 64 lower-case hexadecimal digits.
fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
