//! `cargo xtask fuzz`: every fuzz target for some seconds, on stable Rust.
//!
//! The targets are a package of their own, `xtask/fuzz`. It is built with the coverage that libFuzzer needs, which is a
//! matter of flags alone; sanitizers, which stable Rust does not have, are of little use to code without `unsafe`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::process::{Result, cargo, run, say, workspace};

/// What makes a build one that libFuzzer can steer.
const FLAGS: [&str; 7] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
];

/// One input may take this long, in seconds.
const INPUT_SECONDS: u64 = 5;
/// The whole process may have this much memory, in MiB.
const MEMORY_MIB: u64 = 512;
/// The longest input, in bytes.
const INPUT_BYTES: u64 = 8192;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Only this target; may be repeated.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
}

pub(crate) fn run_all(options: &Options) -> Result {
    let known = targets()?;
    if let Some(unknown) = options.target.iter().find(|name| !known.contains(name)) {
        return Err(format!("no target {unknown:?}; there are {}", known.join(", ")));
    }
    let place = build()?;
    let (mut passed, mut failed, mut executions) = (0, 0, 0);
    for name in known {
        if !options.target.is_empty() && !options.target.contains(&name) {
            continue;
        }
        match run_one(&place, &name, options.seconds) {
            Ok(done) => {
                say(&format!("{name}: {done}"));
                executions += done.executions;
                passed += 1;
            }
            Err(finding) => {
                say(&format!("{name}: FAILED\n{finding}"));
                failed += 1;
            }
        }
    }
    say(&format!("{executions} executions"));
    say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 { Ok(()) } else { Err("there are findings".into()) }
}

/// Where the built targets lie, and what they find and keep.
struct Place {
    binaries: PathBuf,
    kept: PathBuf,
}

/// The names of the targets, one for each file.
fn targets() -> Result<Vec<String>> {
    let directory = workspace().join("xtask/fuzz/targets");
    let entries = fs::read_dir(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let stems = entries.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut names: Vec<_> =
        stems.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<Place> {
    say("building the fuzz targets");
    let version = run(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say for which host it builds")?;
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| workspace().join("target"), |dir| workspace().join(dir));
    let target = target.join("fuzz");
    // With a target given, build scripts and macros, which run in the compiler, are built without the flags.
    run(cargo()
        .args(["build", "--release", "--locked", "--quiet", "--target", host])
        .args(["--manifest-path", "xtask/fuzz/Cargo.toml"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f")))?;
    Ok(Place { binaries: target.join(host).join("release"), kept: target })
}

/// What a target did without a finding.
struct Done {
    executions: u64,
    rate: u64,
    coverage: u64,
    corpus: u64,
    peak_mib: u64,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { executions, rate, coverage, corpus, peak_mib } = self;
        write!(
            f,
            "{executions} executions, {rate}/s, {coverage} edges, {corpus} inputs kept, {peak_mib} MiB"
        )
    }
}

fn run_one(place: &Place, name: &str, seconds: u64) -> Result<Done> {
    let (corpus, findings) = (place.kept.join("corpus").join(name), place.kept.join("findings"));
    for directory in [&corpus, &findings] {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let seeds = workspace().join("testdata/fuzz");
    let output = Command::new(place.binaries.join(name))
        .arg(&corpus)
        .arg(seeds.join(name))
        .arg(format!("-dict={}", seeds.join("words.dict").display()))
        .arg(format!("-artifact_prefix={}/{name}-", findings.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-max_len={INPUT_BYTES}"))
        .arg("-print_final_stats=1")
        // What panicked and where is enough; the input shows the rest.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: cannot be started: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(read_log(&log));
    }
    Err(describe_finding(&log, &output.status.to_string()))
}

/// Reads what libFuzzer prints at the end of a run.
fn read_log(log: &str) -> Done {
    let statistics: BTreeMap<&str, u64> = log
        .lines()
        .filter_map(|line| line.strip_prefix("stat::")?.split_once(':'))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect();
    let last = log.lines().rev().find(|line| line.contains("\tDONE ")).unwrap_or_default();
    let mut words = last.split_whitespace();
    let mut after = |name: &str| {
        let value = words.by_ref().skip_while(|word| *word != name).nth(1).unwrap_or_default();
        value.split('/').next().unwrap_or_default().parse().unwrap_or(0)
    };
    let (coverage, corpus) = (after("cov:"), after("corp:"));
    let statistic = |name| statistics.get(name).copied().unwrap_or(0);
    Done {
        executions: statistic("number_of_executed_units"),
        rate: statistic("average_exec_per_sec"),
        coverage,
        corpus,
        peak_mib: statistic("peak_rss_mb"),
    }
}

/// What went wrong, and the input that did it: where it lies, and its bytes.
fn describe_finding(log: &str, status: &str) -> String {
    const LINES: usize = 40;
    let path = log.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    let input = match path {
        None => "no input was written".to_owned(),
        Some((_, path)) => match fs::read(Path::new(path)) {
            Ok(bytes) => format!("input: {path}\nhex: {}", hex::encode(bytes)),
            Err(error) => format!("input: {path}: {error}"),
        },
    };
    // Progress is of no interest here.
    let lines: Vec<_> = log.lines().filter(|line| !line.starts_with('#')).collect();
    let end = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n");
    format!("{end}\n{status}\n{input}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_check_and_seeds() {
        let names = targets().unwrap();
        assert!(!names.is_empty());
        let manifest = fs::read_to_string(workspace().join("xtask/fuzz/Cargo.toml")).unwrap();
        for name in names {
            let source = workspace().join(format!("xtask/fuzz/src/{name}.rs"));
            assert!(source.is_file(), "{} is missing", source.display());
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            let seeds = fs::read_dir(workspace().join("testdata/fuzz").join(&name));
            assert!(seeds.is_ok_and(|seeds| seeds.count() > 0), "{name} has no seeds");
        }
    }

    #[test]
    fn the_end_of_a_run_is_read() {
        let log = "#2\tINITED cov: 1 ft: 2 corp: 1/1b exec/s: 0 rss: 26Mb\n\
                   #77\tDONE   cov: 75 ft: 107 corp: 27/433b lim: 4096 exec/s: 43 rss: 27Mb\n\
                   Done 77 runs in 2 second(s)\n\
                   stat::number_of_executed_units: 77\nstat::average_exec_per_sec:     43\n\
                   stat::peak_rss_mb:              27\n";
        let done = read_log(log);
        assert_eq!((done.executions, done.rate, done.coverage), (77, 43, 75));
        assert_eq!((done.corpus, done.peak_mib), (27, 27));
    }

    #[test]
    fn a_finding_shows_its_input() {
        let input = tempfile::NamedTempFile::new().unwrap();
        fs::write(input.path(), b"\x00a").unwrap();
        let path = input.path().display();
        let log = format!(
            "#2\tINITED\npanicked at x.rs\nartifact_prefix='y'; Test unit written to {path}\n"
        );
        let finding = describe_finding(&log, "exit status: 77");
        assert!(finding.contains("panicked at x.rs") && finding.contains("exit status: 77"));
        assert!(finding.ends_with("hex: 0061"), "{finding}");
        assert!(!finding.contains("INITED"));
    }
}
