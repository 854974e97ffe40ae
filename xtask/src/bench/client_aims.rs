//! What `ocictl copy` is to reach beside other people's clients, and whether it does.

use std::fmt::Write as _;
use std::time::Duration;

use super::clients::{FAR, Row, Task};

/// Wall time of reading, and of copying within a registry, as a part of the fastest other client's.
const WALL: f64 = 0.8;
/// Processor time as a part of what hashing and moving the bytes takes at least.
const CPU: f64 = 1.3;
/// Peak memory, in MiB.
const MEMORY: f64 = 32.0;
/// Round trips to a registry that is far away, besides the time of the same transfer nearby.
const TRIPS: f64 = 8.0;

/// A table in Markdown: each aim for each of our rows, and what was found.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from("\n| scenario | aim | found | |\n| --- | --- | ---: | --- |\n");
    for row in rows.iter().filter(|row| row.ours) {
        for (aim, found, reached) in aims(row, rows) {
            let reached = if reached { "reached" } else { "missed" };
            let _ = writeln!(text, "| {} | {aim} | {found} | {reached} |", row.name());
        }
    }
    text
}

fn aims(row: &Row, rows: &[Row]) -> Vec<(String, String, bool)> {
    let mut aims = Vec::new();
    let same = rows.iter().filter(|other| other.is_same(row) && !other.ours);
    let fastest = same.map(|other| other.wall).min();
    match (fastest, row.far, row.task) {
        (_, true, _) => {
            let near = rows.iter().find(|near| near.ours && near.is_same_nearby(row));
            if let Some(near) = near {
                let trips = row.wall.saturating_sub(near.wall).as_secs_f64() / FAR.as_secs_f64();
                let aim = format!("at most {TRIPS} round trips");
                aims.push((aim, format!("{trips:.1}"), trips <= TRIPS));
            }
        }
        (Some(fastest), false, Task::Push) => {
            let most = fastest + row.hash.unwrap_or_default();
            let aim = format!("wall: at most the fastest other's and hashing, {}", seconds(most));
            aims.push((aim, seconds(row.wall), row.wall <= most));
        }
        (Some(fastest), false, Task::Pull | Task::Copy) => {
            let part = row.wall.as_secs_f64() / fastest.as_secs_f64();
            let aim = format!("wall: at most {WALL} of the fastest other's");
            aims.push((aim, format!("{part:.2}"), part <= WALL));
        }
        (None, false, _) => {}
    }
    if let Some(least) = row.least {
        let part = row.used.cpu.as_secs_f64() / least.as_secs_f64();
        let aim = format!("processor time: at most {CPU} of hashing and moving");
        aims.push((aim, format!("{part:.2}"), part <= CPU));
    }
    let memory = row.used.peak_resident as f64 / f64::from(1 << 20);
    aims.push((format!("under {MEMORY} MiB"), format!("{memory:.0}"), memory < MEMORY));
    aims
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
