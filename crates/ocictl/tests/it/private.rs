//! Files that nobody else reads, and a socket that nobody else uses.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use super::daemon::{Daemon, large};
use super::http::Http;
use super::*;

#[test]
fn nobody_else_reads_what_a_server_writes_whatever_the_umask() {
    for umask in ["umask 0", "umask 022", "umask 077"] {
        let scratch = TempDir::new().unwrap();
        let data = scratch.path().join("data");
        let server = Daemon::start(umask, &data, &[], Stdio::inherit());
        assert_eq!(Http::connect(&server.host).push("a/b", &large()).1, 201);
        let found = Command::new("find").arg(&data).args(["-perm", "/077"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{umask}");
        let names: Vec<_> = fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().any(|name| name == "control"), "{names:?}");
        assert_eq!(names.len(), 7, "nothing is left of making the socket: {names:?}");
    }
}

/// Needs the right to run as another user.
#[test]
fn the_control_socket_is_for_its_owner_whatever_its_mode() {
    const OTHER: u32 = 54321;
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let server = Server::start(&data);
    for (path, mode) in [(scratch.path(), 0o755), (&*data, 0o755), (&*data.join("control"), 0o666)]
    {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    // Where the other user can read it. Copied by another process: a file that this one writes to
    // may be open in what another test is starting just now, and cannot be run then.
    let tool = scratch.path().join("ocictl");
    assert!(Command::new("cp").arg(OCICTL).arg(&tool).status().unwrap().success());
    let mut command = Command::new(&tool);
    command.args(["gc", "--data"]).arg(&data).uid(OTHER);
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(said.contains(&format!("user {OTHER} may not")), "{said}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied),
    }
    done(&["gc", "--data", data.to_str().unwrap()]);
    drop(server);
}

/// Rootless containers' volumes have such paths.
#[cfg(target_os = "linux")]
#[test]
fn upkeep_reaches_a_server_whose_path_is_long() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("d".repeat(90)).join("e".repeat(120));
    let path = data.to_str().unwrap();
    let _server = Server::start(&data);
    let backup = scratch.path().join("backup");
    done(&["gc", "--data", path]);
    done(&["fsck", "--data", path]);
    done(&["backup", "--data", path, backup.to_str().unwrap()]);
    // And from where its path is short.
    let there = Command::new(OCICTL).args(["gc", "--data", "."]).current_dir(&data).status();
    assert!(there.unwrap().success());
}
