//! The specification's own conformance suite, with everything on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::engine::Programs;
use super::{Options, Target, start, unique_run};
use crate::process::{Result, run, say};

const MODULE: &str = "github.com/opencontainers/distribution-spec/conformance";
/// What is run: the suite as of 16 July 2026.
const COMMIT: &str = "967efdc079b91785ad18c77cc4f8991a47feefbf";

/// Which versions of the specification the suite asks for.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Versions {
    #[value(name = "1.1")]
    V1_1,
    Dev,
    Both,
}

impl Versions {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::V1_1 => &["1.1"],
            Self::Dev => &["dev"],
            Self::Both => &["1.1", "dev"],
        }
    }
}

/// What the suite can be asked to leave out; all of it is asked for.
const SWITCHES: [&str; 31] = [
    "API_PING",
    "API_PULL",
    "API_PUSH",
    "API_BLOBS_ATOMIC",
    "API_BLOBS_DELETE",
    "API_BLOBS_DIGEST_HEADER",
    "API_BLOBS_MOUNT_ANONYMOUS",
    "API_BLOBS_UPLOAD_CANCEL",
    "API_MANIFESTS_ATOMIC",
    "API_MANIFESTS_DELETE",
    "API_MANIFESTS_DIGEST_HEADER",
    "API_MANIFESTS_TAG_PARAM",
    "API_TAGS_ATOMIC",
    "API_TAGS_DELETE",
    "API_TAGS_LIST",
    "API_REFERRER",
    "DATA_IMAGE",
    "DATA_INDEX",
    "DATA_INDEX_LIST",
    "DATA_SPARSE",
    "DATA_ARTIFACT",
    "DATA_SUBJECT",
    "DATA_SUBJECT_MISSING",
    "DATA_ARTIFACT_LIST",
    "DATA_SUBJECT_LIST",
    "DATA_DATA_FIELD",
    "DATA_NONDISTRIBUTABLE",
    "DATA_CUSTOM_FIELDS",
    "DATA_NO_LAYERS",
    "DATA_EMPTY_BLOB",
    "DATA_SHA512",
];

pub(super) fn run_all(
    options: &Options,
    targets: &[Target],
    programs: &Programs,
    results: &Path,
) -> Result {
    let suite = match &options.official_bin {
        Some(path) => {
            path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => install(results)?,
    };
    let mut total = Tally::default();
    for version in options.official_version.names() {
        for target in targets {
            let name = target.name();
            let directory =
                results.join("official").join(format!("{version}-{}", name.replace(':', "-")));
            let tally = run_one(options, &suite, version, target, programs, &directory)?;
            say(&format!(
                "official {version} on {name}: {tally}, report in {}",
                directory.display()
            ));
            total.add(&tally);
        }
    }
    say(&total.to_string());
    if total.passed > 0 && total.failed + total.errors + total.skipped + total.disabled == 0 {
        return Ok(());
    }
    Err("the official suite wants every check passed, and none skipped or disabled".to_owned())
}

/// Installs the suite with Go. Go keeps what it has built, so that the second time is quick.
fn install(results: &Path) -> Result<PathBuf> {
    let directory = results.join("bin");
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("making {}: {error}", directory.display()))?;
    let directory =
        directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
    say(&format!("installing {MODULE}@{COMMIT}"));
    let mut go = Command::new("go");
    go.args(["install", &format!("{MODULE}@{COMMIT}")])
        .env("GOBIN", &directory)
        .current_dir(&directory);
    run(&mut go)
        .map_err(|error| format!("{error}\nhint: give a built suite with --official-bin"))?;
    Ok(directory.join("conformance"))
}

fn run_one(
    options: &Options,
    suite: &Path,
    version: &str,
    target: &Target,
    programs: &Programs,
    directory: &Path,
) -> Result<Tally> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    let directory = directory.canonicalize().map_err(failed)?;
    let (running, url) = start(target, programs, &directory, true)?;
    let repository = match &options.repo {
        Some(name) => name.clone(),
        None => format!("conformance/o{}", unique_run()?),
    };
    let other = options.repo2.clone().unwrap_or_else(|| format!("{repository}-mount"));
    let mut command = Command::new(suite);
    // Only what is said here counts, so that two machines run the same checks.
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("OCI_")) {
        command.env_remove(name);
    }
    command
        .current_dir(&directory)
        .env("OCI_REGISTRY", &url.authority)
        .env("OCI_TLS", if url.tls { "enabled" } else { "disabled" })
        .env("OCI_REPO1", repository)
        .env("OCI_REPO2", other)
        .env("OCI_USERNAME", options.username.as_deref().unwrap_or_default())
        .env("OCI_PASSWORD", options.password.as_deref().unwrap_or_default())
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", &directory)
        .envs(SWITCHES.map(|name| (format!("OCI_{name}"), "true")))
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("{}: cannot be started: {error}", suite.display()))?;
    drop(running);
    let printed = String::from_utf8_lossy(&output.stdout);
    let tally = Tally::parse(&printed).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{} printed no result: {errors}", suite.display())
    })?;
    for line in not_passed(&printed) {
        say(line);
    }
    Ok(tally)
}

/// The lines of the suite's tree that are not `Pass`, with what is said below them.
fn not_passed(printed: &str) -> impl Iterator<Item = &str> {
    let tree = printed.lines().take_while(|line| !line.starts_with("Configuration:"));
    tree.filter(|line| {
        let ends = [": FAIL", ": Error", ": Skip", ": Disabled"];
        ends.iter().any(|end| line.ends_with(end)) || line.trim_start().starts_with("- ")
    })
}

/// How many of the suite's checks ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    errors: u64,
    skipped: u64,
    disabled: u64,
}

impl Tally {
    /// Reads the summary, lines such as `  Pass..........:   1028`.
    fn parse(printed: &str) -> Option<Self> {
        let (_, summary) = printed.split_once("OCI Conformance Result:")?;
        let count = |name: &str| {
            let mut lines = summary.lines().filter_map(|line| line.trim().split_once(':'));
            let found = lines.find(|(label, _)| label.trim_end_matches('.') == name);
            found.and_then(|(_, number)| number.trim().parse().ok())
        };
        Some(Self {
            passed: count("Pass")?,
            failed: count("FAIL")?,
            errors: count("Error")?,
            skipped: count("Skip")?,
            disabled: count("Disabled")?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.errors += other.errors;
        self.skipped += other.skipped;
        self.disabled += other.disabled;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (failed, skipped) = (self.failed + self.errors, self.skipped + self.disabled);
        write!(f, "{} passed, {failed} failed, {skipped} skipped", self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Test results\nOCI Conformance Test: FAIL\n  OCI Conformance Test/a: Pass\n  \
        OCI Conformance Test/b: FAIL\n   - a status\n\nConfiguration:\n  - x\n\nOCI Conformance Result: FAIL\n  \
        Disabled......................:          0\n  Skip..........................:          2\n  \
        Pass..........................:       1028\n  FAIL..........................:          1\n  \
        Error.........................:          0\n  Total.........................:       1031\n";

    #[test]
    fn the_summary_is_read() {
        let tally = Tally::parse(PRINTED).expect("a summary");
        assert_eq!(tally.to_string(), "1028 passed, 1 failed, 2 skipped");
        assert_eq!(Tally::parse("failed to load config"), None);
        assert_eq!(Tally::parse("OCI Conformance Result: Pass\n"), None);
    }

    #[test]
    fn what_did_not_pass_is_shown() {
        let lines: Vec<_> = not_passed(PRINTED).map(str::trim).collect();
        assert_eq!(
            lines,
            ["OCI Conformance Test: FAIL", "OCI Conformance Test/b: FAIL", "- a status"]
        );
    }
}
