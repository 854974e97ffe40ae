//! House rules that no compiler checks. Each finding names its place and what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::process::{Result, run, say, workspace};
use crate::rows;

/// Longer files hold more than one thing.
const MAX_LINES: usize = 600;

/// What may lie at the top of the workspace.
const TOP_LEVEL: [&str; 16] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".gitignore",
    ".rustfmt.toml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "crates",
    "deny.toml",
    "docs",
    "testdata",
];

pub(crate) fn run_tidy(root: &Path) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = run(&mut git)?;
    let mut findings = Vec::new();
    let behaviours = root.join("docs/behaviours.md");
    let behaviours = fs::read_to_string(&behaviours)
        .map_err(|error| format!("{}: {error}", behaviours.display()))?;
    let listed = rows::listed(&behaviours);
    let mut covered = BTreeSet::new();
    for file in files.lines() {
        let top = file.split('/').next().unwrap_or(file);
        if top != "xtask" && !TOP_LEVEL.contains(&top) {
            findings.push(format!("{file}: nothing else belongs at the top level"));
        }
        if file.ends_with(".rs")
            && let Ok(text) = fs::read_to_string(root.join(file))
        {
            check_rust(file, &text, &mut findings);
            covered.extend(rows::covered(file, &text, &listed, &mut findings));
        }
    }
    for row in listed.difference(&covered) {
        findings.push(format!("docs/behaviours.md: no test covers {row}"));
    }
    Ok(findings)
}

fn check_rust(file: &str, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{file}: {lines} lines, more than {MAX_LINES}; split it by purpose"));
    }
    if !text.starts_with("//!") && !text.starts_with("#!") {
        findings.push(format!("{file}: say at the top (//!) what the file is for"));
    }
    // Put together so that this file does not find itself.
    for word in [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]] {
        let word = word.concat();
        for (number, line) in text.lines().enumerate() {
            if line.split(|c: char| !c.is_alphanumeric()).any(|found| found == word) {
                findings.push(format!("{file}:{}: {word}: do it, or file an issue", number + 1));
            }
        }
    }
    // A test may be kept out of the usual run only for another that runs it, and says so.
    for line in text.lines().filter(|line| line.trim_start().starts_with("#[ignore")) {
        let runner = line.trim_end_matches("\"]").rsplit(' ').next().unwrap_or(line);
        if !text.contains(&format!("fn {runner}()")) {
            findings.push(format!("{file}: a test that is switched off proves nothing"));
        }
    }
}

pub(crate) fn run_task() -> Result {
    let findings = run_tidy(&workspace())?;
    for finding in &findings {
        say(finding);
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        let findings = super::run_tidy(&crate::process::workspace()).unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn findings_name_their_place() {
        let mut findings = Vec::new();
        let text = format!("fn x() {{}}\n// {}{}: later\n", "TO", "DO");
        super::check_rust("a.rs", &text, &mut findings);
        assert_eq!(findings.len(), 2);
        assert!(findings[1].starts_with("a.rs:2: "));
    }
}
