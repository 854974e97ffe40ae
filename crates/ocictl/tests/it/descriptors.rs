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
        // The first one has made room for those that came later.
        http = Http::connect(&server.host);
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

/// Lets a process open no more files than it has, or as many as it may.
#[cfg(target_os = "linux")]
fn limit(id: u32, more: bool) {
    use rustix::process::{Pid, Resource, getrlimit, prlimit};

    let open = |number: u64| std::path::Path::new(&format!("/proc/{id}/fd/{number}")).exists();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = if more { limit.maximum } else { (0..).find(|number| !open(*number)) };
    let id = Pid::from_raw(id.try_into().unwrap());
    prlimit(id, Resource::Nofile, limit).unwrap();
}

// zot#359: others on the system, or what nobody thought of, can take them all the same.
#[cfg(target_os = "linux")]
#[test]
fn without_descriptors_clients_are_told_to_come_back() {
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    let mut server = Daemon::start(":", &data, &["--cache", "0"], Stdio::piped());
    let mut stderr = server.stderr();
    let mut http = Http::connect(&server.host);
    let (blob, pushed) = http.push("a/b", &large());
    assert_eq!(pushed, 201);
    let mut other = large();
    other[0] ^= 1;

    limit(server.child.id(), false);
    let answer = http.ask("GET", &blob, b"");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(http.push("a/c", &other).1, 503);
    let mut waiting = Http::connect(&server.host);
    waiting.send("GET", "/v2/", 0, b"");
    line_with(&mut stderr, "no connection can be accepted");
    // It is tried again some times meanwhile.
    std::thread::sleep(std::time::Duration::from_millis(500));

    limit(server.child.id(), true);
    assert_eq!(waiting.answer("GET").status, 200);
    assert_eq!(http.ask("GET", &blob, b"").status, 200);
    assert_eq!(Http::connect(&server.host).push("a/c", &other).1, 201);
    drop(server);
    let rest = stderr.lines().map(Result::unwrap);
    assert_eq!(rest.filter(|line| line.contains("no connection can be accepted")).count(), 0);
}
