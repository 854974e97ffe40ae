//! Two servers on one PostgreSQL database and one directory of objects, or one bucket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::postgres::{self, PASSWORD};
use crate::s3;
use crate::{OCICTL, Server, done, sample_layout};

/// Starts a server on a database, which is named in the environment.
fn start(data: &Path, url: &str) -> Server {
    let mut command = Command::new(OCICTL);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    Server::run(command.env("OCICTL_DATABASE", url))
}

/// Starting a server that must refuse to: its exit code, and what it said.
fn refused(data: &Path, url: &str) -> (Option<i32>, String) {
    let mut command = Command::new(OCICTL);
    command.args(["serve", "--listen", "127.0.0.1:0", "--database", url, "--data"]).arg(data);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains(PASSWORD), "{said}");
    (output.status.code(), said)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).1
    }
}

/// One request, with as much of its body as is given.
fn send(host: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn ask(host: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    let mut reader = BufReader::new(send(host, method, path, &headers, body));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    Answer { status, headers, body }
}

/// The path of a Location, whichever server gave it.
fn path_of(location: &str) -> String {
    match location.strip_prefix("http://") {
        Some(rest) => rest[rest.find('/').unwrap()..].to_owned(),
        None => location.to_owned(),
    }
}

#[test]
fn what_one_takes_the_other_gives_and_killing_one_loses_nothing() {
    if !postgres::is_there("what_one_takes_the_other_gives_and_killing_one_loses_nothing") {
        return;
    }
    let url = block_on(postgres::fresh_url());
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let layout = scratch.path().join("sample");
    let sample = sample_layout(&layout);
    let (one, two) = (start(&data, &url), start(&data, &url));
    let of = |server: &Server| format!("docker://{}/a/b:v1", server.host);
    done(&["copy", "--quiet", &format!("oci:{}:index", layout.display()), &of(&one)]);
    drop(one);
    let back = format!("oci:{}:index", scratch.path().join("back").display());
    let copied = done(&["copy", &of(&two), &back]);
    assert!(copied.starts_with(sample.index.digest.as_str()), "{copied}");
    drop(two);
    let one = start(&data, &url);
    assert!(done(&["inspect", &of(&one)]).contains(sample.index.digest.as_str()));
}

#[test]
fn an_upload_goes_on_where_its_server_was_killed() {
    if !postgres::is_there("an_upload_goes_on_where_its_server_was_killed") {
        return;
    }
    let url = block_on(postgres::fresh_url());
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = oci_spec_types::Digest::sha256(&bytes);
    let (one, two) = (start(&data, &url), start(&data, &url));
    let started = ask(&one.host, "POST", "/v2/a/b/blobs/uploads/", "", b"");
    assert_eq!(started.status, 202);
    let stream = "Content-Type: application/octet-stream\r\n";
    let patched =
        ask(&one.host, "PATCH", &path_of(started.header("location")), stream, &bytes[..1_000_000]);
    assert_eq!(patched.status, 202);
    let path = path_of(patched.header("location"));
    let rest = format!("{stream}Content-Range: 1000000-2999999\r\n");

    // It is killed while it takes the next chunk, of which it has a part already.
    let length = format!("{rest}Content-Length: 2000000\r\n");
    let cut = send(&one.host, "PATCH", &path, &length, &bytes[1_000_000..2_500_000]);
    let claimed = "SELECT count(*) FROM claim";
    while block_on(postgres::number(&url, claimed)) == 0 {
        std::thread::yield_now();
    }
    let busy = ask(&two.host, "PATCH", &path, &rest, &bytes[1_000_000..]);
    assert_eq!(busy.status, 416, "{}", String::from_utf8_lossy(&busy.body));
    assert_eq!(busy.header("range"), "0-999999");
    drop(one);
    drop(cut);
    // Its lease has a minute to run out, for which nobody waits here.
    let expire = "UPDATE replica SET until = now() - interval '1 day', lease = interval '-1 day'
                  WHERE id = (SELECT holder FROM claim)";
    block_on(postgres::execute(&url, expire));
    let status = ask(&two.host, "GET", &path, "", b"");
    assert_eq!((status.status, status.header("range")), (204, "0-999999"));
    let patched = ask(&two.host, "PATCH", &path, &rest, &bytes[1_000_000..]);
    assert_eq!(patched.status, 202, "{}", String::from_utf8_lossy(&patched.body));
    let end = format!("{}?digest={digest}", path_of(patched.header("location")));
    let put = ask(&two.host, "PUT", &end, "", b"");
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    let third = start(&data, &url);
    for server in [&two, &third] {
        let read = ask(&server.host, "GET", &format!("/v2/a/b/blobs/{digest}"), "", b"");
        assert_eq!(read.status, 200);
        assert!(read.body == bytes);
    }
}

/// Starts a server with a directory of its own, on a database and a bucket.
fn start_beside(data: &Path, url: &str, bucket: &s3::S3) -> Server {
    let mut command = Command::new(OCICTL);
    command.args(["serve", "--listen", "127.0.0.1:0", "--storage", "s3://bucket/some/prefix"]);
    command.arg("--data").arg(data).env("OCICTL_DATABASE", url);
    command.env("AWS_ENDPOINT", &bucket.endpoint).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", s3::KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET);
    Server::run(&mut command)
}

fn noise(seed: u32, length: u32) -> Vec<u8> {
    (seed..seed + length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Begins an upload of some bytes, and gives its path after so many of them.
fn begin(host: &str, bytes: &[u8]) -> String {
    let started = ask(host, "POST", "/v2/a/b/blobs/uploads/", "", b"");
    assert_eq!(started.status, 202);
    let stream = "Content-Type: application/octet-stream\r\n";
    let patched = ask(host, "PATCH", &path_of(started.header("location")), stream, bytes);
    assert_eq!(patched.status, 202, "{}", String::from_utf8_lossy(&patched.body));
    path_of(patched.header("location"))
}

/// Ends an upload with the rest of its bytes, and gives the path of the blob.
fn finish(host: &str, path: &str, bytes: &[u8], from: usize) -> String {
    let status = ask(host, "GET", path, "", b"");
    let range = format!("0-{}", from - 1);
    assert_eq!((status.status, status.header("range")), (204, range.as_str()));
    let digest = oci_spec_types::Digest::sha256(bytes);
    let put = ask(host, "PUT", &format!("{path}?digest={digest}"), "", &bytes[from..]);
    assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    format!("/v2/a/b/blobs/{digest}")
}

#[test]
fn replicas_that_share_a_bucket_and_nothing_else() {
    if !postgres::is_there("replicas_that_share_a_bucket_and_nothing_else") {
        return;
    }
    let url = block_on(postgres::fresh_url());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bucket = runtime.block_on(s3::S3::start());
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let (one, two) =
        (start_beside(&at("one"), &url, &bucket), start_beside(&at("two"), &url, &bucket));

    // Read at once, whichever took it. The last is sent in parts.
    let mut blobs = Vec::new();
    for (number, size) in [700, 50_000, 9 << 20].into_iter().enumerate() {
        let (to, from) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let bytes = noise(number as u32 * 77, size);
        let digest = oci_spec_types::Digest::sha256(&bytes);
        let push = format!("/v2/a/b/blobs/uploads/?digest={digest}");
        assert_eq!(ask(&to.host, "POST", &push, "", &bytes).status, 201);
        let path = format!("/v2/a/b/blobs/{digest}");
        let read = ask(&from.host, "GET", &path, "", b"");
        assert!(read.status == 200 && read.body == bytes, "{size} bytes");
        blobs.push((path, bytes));
    }
    // Begun on one, ended on the other; the second time when the one has been killed.
    let bytes = noise(1000, 7 << 20);
    let path = begin(&one.host, &bytes[..6 << 20]);
    blobs.push((finish(&two.host, &path, &bytes, 6 << 20), bytes));
    let (large, small) = (noise(2000, 7 << 20), noise(3000, 50_000));
    let paths = [begin(&one.host, &large[..6 << 20]), begin(&one.host, &small[..100])];
    drop(one);
    blobs.push((finish(&two.host, &paths[0], &large, 6 << 20), large));
    blobs.push((finish(&two.host, &paths[1], &small, 100), small));
    drop(two);

    let third = start_beside(&at("three"), &url, &bucket);
    for (path, bytes) in &blobs {
        let read = ask(&third.host, "GET", path, "", b"");
        assert!(read.status == 200 && read.body == *bytes, "{path}");
    }
}

#[test]
fn databases_that_cannot_be_used() {
    if !postgres::is_there("databases_that_cannot_be_used") {
        return;
    }
    let url = block_on(postgres::fresh_url());
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let (code, said) = refused(&data, &url.replace(PASSWORD, "a-wrong-one"));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("refuses the user or the password") && !said.contains("a-wrong-one"),
        "{said}"
    );
    let (code, said) = refused(&data, &url.replace("oci_test", "missing"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not exist") && said.contains("createdb"), "{said}");
    let (code, said) = refused(&data, &format!("postgres://me:{PASSWORD}@127.0.0.1:1/x"));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("cannot be reached"), "{said}");
    let (code, said) = refused(&data, &format!("postgres://me:{PASSWORD}@127.0.0.1:none/x"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--database"), "{said}");
    drop(start(&data, &url));
    block_on(postgres::execute(&url, "UPDATE oci_registry_schema SET version = 99"));
    let (code, said) = refused(&data, &url);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("schema version 99"), "{said}");
}

/// A stopped database makes requests fail as what may be tried again, and a started one makes them work.
#[test]
fn a_database_that_goes_away_and_comes_back() {
    if !postgres::is_there("a_database_that_goes_away_and_comes_back") {
        return;
    }
    let Some(server) = postgres::Server::start() else { return };
    block_on(postgres::create(&server.url("postgres"), "registry"));
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let one = start(&data, &server.url("registry"));
    let get = || ask(&one.host, "GET", "/v2/a/b/tags/list", "", b"");
    assert_eq!(get().status, 404);
    server.stop();
    let answer = get();
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    server.resume();
    assert_eq!(get().status, 404);
}
