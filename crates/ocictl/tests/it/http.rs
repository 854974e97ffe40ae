//! Requests by hand, where the tool would do more than one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A connection to a server.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

/// The answer of a server.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header. Its name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Http {
    pub(crate) fn connect(host: &str) -> Self {
        let stream = TcpStream::connect(host).unwrap();
        Self { stream: BufReader::new(stream), host: host.to_owned() }
    }

    /// Sends the head of a request, and whatever is to come of its body.
    pub(crate) fn send(&mut self, method: &str, path: &str, length: usize, body: &[u8]) {
        let host = &self.host;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        // A server that refuses a body need not read it.
        let _ = self.stream.get_mut().write_all(&[head.as_bytes(), body].concat());
    }

    /// The answer to what was sent.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head();
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// The answer to what was sent, without its body, which stays unread.
    pub(crate) fn head(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "no answer, only {head:?}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new() }
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.send(method, path, body.len(), body);
        self.answer(method)
    }

    /// Begins an upload, and gives where it goes on.
    pub(crate) fn begin(&mut self, repository: &str) -> String {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), b"");
        assert_eq!(begun.status, 202);
        begun.header("location").unwrap().to_owned()
    }

    /// Pushes a blob in two requests, and gives its path and the status.
    pub(crate) fn push(&mut self, repository: &str, bytes: &[u8]) -> (String, u16) {
        let digest = oci_spec_types::Digest::sha256(bytes);
        let to = format!("{}?digest={digest}", self.begin(repository));
        let status = self.ask("PUT", &to, bytes).status;
        (format!("/v2/{repository}/blobs/{digest}"), status)
    }
}

/// The status of one request on a connection of its own.
pub(crate) fn status(host: &str, method: &str, path: &str) -> u16 {
    Http::connect(host).ask(method, path, b"").status
}
