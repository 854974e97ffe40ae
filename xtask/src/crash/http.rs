//! A connection that is kept open, to a server that may vanish at any moment.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::conformance::wire::{Reply, read_reply};

/// No answer takes longer, on a busy machine either. Recovering a large log may hold up the first.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A connection, which is opened when it is needed.
pub(super) struct Connection {
    host: String,
    open: Option<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>,
}

impl Connection {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), open: None }
    }

    /// The port of this end.
    pub(super) async fn port(&mut self) -> Result<u16, String> {
        self.open().await?;
        let (_, writer) = self.open.as_ref().ok_or("not connected")?;
        writer.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
    }

    async fn open(&mut self) -> Result<(), String> {
        if self.open.is_none() {
            let connect = TcpStream::connect(&self.host).await;
            let stream =
                connect.map_err(|error| format!("connecting to {}: {error}", self.host))?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (reader, writer) = stream.into_split();
            self.open = Some((BufReader::new(reader), writer));
        }
        Ok(())
    }

    /// Sends a request and reads the answer, which may come before all is sent, and must come within the limit. After an
    /// error the connection is gone.
    pub(super) async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: &[u8],
        limit: Duration,
    ) -> Result<Reply, String> {
        self.open().await?;
        let (mut reader, mut writer) = self.open.take().ok_or("not connected")?;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !matches!(method, "GET" | "HEAD") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        let exchange = async {
            let (mut sent, mut written) = (false, Ok(()));
            let reply = {
                let read = read_reply(&mut reader, method);
                let write = writer.write_all(&request);
                tokio::pin!(read, write);
                loop {
                    tokio::select! {
                        biased;
                        reply = &mut read => break reply,
                        result = &mut write, if !sent => (sent, written) = (true, result),
                    }
                }
            };
            let reply = match (reply, written) {
                (Err(_), Err(error)) => return Err(format!("sending: {error}")),
                (reply, _) => reply?,
            };
            let close = reply.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
            // A server that refuses a body may close without saying so.
            let refused = reply.status >= 400 && !body.is_empty();
            Ok((reply, sent && !close && !refused))
        };
        let (reply, keep) = tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs_f64())))
            .map_err(|error| format!("{method} {target}: {error}"))?;
        if keep {
            self.open = Some((reader, writer));
        }
        Ok(reply)
    }
}
