//! `junit.xml`, which CI systems show.

use std::fmt::Write as _;

use super::report::{Counts, Outcome, Run, numbers};

/// One suite for each registry.
pub(super) fn document(runs: &[Run]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for run in runs {
        suite(&mut out, run);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, run: &Run) {
    let counts = Counts::of(&run.verdicts);
    let time: f64 = run.verdicts.iter().map(|(_, _, time)| time.as_secs_f64()).sum();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{time:.3}\">",
        escape(&format!("{} {}", run.target, run.version.name())),
        run.verdicts.len(),
        counts.failed,
        counts.skipped + counts.warnings,
    );
    for (check, outcome, time) in &run.verdicts {
        let _ = write!(
            out,
            "    <testcase classname=\"{}.{}\" name=\"{} ({})\" time=\"{:.3}\"",
            escape(&run.target),
            check.area.name(),
            check.id,
            numbers(check),
            time.as_secs_f64(),
        );
        out.push_str(&match outcome {
            Outcome::Pass => "/>\n".to_owned(),
            Outcome::Skip { reason, .. } => element("skipped", reason, ""),
            Outcome::Fail { warning, request, expected, found } => {
                let tag = if *warning { "skipped" } else { "failure" };
                let message = format!("{}: expected {expected}", check.level.name());
                element(tag, &message, &format!("{request}\nexpected {expected}\nfound {found}"))
            }
        });
    }
    out.push_str("  </testsuite>\n");
}

fn element(tag: &str, message: &str, text: &str) -> String {
    let (message, text) = (escape(message), escape(text));
    format!(">\n      <{tag} message=\"{message}\">{text}</{tag}>\n    </testcase>\n")
}

/// Text for an element or an attribute. Characters that XML 1.0 cannot have become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_cannot_break_the_document() {
        let text = document(&[super::super::report::sample()]);
        assert!(
            text.contains(
                "name=\"a &amp; b dev\" tests=\"5\" failures=\"1\" errors=\"0\" skipped=\"3\""
            ),
            "{text}"
        );
        assert!(
            text.contains("GET /&lt;a&gt;&amp;&quot;b&quot;&#10;expected status 200"),
            "{text}"
        );
        assert!(!text.contains('\u{1}') && !text.contains("]]>"));
        for tag in ["testcase", "failure", "skipped", "testsuite", "testsuites"] {
            let opened = text.matches(&format!("<{tag}>")).count()
                + text.matches(&format!("<{tag} ")).count();
            let empty = if tag == "testcase" { text.matches("/>").count() } else { 0 };
            assert_eq!(opened - empty, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
