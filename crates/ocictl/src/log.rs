//! The log, on standard error. A line that cannot be written is dropped and counted: a full disk,
//! or a reader that is gone, must never end a server.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variable that says what is logged.
const VARIABLE: &str = "OCICTL_LOG";

/// Begins to log what the environment asks for. If it does not say, that is warnings and errors, or
/// errors alone where the command line asks to be `quiet`.
pub(crate) fn start(quiet: bool) {
    let default = if quiet { "error" } else { "warn" };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colors(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()))
        // They would be printed to where nothing can be written.
        .log_internal_errors(false)
        .with_writer(Log::new(io::stderr))
        .init();
}

/// Tells whether lines are colored, by <https://no-color.org>.
fn colors(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    is_terminal && no_color.is_none_or(|value| value.is_empty())
}

/// The place where lines go, each by one call.
struct Log<M> {
    to: M,
    dropped: AtomicU64,
    /// True if the last line may have been written in part.
    broken: AtomicBool,
}

impl<M> Log<M> {
    fn new(to: M) -> Self {
        Self { to, dropped: AtomicU64::new(0), broken: AtomicBool::new(false) }
    }

    /// Writes a line, and before it how many there should have been since the last one.
    fn line<W: Write>(&self, mut to: W, line: &[u8]) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        let mut before = String::new();
        if self.broken.load(Ordering::Relaxed) {
            before.push('\n');
        }
        if dropped > 0 {
            let _ = writeln!(before, "{dropped} lines of the log could not be written");
        }
        let written = to.write_all(before.as_bytes()).and_then(|()| to.write_all(line));
        self.broken.store(written.is_err(), Ordering::Relaxed);
        if written.is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }
}

/// One line of a log.
struct Line<'a, M>(&'a Log<M>);

impl<'a, M, W> MakeWriter<'a> for Log<M>
where
    M: Fn() -> W + 'a,
    W: Write,
{
    type Writer = Line<'a, M>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

impl<M, W> Write for Line<'_, M>
where
    M: Fn() -> W,
    W: Write,
{
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line((self.0.to)(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A file on a disk that has room for so many bytes.
    struct Disk<'a>(&'a Mutex<(usize, String)>);

    impl Write for Disk<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, text) = &mut *self.0.lock().unwrap();
            let fits = bytes.len().min(*room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= fits;
            text.push_str(std::str::from_utf8(&bytes[..fits]).unwrap());
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told_later() {
        let disk = Mutex::new((8, String::new()));
        let log = Log::new(|| Disk(&disk));
        for line in ["one\n", "two three\n", "four\n"] {
            log.make_writer().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(disk.lock().unwrap().1, "one\ntwo ");
        disk.lock().unwrap().0 = 1000;
        log.make_writer().write_all(b"five\n").unwrap();
        log.make_writer().write_all(b"six\n").unwrap();
        assert_eq!(
            disk.lock().unwrap().1,
            "one\ntwo \n2 lines of the log could not be written\nfive\nsix\n"
        );
    }

    #[test]
    fn colors_are_for_terminals() {
        assert!(colors(true, None) && colors(true, Some("".as_ref())));
        assert!(!colors(true, Some("1".as_ref())) && !colors(false, None));
    }
}
