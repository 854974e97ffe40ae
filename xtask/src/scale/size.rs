//! All that is measured of a registry of one size.

use std::time::{Duration, Instant};

use crate::bench::content::expect;
use crate::bench::http::Connection;
use crate::bench::stats::anonymous;
use crate::process::{Result, Server, say};
use crate::scale::content::Content;
use crate::scale::counters::{Counters, Watched};
use crate::scale::measure::{Figures, measure};
use crate::scale::operations::{Operation, READS, Targets, WRITES};
use crate::scale::place::{Engine, Place};
use crate::scale::shape::Shape;
use crate::scale::upkeep::{self, Upkeep};

/// The number of times that the server is started for its first answer.
const STARTS: usize = 3;

/// The findings.
pub(crate) struct Run {
    pub(crate) engine: &'static str,
    pub(crate) shape: Shape,
    pub(crate) figures: Vec<Figures>,
    pub(crate) upkeep: Upkeep,
    /// From the start of the program to its first answer, the middle one of some.
    pub(crate) first_answer: Duration,
    /// Of the metadata when it had been filled, in bytes.
    pub(crate) size: u64,
    /// Anonymous memory of the server before and after the operations, in bytes.
    pub(crate) memory: (u64, u64),
}

/// Measures reads so often, and writes a tenth of that. `rate` is how fast a smaller one was
/// checked.
pub(crate) async fn run(
    place: &Place,
    shape: Shape,
    count: usize,
    rate: Option<f64>,
) -> Result<Run> {
    let size = place.size().await?;
    let checked_per_second = upkeep::check(place, shape, rate).await?;
    let mut upkeep = Upkeep { checked_per_second, ..Upkeep::default() };
    let (server, first_answer) = start(place).await?;
    let counters = Counters::new(server.pid(), watch(place).await?);
    let before = anonymous(server.pid()).unwrap_or(0);
    let mut connection = Connection::open(&server.host).await?;
    let content = Content::new();
    let mut figures = Vec::new();
    // There are as many small repositories as are deleted from.
    let writes = (count / 10).clamp(1, shape.small() as usize / 2);
    let reads = READS.iter().map(|operation| (operation, count));
    let all = reads.chain(WRITES.iter().map(|operation| (operation, writes)));
    for ((operation, count), seed) in all.zip(1..) {
        let mut targets = Targets::new(shape, &content, seed);
        let found = measure(operation, &mut targets, &mut connection, &counters, count).await?;
        tell(place, shape, operation, &found);
        figures.push(found);
    }
    let after = anonymous(server.pid()).unwrap_or(0);
    server.kill()?;
    let server = place.serve(&upkeep::SOON)?;
    upkeep::measure(place, &server.host, shape, &mut upkeep).await?;
    server.kill()?;
    let memory = (before, after);
    let engine = place.engine.name();
    Ok(Run { engine, shape, figures, upkeep, first_answer, size, memory })
}

async fn watch(place: &Place) -> Result<Option<Watched>> {
    let Engine::Postgres(databases) = &place.engine else { return Ok(None) };
    let watched = Watched::new(&databases.url, &place.database).await?;
    if !watched.counts() {
        say("the database server has no pg_stat_statements: pages and statements are not counted");
    }
    Ok(Some(watched))
}

/// Starts the server some times.
async fn start(place: &Place) -> Result<(Server, Duration)> {
    let mut times = Vec::new();
    loop {
        let begun = Instant::now();
        let server = place.serve(&[])?;
        let mut connection = Connection::open(&server.host).await?;
        let answer = connection.send("GET", "/v2/_catalog?n=1", "", &[]).await?;
        times.push(begun.elapsed());
        expect(answer.status, 200, "the first answer")?;
        if times.len() == STARTS {
            times.sort_unstable();
            return Ok((server, times[STARTS / 2]));
        }
        server.kill()?;
    }
}

fn tell(place: &Place, shape: Shape, operation: &Operation, found: &Figures) {
    let pages = found.used.database.and_then(|used| used.counted);
    let pages = pages.map_or_else(String::new, |counted| format!(", {:.1} pages", counted.pages));
    say(&format!(
        "{}, {}: {}: {} µs{pages}",
        place.engine.name(),
        shape.manifests,
        operation.name,
        found.p50.as_micros()
    ));
}
