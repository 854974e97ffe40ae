//! The client's reading of `Content-Range` and of an upload's `Range`: the first line is a value, the second another.
//!
//! A range lies within its size, and is read the same when it is written by the book.

use oci_registry_client::fuzzing::{content_range, unsatisfied_size, upload_offset};

use crate::support::first_line;

/// Checks one input.
pub fn check(data: &[u8]) {
    let (answer, upload) = first_line(data);
    if let Ok(value) = std::str::from_utf8(answer) {
        if let Some((range, size)) = content_range(value) {
            assert!(range.start < range.end, "{range:?} has no bytes");
            assert!(size.is_none_or(|size| range.end <= size), "{range:?} of {size:?}");
            let whole = size.map_or("*".to_owned(), |size| size.to_string());
            let written = format!("bytes {}-{}/{whole}", range.start, range.end - 1);
            assert_eq!(content_range(&written), Some((range, size)));
            assert_eq!(unsatisfied_size(value), None);
        }
        if let Some(size) = unsatisfied_size(value) {
            assert_eq!(unsatisfied_size(&format!("bytes */{size}")), Some(size));
        }
    }
    if let Ok(value) = std::str::from_utf8(upload) {
        for known in [0, 1, 1000, u64::MAX] {
            if let Some(offset) = upload_offset(value, known) {
                assert!(offset > 0 || known == 0);
                let written = format!("0-{}", offset.saturating_sub(1));
                assert_eq!(upload_offset(&written, known), Some(offset));
            }
        }
    }
}
