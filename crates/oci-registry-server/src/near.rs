//! Connections from the same machine.
//!
//! The system lets megabytes be on their way on each connection, as a peer far away needs them. One on the same machine takes them
//! at once, as soon as it has the processor, and the more there are, the fewer are still in the processor's caches when it does. With
//! them bounded, a blob of 64 MiB takes 5 to 30 % less processor time, on both sides (see `docs/performance.md`).

use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// How many bytes may be on their way to a peer on the same machine. Linux doubles it for what it needs itself, and takes no more than
/// 208 KiB unless it is told to. With half as much, the packets of 64 KiB that loopback has begin to wait for each other.
const ON_THE_WAY: usize = 192 << 10;

/// Bounds what is on its way to a peer, if it is on the same machine.
pub(crate) fn bound(stream: &TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    if is_near(local.ip(), peer.ip()) {
        // Where it cannot be set, all works without.
        let _ = SockRef::from(stream).set_send_buffer_size(ON_THE_WAY);
    }
}

fn is_near(local: IpAddr, peer: IpAddr) -> bool {
    let (local, peer) = (local.to_canonical(), peer.to_canonical());
    peer.is_loopback() || peer == local
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn near_is_who_has_an_address_of_this_machine() {
        let is_near = |local: &str, peer: &str| {
            is_near(local.parse().expect("an address"), peer.parse().expect("an address"))
        };
        assert!(is_near("127.0.0.1", "127.0.0.1"));
        assert!(is_near("::1", "::1"));
        assert!(is_near("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(is_near("192.0.2.1", "192.0.2.1"));
        assert!(!is_near("192.0.2.1", "192.0.2.2"));
        assert!(!is_near("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        assert!(!is_near("2001:db8::1", "2001:db8::2"));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_on_its_way_to_the_same_machine_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (_theirs, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (ours, peer) = ours.expect("a connection");
        let size = || SockRef::from(&ours).send_buffer_size().expect("a size");
        let before = size();
        bound(&ours, peer);
        assert_eq!(size(), 2 * ON_THE_WAY, "it was {before}");
        bound(&ours, "192.0.2.1:5000".parse().expect("an address"));
        assert_eq!(size(), 2 * ON_THE_WAY);
    }
}
