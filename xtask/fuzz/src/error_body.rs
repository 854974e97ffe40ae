//! The client's error of an answer: the first byte makes the status, the rest is the body.
//!
//! Its text is short and on one line whatever the registry said, and it knows what kind of error it is.

use oci_registry_client::fuzzing::answered;
use oci_spec_types::ErrorBody;

use crate::support::assert_fit_for_logs;

/// Eight entries of a code and a message, each of at most 2 KiB and an ellipsis, and what stands around them.
const MAX_ERROR: usize = 16 * ((2 << 10) + 8) + 256;

/// Checks one input.
pub fn check(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let status = 400 + u16::from(*first) % 200;
    let error = answered(status, body);
    assert_eq!(error.status(), Some(status));
    assert_fit_for_logs(&error, MAX_ERROR);
    let shown = error.body().unwrap_or_default();
    assert!(shown.len() <= (2 << 10) + '…'.len_utf8());
    assert!(error.body().is_none() || error.errors().is_empty());
    if let Ok(parsed) = serde_json::from_slice::<ErrorBody>(body) {
        assert_eq!(error.errors(), parsed.errors);
        if let Some(entry) = parsed.errors.first() {
            assert_eq!(error.code(), Some(&entry.code));
        }
        let written = serde_json::to_vec(&parsed).expect("an error body can be written");
        assert!(serde_json::from_slice::<ErrorBody>(&written).is_ok());
    }
    let general = oci_ref::Error::from(error);
    assert_fit_for_logs(&general, MAX_ERROR);
}
