//! Which requirements no check covers, and why.

use crate::process::say;

/// Requirements that cannot be tested from outside.
pub(super) const UNTESTED: [(u8, &str); 4] = [
    (2, "which categories a registry has is what the areas of the table show"),
    (3, "what a registry claims is not said over HTTP; see the areas of the table"),
    (29, "when an unfinished upload expires is the registry's choice, and may be days away"),
    (61, "the specification defines one filter, so that several cannot be applied"),
];

/// Requirements that are tested only in part.
pub(super) const PARTLY: [(u8, &str); 6] = [
    (19, "that Location has a UUID, and that two sessions do not mix"),
    (23, "that an announced minimum is a number, and that one byte is taken if there is none"),
    (58, "that 24 referrers of 200 KiB each are all listed, on one page or on several"),
    (
        67,
        "that a fallback tag neither hides nor doubles entries; older content cannot be made from outside",
    ),
    (73, "only if the registry answers 429 during the run"),
    (74, "as 75 and 76: only if the registry sends warnings"),
];

pub(super) fn print() {
    say("\nnot tested:");
    for (number, reason) in UNTESTED {
        say(&format!("  {number}: {reason}"));
    }
    say("tested in part:");
    for (number, reason) in PARTLY {
        say(&format!("  {number}: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_requirement_is_checked_or_named_as_untested() {
        let checked: BTreeSet<u8> =
            super::super::all_checks().flat_map(|check| check.requirements).copied().collect();
        let untested: BTreeSet<u8> = super::UNTESTED.iter().map(|(number, _)| *number).collect();
        let missing: Vec<_> =
            (1..=76).filter(|n| !checked.contains(n) && !untested.contains(n)).collect();
        assert!(missing.is_empty(), "neither checked nor named: {missing:?}");
        assert!(checked.is_disjoint(&untested), "both: {:?}", checked.intersection(&untested));
        assert!(super::PARTLY.iter().all(|(number, _)| checked.contains(number)));
    }
}
