//! Kills: `kill -9` at random moments of a load, and a restart on the same directory at once.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::crash::client::{Client, Failed};
use crate::crash::life::Life;
use crate::crash::pulls;
use crate::crash::tally::Tally;
use crate::crash::tools::{COLLECTING, GRACE, OUTLASTS, Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, Server, say};

/// After so many kills a server begins with an empty directory, so that the first start is killed, too.
const LIFE: usize = 20;
/// After so many kills the directory is looked at by `fsck`.
const FSCK_EVERY: usize = 5;
/// In so many of a hundred rounds blobs are pulled that are deleted meanwhile.
const PULLS: usize = 15;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: usize,
    pub(super) seconds: u64,
    pub(super) servers: usize,
    pub(super) clients: usize,
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
    data: PathBuf,
    tally: Tally,
}

/// A server and what kills it.
struct Victim {
    server: RefCell<Option<Server>>,
    acknowledged: Cell<u64>,
    /// It is killed at this acknowledgement.
    last: Cell<u64>,
}

impl Victim {
    fn host(&self) -> Option<String> {
        self.server.borrow().as_ref().map(|server| server.host.clone())
    }

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
        let (lives, data, tally) = (0, PathBuf::new(), Tally::default());
        Ok(Self { tools, plan, number, kills, begun, random, scratch, lives, data, tally })
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
                    self.data.display()
                );
                let _ = self.scratch.keep();
                text.push_str(&life.histories());
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
                let _ = std::fs::remove_dir_all(&self.data);
                life = self.life();
            }
        }
    }

    /// A new directory, and clients that have nothing in it.
    fn life(&mut self) -> Life {
        self.lives += 1;
        self.data = self.scratch.path().join(format!("data{}", self.lives));
        Life::new(&mut self.random, self.plan.clients, GRACE)
    }

    /// A start, a check of everything, a load and a kill. The last round has no load.
    async fn round(&mut self, life: &mut Life, last: bool) -> Result {
        if !last && self.random.percent(15) {
            self.kill_at_start()?;
        }
        let victim = self.start(life)?;
        life.check(&[], &mut self.random, &mut self.tally).await?;
        if last || (self.tally.kills + 1).is_multiple_of(FSCK_EVERY) {
            victim.kill();
            self.tools.fsck(&self.data)?;
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
        let server = self.tools.start(&self.data, &COLLECTING)?;
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
    fn kill_at_start(&mut self) -> Result {
        let mut child = self
            .tools
            .serve(&self.data, &COLLECTING)?
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
        let pulls = self.random.percent(PULLS).then(|| self.random.next());
        let tally = &mut self.tally.pulls;
        let pulls = async {
            match (pulls, victim.host()) {
                (Some(seed), Some(host)) => {
                    let mut client = Client::new("pulls", &host, Rc::new(|| ()));
                    client.model.grace = Some(GRACE);
                    pulls::run(&mut client, seed, OUTLASTS, tally).await
                }
                _ => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            done = works => done,
            () = kill => Vec::new(),
            error = pulls => return Err(error),
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
