//! HTTP/1.1 as it is on the wire: one exchange over one connection.
//!
//! It is written here and not taken from a library, because a library would mend the odd requests that the checks send,
//! and would hide what is wrong in an answer.

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};

/// What comes after the head of a request.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Nothing, and no `Content-Length`.
    None,
    /// Bytes, with their `Content-Length`.
    Sized(Vec<u8>),
    /// Bytes in `Transfer-Encoding: chunked`.
    Streamed(Vec<u8>),
}

/// An answer as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// More than any answer that the checks ask for.
const BODY_LIMIT: u64 = 128 << 20;
const HEAD_LIMIT: u64 = 256 << 10;
const STREAM_PIECE: usize = 64 << 10;

impl Reply {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a header.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.headers.iter().filter(move |(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The bytes of a request. Headers that it carries already are not added again.
pub(super) fn encode(
    method: &str,
    target: &str,
    authority: &str,
    headers: &[(String, String)],
    body: &Body,
) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
    let mut out =
        format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n")
            .into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    match body {
        Body::None => out.extend_from_slice(b"\r\n"),
        Body::Sized(bytes) => {
            if !has("content-length") {
                out.extend_from_slice(format!("Content-Length: {}\r\n", bytes.len()).as_bytes());
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(bytes);
        }
        Body::Streamed(bytes) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in bytes.chunks(STREAM_PIECE) {
                out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
    out
}

/// Sends a request and reads the answer, which may come before all is sent.
pub(super) async fn exchange(
    stream: impl AsyncRead + AsyncWrite,
    request: &[u8],
    method: &str,
) -> Result<Reply, String> {
    let (reader, mut writer) = tokio::io::split(stream);
    let write = async move {
        // A registry that refuses a body early may close its side: what it said can be read all the same.
        let _ = writer.write_all(request).await;
        let _ = writer.flush().await;
        writer
    };
    let read = read_reply(BufReader::new(reader), method);
    tokio::pin!(write, read);
    tokio::select! {
        reply = &mut read => reply,
        _open = &mut write => read.await,
    }
}

/// Reads the answer to a request with the given method; those before it (1xx) are skipped.
pub(crate) async fn read_reply(
    mut reader: impl AsyncBufRead + Unpin,
    method: &str,
) -> Result<Reply, String> {
    loop {
        let mut reply = read_head(&mut reader).await?;
        if (100..200).contains(&reply.status) {
            continue;
        }
        let body = read_body(&mut reader, &reply, method).await;
        reply.body = body.map_err(|error| format!("status {}, but {error}", reply.status))?;
        return Ok(reply);
    }
}

async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<String, String> {
    let mut line = Vec::new();
    let mut limited = reader.take(HEAD_LIMIT);
    let read = limited.read_until(b'\n', &mut line).await;
    read.map_err(|error| format!("reading the answer: {error}"))?;
    if line.pop() != Some(b'\n') {
        return Err("the connection ended in the head of the answer".to_owned());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn read_head(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, String> {
    let line = read_line(reader).await?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| format!("not an HTTP/1 status line: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("not a header: {line:?}"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
        if headers.len() > 1000 {
            return Err("more than 1000 headers".to_owned());
        }
    }
    Ok(Reply { status, headers, body: Vec::new() })
}

async fn read_body(
    reader: &mut (impl AsyncBufRead + Unpin),
    reply: &Reply,
    method: &str,
) -> Result<Vec<u8>, String> {
    if method == "HEAD" || matches!(reply.status, 204 | 304) {
        return Ok(Vec::new());
    }
    let streamed =
        reply.all("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
    if streamed {
        return read_chunks(reader).await;
    }
    let Some(length) = reply.header("content-length") else {
        let mut body = Vec::new();
        let read = reader.take(BODY_LIMIT).read_to_end(&mut body).await;
        return match read {
            // TLS peers often leave without saying goodbye.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Err(format!("reading the body: {error}"))
            }
            _ => Ok(body),
        };
    };
    let length =
        length.parse().map_err(|_| format!("Content-Length {length:?} is not a number"))?;
    let mut body = Vec::new();
    read_exactly(reader, length, &mut body).await?;
    Ok(body)
}

async fn read_exactly(
    reader: &mut (impl AsyncBufRead + Unpin),
    length: u64,
    body: &mut Vec<u8>,
) -> Result<(), String> {
    if length.saturating_add(body.len() as u64) > BODY_LIMIT {
        return Err(format!("a body of more than {BODY_LIMIT} bytes"));
    }
    let read = reader.take(length).read_to_end(body).await;
    let read = read.map_err(|error| format!("reading the body: {error}"))?;
    if read as u64 != length {
        return Err(format!("the body ended after {read} of {length} bytes"));
    }
    Ok(())
}

async fn read_chunks(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader).await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            u64::from_str_radix(size, 16).map_err(|_| format!("not a chunk size: {line:?}"))?;
        if size == 0 {
            break;
        }
        read_exactly(reader, size, &mut body).await?;
        read_line(reader).await?;
    }
    while !read_line(reader).await?.is_empty() {}
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], method: &str) -> Result<Reply, String> {
        read_reply(bytes, method).await
    }

    #[tokio::test]
    async fn answers_are_read_by_length_by_chunks_and_to_the_end() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: t\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ] {
            let reply = read(bytes.as_bytes(), "GET").await.expect("an answer");
            assert_eq!((reply.status, reply.body.as_slice()), (200, &b"hello"[..]), "{bytes}");
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_no_http_is_an_error() {
        for bytes in [
            "",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ] {
            assert!(read(bytes.as_bytes(), "GET").await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_to_head_has_a_length_and_no_body() {
        let reply =
            read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD").await.expect("an answer");
        assert_eq!(reply.header("content-length"), Some("5"));
        assert!(reply.body.is_empty());
    }

    #[test]
    fn requests_go_out_as_they_are_given() {
        let headers = [("Content-Length".to_owned(), "9".to_owned())];
        let bytes = encode("PUT", "/a%00", "h:1", &headers, &Body::Sized(b"ab".to_vec()));
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "PUT /a%00 HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\nContent-Length: 9\r\n\r\nab"
        );
        let bytes = encode("PATCH", "/", "h", &[], &Body::Streamed(b"ab".to_vec()));
        assert!(bytes.ends_with(b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"));
    }
}
