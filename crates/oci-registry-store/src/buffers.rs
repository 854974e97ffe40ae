//! Buffers for bytes on their way between connections and files, drawn from one budget and used again.
//!
//! For fresh memory, the system has to find and clear pages for each piece. And clients who are
//! slow must not make memory grow with their number, nor hold up those who are fast. So there is a fixed number of large
//! buffers, and whoever finds none left goes on in small pieces.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// How many bytes a buffer of a pool has.
pub(crate) const LARGE: usize = 256 << 10;

/// A fixed number of buffers, made when they are first needed.
#[derive(Clone)]
pub(crate) struct Buffers {
    state: Arc<Mutex<State>>,
    small: usize,
}

struct State {
    idle: Vec<Vec<u8>>,
    /// How many may still be made.
    unmade: usize,
}

impl Buffers {
    /// Buffers of about so many bytes in all, and of `small` bytes each where there is none left.
    pub(crate) fn new(bytes: usize, small: usize) -> Self {
        let state = State { idle: Vec::new(), unmade: bytes / LARGE };
        Self { state: Arc::new(Mutex::new(state)), small }
    }

    /// The same buffers, for somebody who does with so many bytes where there is none left.
    pub(crate) fn or(&self, small: usize) -> Self {
        Self { state: Arc::clone(&self.state), small }
    }

    /// A buffer to fill: a large one if there is one, and it is worth it.
    pub(crate) fn take(&self, wanted: u64) -> Buffer {
        if wanted > self.small as u64
            && let Some(bytes) = self.take_large()
        {
            return Buffer { bytes, home: Some(self.clone()) };
        }
        // At most `small`.
        Buffer { bytes: vec![0; wanted.min(self.small as u64) as usize], home: None }
    }

    fn take_large(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was used last is likely to be near the processor.
        if let Some(idle) = state.idle.pop() {
            return Some(idle);
        }
        state.unmade = state.unmade.checked_sub(1)?;
        drop(state);
        Some(vec![0; LARGE])
    }
}

/// A buffer, which goes back to where it came from when it is not needed any more.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Option<Buffers>,
}

impl Buffer {
    /// What can be filled.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Its first `length` bytes, for whoever reads them.
    pub(crate) fn filled(self, length: usize) -> Bytes {
        Bytes::from_owner(self).slice(..length)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let bytes = std::mem::take(&mut self.bytes);
            home.state.lock().unwrap_or_else(PoisonError::into_inner).idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 16 << 10;

    #[test]
    fn buffers_are_used_again_and_never_more_than_there_may_be() {
        let pool = Buffers::new(2 * LARGE, SMALL);
        let (mut one, mut two) = (pool.take(1 << 40), pool.take(LARGE as u64));
        assert_eq!((one.room().len(), two.room().len()), (LARGE, LARGE));
        assert_eq!(pool.take(1 << 40).room().len(), SMALL, "there is none left");
        one.room()[..3].copy_from_slice(b"abc");
        let read = one.filled(3);
        let part = read.slice(1..);
        drop(read);
        assert_eq!(pool.take(1 << 40).room().len(), SMALL, "a part of it is still in use");
        assert_eq!(part, b"bc".as_slice());
        drop(part);
        assert_eq!(pool.take(1 << 40).room().len(), LARGE);
        drop(two);
        assert_eq!(pool.state.lock().unwrap().idle.len(), 2);
    }

    #[test]
    fn those_who_share_buffers_share_their_number() {
        let one = Buffers::new(LARGE, SMALL);
        let other = one.or(2 * SMALL);
        let mut taken = one.take(1 << 40);
        assert_eq!(taken.room().len(), LARGE);
        assert_eq!(other.take(1 << 40).room().len(), 2 * SMALL);
        drop(taken);
        assert_eq!(other.take(1 << 40).room().len(), LARGE);
    }

    #[test]
    fn little_content_takes_little() {
        let pool = Buffers::new(LARGE, SMALL);
        assert_eq!(pool.take(100).room().len(), 100);
        assert_eq!(pool.take(SMALL as u64).room().len(), SMALL);
        assert!(pool.state.lock().unwrap().idle.is_empty());
        assert_eq!(Buffers::new(0, SMALL).take(1 << 20).room().len(), SMALL);
    }
}
