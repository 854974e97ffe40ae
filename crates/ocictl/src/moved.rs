//! The progress of the blobs of a copy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci_ref::CopyEvent;
use oci_spec_types::Digest;

/// The bytes of each blob that have moved, and those that it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved(Arc<Mutex<HashMap<Digest, (u64, u64)>>>);

impl Moved {
    /// Notes what a copy tells.
    pub(crate) fn note(&self, event: &CopyEvent<'_>) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            CopyEvent::Begun(blob) => {
                blobs.insert(blob.digest.clone(), (0, blob.size));
            }
            CopyEvent::Bytes(blob, count) => {
                if let Some((at, _)) = blobs.get_mut(&blob.digest) {
                    *at += count;
                }
            }
            CopyEvent::Retried(blob, offset) => {
                if let Some((at, _)) = blobs.get_mut(&blob.digest) {
                    *at = *offset;
                }
            }
            _ => {}
        }
    }

    /// Returns the bytes that have moved, and those of all blobs that have begun to.
    pub(crate) fn total(&self) -> (u64, u64) {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.values().fold((0, 0), |(at, of), (moved, size)| (at + moved, of + size))
    }
}

#[cfg(test)]
mod tests {
    use oci_spec_types::{Descriptor, MediaType};

    use super::*;

    #[test]
    fn what_is_read_again_counts_once() {
        let moved = Moved::default();
        let blob = Descriptor::of(MediaType::OCTET_STREAM, &[0; 100]);
        let other = Descriptor::of(MediaType::OCTET_STREAM, &[0; 10]);
        for event in [
            CopyEvent::Begun(&blob),
            CopyEvent::Bytes(&blob, 60),
            CopyEvent::Retried(&blob, 50),
            CopyEvent::Bytes(&blob, 20),
            CopyEvent::Begun(&other),
            CopyEvent::Bytes(&other, 10),
        ] {
            moved.note(&event);
        }
        assert_eq!(moved.total(), (80, 110));
    }
}
