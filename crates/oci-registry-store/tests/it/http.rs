//! One HTTP request, byte for byte as it is written, and its answer, whole or not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The lines before the body.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// Asks without holding up who answers.
pub(crate) async fn ask(
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let [host, method, path, headers] = [host, method, path, headers].map(str::to_owned);
    let body = body.to_owned();
    let asked = move || ask_and_wait(&host, &method, &path, &headers, &body);
    tokio::task::spawn_blocking(asked).await.unwrap()
}

/// The same for those who are not in this process.
pub(crate) fn ask_and_wait(
    host: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It may be answered, and closed, before it is read.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: answer.split_off(end + 4) };
    if answer.header("transfer-encoding").is_some() {
        answer.body = unchunked(&answer.body);
    }
    answer
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|it| it == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 4 + length..];
    }
    whole
}
