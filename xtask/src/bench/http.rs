//! A keep-alive HTTP/1.1 connection that costs next to nothing, so that what is measured is the server.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Result;

/// A connection to a target.
pub(crate) struct Connection {
    host: String,
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// The body of the answer, where somebody wants it.
    kept: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// Bytes of the body.
    pub(crate) length: u64,
}

impl Connection {
    pub(crate) async fn open(host: &str) -> Result<Self> {
        let failed = |error| format!("connecting to {host}: {error}");
        let stream = TcpStream::connect(host).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self {
            host: host.to_owned(),
            stream,
            buffer: vec![0; 256 << 10],
            filled: 0,
            kept: None,
        })
    }

    /// Sends a request, and reads the answer to its end.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer> {
        self.send_parts(method, path, headers, [body, &[]]).await
    }

    /// Asks for a document, and reads it.
    pub(crate) async fn document(&mut self, path: &str) -> Result<Value> {
        self.kept = Some(Vec::new());
        let answer = self.send("GET", path, "", &[]).await;
        let body = self.kept.take().unwrap_or_default();
        let answer = answer?;
        if answer.status != 200 {
            return Err(format!("GET {path}: status {}, expected 200", answer.status));
        }
        serde_json::from_slice(&body).map_err(|error| format!("GET {path}: {error}"))
    }

    /// The same with a body in two parts.
    pub(crate) async fn send_parts(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: [&[u8]; 2],
    ) -> Result<Answer> {
        let length = match (method, body[0].len() + body[1].len()) {
            ("GET" | "HEAD", 0) => String::new(),
            (_, length) => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{length}{headers}\r\n", self.host);
        self.exchange(method, head.as_bytes(), body)
            .await
            .map_err(|error| format!("{method} {path}: {error}"))
    }

    /// The same with a request that was put together before.
    pub(crate) async fn exchange(
        &mut self,
        method: &str,
        head: &[u8],
        body: [&[u8]; 2],
    ) -> Result<Answer> {
        self.write(head, body).await.map_err(|error| format!("sending: {error}"))?;
        self.filled = 0;
        let (answer, start, chunked, close) = loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                let (answer, chunked, close) = parse_head(&self.buffer[..end])?;
                break (answer, end + 4, chunked, close);
            }
            if self.filled == self.buffer.len() {
                return Err("the head of the answer has no end".into());
            }
            self.fill().await?;
        };
        let mut answer = answer;
        if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            answer.length = 0;
        } else if chunked {
            answer.length = self.read_chunks(start).await?;
        } else {
            self.drain(start, answer.length).await?;
        }
        if close {
            *self = Self::open(&self.host.clone()).await?;
        }
        Ok(answer)
    }

    async fn write(&mut self, head: &[u8], [body, rest]: [&[u8]; 2]) -> std::io::Result<()> {
        if body.len() + rest.len() <= 16 << 10 && !body.is_empty() {
            return self.stream.write_all(&[head, body, rest].concat()).await;
        }
        self.stream.write_all(head).await?;
        self.stream.write_all(body).await?;
        self.stream.write_all(rest).await
    }

    async fn fill(&mut self) -> Result<usize> {
        let read = self.stream.read(&mut self.buffer[self.filled..]).await;
        match read.map_err(|error| format!("reading: {error}"))? {
            0 => Err("the connection was closed before the answer ended".into()),
            count => {
                self.filled += count;
                Ok(count)
            }
        }
    }

    async fn drain(&mut self, start: usize, length: u64) -> Result {
        self.keep(start, self.filled);
        let mut remaining = length.saturating_sub((self.filled - start) as u64);
        while remaining > 0 {
            self.filled = 0;
            remaining = remaining.saturating_sub(self.fill().await? as u64);
            self.keep(0, self.filled);
        }
        Ok(())
    }

    /// Reads a chunked body, which must fit into the buffer chunk by chunk.
    async fn read_chunks(&mut self, start: usize) -> Result<u64> {
        let mut at = start;
        let mut total = 0;
        loop {
            while find(&self.buffer[at..self.filled], b"\r\n").is_none() {
                self.make_room(&mut at)?;
                self.fill().await?;
            }
            let end = at + find(&self.buffer[at..self.filled], b"\r\n").unwrap_or(0);
            let size = std::str::from_utf8(&self.buffer[at..end])
                .ok()
                .and_then(|text| usize::from_str_radix(text.trim(), 16).ok())
                .ok_or("a chunk's size is no number")?;
            at = end + 2;
            let mut remaining = size + 2;
            loop {
                let here = remaining.min(self.filled - at);
                // Without the end of the line that follows a chunk.
                self.keep(at, at + here.min(remaining.saturating_sub(2)));
                at += here;
                remaining -= here;
                if remaining == 0 {
                    break;
                }
                self.make_room(&mut at)?;
                self.fill().await?;
            }
            total += size as u64;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    fn keep(&mut self, start: usize, end: usize) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.buffer[start..end]);
        }
    }

    fn make_room(&mut self, at: &mut usize) -> Result {
        self.buffer.copy_within(*at..self.filled, 0);
        self.filled -= *at;
        *at = 0;
        if self.filled == self.buffer.len() {
            return Err("a chunk's size has no end".into());
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(head: &[u8]) -> Result<(Answer, bool, bool)> {
    let text = std::str::from_utf8(head).map_err(|_| "the head of the answer is not text")?;
    let mut lines = text.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let mut answer =
        Answer { status: status.ok_or("the answer has no status")?, location: None, length: 0 };
    let (mut chunked, mut close) = (false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            answer.length = value.parse().map_err(|_| format!("content-length {value:?}"))?;
        } else if name.eq_ignore_ascii_case("location") {
            answer.location = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.eq_ignore_ascii_case("close");
        }
    }
    Ok((answer, chunked, close))
}
