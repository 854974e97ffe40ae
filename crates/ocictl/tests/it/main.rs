//! The tool, as it is run by hand.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod connection;
mod credentials;
mod daemon;
mod descriptors;
mod files;
mod http;
mod import;
mod interrupted;
mod log;
mod lookaside;
mod messages;
mod names;
mod odd_manifests;
#[path = "../../../oci-registry-store/tests/it/postgres/server.rs"]
mod postgres;
mod private;
mod replicas;
#[path = "../../../oci-registry-store/tests/it/s3.rs"]
#[allow(dead_code, reason = "those of the store need more of it")]
mod s3;
mod select;
mod signals;
mod unfinished;
mod upkeep;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use oci_ref::suite::sample::{self, Sample};
use oci_ref::{Layout, Manifest, Precondition, Store as _};
use tempfile::TempDir;

const OCICTL: &str = env!("CARGO_BIN_EXE_ocictl");

/// A server on a free port, killed when dropped.
struct Server {
    child: Child,
    host: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    fn start_with(data: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(OCICTL);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        Self::run(&mut command)
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("listening on http://").expect(&line).to_owned();
        Self { child, host }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn ocictl(args: &[&str]) -> Output {
    Command::new(OCICTL).args(args).output().unwrap()
}

/// Runs the tool, which must succeed, and gives what it printed.
fn done(args: &[&str]) -> String {
    let output = ocictl(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the tool, which must fail with an exit code, and gives what it said.
fn failed(args: &[&str], code: i32) -> String {
    let output = ocictl(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    errors
}

fn sample_layout(path: &Path) -> Sample {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::create(path).await.unwrap();
        sample::write_all(&layout).await.unwrap()
    })
}

/// A scratch directory with a layout of samples in it.
fn scratch() -> (TempDir, String, Sample) {
    let scratch = TempDir::new().unwrap();
    let layout = scratch.path().join("sample");
    let sample = sample_layout(&layout);
    (scratch, format!("oci:{}", layout.display()), sample)
}

#[test]
fn an_index_comes_back_from_a_registry_that_was_killed() {
    let (scratch, layout, sample) = scratch();
    let data = scratch.path().join("data");
    let server = Server::start(&data);
    let pushed =
        done(&["copy", &format!("{layout}:index"), &format!("docker://{}/a/b:v1", server.host)]);
    assert!(pushed.starts_with(sample.index.digest.as_str()), "{pushed}");
    drop(server);

    let server = Server::start(&data);
    let registry = format!("docker://{}/a/b:v1", server.host);
    let back = format!("oci:{}", scratch.path().join("back").display());
    done(&["copy", "--quiet", &registry, &format!("{back}:index")]);
    let shown = |reference: &str| {
        done(&["inspect", reference]).lines().skip(1).collect::<Vec<_>>().join("\n")
    };
    let expected = shown(&format!("{layout}:index"));
    assert_eq!(shown(&registry), expected);
    assert_eq!(shown(&format!("{back}:index")), expected);
    assert_eq!(shown(&back), expected, "the only entry needs no name");
    for line in
        [format!("index {}", sample.index.digest), format!("  index {}", sample.nested.digest)]
    {
        assert!(expected.contains(&line), "{expected}");
    }
    assert!(!expected.contains("missing"), "{expected}");
}

#[test]
fn a_manifest_is_shown_as_it_is_and_as_json() {
    let (_scratch, layout, sample) = scratch();
    let by_digest = format!("{layout}@{}", sample.notes.digest);
    let raw = done(&["inspect", "--raw", &by_digest]);
    assert_eq!(oci_spec_types::Digest::sha256(raw.as_bytes()), sample.notes.digest);
    let json: serde_json::Value =
        serde_json::from_str(&done(&["inspect", "--json", &by_digest])).unwrap();
    let root = &json["manifests"][0];
    assert_eq!(root["descriptor"]["digest"], sample.notes.digest.as_str());
    assert_eq!(root["subject"]["digest"], sample.index.digest.as_str());
    assert_eq!(root["missing"], false);
}

#[test]
fn what_others_wrote_does_not_reach_the_terminal_as_more_than_text() {
    let (_scratch, layout, _) = scratch();
    let path = layout.strip_prefix("oci:").unwrap();
    let index = br#"{"schemaVersion":2,"artifactType":"red\u001b[31m","manifests":[]}"#;
    let index = Manifest::parse(index.as_slice().into(), None, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::open(path).await.unwrap();
        layout.put_manifest(&index, &[], &Precondition::None).await.unwrap();
    });
    let shown = done(&["inspect", &format!("{layout}@{}", index.digest())]);
    assert!(shown.contains("artifact red") && !shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn failures_say_what_is_wrong_and_have_their_exit_codes() {
    let (scratch, layout, sample) = scratch();
    let server = Server::start(&scratch.path().join("data"));
    let nothing = format!("docker://{}/a/b:v1", server.host);
    let said = failed(&["inspect", &nothing], 3);
    assert!(said.contains("a/b") && said.contains("hint:"), "{said}");
    let said = failed(&["inspect", &format!("{layout}:nothing")], 3);
    assert!(said.contains("nothing"), "{said}");
    let said = failed(&["inspect", &layout], 1);
    assert!(said.contains("entries") && said.contains(":image"), "{said}");
    let said = failed(&["inspect", "oci:/does/not/exist"], 3);
    assert!(said.contains("/does/not/exist"), "{said}");
    let said = failed(&["inspect", "busybox"], 2);
    assert!(said.contains("names no transport"), "{said}");
    // Nothing is written under a digest that it does not have.
    let wrong = format!("docker://{}/a/b@{}", server.host, sample.notes.digest);
    let said = failed(&["copy", &format!("{layout}:image"), &wrong], 1);
    assert!(
        said.contains(sample.notes.digest.as_str()) && said.contains(sample.image.digest.as_str()),
        "{said}"
    );
    failed(&["inspect", &nothing], 3);
}

#[test]
fn data_in_use_and_ports_in_use_are_refused_clearly() {
    let (scratch, _, _) = scratch();
    let data = scratch.path().join("data");
    let server = Server::start(&data);
    let path = data.to_str().unwrap();
    let said = failed(&["serve", "--listen", "127.0.0.1:0", "--data", path], 5);
    assert!(said.contains(path) && said.contains("--data DIR"), "{said}");
    let other = scratch.path().join("other");
    let said = failed(&["serve", "--listen", &server.host, "--data", other.to_str().unwrap()], 1);
    assert!(said.contains(&server.host) && said.contains("hint:"), "{said}");
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = failed(&["serve", "--listen", "127.0.0.1:0", "--data", file.to_str().unwrap()], 1);
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn a_copy_takes_a_platform_and_what_refers_to_it_or_says_what_it_would_take() {
    let (scratch, layout, sample) = scratch();
    let to = format!("oci:{}", scratch.path().join("to").display());
    let index = format!("{layout}:index");
    let said = done(&["copy", "--dry-run", &index, &format!("{to}:all")]);
    assert!(said.contains("would be copied"), "{said}");
    failed(&["inspect", &format!("{to}:all")], 3);

    let said = done(&["copy", "--platform", "linux/amd64", &index, &format!("{to}:one")]);
    assert!(said.starts_with(sample.image.digest.as_str()), "{said}");
    let said = failed(&["copy", "--platform", "plan9/mips", &index, &format!("{to}:none")], 3);
    assert!(said.contains("plan9") && said.contains("linux/arm64"), "{said}");

    // The signature is about the image, and has no name of its own.
    let signature = format!("{to}@{}", sample.signature.digest);
    failed(&["inspect", &signature], 3);
    done(&["copy", "--referrers", &format!("{layout}:image"), &format!("{to}:one")]);
    let shown = done(&["inspect", &signature]);
    assert!(shown.contains(&format!("subject {}", sample.image.digest)), "{shown}");

    let said = failed(&["copy", "--format", "docker", &index, &format!("{to}:docker")], 1);
    assert!(said.contains("Docker"), "{said}");
}

#[test]
fn a_copy_takes_entries_formats_tags_and_signatures_as_it_is_told() {
    let (scratch, layout, sample) = scratch();
    let at = |name: &str| scratch.path().join(name);
    let images = done(&["inspect", "--json", &format!("{layout}:platforms")]);
    let images: serde_json::Value = serde_json::from_str(&images).unwrap();
    let entry = images["manifests"][1]["descriptor"]["digest"].as_str().unwrap().to_owned();

    // One entry of a list, where the others may be missing.
    let server = Server::start_with(&at("data"), &["--references", "sparse-indexes"]);
    let registry = format!("docker://{}/a/b", server.host);
    let digest_file = at("digest");
    let one =
        ["copy", "--instance", &entry, &format!("{layout}:platforms"), &format!("{registry}:v1")];
    done(&[&one[..], &["--digest-file", digest_file.to_str().unwrap()]].concat());
    assert_eq!(std::fs::read_to_string(&digest_file).unwrap(), sample.platforms.digest.as_str());
    done(&["inspect", "--raw", &format!("{registry}@{entry}")]);
    let said = failed(&["copy", "--instance", &entry, "--platform", "host", "oci:a", "oci:b"], 2);
    assert!(said.contains("--platform"), "{said}");

    // What lies under tags made of the digest.
    let signed = format!("sha256-{}.sig", sample.image.digest.encoded());
    done(&["copy", &format!("{layout}:notes"), &format!("{registry}:{signed}")]);
    done(&["copy", &format!("{layout}:image"), &format!("{registry}:image")]);
    let to = format!("oci:{}", at("to").display());
    done(&["copy", "--tag-schemes", &format!("{registry}:image"), &format!("{to}:image")]);
    done(&["inspect", &format!("{to}:{signed}")]);

    // What Docker's format cannot hold is an error, or left out and said.
    let (from, into) = (format!("{layout}:image"), format!("{to}:docker"));
    let said = failed(&["copy", "--format", "docker", &from, &into], 1);
    assert!(said.contains("--lossy"), "{said}");
    let said = done(&["copy", "--format", "docker", "--lossy", &from, &into]);
    assert!(said.contains(": dropped"), "{said}");

    // Signatures stay in a directory unless the destination can keep them.
    let signed = format!("dir:{}", at("signed").display());
    done(&["copy", &format!("{layout}:image"), &signed]);
    std::fs::write(at("signed/signature-1"), "a signature").unwrap();
    let said = failed(&["copy", &signed, &format!("{to}:unsigned")], 1);
    assert!(said.contains("--signatures drop"), "{said}");
    done(&["copy", "--signatures", "drop", &signed, &format!("{to}:unsigned")]);
    let other = format!("dir:{}", at("other").display());
    done(&["copy", &signed, &other]);
    assert_eq!(std::fs::read(at("other/signature-1")).unwrap(), b"a signature");
}

#[test]
fn a_server_is_what_its_flags_say() {
    let (scratch, layout, sample) = scratch();
    let data = scratch.path().join("data");
    let server = Server::start_with(&data, &["--max-manifest", "100", "--max-blob", "1000000"]);
    let image = format!("docker://{}/a/b:v1", server.host);
    let said = failed(&["copy", &format!("{layout}:image"), &image], 1);
    assert!(said.contains("413"), "{said}");
    drop(server);

    let server = Server::start(&data);
    let image = format!("docker://{}/a/b:v1", server.host);
    done(&["copy", &format!("{layout}:image"), &image]);
    drop(server);
    let flags = ["--read-only", "--no-delete", "--no-catalog", "--max-connections", "2"];
    let more = ["--max-requests", "8", "--external-url", "http://registry.example:5000/"];
    let server = Server::start_with(&data, &[&flags[..], &more[..]].concat());
    let image = format!("docker://{}/a/b:v1", server.host);
    assert!(done(&["inspect", &image]).contains(sample.image.digest.as_str()));
    let said = failed(&["copy", &format!("{layout}:notes"), &image], 1);
    assert!(said.contains("405"), "{said}");
    let said = failed(&["serve", "--external-url", "registry.example"], 1);
    assert!(said.contains("--external-url") && said.contains("http(s)://"), "{said}");
    let said = failed(&["serve", "--max-connections", "0"], 2);
    assert!(said.contains("--max-connections"), "{said}");
}
