//! What it takes at least to move the bytes of an image: a bare loop that hashes them, one that receives and writes them,
//! one that reads and sends them. Measured in the same run as the clients, on the same files and the same loopback.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec_types::Algorithm;
use rustix::time::{ClockId, clock_gettime};

use crate::process::Result;

/// How many bytes are moved at a time.
const CHUNK: usize = 256 << 10;

/// Processor time of the thread that does it, without what the other side of a connection uses.
#[derive(Clone, Copy)]
pub(crate) struct Floor {
    /// Hashing all bytes (sha256).
    pub(crate) hash: Duration,
    /// Receiving them over loopback and writing them to files.
    pub(crate) receive: Duration,
    /// Reading them from files and sending them over loopback.
    pub(crate) send: Duration,
}

impl Floor {
    /// Measures with these files; what is received goes to a directory, and from there.
    pub(crate) fn measure(files: &[PathBuf], scratch: &Path) -> Result<Self> {
        let measured = || -> io::Result<Self> {
            let (mut hash, mut receive, mut send) = Default::default();
            for (number, file) in files.iter().enumerate() {
                let size = fs::metadata(file)?.len();
                let bytes = fs::read(file)?;
                hash += timed(|| {
                    let mut hasher = Algorithm::Sha256.hasher();
                    bytes.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
                    std::hint::black_box(hasher.finish());
                    Ok(())
                })?;
                let to = scratch.join(format!("floor-{number}"));
                receive += with_peer(
                    move |mut stream| stream.write_all(&bytes),
                    |stream| copy(stream, &mut File::create(&to)?, size),
                )?;
                fs::remove_file(&to)?;
                send += with_peer(
                    move |mut stream| copy(&mut stream, &mut io::sink(), size),
                    |stream| copy(&mut File::open(file)?, stream, size),
                )?;
            }
            Ok(Self { hash, receive, send })
        };
        measured().map_err(|error| format!("measuring what moving the bytes takes: {error}"))
    }

    /// The least of each.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            hash: self.hash.min(other.hash),
            receive: self.receive.min(other.receive),
            send: self.send.min(other.send),
        }
    }
}

/// The processor time of one end of a connection, at whose other end a thread does something else.
fn with_peer(
    peer: impl FnOnce(TcpStream) -> io::Result<()> + Send,
    work: impl FnOnce(&mut TcpStream) -> io::Result<()>,
) -> io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(move || peer(listener.accept()?.0));
        let mut stream = TcpStream::connect(address)?;
        let took = timed(|| work(&mut stream))?;
        drop(stream);
        other.join().map_err(|_| io::Error::other("the other side panicked"))??;
        Ok(took)
    })
}

fn copy(from: &mut impl Read, to: &mut impl Write, size: u64) -> io::Result<()> {
    let (mut buffer, mut left) = (vec![0; CHUNK], size);
    while left > 0 {
        let wanted = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        let read = from.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

/// The processor time that this thread uses for some work.
fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let before = used()?;
    work()?;
    Ok(used()?.saturating_sub(before))
}

/// The processor time that this thread has used.
fn used() -> io::Result<Duration> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().map_err(|_| io::Error::other("the thread's clock is before its beginning"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_measured() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, vec![7; 3 << 20]).unwrap();
        let floor = Floor::measure(std::slice::from_ref(&file), scratch.path()).unwrap();
        assert!(floor.hash > Duration::ZERO && floor.receive > Duration::ZERO);
        assert!(floor.send > Duration::ZERO);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left behind");
        let least = floor.least(Floor { hash: Duration::ZERO, ..floor });
        assert_eq!((least.hash, least.send), (Duration::ZERO, floor.send));
    }
}
