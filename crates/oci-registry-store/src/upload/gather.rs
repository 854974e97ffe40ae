//! What has arrived of an upload and waits to be written: gathered into large pieces, since each one costs a few switches
//! between threads. Copied, so that many small pieces cannot hold on to many large buffers of connections.

use bytes::{Bytes, BytesMut};

use crate::buffers::{Buffer, Buffers, LARGE};

/// So many bytes take no buffer: uploads of them are many, and go into the database unless it is told otherwise.
const FEW: usize = 32 << 10;

/// Bytes in the order of their arrival.
pub(super) enum Gathered {
    /// In memory of their own.
    Few(BytesMut),
    /// The first so many bytes of a buffer.
    Many(Buffer, usize),
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self::Few(BytesMut::new())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(bytes) => bytes.len(),
            Self::Many(_, length) => *length,
        }
    }

    /// Takes over as much of some bytes as there is room for, and tells whether there is no more room.
    pub(super) fn fill(&mut self, from: &mut Bytes, buffers: &Buffers) -> bool {
        if let Self::Few(few) = self {
            if few.len() + from.len() <= FEW {
                few.extend_from_slice(from);
                from.clear();
                return false;
            }
            let mut buffer = buffers.take(LARGE as u64);
            // Every buffer has more room than that.
            buffer.room()[..few.len()].copy_from_slice(few);
            *self = Self::Many(buffer, few.len());
        }
        let Self::Many(buffer, length) = self else { return false };
        let room = &mut buffer.room()[*length..];
        let piece = from.split_to(from.len().min(room.len()));
        room[..piece.len()].copy_from_slice(&piece);
        let full = piece.len() == room.len();
        *length += piece.len();
        full
    }

    /// All of it, which is gone from here then.
    pub(super) fn take(&mut self) -> Bytes {
        match std::mem::replace(self, Self::new()) {
            Self::Few(bytes) => bytes.freeze(),
            Self::Many(buffer, length) => buffer.filled(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_whatever_they_are_gathered_in() {
        const SMALL: usize = 64 << 10;
        let content: Bytes = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
        for memory in [0, LARGE, 4 * LARGE] {
            for piece in [1000, FEW, FEW + 1, 100_000, 1_000_000] {
                let buffers = Buffers::new(memory, SMALL);
                let (mut gathered, mut got) = (Gathered::new(), Vec::new());
                for mut piece in content.chunks(piece).map(|piece| content.slice_ref(piece)) {
                    while !piece.is_empty() {
                        if gathered.fill(&mut piece, &buffers) {
                            let full = gathered.take();
                            assert!(full.len() == LARGE || full.len() == SMALL);
                            got.push(full);
                        }
                    }
                }
                got.push(gathered.take());
                assert_eq!(gathered.len(), 0);
                assert!(got.concat() == content, "{memory} {piece}");
            }
        }
    }

    #[test]
    fn few_bytes_take_no_buffer() {
        let buffers = Buffers::new(LARGE, LARGE);
        let mut gathered = Gathered::new();
        let mut bytes = Bytes::from(vec![1; FEW]);
        assert!(!gathered.fill(&mut bytes, &buffers));
        assert!(matches!(gathered, Gathered::Few(_)));
        assert_eq!(gathered.take().len(), FEW);
    }
}
