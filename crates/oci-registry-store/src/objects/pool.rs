//! Buffers for reading files, drawn from one budget and used again.
//!
//! Fresh memory for each read costs as much as the read: the system has to find and clear its pages. And readers who are
//! slow must not make memory grow with their number, nor hold up those who are fast. So there is a fixed number of large
//! buffers, and whoever finds none left reads in small pieces of his own.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// How many bytes a buffer of the pool has.
const LARGE: usize = 256 << 10;

/// How many bytes are read at a time without one.
const SMALL: usize = 16 << 10;

/// A fixed number of buffers, made when they are first needed.
#[derive(Clone)]
pub(super) struct Pool(Arc<Mutex<State>>);

struct State {
    idle: Vec<Vec<u8>>,
    /// How many may still be made.
    unmade: usize,
}

impl Pool {
    /// Buffers of about so many bytes in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(State { idle: Vec::new(), unmade: bytes / LARGE })))
    }

    /// A buffer to fill: a large one if there is one, and it is worth it.
    pub(super) fn take(&self, wanted: u64) -> Buffer {
        if wanted > SMALL as u64
            && let Some(bytes) = self.take_large()
        {
            return Buffer { bytes, pool: Some(self.clone()) };
        }
        // At most SMALL.
        Buffer { bytes: vec![0; wanted.min(SMALL as u64) as usize], pool: None }
    }

    fn take_large(&self) -> Option<Vec<u8>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = state.idle.pop() {
            return Some(idle);
        }
        state.unmade = state.unmade.checked_sub(1)?;
        drop(state);
        Some(vec![0; LARGE])
    }
}

/// A buffer, which goes back to its pool when it is not needed any more.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    pool: Option<Pool>,
}

impl Buffer {
    /// What can be filled.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Its first `length` bytes, for whoever reads them.
    pub(super) fn filled(self, length: usize) -> Bytes {
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
        if let Some(pool) = self.pool.take() {
            let bytes = std::mem::take(&mut self.bytes);
            pool.0.lock().unwrap_or_else(PoisonError::into_inner).idle.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_never_more_than_there_may_be() {
        let pool = Pool::new(2 * LARGE);
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
        assert_eq!(pool.0.lock().unwrap().idle.len(), 2);
    }

    #[test]
    fn little_content_takes_little() {
        let pool = Pool::new(LARGE);
        assert_eq!(pool.take(100).room().len(), 100);
        assert_eq!(pool.take(SMALL as u64).room().len(), SMALL);
        assert!(pool.0.lock().unwrap().idle.is_empty());
        assert_eq!(Pool::new(0).take(1 << 20).room().len(), SMALL);
    }
}
