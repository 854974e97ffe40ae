//! Tar archives, read as `oci-archive:` and as `docker-archive:`.
//!
//! What is read has the digest by which it was asked for, and parts lie within the archive; layers
//! of a `docker-archive:` are unpacked on their way. The checksums of the tar headers are put right
//! first: nothing that libFuzzer makes up would have the right ones. The input as it came is also
//! read as a pipe gives it, compressed perhaps: no more is unpacked than is allowed.

use std::io::Write;
use std::sync::Arc;

use oci_ref::{DockerArchive, OciArchive, Result, Source, SpoolOptions};

use crate::reading::{MAX_ERROR, read_all};
use crate::support::{assert_fit_for_logs, block_on};

const BLOCK: usize = 512;
/// Where a header has its size and its checksum.
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Checks one input: an archive.
pub fn check(data: &[u8]) {
    let mut archive = data.to_vec();
    put_checksums_right(&mut archive);
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&archive).expect("the temporary file is written");
    block_on(async {
        let opened = OciArchive::open(file.path()).await;
        let done = match opened {
            Ok(archive) => read_oci(archive).await,
            Err(error) => Err(error),
        };
        for done in [done, read_docker(file.path()).await, read_piped(data).await] {
            if let Err(error) = done {
                assert_fit_for_logs(&error, MAX_ERROR);
            }
        }
    });
}

async fn read_piped(data: &[u8]) -> Result<()> {
    let options = SpoolOptions { limit: 1 << 20, ..SpoolOptions::default() };
    let piped = std::io::Cursor::new(data.to_vec());
    read_oci(OciArchive::read_from(piped, "-", options).await?).await
}

async fn read_oci(archive: OciArchive) -> Result<()> {
    let archive = Arc::new(archive);
    for entry in archive.entries().into_iter().take(16) {
        read_all(archive.clone(), &entry.descriptor.digest).await?;
    }
    archive.tags(None, 10).await?;
    Ok(())
}

async fn read_docker(path: &std::path::Path) -> Result<()> {
    let archive = Arc::new(DockerArchive::open(path).await?);
    for image in archive.images().into_iter().take(16) {
        read_all(archive.clone(), &image.descriptor.digest).await?;
    }
    archive.tags(None, 10).await?;
    Ok(())
}

/// Writes the checksum of each header that is found from the size of the one before.
fn put_checksums_right(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = archive.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        header[CHECKSUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[SIZE].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = digits.fold(0_usize, |size, digit| size * 8 + usize::from(digit - b'0'));
        at = at.saturating_add(BLOCK).saturating_add(size.next_multiple_of(BLOCK));
    }
}
