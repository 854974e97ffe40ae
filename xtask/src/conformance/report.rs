//! What is printed, and `results.json`.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::check::{Area, Check, Level, Version};
use super::coverage::{PARTLY, UNTESTED};
use crate::process::say;

/// What came of a check.
pub(super) enum Outcome {
    Pass,
    Fail {
        /// It does not count: a recommendation, with `--must-only`.
        warning: bool,
        request: String,
        expected: String,
        found: String,
    },
    Skip {
        reason: String,
        /// The reason in the list of known skips.
        allowed: Option<String>,
    },
}

pub(super) type Verdicts = Vec<(&'static Check, Outcome, Duration)>;

/// All checks against one registry.
pub(super) struct Run {
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) verdicts: Verdicts,
}

/// How many checks ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) warnings: usize,
    pub(super) skipped: usize,
    /// Those of the skipped that are not in the list of known skips.
    pub(super) unlisted: usize,
}

impl Counts {
    pub(super) fn of<'a>(
        verdicts: impl IntoIterator<Item = &'a (&'static Check, Outcome, Duration)>,
    ) -> Self {
        let mut counts = Self::default();
        for (_, outcome, _) in verdicts {
            match outcome {
                Outcome::Pass => counts.passed += 1,
                Outcome::Fail { warning: true, .. } => counts.warnings += 1,
                Outcome::Fail { .. } => counts.failed += 1,
                Outcome::Skip { allowed, .. } => {
                    counts.skipped += 1;
                    counts.unlisted += usize::from(allowed.is_none());
                }
            }
        }
        counts
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)?;
        if self.warnings > 0 {
            write!(f, ", {} warnings", self.warnings)?;
        }
        Ok(())
    }
}

impl Run {
    fn count(&self, level: Level, area: Option<Area>) -> Counts {
        let of = |check: &Check| check.level == level && area.is_none_or(|area| check.area == area);
        Counts::of(self.verdicts.iter().filter(|(check, _, _)| of(check)))
    }

    pub(super) fn print(&self) {
        say(&format!("\n{}, distribution-spec {}", self.target, self.version.name()));
        say("                     MUST                    SHOULD");
        say("area         passed failed skipped    passed failed skipped");
        for area in Area::ALL {
            if self.verdicts.iter().any(|(check, _, _)| check.area == area) {
                self.print_row(area.name(), Some(area));
            }
        }
        self.print_row("total", None);
        for (check, outcome, _) in &self.verdicts {
            print_verdict(check, outcome);
        }
    }

    fn print_row(&self, name: &str, area: Option<Area>) {
        let (must, should) = (self.count(Level::Must, area), self.count(Level::Should, area));
        let failed = |counts: &Counts| counts.failed + counts.warnings;
        say(&format!(
            "{name:<11} {:>7} {:>6} {:>7}   {:>7} {:>6} {:>7}",
            must.passed,
            failed(&must),
            must.skipped,
            should.passed,
            failed(&should),
            should.skipped,
        ));
    }
}

pub(super) fn numbers(check: &Check) -> String {
    let numbers: Vec<_> = check.requirements.iter().map(u8::to_string).collect();
    numbers.join(", ")
}

fn print_verdict(check: &Check, outcome: &Outcome) {
    let name = format!("{} {} ({})", check.level.name(), check.id, numbers(check));
    match outcome {
        Outcome::Pass => {}
        Outcome::Fail { warning, request, expected, found } => {
            say(&format!("\n{} {name}", if *warning { "WARN" } else { "FAIL" }));
            say(&format!("  request   {request}\n  expected  {expected}\n  found     {found}"));
        }
        Outcome::Skip { reason, allowed } => {
            let known = allowed.as_deref().unwrap_or("not listed");
            say(&format!("\nSKIP {name}: {reason} [{known}]"));
        }
    }
}

/// Everything, for programs.
pub(super) fn json(runs: &[Run]) -> String {
    let named = |list: &[(u8, &str)]| -> Vec<Value> {
        let entries =
            list.iter().map(|(number, reason)| json!({"requirement": number, "reason": reason}));
        entries.collect()
    };
    let runs: Vec<_> = runs.iter().map(run_json).collect();
    let all =
        json!({"runs": runs, "not_tested": named(&UNTESTED), "tested_in_part": named(&PARTLY)});
    format!("{all:#}\n")
}

fn run_json(run: &Run) -> Value {
    let checks: Vec<_> = run
        .verdicts
        .iter()
        .map(|(check, outcome, time)| check_json(check, outcome, *time))
        .collect();
    let counts = Counts::of(&run.verdicts);
    json!({
        "target": run.target,
        "version": run.version.name(),
        "passed": counts.passed,
        "failed": counts.failed,
        "warnings": counts.warnings,
        "skipped": counts.skipped,
        "skipped_unlisted": counts.unlisted,
        "checks": checks,
    })
}

fn check_json(check: &Check, outcome: &Outcome, time: Duration) -> Value {
    let mut entry = json!({
        "id": check.id,
        "area": check.area.name(),
        "level": check.level.name(),
        "since": check.since.name(),
        "requirements": check.requirements,
        "seconds": time.as_secs_f64(),
    });
    match outcome {
        Outcome::Pass => entry["outcome"] = "passed".into(),
        Outcome::Fail { warning, request, expected, found } => {
            entry["outcome"] = if *warning { "warning" } else { "failed" }.into();
            entry["request"] = request.as_str().into();
            entry["expected"] = expected.as_str().into();
            entry["found"] = found.as_str().into();
        }
        Outcome::Skip { reason, allowed } => {
            entry["outcome"] = "skipped".into();
            entry["reason"] = reason.as_str().into();
            entry["listed"] = allowed.as_deref().map_or(Value::Null, Value::from);
        }
    }
    entry
}

#[cfg(test)]
pub(super) fn sample() -> Run {
    let mut checks = super::all_checks();
    let fail = |warning| Outcome::Fail {
        warning,
        request: "GET /<a>&\"b\"".to_owned(),
        expected: "status 200".to_owned(),
        found: "500 \u{1}]]>".to_owned(),
    };
    let skip = |allowed: Option<&str>| Outcome::Skip {
        reason: "no mounting".to_owned(),
        allowed: allowed.map(str::to_owned),
    };
    let outcomes = [Outcome::Pass, fail(false), fail(true), skip(None), skip(Some("known"))];
    let verdicts = outcomes
        .into_iter()
        .zip(&mut checks)
        .map(|(outcome, check)| (check, outcome, Duration::from_millis(1500)));
    Run { target: "a & b".to_owned(), version: Version::Dev, verdicts: verdicts.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_counts_everything_once() {
        let counts = Counts::of(&sample().verdicts);
        assert_eq!(counts.to_string(), "1 passed, 1 failed, 2 skipped, 1 warnings");
        assert_eq!(counts.unlisted, 1);
    }

    #[test]
    fn results_can_be_read_back() {
        let value: Value = serde_json::from_str(&json(&[sample()])).expect("JSON");
        assert_eq!(value["runs"][0]["failed"], 1);
        let checks = &value["runs"][0]["checks"];
        assert_eq!(checks[0]["outcome"], "passed");
        assert_eq!(checks[1]["found"], "500 \u{1}]]>");
        assert_eq!(checks[4]["listed"], "known");
        assert!(checks[0]["requirements"].is_array());
    }
}
