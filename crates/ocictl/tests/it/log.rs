//! A server's log and output, and what becomes of it without them.

use std::fs::File;
use std::time::{Duration, Instant};

use super::daemon::{Daemon, damage, large, line_with};
use super::http::{Http, status};
use super::*;

// containerd#580, moby#19728: the log's reader is gone. And a log on a disk that is full.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    for (name, stderr) in [("full", full()), ("gone", gone())] {
        let scratch = TempDir::new().unwrap();
        let data = scratch.path().join("data");
        let mut server = Daemon::start(":", &data, &["--cache", "0"], stderr);
        let mut http = Http::connect(&server.host);
        let (blob, pushed) = http.push("a/b", &large());
        assert_eq!(pushed, 201);
        damage(&data);
        for _ in 0..3 {
            assert_eq!(http.ask("GET", &blob, b"").status, 500, "{name}");
        }
        assert_eq!(status(&server.host, "GET", "/v2/"), 200, "{name}");
        server.signal("TERM");
        assert_eq!(server.ended().code(), Some(0), "{name}");
    }
}

/// Nor does an output that cannot be: there the port would be read.
#[test]
fn a_server_serves_though_nobody_can_be_told() {
    for output in ["1>/dev/full 2>/dev/full", "1>&- 2>&-"] {
        let scratch = TempDir::new().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec \"$0\" \"$@\" {output}"), OCICTL, "serve", "--listen"])
            .arg(free.to_string())
            .arg("--data")
            .arg(scratch.path())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(free).is_err() {
            assert_eq!(child.try_wait().unwrap(), None, "{output}");
            assert!(Instant::now() < until, "{output}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(status(&free.to_string(), "GET", "/v2/"), 200, "{output}");
        let sent = Command::new("kill").arg(child.id().to_string()).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{output}");
    }
    // A failure has its exit code all the same.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let failed =
        Command::new(OCICTL).args(["inspect", "oci:/does/not/exist"]).stderr(full).status();
    assert_eq!(failed.unwrap().code(), Some(3));
}

#[test]
fn lines_of_the_log_name_the_request_and_have_no_colors() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let mut server = Daemon::start(":", &data, &["--cache", "0"], Stdio::piped());
    let mut http = Http::connect(&server.host);
    let (blob, _) = http.push("a/b", &large());
    damage(&data);
    http.ask("GET", &blob, b"");
    let line = line_with(&mut server.stderr(), "ERROR");
    for part in [&*format!("request=GET {blob} from 127.0.0.1:"), "No such file"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains('\u{1b}'), "{line:?}");
}
