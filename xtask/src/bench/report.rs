//! The figures as a table and as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bench::aims::Figures;
use crate::bench::load::Measured;
use crate::bench::target::Target;
use crate::process::Result;

/// One scenario on one target.
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) target: String,
    operations: usize,
    pub(crate) per_second: f64,
    /// How many entries an operation gave, where it is a list; else one.
    pub(crate) entries: usize,
    pub(crate) megabytes_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// The server's processor time for an operation.
    pub(crate) cpu_us: Option<f64>,
    /// The most anonymous memory that the server had meanwhile; 0 where its process is not known.
    pub(crate) anonymous_mib: f64,
}

/// What a server used in a scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu: Option<Duration>,
    /// In bytes.
    pub(crate) anonymous: u64,
}

impl Row {
    pub(crate) fn new(
        scenario: &'static str,
        target: &Target,
        entries: usize,
        measured: &Measured,
        used: Used,
    ) -> Self {
        let operations = measured.latencies.len();
        let seconds = measured.elapsed.as_secs_f64();
        let micros = |hundredths| measured.percentile(hundredths).as_secs_f64() * 1e6;
        Self {
            scenario,
            target: target.name.clone(),
            operations,
            per_second: operations as f64 / seconds,
            entries,
            megabytes_per_second: measured.bytes as f64 / seconds / 1e6,
            p50_us: micros(50),
            p99_us: micros(99),
            cpu_us: used.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / operations.max(1) as f64),
            anonymous_mib: used.anonymous as f64 / f64::from(1 << 20),
        }
    }

    #[cfg(test)]
    pub(crate) fn made_up(scenario: &'static str, target: &str, per_second: f64) -> Self {
        Self {
            scenario,
            target: target.to_owned(),
            operations: 1,
            per_second,
            entries: 1,
            megabytes_per_second: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            cpu_us: None,
            anonymous_mib: 1.0,
        }
    }

    /// One line, as soon as it is known.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}: {:.0}/s", self.scenario, self.target, self.per_second)
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "target": self.target,
            "operations": self.operations,
            "per_second": self.per_second,
            "entries": self.entries,
            "megabytes_per_second": self.megabytes_per_second,
            "p50_microseconds": self.p50_us,
            "p99_microseconds": self.p99_us,
            "server_cpu_microseconds": self.cpu_us,
            "server_anonymous_mib": self.anonymous_mib,
        })
    }
}

/// The table, in Markdown. `of ours` is each rate as a part of ours in the same scenario.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| scenario | target | /s | of ours | MB/s | p50 µs | p99 µs | CPU µs/op | anonymous MiB |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let ours = rows.iter().find(|other| other.scenario == row.scenario);
        let ratio = ours.map_or(f64::NAN, |ours| row.per_second / ours.per_second);
        let optional =
            |value: Option<f64>| value.map_or_else(|| "?".into(), |value| format!("{value:.0}"));
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {ratio:.2} | {:.0} | {:.0} | {:.0} | {} | {:.0} |",
            row.scenario,
            row.target,
            row.per_second,
            row.megabytes_per_second,
            row.p50_us,
            row.p99_us,
            optional(row.cpu_us),
            row.anonymous_mib,
        );
    }
    text
}

pub(crate) fn write_json(path: &Path, figures: &Figures<'_>) -> Result {
    let rows: Vec<Value> = figures.rows.iter().map(Row::json).collect();
    let document = json!({ "rows": rows, "aims": figures.json() });
    let failed = |error: &dyn std::fmt::Display| format!("writing {}: {error}", path.display());
    let text = serde_json::to_vec_pretty(&document).map_err(|error| failed(&error))?;
    std::fs::write(path, text).map_err(|error| failed(&error))
}
