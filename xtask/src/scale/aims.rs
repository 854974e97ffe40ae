//! The aims, and the ones that were reached: the largest size beside the smallest, on each
//! database.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::scale::measure::Figures;
use crate::scale::size::Run;

/// Pages that an operation touches may grow by so much.
const PAGES: f64 = 1.5;

/// Its latency may grow by so much.
const LATENCY: f64 = 3.0;

/// A collection takes so many milliseconds a manifest at most.
const COLLECTION: f64 = 0.5;

/// A check looks at so many rows a second at least.
const CHECK: f64 = 20_000.0;

/// An aim on one database.
struct Judged {
    what: String,
    bound: String,
    /// The value that was found; `None` if it was not measured.
    found: Option<f64>,
    reached: bool,
    /// The operations that missed it.
    missed: Vec<String>,
    /// The operations that cost so much more at the smaller size, as one whose statements are
    /// planned otherwise there.
    fell: Vec<String>,
}

fn judge(runs: &[Run]) -> Vec<Judged> {
    let mut all = Vec::new();
    for ends in runs.chunk_by(|one, other| one.engine == other.engine) {
        let [smallest, .., largest] = ends else {
            // One size alone does not grow.
            all.extend(ends.first().into_iter().flat_map(alone));
            continue;
        };
        let pages = |figures: &Figures| Some(figures.used.database?.counted?.pages);
        if smallest.figures.iter().any(|figures| figures.used.database.is_some()) {
            all.push(growth("pages touched", PAGES, (smallest, largest), pages));
        }
        let latency = |figures: &Figures| Some(figures.p50.as_secs_f64());
        all.push(growth("latency", LATENCY, (smallest, largest), latency));
        // Steadier, where other programs use the machine.
        let processor = |figures: &Figures| {
            let database = figures.used.database.map_or(0.0, |database| database.cpu_us);
            Some(figures.used.server_us + database)
        };
        all.push(growth("processor time", LATENCY, (smallest, largest), processor));
        all.extend(alone(largest));
    }
    all
}

fn growth(
    what: &str,
    bound: f64,
    (smallest, largest): (&Run, &Run),
    of: impl Fn(&Figures) -> Option<f64>,
) -> Judged {
    let (mut most, mut missed, mut fell) = (None, Vec::new(), Vec::new());
    for (one, other) in smallest.figures.iter().zip(&largest.figures) {
        let Some(ratio) = of(one).zip(of(other)).map(|(one, other)| other / one) else { continue };
        most = Some(most.map_or(ratio, |most: f64| most.max(ratio)));
        if ratio > bound {
            missed.push(format!("{}: {ratio:.1}", other.name));
        }
        if ratio < 1.0 / bound {
            fell.push(format!("{}: {ratio:.2}", other.name));
        }
    }
    Judged {
        what: format!(
            "{}: {what}, {} beside {}, the most",
            largest.engine, largest.shape.manifests, smallest.shape.manifests
        ),
        bound: format!("at most {bound} ×"),
        found: most,
        reached: missed.is_empty(),
        missed,
        fell,
    }
}

/// Judges the aims that hold whatever the size.
fn alone(run: &Run) -> Vec<Judged> {
    let collection = run.upkeep.per_manifest();
    let check = run.upkeep.checked_per_second;
    let name = |what: &str| format!("{}, {}: {what}", run.engine, run.shape.manifests);
    vec![
        Judged {
            what: name("gc beside 16 pushers, ms a manifest"),
            bound: format!("at most {COLLECTION}"),
            found: Some(collection),
            reached: collection <= COLLECTION,
            missed: Vec::new(),
            fell: Vec::new(),
        },
        Judged {
            what: name("fsck, rows a second"),
            bound: format!("at least {CHECK}"),
            found: check,
            reached: check.is_some_and(|check| check >= CHECK),
            missed: Vec::new(),
            fell: Vec::new(),
        },
    ]
}

impl Judged {
    fn verdict(&self) -> &'static str {
        match (self.found, self.reached) {
            (None, _) => "not measured",
            (_, true) => "reached",
            (_, false) => "missed",
        }
    }
}

/// The table, in Markdown, and what missed.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut text = String::from("\n| aim | | in this run | |\n| --- | ---: | ---: | --- |\n");
    let judged = judge(runs);
    for aim in &judged {
        let found = aim.found.map_or_else(String::new, crate::bench::aims::short);
        let _ = writeln!(text, "| {} | {} | {found} | {} |", aim.what, aim.bound, aim.verdict());
    }
    for aim in judged.iter().filter(|aim| !aim.missed.is_empty()) {
        let _ = writeln!(text, "\n{}:\n- {}", aim.what, aim.missed.join("\n- "));
    }
    for aim in judged.iter().filter(|aim| !aim.fell.is_empty()) {
        let fell = aim.fell.join("\n- ");
        let _ = writeln!(text, "\n{}; more at the smaller size:\n- {fell}", aim.what);
    }
    text
}

pub(crate) fn json(runs: &[Run]) -> Value {
    let judged = judge(runs).into_iter().map(|aim| {
        json!({
            "aim": aim.what,
            "bound": aim.bound,
            "found": aim.found,
            "verdict": aim.verdict(),
            "missed": aim.missed,
            "fell": aim.fell,
        })
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scale::counters::{Database, Statements, Used};
    use crate::scale::shape::Shape;
    use crate::scale::upkeep::Upkeep;

    fn figures(name: &'static str, micros: u64, pages: f64) -> Figures {
        let counted = Some(Statements { pages, statements: 1.0, log_bytes: 0.0 });
        let database = Some(Database { cpu_us: 1.0, counted });
        let time = Duration::from_micros(micros);
        let used = Used { server_us: 1.0, reads: 0.0, database };
        Figures { name, count: 1, p50: time, p99: time, used }
    }

    fn all(micros: [u64; 3], pages: [f64; 3]) -> Vec<Figures> {
        let names = ["flat", "steep", "flipped"].into_iter().zip(micros).zip(pages);
        names.map(|((name, micros), pages)| figures(name, micros, pages)).collect()
    }

    fn run(manifests: u64, figures: Vec<Figures>, checked_per_second: Option<f64>) -> Run {
        let collecting = Duration::from_millis(400);
        let upkeep =
            Upkeep { checked_per_second, collected: 1000, collecting, ..Upkeep::default() };
        Run {
            engine: "PostgreSQL",
            shape: Shape::new(manifests).unwrap(),
            figures,
            upkeep,
            first_answer: Duration::ZERO,
            size: 0,
            memory: (0, 0),
        }
    }

    #[test]
    fn what_grows_is_named() {
        let runs = [
            run(1000, all([10, 10, 10], [10.0, 10.0, 10.0]), Some(2e4)),
            run(10_000, all([29, 20, 10], [14.0, 16.0, 6.0]), None),
        ];
        let table = table(&runs);
        assert!(table.ends_with("; more at the smaller size:\n- flipped: 0.60\n"), "{table}");
        let line = |text: &str| table.lines().find(|line| line.contains(text)).unwrap().to_owned();
        assert!(line("pages").ends_with("| at most 1.5 × | 1.60 | missed |"), "{table}");
        assert!(line("latency").ends_with("| at most 3 × | 2.90 | reached |"), "{table}");
        assert!(line("gc beside").ends_with("| at most 0.5 | 0.400 | reached |"), "{table}");
        assert!(line("fsck").ends_with("|  | not measured |"), "{table}");
        assert!(table.contains("\n- steep: 1.6") && !table.contains("- flat"), "{table}");
    }
}
