//! A server's limit of open files.

use super::daemon::{Daemon, large, line_with};
use super::http::Http;
use super::*;

// zot#359: idle connections of one client take all descriptors.
#[test]
fn idle_connections_leave_descriptors_for_files() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let mut server = Daemon::start("ulimit -n 128", &data, &["--cache", "0"], Stdio::piped());
    line_with(&mut server.stderr(), "at most 16 connections at a time");
    let mut http = Http::connect(&server.host);
    let (blob, pushed) = http.push("a/b", &large());
    assert_eq!(pushed, 201);
    let idle: Vec<_> =
        (0..140).map(|_| std::net::TcpStream::connect(&server.host).unwrap()).collect();
    for number in 0..20 {
        assert_eq!(http.ask("GET", &blob, b"").body, large());
        let mut other = large();
        other[0] ^= number;
        assert_eq!(http.push("a/c", &other).1, 201);
    }
    drop(idle);
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_of_open_files_is_raised() {
    let scratch = TempDir::new().unwrap();
    let server =
        Daemon::start("ulimit -Sn 64; ulimit -Hn 300", scratch.path(), &[], Stdio::inherit());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["300", "300"], "{line}");
}
