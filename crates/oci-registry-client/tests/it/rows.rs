//! Which test covers which of the behaviours that clients of registries are known for.
//!
//! A test says by a comment, `covers: O12`, what it covers; this table says in which files to look.

use std::path::Path;

const ROWS: [(&str, &[&str]); 29] = [
    // Reading and its limits.
    ("M8", &["tests/it/manifests.rs", "tests/it/files.rs"]),
    ("M9", &["tests/it/errors.rs", "tests/it/manifests.rs", "tests/it/auth.rs"]),
    ("M10", &["tests/it/retries.rs", "tests/it/push.rs", "src/retry.rs", "src/error.rs"]),
    (
        "M11",
        &["tests/it/resume.rs", "tests/it/blobs.rs", "tests/it/files.rs", "tests/it/parallel.rs"],
    ),
    ("M12", &["tests/it/auth.rs", "src/auth/challenge.rs"]),
    ("M13", &["tests/it/errors.rs", "tests/it/redirects.rs", "src/redact.rs"]),
    ("M14", &["tests/it/errors.rs", "tests/it/retries.rs", "src/error.rs"]),
    ("M17", &["tests/it/unreliable.rs"]),
    // A repository.
    ("O1", &["tests/it/manifests.rs", "tests/it/redirects.rs"]),
    ("O2", &["tests/it/manifests.rs"]),
    ("O3", &["tests/it/blobs.rs", "tests/it/files.rs", "tests/it/parallel.rs"]),
    ("O4", &["tests/it/files.rs"]),
    ("O5", &["tests/it/push.rs", "tests/it/auth.rs", "src/location.rs"]),
    ("O6", &["tests/it/push.rs", "tests/it/auth.rs"]),
    ("O7", &["tests/it/blobs.rs", "tests/it/manifests.rs"]),
    ("O8", &["tests/it/manifests.rs"]),
    ("O9", &["tests/it/manifests.rs"]),
    ("O10", &["tests/it/push.rs", "tests/it/auth.rs"]),
    ("O11", &["tests/it/push.rs"]),
    ("O12", &["tests/it/files.rs"]),
    ("O13", &["tests/it/lists.rs"]),
    ("O14", &["tests/it/referrers.rs"]),
    ("O15", &["tests/it/referrers.rs"]),
    ("O16", &["tests/it/referrers.rs"]),
    ("O17", &["tests/it/referrers.rs"]),
    ("O18", &["tests/it/referrers.rs"]),
    ("O19", &["tests/it/manifests.rs"]),
    ("O20", &["tests/it/errors.rs"]),
    ("O21", &["tests/it/auth.rs", "src/auth/scope.rs"]),
];

/// The rows that the tests of a file name.
fn named(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("// covers: "));
    lines.flat_map(|rows| rows.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn each_row_is_covered_where_the_table_says() {
    for (row, files) in ROWS {
        for file in files {
            assert!(named(file).iter().any(|found| found == row), "{row} is not named in {file}");
        }
    }
}
