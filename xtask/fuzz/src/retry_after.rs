//! The client's reading of `Retry-After`, at several times.
//!
//! Digits are seconds whatever time it is; the later it is, the shorter is the wait for a date.

use http::header::RETRY_AFTER;
use oci_registry_client::fuzzing::retry_after;

use crate::headers::of_lines;

/// The beginning of 1970, of 2026 and of 9999, in seconds.
const TIMES: [i64; 3] = [0, 1_767_225_600, 253_370_764_800];

/// Checks one input.
pub fn check(data: &[u8]) {
    let headers = of_lines(RETRY_AFTER, data);
    let waits = TIMES.map(|now| retry_after(&headers, now));
    let Some(value) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        assert_eq!(waits, [None; 3]);
        return;
    };
    match value.trim().parse::<u64>() {
        Ok(seconds) if value.trim().bytes().all(|byte| byte.is_ascii_digit()) => {
            let all = [Some(seconds); 3];
            assert_eq!(waits.map(|wait| wait.map(|wait| wait.as_secs())), all, "{value}");
        }
        _ => {
            assert!(waits.iter().all(Option::is_some) || waits.iter().all(Option::is_none));
            assert!(waits.is_sorted_by(|earlier, later| earlier >= later), "{waits:?}");
        }
    }
}
