//! A body of up to some megabytes, as it comes.
//!
//! It is copied: the chunks of a connection share its buffer, which is larger, and whoever keeps
//! one keeps all of it. And it is kept in parts, so that nothing large is allocated, or moved as it
//! grows, for a body that may never come to its end.

use std::mem;

use bytes::Bytes;

/// The most bytes of a part: 64 KiB.
const PART: usize = 64 << 10;

/// The bytes that have come.
#[derive(Default)]
pub(crate) struct Gathered {
    /// Those of [`PART`] bytes.
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Gathered {
    /// Adds the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PART - self.last.len();
            if room == 0 {
                self.full.push(mem::replace(&mut self.last, Vec::with_capacity(PART)));
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.full.len() * PART + self.last.len()
    }

    /// All bytes in one. Each part goes as it is copied.
    pub(crate) fn join(mut self) -> Bytes {
        if self.full.is_empty() {
            self.last.shrink_to_fit();
            return self.last.into();
        }
        let mut whole = Vec::with_capacity(self.len());
        for part in self.full.into_iter().chain([self.last]) {
            whole.extend_from_slice(&part);
        }
        whole.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_any_pieces_is_whole_in_the_end_and_in_small_parts_before() {
        let whole: Vec<u8> = (0..3 * PART + 5).map(|number| (number % 251) as u8).collect();
        for length in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 5] {
            for piece in [7, PART - 1, PART, PART + 1, whole.len()] {
                let mut gathered = Gathered::default();
                whole[..length].chunks(piece).for_each(|piece| gathered.push(piece));
                assert_eq!(gathered.len(), length);
                assert!(gathered.full.iter().all(|part| part.len() == PART));
                assert!(gathered.full.iter().skip(1).all(|part| part.capacity() == PART));
                assert!(gathered.join() == whole[..length], "{length} bytes in {piece}");
            }
        }
    }
}
