//! Random bytes from the operating system.

use oci_ref::{Error, ErrorKind, Result};

/// As many random bytes as asked for, fit for secrets.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Io, "the operating system gives no random bytes").with_source(error)
    })?;
    Ok(bytes)
}
