//! Slow pulls of blobs that are deleted meanwhile, and whose bytes go before they are all read: what comes must be exact, or
//! break off.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::crash::client::{Client, Done, Failed};
use crate::crash::content::Blob;

/// More than the buffers of both ends and of the kernel between them take, in bytes.
const SIZE: usize = 12 << 20;
/// As little of it as possible is this side's.
const RECEIVE: u32 = 64 << 10;
pub(super) const REPOSITORY: &str = "pulled/slowly";

/// How pulls ended.
#[derive(Clone, Copy, Default)]
pub(super) struct Pulls {
    /// With all bytes, each right.
    pub(super) exact: usize,
    /// Earlier, with bytes that were right.
    pub(super) broken: usize,
}

/// Pulls one after the other until a server goes away, and tells when the first has ended. What it gives is what is wrong.
pub(super) async fn run(
    client: &mut Client,
    seed: u64,
    pause: Duration,
    pulls: &mut Pulls,
    first: &Notify,
) -> String {
    for number in 0.. {
        let pulled = pull(client, seed + number, pause, pulls).await;
        first.notify_one();
        match pulled {
            Ok(()) => {}
            Err(Failed::Wrong(error)) => return error,
            // Somebody else notices if it was not killed.
            Err(Failed::Lost(_)) => break,
        }
    }
    std::future::pending().await
}

/// Pushes a blob, and pulls it slowly: it is deleted after the first bytes, and the others are read after a pause.
async fn pull(client: &mut Client, seed: u64, pause: Duration, pulls: &mut Pulls) -> Done {
    let blob = Blob::noise(seed, SIZE);
    client.push_at_once(REPOSITORY, &blob).await?;
    let host = client.connections.last.clone();
    let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let lost = |error: std::io::Error| Failed::Lost(format!("GET {target}: {error}"));
    let mut stream = connect(&host).await.map_err(lost)?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer).await.map_err(lost)?;
    client.delete_blob(REPOSITORY, &blob.digest).await?;
    tokio::time::sleep(pause).await;
    let read = stream.read_to_end(&mut answer).await;
    match judge(&answer, &blob.bytes) {
        Ok(true) => pulls.exact += 1,
        Ok(false) => pulls.broken += 1,
        Err(what) => {
            let message = format!("GET {target}, deleted while it was pulled: {what}; {read:?}");
            return Err(Failed::Wrong(message));
        }
    }
    Ok(())
}

async fn connect(host: &str) -> std::io::Result<TcpStream> {
    let address = host.parse().map_err(std::io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE)?;
    socket.connect(address).await
}

/// Whether an answer has all of the bytes. It may have fewer, but never others.
fn judge(answer: &[u8], bytes: &[u8]) -> Result<bool, String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or("the answer has no head")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("expected 200: {head}"));
    }
    let length = format!("content-length: {}", bytes.len());
    if !head.lines().any(|line| line.eq_ignore_ascii_case(&length)) {
        return Err(format!("expected {length}: {head}"));
    }
    match bytes.starts_with(body) {
        true => Ok(body.len() == bytes.len()),
        false => {
            let same = body.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            Err(format!("{} bytes, of which those from {same} on are wrong", body.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_exact_or_breaks_off() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let judge = |body: &[u8]| judge(&[head, body].concat(), b"abc");
        assert_eq!(judge(b"abc"), Ok(true));
        assert_eq!(judge(b"a"), Ok(false));
        assert!(judge(b"ax").is_err());
        assert!(judge(b"abcd").is_err());
        assert!(super::judge(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"abc").is_err());
        assert!(super::judge(b"HTTP/1.1 404 Not Found\r\n\r\n", b"abc").is_err());
    }
}
