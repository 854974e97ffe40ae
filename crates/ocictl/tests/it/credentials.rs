//! Who the tool is at a registry, and where it remembers that.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use oci_registry_server::{Credentials, TestAuth, TestRegistry};

use crate::{OCICTL, scratch};

/// Runs the tool with a home of its own, and something on its standard input.
fn run(home: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(OCICTL);
    command.args(args).env("HOME", home).env("OCICTL_LOG", "error");
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What does not read its input may have ended before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A registry in this process, which answers as long as the runtime lives.
fn registry(auth: TestAuth) -> (tokio::runtime::Runtime, TestRegistry) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::builder().auth(auth).start()).unwrap();
    (runtime, registry)
}

#[test]
fn login_is_asked_of_the_registry_and_kept_for_copy_and_inspect() {
    for auth in [TestAuth::basic(), TestAuth::bearer()] {
        let (scratch, layout, sample) = scratch();
        let home = scratch.path();
        let (_runtime, registry) = registry(auth.user("alice", "se:cret"));
        let (host, image) = (registry.host(), format!("docker://{}/a/b:v1", registry.host()));
        let from = format!("{layout}:image");

        let refused = run(home, &["copy", &from, &image], "");
        assert_eq!(code(&refused), Some(4), "{}", said(&refused));
        assert!(said(&refused).contains("ocictl login"), "{}", said(&refused));

        let login = ["login", &host, "--username", "alice", "--password-stdin"];
        let wrong = run(home, &login, "guess\n");
        assert_eq!(code(&wrong), Some(4), "{}", said(&wrong));
        assert!(!said(&wrong).contains("guess"));
        assert!(said(&wrong).contains("hint: check the user name"), "{}", said(&wrong));
        assert!(!home.join(".docker/config.json").exists(), "what is wrong is not kept");

        let right = run(home, &login, "se:cret\r\n");
        assert!(right.status.success(), "{}", said(&right));
        assert!(!said(&right).contains("se:cret"));
        let kept = std::fs::read_to_string(home.join(".docker/config.json")).unwrap();
        assert!(kept.contains(&host), "{kept}");

        let copied = run(home, &["copy", &from, &image], "");
        assert!(copied.status.success(), "{}", said(&copied));
        let shown = run(home, &["inspect", &image], "");
        assert!(said(&shown).contains(sample.image.digest.as_str()), "{}", said(&shown));
        let nobody = run(home, &["inspect", "--no-creds", &image], "");
        assert_eq!(code(&nobody), Some(4));

        let out = run(home, &["logout", &host], "");
        assert!(out.status.success() && said(&out).contains("logged out"), "{}", said(&out));
        assert_eq!(code(&run(home, &["inspect", &image], "")), Some(4));
        let out = run(home, &["logout", &host], "");
        assert!(said(&out).contains("there were no credentials"), "{}", said(&out));
    }
}

#[test]
fn a_file_of_ones_own_and_the_environment_s() {
    let (scratch, _, _) = scratch();
    let home = scratch.path();
    let (_runtime, registry) = registry(TestAuth::basic().user("alice", "secret"));
    let (host, file) = (registry.host(), home.join("auth.json"));
    let authfile = file.to_str().unwrap();
    let login = ["login", &host, "-u", "alice", "--password-stdin", "--authfile", authfile];
    let done = run(home, &login, "secret");
    assert!(done.status.success(), "{}", said(&done));
    assert!(file.exists() && !home.join(".docker").exists());
    registry.take_requests();
    // Nothing is there; but who asks is known.
    let nothing = format!("docker://{host}/a/b:v1");
    assert_eq!(code(&run(home, &["inspect", &nothing, "--authfile", authfile], "")), Some(3));
    let alice = Credentials::Basic { username: "alice".to_owned(), password: "secret".to_owned() };
    assert!(registry.requests().iter().any(|request| request.credentials == Some(alice.clone())));
    assert_eq!(code(&run(home, &["logout", &host, "--authfile", authfile], "")), Some(0));
    assert_eq!(code(&run(home, &["inspect", &nothing, "--authfile", authfile], "")), Some(4));
}

#[test]
fn what_cannot_be_asked_for_is_said() {
    let (scratch, _, _) = scratch();
    let home = scratch.path();
    for (args, expected) in [
        (&["login", "127.0.0.1:1"][..], "--password-stdin"),
        (&["login", "127.0.0.1:1", "-u", "alice"], "--password-stdin"),
        (&["login", "127.0.0.1:1", "--password-stdin"], "--username"),
        (&["login", "127.0.0.1:1", "-u", "alice", "--password-stdin"], "must not be empty"),
    ] {
        let failed = run(home, args, "");
        assert_eq!(code(&failed), Some(1), "{args:?}");
        assert!(said(&failed).contains(expected), "{args:?}: {}", said(&failed));
    }
}

#[test]
fn content_comes_from_a_mirror_if_it_has_it() {
    let (scratch, layout, sample) = scratch();
    let home = scratch.path();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let [primary, mirror] = [(); 2].map(|()| runtime.block_on(TestRegistry::start()).unwrap());
    let from = format!("{layout}:index");
    for registry in [&primary, &mirror] {
        let to = format!("docker://{}/a/b:v1", registry.host());
        let copied = run(home, &["copy", &from, &to], "");
        assert!(copied.status.success(), "{}", said(&copied));
    }
    primary.take_requests();
    let source = format!("docker://{}/a/b:v1", primary.host());
    let to = format!("oci:{}:back", home.join("back").display());
    let mirrors = format!("{}={}", primary.host(), mirror.host());
    let copied = run(home, &["copy", "--mirror", &mirrors, &source, &to], "");
    assert!(copied.status.success(), "{}", said(&copied));
    assert!(said(&copied).contains(sample.index.digest.as_str()), "{}", said(&copied));
    assert_eq!(primary.requests().len(), 1, "what the tag names");
}

#[test]
fn what_means_nothing_to_a_command_is_no_option_of_it() {
    let (scratch, ..) = scratch();
    let mirror = "--mirror=registry.example=mirror.example";
    let login = ["login", "registry.example", "--username", "alice", "--password-stdin"];
    let import = ["import", "/var/lib/registry", "docker://registry.example"];
    for (command, option) in
        [(&login[..], mirror), (&login[..], "--no-creds"), (&import[..], mirror)]
    {
        let refused = run(scratch.path(), &[command, &[option]].concat(), "secret");
        assert_eq!(code(&refused), Some(2), "{command:?}: {}", said(&refused));
        assert!(said(&refused).contains("unexpected argument"), "{}", said(&refused));
    }
}
