//! A look at whether a port speaks TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest time that a probe takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The types of a TLS record with which a server can begin: an alert, and a handshake (RFC 8446,
/// section 5.1).
const FIRST_RECORDS: [u8; 2] = [21, 22];

/// Begins a handshake and returns whether the other side goes on with it, or refuses it as TLS
/// does. Nothing is verified, and nothing but the beginning of a handshake is sent.
pub(crate) async fn speaks_tls(host: &str, port: u16) -> bool {
    let answer = tokio::time::timeout(PATIENCE, begin(host, port)).await;
    matches!(answer, Ok(Some([kind, 3, _])) if FIRST_RECORDS.contains(&kind))
}

async fn begin(host: &str, port: u16) -> Option<[u8; 3]> {
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut stream = TcpStream::connect((name.as_str(), port)).await.ok()?;
    stream.write_all(&client_hello(name)?).await.ok()?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer)
}

fn client_hello(name: String) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    Some(hello)
}
