//! `ocictl import`, from the directory of a distribution registry.

use std::fs;
use std::path::PathBuf;

use oci_ref::Source as _;
use oci_spec_types::Digest;
use serde_json::Value;

use super::*;

const INDEX: &str = "sha256:edcc4b5b64d9af7144787f0fa7c2bc4fc5acec08cc1f86fbc466191f288e8511";
const OLD: &str = "sha256:98ad3d711433b4099b7dde23d0b6117988fc0d1673c4fc11334fbe76a881b892";
/// A layer that only `OLD` has.
const LAYER: &str = "sha256:a447c60300a0a2b56284d6b98c72cfef918907c93b109b3d32e6b70b5b165c06";

fn golden() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/distribution").display().to_string()
}

/// A copy of it that may be spoilt.
fn spoilt(to: &Path) -> String {
    let copied = Command::new("cp").arg("-r").arg(golden()).arg(to).status().unwrap();
    assert!(copied.success());
    to.display().to_string()
}

fn blob(tree: &str, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    Path::new(tree).join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

fn last(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// A report in which blobs that were mounted are counted with those that were sent: which of two repositories is the first to have a
/// blob is not certain.
fn sum(mut report: Value) -> Value {
    let blobs = report["blobs"].as_u64().unwrap() + report["mounted"].as_u64().unwrap();
    report["blobs"] = blobs.into();
    report["mounted"] = 0.into();
    report["bytes"] = 0.into();
    report
}

/// Runs an import whose exit code is 1, and gives what it printed.
fn partly(args: &[&str]) -> String {
    let output = ocictl(args);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The raw manifest that a reference names.
fn raw(reference: &str) -> String {
    done(&["inspect", "--raw", reference])
}

#[test]
fn everything_comes_into_a_registry_and_the_second_time_nothing_moves() {
    let scratch = TempDir::new().unwrap();
    let server = Server::start(&scratch.path().join("data"));
    let to = format!("docker://{}", server.host);

    let said = done(&["import", "--dry-run", "--json", &golden(), &to]);
    let expected = sum(last(&said));
    assert_eq!((&expected["manifests"], &expected["repositories"]), (&9.into(), &3.into()));
    failed(&["inspect", &format!("{to}/team/app:v1")], 3);

    let said = done(&["import", "--json", &golden(), &to]);
    assert_eq!(sum(last(&said)), expected, "as the dry run said");
    assert_eq!((&expected["skipped"], &expected["problems"]), (&0.into(), &0.into()));
    assert_eq!(expected["blobs"], 15);

    let index = fs::read_to_string(blob(&golden(), INDEX)).unwrap();
    for name in ["team/app:v1", "team/app:latest"] {
        assert_eq!(raw(&format!("{to}/{name}")), index);
    }
    let old = fs::read_to_string(blob(&golden(), OLD)).unwrap();
    for name in [&format!("team/app@{OLD}"), "team/base:v1"] {
        assert_eq!(raw(&format!("{to}/{name}")), old);
    }

    // The old registry had no referrers API; this one has, and knows what was pushed before.
    let back = scratch.path().join("back");
    let source = format!("{to}/team/app:v1");
    done(&["copy", "-q", "--referrers", &source, &format!("oci:{}:v1", back.display())]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let layout = Layout::open(&back).await.unwrap();
        let index: Digest = INDEX.parse().unwrap();
        layout.referrers(&index, None, None, 10).await.unwrap().page.items
    });
    let types: Vec<_> = found.iter().filter_map(|it| it.artifact_type.as_deref()).collect();
    assert_eq!(types, ["application/vnd.example.signature", "application/vnd.example.sbom"]);

    let again = last(&done(&["import", "--json", &golden(), &to]));
    assert_eq!(
        (&again["manifests"], &again["blobs"], &again["mounted"]),
        (&0.into(), &0.into(), &0.into())
    );

    let below =
        done(&["import", "--repository", "team/base", &golden(), &format!("{to}/old/registry")]);
    assert!(below.starts_with("1 repository: 1 manifest"), "{below}");
    assert_eq!(raw(&format!("{to}/old/registry/team/base:v1")), old);
    let said = failed(&["import", "--repository", "tea", &golden(), &to], 3);
    assert!(said.contains("tea is not in the directory"), "{said}");
}

#[test]
fn a_data_directory_is_written_without_a_server_and_not_beside_one() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let path = data.to_str().unwrap();
    let said = done(&["import", "--dry-run", &golden(), "--data", path]);
    assert!(said.starts_with("3 repositories: 9 manifests and "), "{said}");
    assert!(!data.exists(), "a dry run makes nothing");
    let said = done(&["import", &golden(), "--data", path]);
    assert!(said.contains("9 manifests and") && said.contains("mounted, 0 were there"), "{said}");
    let checked = done(&["fsck", "--data", path]);
    assert!(checked.contains("9 manifests") && checked.contains("all is well"), "{checked}");

    let server = Server::start(&data);
    let reference = format!("docker://{}/legacy:1", server.host);
    assert!(raw(&reference).contains("docker.distribution.manifest.v2"));
    let said = failed(&["import", &golden(), "--data", path], 5);
    assert!(said.contains("is using") && said.contains("docker://HOST"), "{said}");
}

#[test]
fn what_is_damaged_is_told_and_the_rest_is_brought_over() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let tree = spoilt(&scratch.path().join("tree"));
    let right = fs::read(blob(&tree, LAYER)).unwrap();
    fs::write(blob(&tree, LAYER), b"rot").unwrap();
    let schema1 = br#"{"schemaVersion":1,"fsLayers":[]}"#;
    let known = Digest::sha256(schema1);
    for (file, content) in [
        (blob(&tree, known.as_str()), &schema1[..]),
        (
            Path::new(&tree).join(format!(
                "docker/registry/v2/repositories/legacy/_manifests/revisions/sha256/{}/link",
                known.encoded()
            )),
            known.as_str().as_bytes(),
        ),
        (Path::new(&tree).join("docker/registry/v2/repositories/NONE/x"), b""),
    ] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    let said = partly(&["import", &tree, "--data", data.to_str().unwrap()]);
    let lines: Vec<&str> = said.lines().collect();
    let line =
        |begins: &str| lines.iter().find(|line| line.starts_with(begins)).copied().unwrap_or("");
    for name in ["team/app", "team/base"] {
        let damaged = line(&format!("{name}: {OLD}"));
        assert!(damaged.contains(LAYER) && damaged.contains("data is damaged"), "{said}");
    }
    assert!(line("repositories/NONE").contains("repository name"), "{said}");
    assert!(line(&format!("legacy: {known}")).contains("schema 1"), "{said}");
    let end = "3 repositories: 7 manifests and ";
    assert!(lines.last().unwrap().starts_with(end), "{said}");
    assert!(lines.last().unwrap().ends_with("1 manifest in Docker's schema 1 left out"), "{said}");
    assert!(done(&["fsck", "--data", data.to_str().unwrap()]).contains("all is well"));

    // Once the blob is there again, only what was missing moves.
    fs::write(blob(&tree, LAYER), right).unwrap();
    let said = partly(&["import", "--json", &tree, "--data", data.to_str().unwrap()]);
    let report = last(&said);
    assert_eq!((&report["manifests"], &report["problems"]), (&2.into(), &1.into()), "{said}");
}

#[test]
fn what_cannot_be_imported_is_said_at_once() {
    let scratch = TempDir::new().unwrap();
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let data = scratch.path().join("data");
    let data = data.to_str().unwrap();
    let said = failed(&["import", empty, "--data", data], 1);
    assert!(
        said.contains("is not the storage directory") && said.contains("rootdirectory"),
        "{said}"
    );
    assert!(!Path::new(data).exists());
    failed(&["import", &golden()], 2);
    failed(&["import", &golden(), "docker://127.0.0.1:1", "--data", data], 2);
    failed(&["import", &golden(), "127.0.0.1:1"], 2);
    let said = failed(&["import", "--retries", "0", &golden(), "docker://127.0.0.1:1"], 5);
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
