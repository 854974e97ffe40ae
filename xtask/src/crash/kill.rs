//! Kills: `kill -9` at random moments of a load, and a restart on the same directory at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::crash::check;
use crate::crash::client::{Client, Failed};
use crate::crash::load::{Common, Worker};
use crate::crash::shared::SharedTags;
use crate::crash::tools::{Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, Server, say};

/// After so many kills a server begins with an empty directory, so that the first start is killed, too.
const LIFE: usize = 20;
/// After so many kills the directory is looked at by `fsck`.
const FSCK_EVERY: usize = 5;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: usize,
    pub(super) seconds: u64,
    pub(super) servers: usize,
    pub(super) clients: usize,
}

/// What was done.
#[derive(Clone, Copy, Default)]
struct Tally {
    kills: usize,
    /// Kills before the server had said where it listens.
    at_start: usize,
    /// Acknowledged changes.
    acknowledged: u64,
    /// Requests that a kill left without an answer, and how many of them had happened.
    unanswered: usize,
    happened: usize,
    /// Uploads that were open when the server was killed, and went on.
    resumed: usize,
    /// Blobs that were gone because nothing referenced them.
    collected: usize,
    fsck: usize,
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    let begun = Instant::now();
    let total = Mutex::new(Tally::default());
    let progress = |tally: &Tally, before: &mut Tally| {
        let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let kills = total.kills;
        total.add(tally, before);
        *before = *tally;
        if total.kills / 20 > kills / 20 {
            say(&format!(
                "{} kills, {} acknowledged, {:.0} s",
                total.kills,
                total.acknowledged,
                begun.elapsed().as_secs_f64()
            ));
        }
    };
    let results: Vec<Result> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..plan.servers)
            .map(|number| {
                let progress = &progress;
                scope.spawn(move || {
                    let share =
                        plan.kills / plan.servers + usize::from(number < plan.kills % plan.servers);
                    Lane::new(tools, plan, number, share, begun)?.run(progress)
                })
            })
            .collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| Err("panicked".into())))
            .collect()
    });
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    say(&total.table(begun.elapsed()));
    let failures: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("{}\nseed {}", failures.join("\n"), plan.seed)),
    }
}

impl Tally {
    /// Adds what has grown since `before`.
    fn add(&mut self, now: &Self, before: &Self) {
        self.kills += now.kills - before.kills;
        self.at_start += now.at_start - before.at_start;
        self.acknowledged += now.acknowledged - before.acknowledged;
        self.unanswered += now.unanswered - before.unanswered;
        self.happened += now.happened - before.happened;
        self.resumed += now.resumed - before.resumed;
        self.collected += now.collected - before.collected;
        self.fsck += now.fsck - before.fsck;
    }

    fn table(&self, elapsed: Duration) -> String {
        format!(
            "| kills | while it started | acknowledged changes | unanswered | of these done | uploads that went on | collected blobs | fsck | seconds |\n\
             |---|---|---|---|---|---|---|---|---|\n\
             | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            self.kills,
            self.at_start,
            self.acknowledged,
            self.unanswered,
            self.happened,
            self.resumed,
            self.collected,
            self.fsck,
            elapsed.as_secs_f64()
        )
    }
}

/// One server after the other on the same directory, and its clients.
struct Lane<'a> {
    tools: &'a Tools,
    plan: &'a Plan,
    number: usize,
    kills: usize,
    begun: Instant,
    random: Random,
    scratch: tempfile::TempDir,
    lives: usize,
    tally: Tally,
}

/// What lives as long as a directory.
struct Life {
    data: PathBuf,
    common: Rc<Common>,
    workers: Vec<Worker>,
}

/// A server and what kills it.
struct Victim {
    server: RefCell<Option<Server>>,
    acknowledged: Cell<u64>,
    /// It is killed at this acknowledgement.
    last: Cell<u64>,
}

impl Victim {
    fn is_killed(&self) -> bool {
        self.server.borrow().is_none()
    }

    fn kill(&self) {
        if let Some(server) = self.server.borrow_mut().take() {
            // It may have ended by itself, which the clients notice.
            let _ = server.kill();
        }
    }

    fn acknowledge(&self) {
        self.acknowledged.set(self.acknowledged.get() + 1);
        if self.acknowledged.get() == self.last.get() {
            self.kill();
        }
    }
}

impl<'a> Lane<'a> {
    fn new(
        tools: &'a Tools,
        plan: &'a Plan,
        number: usize,
        kills: usize,
        begun: Instant,
    ) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let random = Random::new(plan.seed ^ (number as u64) << 40);
        let (lives, tally) = (0, Tally::default());
        Ok(Self { tools, plan, number, kills, begun, random, scratch, lives, tally })
    }

    fn run(mut self, progress: &impl Fn(&Tally, &mut Tally)) -> Result {
        let runtime = runtime()?;
        let mut told = Tally::default();
        let mut life = self.life();
        let mut in_life = 0;
        loop {
            let ends = self.tally.kills >= self.kills
                || self.begun.elapsed() >= Duration::from_secs(self.plan.seconds);
            if let Err(error) = runtime.block_on(self.round(&mut life, ends)) {
                let mut text = format!(
                    "server {}, kill {}: {error}\nwhat it has is kept in {}",
                    self.number,
                    self.tally.kills,
                    life.data.display()
                );
                let _ = self.scratch.keep();
                for worker in &life.workers {
                    let lines: Vec<_> = worker.client.history.iter().map(String::as_str).collect();
                    text.push_str(&format!("\n{}:\n  {}", worker.client.name, lines.join("\n  ")));
                }
                return Err(text);
            }
            progress(&self.tally, &mut told);
            if ends {
                return Ok(());
            }
            in_life += 1;
            if in_life == LIFE {
                in_life = 0;
                // What is old is only in the way.
                let _ = std::fs::remove_dir_all(&life.data);
                life = self.life();
            }
        }
    }

    fn life(&mut self) -> Life {
        self.lives += 1;
        let data = self.scratch.path().join(format!("data{}", self.lives));
        let common = Common::new(self.random.next() >> 24);
        let workers = (0..self.plan.clients).map(|number| {
            let mut client = Client::new(&format!("w{number}"), "", Rc::new(|| ()));
            client.model.grace = self.tools.grace();
            Worker::new(client, self.random.next(), common.clone())
        });
        Life { data, workers: workers.collect(), common: common.clone() }
    }

    /// A start, a check of everything, a load and a kill. The last round has no load.
    async fn round(&mut self, life: &mut Life, last: bool) -> Result {
        if !last && self.random.percent(15) {
            self.kill_at_start(&life.data)?;
        }
        let victim = self.start(life)?;
        self.check(life).await?;
        if last || (self.tally.kills + 1).is_multiple_of(FSCK_EVERY) {
            victim.kill();
            self.tools.fsck(&life.data)?;
            self.tally.fsck += 1;
            if last {
                return Ok(());
            }
            let victim = self.start(life)?;
            return self.load(life, &victim).await;
        }
        self.load(life, &victim).await
    }

    fn start(&self, life: &mut Life) -> Result<Rc<Victim>> {
        let server = self.tools.start(&life.data, self.tools.collecting())?;
        let host = server.host.clone();
        let victim = Rc::new(Victim {
            server: RefCell::new(Some(server)),
            acknowledged: Cell::new(0),
            last: Cell::new(u64::MAX),
        });
        for worker in &mut life.workers {
            let victim = victim.clone();
            worker.client.reconnect(&host, Rc::new(move || victim.acknowledge()));
        }
        Ok(victim)
    }

    /// Kills a server that has not yet said where it listens.
    fn kill_at_start(&mut self, data: &Path) -> Result {
        let mut child = self
            .tools
            .serve(data, self.tools.collecting())?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("{}: cannot be started: {error}", self.tools.ocictl.display())
            })?;
        std::thread::sleep(Duration::from_micros(self.random.below(40_000) as u64));
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|error| format!("killing the server: {error}"))?;
        self.tally.kills += 1;
        self.tally.at_start += 1;
        Ok(())
    }

    /// Everything is there, and nothing by halves.
    async fn check(&mut self, life: &mut Life) -> Result {
        let unanswered =
            life.workers.iter().filter(|worker| !worker.client.in_flight.is_empty()).count();
        let open: usize = life.workers.iter().map(|worker| worker.client.model.uploads.len()).sum();
        let checks = life.workers.iter_mut().map(|worker| async {
            check::settle(&mut worker.client).await?;
            check::everything(&mut worker.client, &[SharedTags::REPOSITORY]).await
        });
        for (number, checked) in join_all(checks).await.into_iter().enumerate() {
            checked.map_err(|failed| format!("client w{number}: {}", String::from(failed)))?;
        }
        let happened = |worker: &&Worker| {
            worker.client.history.back().is_some_and(|line| line.ends_with("request had happened"))
        };
        for worker in &mut life.workers {
            self.tally.collected += std::mem::take(&mut worker.client.collected);
        }
        self.tally.unanswered += unanswered;
        self.tally.happened += life.workers.iter().filter(happened).count();
        let tags = life.common.tags.clone();
        let models = || life.workers.iter().map(|worker| &worker.client.model);
        let most: BTreeSet<String> =
            models().flat_map(|model| model.repositories().map(str::to_owned)).collect();
        let Some(first) = life.workers.first_mut() else { return Ok(()) };
        tags.check(&mut first.client).await.map_err(String::from)?;
        let listed = check::list(&mut first.client, "/v2/_catalog?n=1000", "repositories").await;
        let listed = listed.map_err(String::from)?;
        let listed: BTreeSet<String> = listed.into_iter().collect();
        // After the list was read: until then it must have been there.
        let models = || life.workers.iter().map(|worker| &worker.client.model);
        let least: BTreeSet<String> =
            models().flat_map(|model| model.lasting().map(str::to_owned)).collect();
        if !listed.is_subset(&most) || !listed.is_superset(&least) {
            return Err(format!("the catalogue has {listed:?}, expected {least:?} to {most:?}"));
        }
        // Some of the open uploads go on at once, the others later.
        if open > 0 && self.random.percent(50) {
            for worker in &mut life.workers {
                if let Some(upload) = worker.client.model.uploads.keys().next().copied() {
                    check::finish_upload(&mut worker.client, upload).await.map_err(String::from)?;
                    self.tally.resumed += 1;
                }
            }
        }
        Ok(())
    }

    /// The load, until the server is killed.
    async fn load(&mut self, life: &mut Life, victim: &Rc<Victim>) -> Result {
        let acknowledged = victim.acknowledged.get();
        let delay = match self.random.percent(50) {
            true => {
                victim.last.set(acknowledged + 1 + self.random.below(400) as u64);
                Duration::from_secs(20)
            }
            false => Duration::from_micros(self.random.below(1_000_000) as u64),
        };
        let works =
            join_all(life.workers.iter_mut().map(|worker| worker.run(|| victim.is_killed())));
        let kill = async {
            tokio::time::sleep(delay).await;
            victim.kill();
            std::future::pending::<()>().await;
        };
        let done = tokio::select! {
            done = works => done,
            () = kill => Vec::new(),
        };
        self.tally.kills += 1;
        self.tally.acknowledged += victim.acknowledged.get();
        for (number, done) in done.into_iter().enumerate() {
            match done {
                Ok(()) => {}
                Err(Failed::Lost(_)) if victim.is_killed() => {}
                Err(Failed::Lost(error)) => {
                    return Err(format!("client w{number}: the server went away: {error}"));
                }
                Err(Failed::Wrong(error)) => return Err(format!("client w{number}: {error}")),
            }
        }
        Ok(())
    }
}
