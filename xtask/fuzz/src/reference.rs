//! References, strict and familiar, and the short texts that they are made of.
//!
//! What is parsed is written as it was; what is familiar is read again as the same; errors are short and on one line.

use std::fmt::Display;
use std::str::FromStr;

use oci_spec_types::{Digest, Host, MediaType, Name, RefName, Reference, Tag};

use crate::support::assert_fit_for_logs;

/// An excerpt of 64 characters, each escaped, and what stands around it, twice.
const MAX_ERROR: usize = 2 << 10;

/// Checks one input: a text.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    is_written_as_read::<Host>(text);
    is_written_as_read::<Name>(text);
    is_written_as_read::<Tag>(text);
    is_written_as_read::<RefName>(text);
    is_written_as_read::<MediaType>(text);
    if let Some(digest) = is_written_as_read::<Digest>(text) {
        assert_eq!(format!("{}:{}", digest.algorithm(), digest.encoded()), text);
        let tag = Tag::of_referrers(&digest);
        assert_eq!(tag.as_str().parse(), Ok(tag));
    }
    if let Some(media_type) = MediaType::from_content_type(text) {
        assert_eq!(MediaType::from_content_type(media_type.as_str()), Some(media_type));
    }
    match MediaType::as_written(text.to_owned()) {
        Ok(kept) => assert_eq!(kept.as_str(), text),
        Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
    }
    if let Some(strict) = is_written_as_read::<Reference>(text) {
        assert!(text.starts_with(strict.host().as_str()));
        // Its short form is read as what Docker's rules make of the whole.
        let short = Reference::parse_familiar(&strict.familiar()).ok();
        assert_eq!(short, Reference::parse_familiar(text).ok(), "{}", strict.familiar());
        // A host is never taken for the beginning of a name, so that Docker's rules only fail for other reasons.
        if let Ok(familiar) = Reference::parse_familiar(text) {
            let hub = |host: &Host| matches!(host.as_str(), "docker.io" | "index.docker.io");
            assert!(familiar.host() == strict.host() || hub(familiar.host()) && hub(strict.host()));
            assert!(familiar.name().as_str().ends_with(strict.name().as_str()));
            assert_eq!(familiar.digest(), strict.digest());
        }
    }
    match Reference::parse_familiar(text) {
        Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
        Ok(reference) => {
            assert!(reference.tag().is_some() || reference.digest().is_some());
            assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
            for written in [reference.familiar(), reference.to_string()] {
                assert_eq!(
                    Reference::parse_familiar(&written).as_ref(),
                    Ok(&reference),
                    "{written}"
                );
            }
        }
    }
}

fn is_written_as_read<T: FromStr<Err: Display> + Display>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            Some(value)
        }
        Err(error) => {
            assert_fit_for_logs(&error, MAX_ERROR);
            None
        }
    }
}
