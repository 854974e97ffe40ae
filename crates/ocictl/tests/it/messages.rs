//! The words that people read when something fails: what, where, why, each once, and a hint.

use std::path::Path;

use oci_registry_server::{Endpoint, FaultAnswer, FaultRule, TestAuth, TestRegistry};
use oci_spec_types::ErrorCode;

use crate::connection::run;
use crate::scratch;

/// A registry in this process, which answers as long as the runtime lives.
fn registry(auth: Option<TestAuth>) -> (tokio::runtime::Runtime, TestRegistry) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut builder = TestRegistry::builder();
    if let Some(auth) = auth {
        builder = builder.auth(auth);
    }
    let registry = runtime.block_on(builder.start()).unwrap();
    (runtime, registry)
}

/// Runs the tool, which must fail, and gives what it says, with HOST for the registry.
fn said(home: &Path, registry: &TestRegistry, args: &[&str]) -> String {
    let output = run(home, args);
    assert!(!output.status.success(), "{args:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    said.replace(&registry.host(), "HOST")
}

#[test]
fn what_is_not_there() {
    let (scratch, layout, _) = scratch();
    let (_runtime, registry) = registry(None);
    let image = format!("docker://{}/a/b:v1", registry.host());
    assert_eq!(
        said(scratch.path(), &registry, &["inspect", &image]),
        "ocictl: reading docker://HOST/a/b:v1: GET http://HOST/v2/a/b/manifests/v1: 404 Not Found: \
         NAME_UNKNOWN: repository a/b is not known\n  \
         hint: check the name of the repository or layout\n"
    );
    let pushed = run(scratch.path(), &["copy", "-q", &format!("{layout}:image"), &image]);
    assert!(pushed.status.success());
    let other = image.replace(":v1", ":v2");
    assert_eq!(
        said(scratch.path(), &registry, &["inspect", &other]),
        "ocictl: reading docker://HOST/a/b:v2: GET http://HOST/v2/a/b/manifests/v2: 404 Not Found: \
         MANIFEST_UNKNOWN: tag v2 is not known\n  \
         hint: check the tag or digest\n"
    );
}

// containers/image has the same limit: one manifest must not take all memory.
#[test]
fn a_manifest_that_is_too_large() {
    let (scratch, layout, sample) = scratch();
    let (_runtime, registry) = registry(None);
    let image = format!("docker://{}/a/b:v1", registry.host());
    let pushed = run(scratch.path(), &["copy", "-q", &format!("{layout}:index"), &image]);
    assert!(pushed.status.success());
    let hint = "\n  hint: --max-manifest BYTES lets larger manifests be read\n";
    let to = format!("oci:{}:x", scratch.path().join("to").display());
    for command in [vec!["inspect"], vec!["copy", "-q"]] {
        let reference = [image.as_str(), to.as_str()];
        let count = command.len();
        let args = [&command[..], &["--max-manifest=100"], &reference[..count]].concat();
        let refused = said(scratch.path(), &registry, &args);
        assert!(refused.ends_with(hint) && refused.contains("100 bytes"), "{refused}");
        let size = sample.index.size.to_string();
        let enough = format!("--max-manifest={}", size.parse::<u64>().unwrap() * 10);
        let args = [&command[..], &[&enough], &reference[..count]].concat();
        assert!(run(scratch.path(), &args).status.success());
    }
}

#[test]
fn a_part_that_is_not_there() {
    let (scratch, layout, sample) = scratch();
    let (_runtime, registry) = registry(None);
    let image = format!("docker://{}/a/b:v1", registry.host());
    let from = format!("{layout}:index");
    let hint =
        format!("\n  hint: `ocictl inspect {from}` shows what it lists and what is missing\n");
    let no_platform = ["copy", "-q", "--platform", "plan9/mips", &from, &image];
    let refused = said(scratch.path(), &registry, &no_platform);
    let other = "\n  hint: --platform names another, and without it all of the index is copied\n";
    assert!(refused.ends_with(other), "{refused}");
    let nested = sample.nested.digest.encoded();
    std::fs::remove_file(scratch.path().join("sample/blobs/sha256").join(nested)).unwrap();
    let refused = said(scratch.path(), &registry, &["copy", "-q", &from, &image]);
    assert!(refused.ends_with(&hint) && refused.contains(nested), "{refused}");
}

#[test]
fn who_is_not_known() {
    let (scratch, _, _) = scratch();
    let (_runtime, registry) = registry(Some(TestAuth::basic().user("alice", "secret")));
    let image = format!("docker://{}/a/b:v1", registry.host());
    let refused = said(scratch.path(), &registry, &["inspect", &image]);
    assert!(refused.starts_with("ocictl: reading docker://HOST/a/b:v1: GET http://HOST/v2/a/b/"));
    assert_eq!(refused.matches("401").count(), 1, "{refused}");
    assert!(refused.ends_with("\n  hint: `ocictl login HOST` keeps credentials for a registry\n"));
}

// docker/cli#2121, GoogleContainerTools/jib#82
#[test]
fn a_helper_that_is_not_there() {
    let (scratch, _, _) = scratch();
    let (_runtime, registry) = registry(Some(TestAuth::bearer().user("alice", "secret")));
    let config = scratch.path().join(".docker/config.json");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    std::fs::write(&config, r#"{"credsStore":"absent"}"#).unwrap();
    let image = format!("docker://{}/a/b:v1", registry.host());
    let refused = said(scratch.path(), &registry, &["inspect", &image]);
    let expected = format!(
        "ocictl: reading docker://HOST/a/b:v1: credentials for HOST: they could not be found out: \
         credential helper docker-credential-absent (get), named in {}: there is no such program \
         in PATH\n  hint: --no-creds asks registries as nobody in particular\n",
        config.display()
    );
    assert_eq!(refused, expected);
    // A registry that does not ask who it is does not care.
    let (_other, open) = self::registry(None);
    let open_image = format!("docker://{}/a/b:v1", open.host());
    let refused = said(scratch.path(), &open, &["inspect", &open_image]);
    assert!(refused.contains("NAME_UNKNOWN"), "{refused}");
}

#[test]
fn a_name_that_leads_nowhere() {
    let (scratch, _, _) = scratch();
    let (_runtime, registry) = registry(None);
    let args = ["inspect", "--retries", "0", "docker://registry.invalid/a/b:v1"];
    let said = said(scratch.path(), &registry, &args);
    let begin = "ocictl: reading docker://registry.invalid/a/b:v1: GET \
                 https://registry.invalid/v2/a/b/manifests/v1: the name registry.invalid cannot be \
                 looked up: ";
    assert!(said.starts_with(begin), "{said}");
    assert!(said.contains("\n  hint: check that name, and"), "{said}");
}

// distribution answers 500 where it lacks what a manifest names
#[test]
fn what_is_wrong_for_good_is_not_tried_again() {
    let (scratch, layout, _) = scratch();
    let (_runtime, registry) = registry(None);
    let status = "500".parse().unwrap();
    let refused = FaultAnswer::new(status).error(ErrorCode::ManifestBlobUnknown);
    registry.inject(FaultRule::new(refused).endpoint(Endpoint::PushManifest));
    let image = format!("docker://{}/a/b:v1", registry.host());
    let from = format!("{layout}:image");
    let said = said(scratch.path(), &registry, &["copy", "-q", &from, &image]);
    assert!(!said.contains("trying again"), "{said}");
    assert_eq!(said.matches("MANIFEST_BLOB_UNKNOWN").count(), 1, "{said}");
    assert_eq!(said.matches("500").count(), 1, "{said}");
}

#[test]
fn a_registry_that_leads_inside() {
    let (scratch, _, _) = scratch();
    let (_runtime, registry) = registry(None);
    let status = "307".parse().unwrap();
    let redirect = FaultAnswer::redirect(status, "http://169.254.169.254/latest");
    registry.inject(FaultRule::new(redirect));
    let image = format!("docker://{}/a/b:v1", registry.host());
    assert_eq!(
        said(scratch.path(), &registry, &["inspect", &image]),
        "ocictl: reading docker://HOST/a/b:v1: GET http://169.254.169.254/latest: 169.254.169.254 \
         is a link-local address, and the registry that leads there is not at one\n  \
         hint: --allow-internal 169.254.169.254 lets registries lead there\n"
    );
}
