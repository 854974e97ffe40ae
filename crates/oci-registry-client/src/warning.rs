//! `Warning` headers of registries (distribution-spec, "Warnings").

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use oci_spec_types::Host;

use crate::redact;
use crate::secrets::Secrets;

/// What a registry has to say to people. A program must not act on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Warning {
    /// The registry.
    pub host: Host,
    /// The text, in one line; of a longer one the first 2 KiB.
    pub text: String,
}

/// Who is told of warnings.
pub(crate) type Handler = Arc<dyn Fn(&Warning) + Send + Sync>;

/// The most different warnings that are remembered, so that none is handed over twice.
const MAX_REMEMBERED: usize = 1000;

/// Hands each warning over once.
#[derive(Default)]
pub(crate) struct Warnings {
    handler: Option<Handler>,
    told: Mutex<HashSet<Warning>>,
}

impl Warnings {
    pub(crate) fn new(handler: Option<Handler>) -> Self {
        Self { handler, told: Mutex::default() }
    }

    pub(crate) fn tell(&self, host: &Host, headers: &HeaderMap, secrets: &Secrets) {
        let Some(handler) = &self.handler else { return };
        let values = headers.get_all(http::header::WARNING).iter();
        for text in values.filter_map(|value| parse(value.to_str().ok()?)) {
            let text = redact::text(&secrets.blank(&text));
            let warning = Warning { host: host.clone(), text };
            if self.is_new(&warning) {
                handler(&warning);
            }
        }
    }

    fn is_new(&self, warning: &Warning) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_REMEMBERED {
            told.clear();
        }
        told.insert(warning.clone())
    }
}

impl fmt::Debug for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warnings").finish_non_exhaustive()
    }
}

/// The text of `299 - "text"`. Other codes, agents and dates are not for people.
fn parse(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299")?.trim_start().strip_prefix('-')?;
    let quoted = quoted.trim_start().strip_prefix('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    characters.as_str().trim().is_empty().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings() {
        let cases = [
            (r#"299 - "old image""#, Some("old image")),
            (r#"299 - "a \"b\" \\ c""#, Some(r#"a "b" \ c"#)),
            (r#"199 - "other""#, None),
            (r#"299 agent "other""#, None),
            (r#"299 - "dated" "Wed, 21 Oct 2015 07:28:00 GMT""#, None),
            (r#"299 - "open"#, None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse(value).as_deref(), expected, "{value}");
        }
    }
}
