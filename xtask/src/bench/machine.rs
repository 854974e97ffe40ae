//! What the machine itself does, as the measure of a push: hashing, and writing to the same disk.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec_types::Digest;

use crate::bench::stats::Usage;
use crate::process::{Result, say};

/// How often each thing is done.
const ROUNDS: u32 = 8;

/// How many bytes are written at a time.
const PIECE: usize = 1 << 20;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Bytes a second that are written to a new file and synced, one file after the other.
    pub(crate) synced_per_second: f64,
    /// Processor time for hashing that content by sha256, and for writing and syncing it.
    pub(crate) hash_and_write: Duration,
}

impl Machine {
    /// Writes into a directory, and removes what it wrote.
    pub(crate) fn measure(scratch: &Path, content: &[u8]) -> Result<Self> {
        let place = scratch.join("written");
        let failed = |error| format!("writing into {}: {error}", place.display());
        fs::create_dir(&place).map_err(failed)?;
        let before = Usage::of(Some(std::process::id()));
        let mut writing = Duration::ZERO;
        for round in 0..ROUNDS {
            let begun = Instant::now();
            // Each stays, as a pushed blob does: what is removed leaves memory that is cheaper to write to again.
            let mut file = File::create(place.join(round.to_string())).map_err(failed)?;
            for piece in content.chunks(PIECE) {
                file.write_all(piece).map_err(failed)?;
            }
            file.sync_data().map_err(failed)?;
            writing += begun.elapsed();
            std::hint::black_box(Digest::sha256(content));
        }
        let after = Usage::of(Some(std::process::id()));
        fs::remove_dir_all(&place).map_err(failed)?;
        let machine = Self {
            synced_per_second: content.len() as f64 * f64::from(ROUNDS) / writing.as_secs_f64(),
            hash_and_write: after.cpu.saturating_sub(before.cpu) / ROUNDS,
        };
        say(&format!(
            "the machine: {:.0} MB/s written and synced; {} ms of processor time to hash and write {} MiB",
            machine.synced_per_second / 1e6,
            machine.hash_and_write.as_millis(),
            content.len() >> 20
        ));
        Ok(machine)
    }
}
