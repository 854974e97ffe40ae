//! Platforms as text, as JSON, and as they are compared: the first line is a text, the rest a JSON array of platforms.
//!
//! A text is written as it was read; normalising twice is normalising once; a platform is always chosen by itself.

use oci_ref::List;
use oci_spec_types::{Descriptor, MediaType, Platform};

use crate::support::{assert_fit_for_logs, first_line};

/// Checks one input.
pub fn check(data: &[u8]) {
    let (text, rest) = first_line(data);
    let mut platforms: Vec<Platform> = serde_json::from_slice(rest).unwrap_or_default();
    platforms.truncate(32);
    let wanted = std::str::from_utf8(text).ok().and_then(parse);

    for platform in platforms.iter().chain(&wanted) {
        let normal = platform.normalized();
        assert_eq!(normal.normalized(), normal, "normalising twice makes a difference");
        assert_eq!(normal.to_string(), normal.normalized().to_string());
    }
    for wanted in wanted.iter().chain(platforms.first()) {
        choose(&platforms, wanted);
    }
}

fn parse(text: &str) -> Option<Platform> {
    match text.parse::<Platform>() {
        Ok(platform) => {
            assert_eq!(platform.to_string(), text);
            let json = serde_json::to_vec(&platform).expect("a platform can be written");
            assert_eq!(serde_json::from_slice::<Platform>(&json).ok().as_ref(), Some(&platform));
            let normal = platform.normalized().to_string();
            assert_eq!(normal.parse::<Platform>().map(|read| read.to_string()), Ok(normal));
            Some(platform)
        }
        Err(error) => {
            assert_fit_for_logs(&error, 2 << 10);
            None
        }
    }
}

fn choose(platforms: &[Platform], wanted: &Platform) {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).expect("the type of a list");
    for (number, platform) in platforms.iter().enumerate() {
        let mut entry = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, &number.to_be_bytes());
        entry.platform = Some(platform.clone());
        list.add(entry);
    }
    let chosen = list.choose(wanted);
    match &chosen {
        Ok(choice) => {
            assert_eq!(list.instances()[choice.position], choice.descriptor);
            assert_eq!(choice.candidates.len(), platforms.len());
        }
        Err(none) => assert_eq!(none.candidates.len(), platforms.len()),
    }
    // Which one is chosen does not depend on how it is spelled.
    let normal = list.choose(&wanted.normalized());
    let position = |choice: &oci_ref::Choice| choice.position;
    assert_eq!(chosen.as_ref().ok().map(position), normal.as_ref().ok().map(position));
}
