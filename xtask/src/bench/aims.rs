//! What is aimed at, and what of it was reached in this run.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::bench::machine::Machine;
use crate::bench::report::Row;
use crate::bench::scenarios::{
    GET_BY_TAG, GET_LARGE, GET_RANGE, GET_SMALL, PUSH_IMAGE, PUSH_LARGE, PUSH_SMALL, REFERRERS,
    TAGS_1_000, TAGS_100_000,
};
use crate::bench::target::{NGINX, ON_DATABASE, OURS, UNSYNCED};

/// Peers, by the names that they are to be given.
const OLAREG: &str = "olareg";
const DISTRIBUTION: &str = "distribution";

/// All that was measured.
pub(crate) struct Figures<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) machine: Option<Machine>,
}

/// Something aimed at: a figure that is at least, or at most, so much.
struct Aim {
    what: &'static str,
    bound: Bound,
    figure: fn(&Figures<'_>) -> Option<Figure>,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure, and what it was compared with.
struct Figure {
    value: f64,
    beside: String,
}

const ALL: &[Aim] = &[
    Aim {
        what: "GET manifest by tag: rate, as a multiple of the best peer's",
        bound: Bound::AtLeast(4.0),
        figure: |figures| figures.beside_best(GET_BY_TAG, false),
    },
    Aim {
        what: "GET manifest by tag: rate, as a part of nginx's for a file of that size",
        bound: Bound::AtLeast(0.6),
        figure: |figures| figures.beside(GET_BY_TAG, OURS, NGINX),
    },
    Aim {
        what: "GET manifest by tag on PostgreSQL: rate, as a part of SQLite's",
        bound: Bound::AtLeast(0.5),
        figure: |figures| figures.beside(GET_BY_TAG, ON_DATABASE, OURS),
    },
    Aim {
        what: "GET blob 4 KiB: rate, as a part of nginx's",
        bound: Bound::AtLeast(0.7),
        figure: |figures| figures.beside(GET_SMALL, OURS, NGINX),
    },
    Aim {
        what: "GET blob 64 MiB: rate, beside the best of nginx and the peers",
        bound: Bound::AtLeast(1.0),
        figure: |figures| figures.beside_best(GET_LARGE, true),
    },
    Aim {
        what: "GET blob 64 MiB: processor time, ms",
        bound: Bound::AtMost(20.0),
        figure: |figures| Some(Figure::alone(figures.cpu(GET_LARGE)? / 1e3)),
    },
    Aim {
        what: "GET 64 KiB of a blob of 64 MiB: processor time, as a part of the whole blob's",
        bound: Bound::AtMost(0.01),
        figure: |figures| Some(Figure::alone(figures.cpu(GET_RANGE)? / figures.cpu(GET_LARGE)?)),
    },
    Aim {
        what: "push blob 4 KiB, durable: rate, beside olareg's, which does not sync",
        bound: Bound::AtLeast(1.0),
        figure: |figures| figures.beside(PUSH_SMALL, OURS, OLAREG),
    },
    Aim {
        what: "push blob 4 KiB, durable: rate, as a multiple of distribution's",
        bound: Bound::AtLeast(20.0),
        figure: |figures| figures.beside(PUSH_SMALL, OURS, DISTRIBUTION),
    },
    Aim {
        what: "push layer + manifest + tag: rate, as a multiple of the best peer's",
        bound: Bound::AtLeast(10.0),
        figure: |figures| figures.beside_best(PUSH_IMAGE, false),
    },
    Aim {
        what: "push blob 64 MiB, durable: rate, beside one file after the other written and synced",
        bound: Bound::AtLeast(0.9),
        figure: |figures| {
            let ours = figures.row(PUSH_LARGE, OURS)?.megabytes_per_second;
            let disk = figures.machine?.synced_per_second / 1e6;
            Some(Figure { value: ours / disk, beside: format!("{disk:.0} MB/s") })
        },
    },
    Aim {
        what: "push blob 64 MiB, not synced: rate, beside olareg's",
        bound: Bound::AtLeast(1.0),
        figure: |figures| figures.beside(PUSH_LARGE, UNSYNCED, OLAREG),
    },
    Aim {
        what: "push blob 64 MiB, durable: processor time, beside hashing and writing the same",
        bound: Bound::AtMost(1.3),
        figure: |figures| {
            let least = figures.machine?.hash_and_write.as_secs_f64() * 1e3;
            let value = figures.cpu(PUSH_LARGE)? / 1e3 / least;
            Some(Figure { value, beside: format!("{least:.0} ms") })
        },
    },
    Aim {
        what: "page of 100 tags: time among 100,000, beside that among 1,000",
        bound: Bound::AtMost(1.2),
        figure: |figures| {
            let (few, many) = (figures.row(TAGS_1_000, OURS)?, figures.row(TAGS_100_000, OURS)?);
            Some(Figure::alone(few.per_second / many.per_second))
        },
    },
    Aim {
        what: "list of 500 referrers: descriptors a second, beside olareg's",
        bound: Bound::AtLeast(1.0),
        figure: |figures| figures.entries_beside(REFERRERS, OURS, OLAREG),
    },
    Aim {
        what: "most anonymous memory in any scenario, MiB",
        bound: Bound::AtMost(64.0),
        figure: |figures| {
            let ours = figures.rows.iter().filter(|row| row.target.starts_with(OURS));
            let most =
                ours.max_by(|one, other| one.anonymous_mib.total_cmp(&other.anonymous_mib))?;
            let beside = format!("{}, {}", most.scenario, most.target);
            Some(Figure { value: most.anonymous_mib, beside })
        },
    },
];

impl Figure {
    fn alone(value: f64) -> Self {
        Self { value, beside: String::new() }
    }
}

impl Figures<'_> {
    fn row(&self, scenario: &str, target: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.target == target)
    }

    /// The processor time of ours for one operation, in microseconds.
    fn cpu(&self, scenario: &str) -> Option<f64> {
        self.row(scenario, OURS)?.cpu_us
    }

    fn beside(&self, scenario: &str, one: &str, other: &str) -> Option<Figure> {
        let (one, other) = (self.row(scenario, one)?, self.row(scenario, other)?);
        let beside = format!("{}: {:.0}/s", other.target, other.per_second);
        Some(Figure { value: one.per_second / other.per_second, beside })
    }

    /// The same for the entries of lists.
    fn entries_beside(&self, scenario: &str, one: &str, other: &str) -> Option<Figure> {
        let (one, other) = (self.row(scenario, one)?, self.row(scenario, other)?);
        let entries = |row: &Row| row.per_second * row.entries as f64;
        let beside = format!("{}: {:.0}/s", other.target, entries(other));
        Some(Figure { value: entries(one) / entries(other), beside })
    }

    fn beside_best(&self, scenario: &str, with_files: bool) -> Option<Figure> {
        let others = self.rows.iter().filter(|row| {
            row.scenario == scenario
                && !row.target.starts_with(OURS)
                && (with_files || row.target != NGINX)
        });
        let best = others.max_by(|one, other| one.per_second.total_cmp(&other.per_second))?;
        self.beside(scenario, OURS, &best.target)
    }

    fn judged(&self) -> impl Iterator<Item = (&'static Aim, Option<Figure>)> {
        ALL.iter().map(|aim| (aim, (aim.figure)(self)))
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "\n| aim | | in this run | beside | |\n| --- | ---: | ---: | --- | --- |\n",
        );
        for (aim, figure) in self.judged() {
            let bound = match aim.bound {
                Bound::AtLeast(least) => format!("at least {least}"),
                Bound::AtMost(most) => format!("at most {most}"),
            };
            let _ = match figure {
                Some(figure) => writeln!(
                    text,
                    "| {} | {bound} | {} | {} | {} |",
                    aim.what,
                    short(figure.value),
                    figure.beside,
                    if aim.bound.holds(figure.value) { "reached" } else { "missed" }
                ),
                None => writeln!(text, "| {} | {bound} | | | not measured |", aim.what),
            };
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let aims = self.judged().map(|(aim, figure)| {
            json!({
                "aim": aim.what,
                "at_least": match aim.bound { Bound::AtLeast(least) => Some(least), Bound::AtMost(_) => None },
                "at_most": match aim.bound { Bound::AtMost(most) => Some(most), Bound::AtLeast(_) => None },
                "figure": figure.as_ref().map(|figure| figure.value),
                "reached": figure.map(|figure| aim.bound.holds(figure.value)),
            })
        });
        aims.collect()
    }
}

impl Bound {
    fn holds(&self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= *least,
            Self::AtMost(most) => value <= *most,
        }
    }
}

/// With three digits that count.
pub(crate) fn short(value: f64) -> String {
    let digits = (2.0 - value.abs().max(0.000_1).log10().floor()).clamp(0.0, 4.0);
    // Between 0 and 4.
    format!("{value:.*}", digits as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_are_judged_by_what_was_measured() {
        let row = |scenario, target: &str, per_second| Row::made_up(scenario, target, per_second);
        let rows = [
            row(GET_BY_TAG, OURS, 40.0),
            row(GET_BY_TAG, OLAREG, 9.0),
            row(GET_BY_TAG, DISTRIBUTION, 11.0),
            row(GET_BY_TAG, NGINX, 80.0),
            row(PUSH_SMALL, OURS, 30.0),
            row(PUSH_SMALL, DISTRIBUTION, 1.0),
        ];
        let figures = Figures { rows: &rows, machine: None };
        let table = figures.table();
        let line = |text: &str| table.lines().find(|line| line.contains(text)).unwrap().to_owned();
        assert!(
            line("best peer's").ends_with("| at least 4 | 3.64 | distribution: 11/s | missed |")
        );
        assert!(line("nginx's for a file").ends_with("| 0.500 | nginx: 80/s | missed |"));
        assert!(
            line("multiple of distribution's").ends_with("| 30.0 | distribution: 1/s | reached |")
        );
        assert!(line("500 referrers").ends_with("| | | not measured |"));
    }

    #[test]
    fn figures_have_three_digits() {
        let cases = [(123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.001_26, "0.0013")];
        for (value, shown) in cases {
            assert_eq!(short(value), shown);
        }
    }
}
