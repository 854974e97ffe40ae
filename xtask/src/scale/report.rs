//! The findings, as tables whose columns are sizes, and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Result;
use crate::scale::aims;
use crate::scale::measure::Figures;
use crate::scale::size::Run;

/// All tables, in Markdown: some for each database.
pub(crate) fn tables(runs: &[Run]) -> String {
    let mut text = String::new();
    for runs in runs.chunk_by(|one, other| one.engine == other.engine) {
        let Some(first) = runs.first() else { continue };
        let _ = writeln!(text, "\n### {}", first.engine);
        let shared = first.figures.iter().any(|figures| figures.used.database.is_some());
        text.push_str(match shared {
            true => "Latency in the middle (99 of 100) / processor time of the server + of the database, µs:\n",
            false => "Latency in the middle (99 of 100) / processor time of the server, µs:\n",
        });
        operations(&mut text, runs, times);
        text.push_str(match shared {
            true => "\nPages touched / statements / bytes of log, for one operation:\n",
            false => "\nReads of files by the server, for one operation:\n",
        });
        operations(&mut text, runs, work);
        text.push_str("\nUpkeep, and the rest:\n");
        upkeep(&mut text, runs);
    }
    text.push_str("\n### What is aimed at\n");
    text.push_str(&aims::table(runs));
    text
}

fn head(text: &mut String, first: &str, runs: &[Run]) {
    let sizes: Vec<String> = runs.iter().map(|run| grouped(run.shape.manifests)).collect();
    let _ = writeln!(text, "\n| {first} | {} |", sizes.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(runs.len()));
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1000),
    }
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

fn operations(text: &mut String, runs: &[Run], cell: fn(&Figures) -> String) {
    head(text, "operation", runs);
    let Some(first) = runs.first() else { return };
    for (place, figures) in first.figures.iter().enumerate() {
        row(text, figures.name, runs.iter().map(|run| cell(&run.figures[place])));
    }
}

fn times(figures: &Figures) -> String {
    let Figures { p50, p99, used, .. } = figures;
    let database = used.database.map(|database| format!(" + {:.0}", database.cpu_us));
    format!(
        "{} ({}) / {:.0}{}",
        p50.as_micros(),
        p99.as_micros(),
        used.server_us,
        database.unwrap_or_default()
    )
}

fn work(figures: &Figures) -> String {
    match figures.used.database {
        None => format!("{:.1}", figures.used.reads),
        Some(database) => match database.counted {
            Some(counted) => format!(
                "{:.1} / {:.1} / {:.0}",
                counted.pages, counted.statements, counted.log_bytes
            ),
            None => "?".to_owned(),
        },
    }
}

/// A line about upkeep: its name, and what it says of a run.
type Line = (&'static str, fn(&Run) -> String);

const UPKEEP: &[Line] = &[
    ("first answer after the start, ms", |run| milliseconds(run.first_answer)),
    ("size of the database, MB", |run| format!("{:.0}", run.size as f64 / 1e6)),
    ("anonymous memory of the server, before → after the operations, MiB", |run| {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!("{:.0} → {:.0}", mebibytes(run.memory.0), mebibytes(run.memory.1))
    }),
    ("fsck, rows a second", |run| {
        let rate = run.upkeep.checked_per_second;
        rate.map_or_else(|| "left out".to_owned(), |rate| format!("{rate:.0}"))
    }),
    ("gc --dry-run, ms", |run| milliseconds(run.upkeep.dry_run)),
    ("delete the subject of all referrers, ms", |run| milliseconds(run.upkeep.deletion)),
    ("the longest push to another repository meanwhile, ms", |run| {
        milliseconds(run.upkeep.longest_wait)
    }),
    ("gc beside 16 pushers, ms a manifest", |run| format!("{:.2}", run.upkeep.per_manifest())),
    ("manifests that were collected", |run| run.upkeep.collected.to_string()),
    ("pushes of images meanwhile: middle (99 of 100), ms", |run| {
        let Run { upkeep, .. } = run;
        format!("{} ({})", milliseconds(upkeep.push_p50), milliseconds(upkeep.push_p99))
    }),
];

fn upkeep(text: &mut String, runs: &[Run]) {
    head(text, "what", runs);
    for (name, cell) in UPKEEP {
        row(text, name, runs.iter().map(cell));
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

/// Writes all figures to a file.
pub(crate) fn write(path: &Path, runs: &[Run]) -> Result {
    let document =
        json!({ "runs": runs.iter().map(run_json).collect::<Vec<_>>(), "aims": aims::json(runs) });
    let failed = |error: &dyn std::fmt::Display| format!("writing {}: {error}", path.display());
    let text = serde_json::to_vec_pretty(&document).map_err(|error| failed(&error))?;
    std::fs::write(path, text).map_err(|error| failed(&error))
}

fn run_json(run: &Run) -> Value {
    let Run { upkeep, memory, .. } = run;
    json!({
        "database": run.engine,
        "manifests": run.shape.manifests,
        "operations": run.figures.iter().map(figures_json).collect::<Vec<_>>(),
        "first_answer_ms": ms(run.first_answer),
        "database_bytes": run.size,
        "memory_before": memory.0,
        "memory_after": memory.1,
        "fsck_rows_per_second": upkeep.checked_per_second,
        "gc_dry_run_ms": ms(upkeep.dry_run),
        "delete_subject_ms": ms(upkeep.deletion),
        "longest_push_meanwhile_ms": ms(upkeep.longest_wait),
        "gc_manifests": upkeep.collected,
        "gc_ms_per_manifest": upkeep.per_manifest(),
        "gc_pushes_meanwhile": upkeep.pushes,
        "gc_push_p50_ms": ms(upkeep.push_p50),
        "gc_push_p99_ms": ms(upkeep.push_p99),
    })
}

fn figures_json(figures: &Figures) -> Value {
    let database = figures.used.database;
    let counted = database.and_then(|database| database.counted);
    json!({
        "operation": figures.name,
        "count": figures.count,
        "p50_us": ms(figures.p50) * 1e3,
        "p99_us": ms(figures.p99) * 1e3,
        "server_cpu_us": figures.used.server_us,
        "server_reads": figures.used.reads,
        "database_cpu_us": database.map(|database| database.cpu_us),
        "pages": counted.map(|counted| counted.pages),
        "statements": counted.map(|counted| counted.statements),
        "log_bytes": counted.map(|counted| counted.log_bytes),
    })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_told_apart() {
        let cases = [(999, "999"), (1000, "1,000"), (1_020_003, "1,020,003")];
        for (number, shown) in cases {
            assert_eq!(super::grouped(number), shown);
        }
    }
}
