//! Skips that are known, each with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::report::{Outcome, Run};
use crate::process::Result;

/// Names of checks that may be skipped, and why.
#[derive(Default)]
pub(super) struct Skips(BTreeMap<String, String>);

impl Skips {
    /// Reads a JSON list of `{"id": …, "reason": …}`. No file means that nothing may be skipped.
    pub(super) fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let at = path.display();
        let text = std::fs::read(path).map_err(|error| format!("reading {at}: {error}"))?;
        Self::parse(&text).map_err(|error| format!("{at}: {error}"))
    }

    fn parse(text: &[u8]) -> Result<Self> {
        let list: Vec<Value> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut skips = BTreeMap::new();
        for entry in list {
            let field = |name: &str| {
                entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
            };
            let (Some(id), Some(reason)) = (field("id"), field("reason")) else {
                return Err(format!("expected an id and a reason in {entry}"));
            };
            if !super::all_checks().any(|check| check.id == id) {
                return Err(format!("there is no check {id:?}"));
            }
            skips.insert(id.to_owned(), reason.to_owned());
        }
        Ok(Self(skips))
    }

    /// Why a check may be skipped.
    pub(super) fn reason(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// Checks that are listed, and were run to their end in every run.
    pub(super) fn unused<'a>(&'a self, runs: &'a [Run]) -> impl Iterator<Item = &'a str> {
        let skipped = |id: &str| {
            let mut verdicts = runs.iter().flat_map(|run| &run.verdicts);
            verdicts.any(|(check, outcome, _)| {
                check.id == id && matches!(outcome, Outcome::Skip { .. })
            })
        };
        self.0.keys().map(String::as_str).filter(move |id| !skipped(id))
    }
}

#[cfg(test)]
mod tests {
    use super::Skips;

    #[test]
    fn a_skip_names_a_check_and_has_a_reason() {
        let skips = Skips::parse(br#"[{"id": "mount", "reason": "no mounting"}]"#).expect("valid");
        assert_eq!(skips.reason("mount"), Some("no mounting"));
        assert_eq!(skips.reason("blob"), None);
        assert!(Skips::parse(br#"[{"id": "mount"}]"#).is_err());
        assert!(Skips::parse(br#"[{"id": "mount", "reason": ""}]"#).is_err());
        assert!(Skips::parse(br#"[{"id": "no-such-check", "reason": "x"}]"#).is_err());
        assert!(Skips::parse(b"{}").is_err());
    }
}
