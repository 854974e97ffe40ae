//! Standard output, whose reader may have gone.

use std::io::Write as _;

use crate::failure::Failure;

/// Prints bytes. That nobody reads them any more, as after `head`, is no failure.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::new("writing the output").because(error)),
    }
}
