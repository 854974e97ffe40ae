//! Signatures that lie where `ocictl copy` cannot read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{OCICTL, Server, done, scratch};

/// The text of a copy on standard error, with this directory as the home.
fn errors(home: &Path, args: &[&str]) -> String {
    let mut command = Command::new(OCICTL);
    let output = command.arg("copy").args(args).env("HOME", home).output();
    let output = output.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {errors}");
    errors
}

// containers-registries.d(5)
// covers: C11
#[test]
fn signatures_in_lookaside_storage_are_not_left_behind_without_a_word() {
    let (scratch, layout, sample) = scratch();
    let server = Server::start(&scratch.path().join("data"));
    let app = format!("docker://{}/team/app:v1", server.host);
    done(&["copy", &format!("{layout}@{}", sample.image.digest), &app]);
    let home = scratch.path().join("home");
    let configuration = home.join(".config/containers/registries.d");
    fs::create_dir_all(&configuration).unwrap();
    let to = |name: &str| format!("dir:{}", scratch.path().join(name).display());
    assert_eq!(errors(&home, &[&app, &to("none")]), "");

    let text =
        format!("docker:\n  {}/team:\n    lookaside: https://sigs.example/team\n", server.host);
    fs::write(configuration.join("team.yaml"), text).unwrap();
    let said = errors(&home, &[&app, &to("told")]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("https://sigs.example/team") && said.contains("not copied"), "{said}");
    for args in [&["--signatures", "drop"][..], &["-q"]] {
        assert_eq!(errors(&home, &[&[&*app, &to(args[0])][..], args].concat()), "", "{args:?}");
    }
    // Of other repositories nothing is said.
    let other = format!("docker://{}/other/app:v1", server.host);
    done(&["copy", "--signatures", "drop", &app, &other]);
    assert_eq!(errors(&home, &[&other, &to("other")]), "");

    fs::write(configuration.join("team.yaml"), "docker: [").unwrap();
    let said = errors(&home, &[&app, &to("broken")]);
    assert!(said.contains("team.yaml cannot be read") && !said.contains('\u{1b}'), "{said}");
    assert_eq!(errors(&home, &["-q", &app, &to("quiet")]), "");
}
