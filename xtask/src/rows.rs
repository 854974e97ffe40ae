//! Every row of `docs/behaviours.md` has a test that names it.

use std::collections::BTreeSet;

/// How a test says what it covers.
const MARK: &str = "// covers: ";
/// How far below it the test may begin, in lines: other comments and attributes may lie between.
const NEAR: usize = 6;

/// The rows that a document lists, as `- C18 …`.
pub(crate) fn listed(document: &str) -> BTreeSet<String> {
    let rows = document.lines().filter_map(|line| line.strip_prefix("- ")?.split(' ').next());
    rows.filter(|row| is_row(row)).map(str::to_owned).collect()
}

fn is_row(text: &str) -> bool {
    text.strip_prefix(['M', 'O', 'C'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The rows that the tests of a file name, and what is wrong with how they do it.
pub(crate) fn covered(
    file: &str,
    text: &str,
    listed: &BTreeSet<String>,
    findings: &mut Vec<String>,
) -> BTreeSet<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut covered = BTreeSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rows) = line.strip_prefix(MARK) else { continue };
        let place = format!("{file}:{}", at + 1);
        let is_test =
            |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if !lines.iter().skip(at + 1).take(NEAR).any(is_test) {
            findings.push(format!("{place}: this covers nothing, no test follows"));
            continue;
        }
        for row in rows.split(", ") {
            // What a test proves of a row may be said in brackets.
            let row = row.split(" (").next().unwrap_or(row);
            match listed.contains(row) {
                true => drop(covered.insert(row.to_owned())),
                false => findings.push(format!("{place}: docs/behaviours.md has no row {row:?}")),
            }
        }
    }
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_list() {
        let document = "# Rows of C4\n- C1 One.\n- C12 Two, see C1.\n- Cx no\n- 3 no\n";
        assert_eq!(listed(document), ["C1".to_owned(), "C12".to_owned()].into());
    }

    #[test]
    fn a_row_is_covered_by_a_test_that_names_it() {
        let listed = listed("- C1 a\n- C2 b\n- M1 c\n- M2 d\n");
        let mut findings = Vec::new();
        // Put together so that the marks here are not taken for those of this file.
        let text =
            "    @C1, M1 (half of it)\n/// More.\n#[tokio::test]\nasync fn a() {}\n\n\n\n\n@C2\n\
                    fn no_test() {}\n\n\n\n\n\n\n@M3\n#[test]\nfn b() {}\n"
                .replace('@', MARK);
        let covered = covered("x.rs", &text, &listed, &mut findings);
        assert_eq!(covered, ["C1".to_owned(), "M1".to_owned()].into());
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("x.rs:9: ") && findings[1].contains("\"M3\""));
    }
}
