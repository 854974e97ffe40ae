//! What the checks share.

use std::cell::OnceCell;
use std::fmt::Display;
use std::future::Future;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Runs a future to its end, on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            Builder::new_current_thread().enable_all().build().expect("a runtime on this thread")
        });
        runtime.block_on(future)
    })
}

/// An error's text is for a log: on one line, and not longer than `limit` bytes, whatever was sent.
pub(crate) fn assert_fit_for_logs(error: &impl Display, limit: usize) {
    let text = error.to_string();
    assert!(text.len() <= limit, "{} bytes of error, at most {limit}: {text}", text.len());
    assert!(!text.contains(char::is_control), "control characters in an error: {text:?}");
}

/// The part before the first line feed, and the rest.
pub(crate) fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// What stands between the lines `---`, at most `limit` pieces.
pub(crate) fn pieces(data: &[u8], limit: usize) -> Vec<&[u8]> {
    const MARK: &[u8] = b"\n---\n";
    let mut pieces = Vec::new();
    let mut rest = data;
    while pieces.len() + 1 < limit
        && let Some(at) = rest.windows(MARK.len()).position(|window| window == MARK)
    {
        pieces.push(&rest[..at]);
        rest = &rest[at + MARK.len()..];
    }
    pieces.push(rest);
    pieces
}
