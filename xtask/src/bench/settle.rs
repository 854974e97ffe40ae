//! Brings the machine into the same state before each turn, so that nobody pays for what was done before.

use std::fs;
use std::hint::black_box;

use crate::process::Result;

/// What is left of free memory, in bytes: 512 MiB.
const RESERVE: u64 = 512 << 20;

/// How many bytes are asked for at a time.
const PIECE: u64 = 256 << 20;

/// How many bytes a page has at least.
const PAGE: usize = 4096;

/// Waits until the disk has all that was written before, which else is written while the next one is measured.
pub(crate) fn disk() {
    rustix::fs::sync();
}

/// Writes to each page of free memory once, and gives it back.
///
/// A hypervisor may take back what a machine has free and give it again when it is first written to. That takes ten
/// times as long as writing to it again, and whoever writes new files first would pay for all.
pub(crate) fn memory() -> Result {
    let text = fs::read_to_string("/proc/meminfo")
        .map_err(|error| format!("--touch-memory: /proc/meminfo: {error}"))?;
    let free = free(&text).ok_or("--touch-memory: /proc/meminfo does not say what is free")?;
    let mut left = free.saturating_sub(RESERVE);
    let mut taken = Vec::new();
    while left > 0 {
        // At most `PIECE`.
        let mut piece = vec![0u8; left.min(PIECE) as usize];
        piece.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        left -= piece.len() as u64;
        taken.push(black_box(piece));
    }
    Ok(())
}

/// How many bytes are free.
fn free(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"))?;
    Some(value.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_free_is_read() {
        let text = "MemTotal:  24000 kB\nMemFree:     8123 kB\nMemAvailable:  22000 kB\n";
        assert_eq!(super::free(text), Some(8123 << 10));
        assert_eq!(super::free("MemTotal: 1 kB\n"), None);
    }
}
