//! Data directories, databases and buckets that `ocictl serve` cannot use: one clear message, an exit code, nothing changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A data directory with something in it, that no server is using.
fn data(scratch: &Path) -> PathBuf {
    let data = scratch.join("data");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/distribution");
    done(&["import", "-q", golden.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    data
}

/// All files of a directory, but that which says who has it.
fn content(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => waiting.push(path),
                false if path.ends_with("lock") => {}
                false => found.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

/// Serves a directory, which must be refused in one line and perhaps a hint, and left as it is.
fn refused(data: &Path, code: i32, expected: &str) {
    let before = data.is_dir().then(|| content(data));
    let said =
        failed(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], code);
    assert!(said.contains(expected) && said.starts_with("ocictl: "), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("  hint: ")), "{said}");
    assert!(before == data.is_dir().then(|| content(data)), "{}: changed", data.display());
}

#[test]
fn damaged_data_is_refused_as_it_is() {
    let scratch = TempDir::new().unwrap();
    let data = data(scratch.path());
    let database = data.join("metadata.sqlite");
    let whole = fs::read(&database).unwrap();
    let write = |bytes: &[u8]| fs::write(&database, bytes).unwrap();

    write(&b"never a database".repeat(200));
    refused(&data, 1, "is damaged: restore it from a backup");
    write(b"");
    refused(&data, 1, "metadata.sqlite is empty; restore it from a backup");
    let mut noise = whole.clone();
    noise[4096..].fill(0x55);
    write(&noise);
    refused(&data, 1, "restore it from a backup");
    // The version of the schema, as the header of SQLite's files has it.
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    write(&newer);
    refused(&data, 1, "schema version 99");
    fs::remove_file(&database).unwrap();
    refused(&data, 1, "metadata.sqlite is missing; restore it from a backup");

    write(&whole);
    let format = data.join("format");
    let known = fs::read(&format).unwrap();
    fs::write(&format, "oci-registry-store data directory, format 9\n").unwrap();
    refused(&data, 1, "use the program that wrote it");
    fs::write(&format, known).unwrap();
    let checked = done(&["fsck", "--data", data.to_str().unwrap()]);
    assert!(checked.contains("all is well"), "{checked}");
}

#[test]
fn places_that_are_no_data_directories_are_refused() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file, 1, "is a file");
    refused(&file.join("below"), 1, "cannot make data directory");
    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "").unwrap();
    refused(&other, 1, "is not a data directory: it has thesis.txt in it");
    // Where nobody, not even root, may make a file.
    if cfg!(target_os = "linux") {
        refused(Path::new("/proc/ocictl"), 1, "cannot make data directory");
    }
}

#[test]
fn buckets_and_urls_that_cannot_be_used_are_refused_without_secrets() {
    const SECRET: &str = "hunter2";
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let serve = |more: &[&str]| {
        let mut command = Command::new(OCICTL);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).args(more);
        command.env("AWS_ENDPOINT", "http://127.0.0.1:1").env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", SECRET);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(SECRET), "{said}");
        (output.status.code(), said)
    };
    for (args, code, expected) in [
        (["--storage", "s3://bucket/prefix"], 5, "it cannot be used now"),
        (["--storage", "s3://no bucket"], 2, "expected the name of a bucket"),
        (["--storage", "/var/lib"], 2, "expected file:, s3://"),
        (["--database", "postgres://user:hunter2@127.0.0.1:1/name"], 5, "cannot be reached"),
        (["--database", "postgres://user:hunter2@127.0.0.1:port/name"], 1, "the port is a number"),
        (
            ["--database", "postgres://user:hunter2@127.0.0.1/name?sslmod=require"],
            1,
            "settings that are known",
        ),
        (
            ["--database", "mysql://user:hunter2@127.0.0.1/name"],
            1,
            "expected sqlite: or postgres://",
        ),
    ] {
        let (found, said) = serve(&args);
        assert_eq!(found, Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    assert!(!data.join("format").exists());
}

#[test]
fn options_of_a_server_that_mean_nothing_are_named() {
    for (option, value) in [
        ("--trusted-proxy", "proxy.example"),
        ("--trusted-proxy", "10.0.0.0/33"),
        ("--cors-origin", "ui.example"),
        ("--cors-origin", "https://ui.example/page"),
    ] {
        let said = failed(&["serve", "--listen", "127.0.0.1:0", option, value], 1);
        assert!(said.contains(option) && said.contains(value), "{said}");
    }
}
