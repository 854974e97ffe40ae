//! The signals that a server is sent.

use super::daemon::{Daemon, line_with};
use super::http::{Http, status};
use super::*;

/// A download that nobody reads would be waited for, for ten minutes.
#[test]
fn a_second_signal_ends_the_drain() {
    let limits = ["--grace", "600", "--idle-timeout", "600"];
    for name in ["TERM", "INT"] {
        let scratch = TempDir::new().unwrap();
        let mut server = Daemon::start(":", scratch.path(), &limits, Stdio::inherit());
        let mut http = Http::connect(&server.host);
        // More than what lies between the two.
        let (blob, pushed) = http.push("a/b", &vec![7; 32 << 20]);
        assert_eq!(pushed, 201);
        http.send("GET", &blob, 0, b"");
        assert_eq!(http.head().status, 200);
        server.signal(name);
        let line = line_with(&mut server.stdout, "ending: ");
        assert!(line.contains("10m") && line.contains("another signal"), "{line}");
        assert_eq!(server.child.try_wait().unwrap(), None);
        server.signal(name);
        line_with(&mut server.stdout, "ending at once");
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn a_hangup_ends_nothing() {
    let scratch = TempDir::new().unwrap();
    let mut server = Daemon::start(":", scratch.path(), &[], Stdio::piped());
    let mut stderr = server.stderr();
    for _ in 0..2 {
        server.signal("HUP");
        line_with(&mut stderr, "SIGHUP");
        assert_eq!(status(&server.host, "GET", "/v2/"), 200);
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
}
