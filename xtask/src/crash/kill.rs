//! Kills: `kill -9` at random moments of a load, and a restart on the same directory at once.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::crash::client::{Client, Failed};
use crate::crash::life::Life;
use crate::crash::load::Worker;
use crate::crash::loss::{self, Loss, Trial};
use crate::crash::pulls;
use crate::crash::tally::Tally;
use crate::crash::tools::{COLLECTING, GRACE, OUTLASTS, Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, Server, say};

/// After so many kills a server begins with an empty directory, so that the first start is killed, too.
const LIFE: usize = 30;
/// After so many kills the directory is looked at by `fsck`.
const FSCK_EVERY: usize = 5;
/// Before every so-many-th kill a blob is pulled that is deleted meanwhile.
const PULLS_EVERY: usize = 20;
/// In so many of a hundred rounds that end at an acknowledgement every request is answered before the kill: what never is
/// shows.
const QUIET: usize = 15;

/// After so many kills something is taken away, if a loss is expected.
const BEFORE_LOSS: usize = 2;
/// So much is acknowledged before a kill then.
const FEW: u64 = 30;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: usize,
    pub(super) seconds: u64,
    pub(super) servers: usize,
    pub(super) clients: usize,
    pub(super) expect_loss: bool,
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    if plan.expect_loss {
        return loss::expect(&[Loss::Tag, Loss::Object, Loss::Log], |loss| {
            Lane::new(tools, plan, 0, plan.kills, Instant::now(), Some(loss))?.run(&|_, _| ())
        });
    }
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
                    Lane::new(tools, plan, number, share, begun, None)?.run(progress)
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
        true => total.is_enough(plan.kills),
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
    trial: Trial,
}

/// A server and what kills it.
struct Victim {
    server: RefCell<Option<Server>>,
    acknowledged: Cell<u64>,
    /// At this acknowledgement it is killed.
    last: Cell<u64>,
    /// Or not yet: nothing more is asked then, and it is killed when all is answered.
    quiet: Cell<bool>,
    /// Nothing more is asked.
    ends: Cell<bool>,
}

impl Victim {
    fn new(server: Server) -> Rc<Self> {
        Rc::new(Self {
            server: RefCell::new(Some(server)),
            acknowledged: Cell::new(0),
            last: Cell::new(u64::MAX),
            quiet: Cell::new(false),
            ends: Cell::new(false),
        })
    }

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
            match self.quiet.get() {
                true => self.ends.set(true),
                false => self.kill(),
            }
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
        loss: Option<Loss>,
    ) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let random = Random::new(plan.seed ^ (number as u64) << 40);
        let (lives, data, tally) = (0, PathBuf::new(), Tally::default());
        let trial = Trial::of(loss);
        Ok(Self { tools, plan, number, kills, begun, random, scratch, lives, data, tally, trial })
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
                if let Some(found) = self.trial.failure(&error) {
                    return Err(found);
                }
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
        if let Some(loss) = self.trial.loss
            && self.tally.kills >= BEFORE_LOSS
        {
            self.trial.lost |= loss::take_away(loss, self.tools, &self.data, life).await?;
        }
        if !last && self.random.percent(15) {
            self.kill_at_start()?;
        }
        let victim = self.start(life)?;
        let checked = life.check(&[], &mut self.random, &mut self.tally).await;
        self.trial.checked(checked)?;
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
        let victim = Victim::new(server);
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

    /// The load, until the server is killed: at a time, or at an acknowledgement.
    async fn load(&mut self, life: &mut Life, victim: &Rc<Victim>) -> Result {
        if self.trial.loss.is_some() {
            // What was done last was acknowledged then, and not so much that the log is merged.
            victim.last.set(victim.acknowledged.get() + FEW + self.random.below(30) as u64);
            victim.quiet.set(true);
            return self.load_until(life, victim, None, None).await;
        }
        let pulls = (self.tally.kills % PULLS_EVERY == PULLS_EVERY / 2).then(|| self.random.next());
        let after = match pulls.is_none() && self.random.percent(50) {
            true => {
                let more = 1 + self.random.below(400) as u64;
                victim.last.set(victim.acknowledged.get() + more);
                victim.quiet.set(self.random.percent(QUIET));
                None
            }
            false => Some(Duration::from_micros(self.random.below(1_000_000) as u64)),
        };
        self.load_until(life, victim, after, pulls).await
    }

    /// The load, until the server is killed after a time, which begins when a pull has ended if there are pulls. Without a time nothing
    /// ends it but an acknowledgement, so that a server that answers no more is found by those who wait.
    async fn load_until(
        &mut self,
        life: &mut Life,
        victim: &Rc<Victim>,
        after: Option<Duration>,
        pulls: Option<u64>,
    ) -> Result {
        let works = join_all(life.workers.iter_mut().map(|worker| work(victim, worker)));
        let first = Notify::new();
        let kill = async {
            if let Some(after) = after {
                if pulls.is_some() {
                    first.notified().await;
                }
                tokio::time::sleep(after).await;
                victim.kill();
            }
            std::future::pending::<()>().await;
        };
        let tally = &mut self.tally.pulls;
        let pulls = async {
            match (pulls, victim.host()) {
                (Some(seed), Some(host)) => {
                    let mut client = Client::new("pulls", &host, Rc::new(|| ()));
                    client.model.grace = Some(GRACE);
                    pulls::run(&mut client, seed, OUTLASTS, tally, &first).await
                }
                _ => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            done = works => done,
            () = kill => Vec::new(),
            error = pulls => return Err(error),
        };
        victim.kill();
        self.tally.kills += 1;
        self.tally.acknowledged += victim.acknowledged.get();
        done.into_iter().collect()
    }
}

/// One client's load. That there is no answer is for a kill only to explain, and only if it came before.
async fn work(victim: &Victim, worker: &mut Worker) -> Result {
    let done = worker.run(|| victim.ends.get() || victim.is_killed()).await;
    let error = match done {
        Ok(()) => return Ok(()),
        Err(Failed::Lost(_)) if victim.is_killed() => return Ok(()),
        Err(Failed::Lost(error)) => format!("there is no answer, and nothing was killed: {error}"),
        Err(Failed::Wrong(error)) => error,
    };
    victim.ends.set(true);
    Err(format!("client {}: {error}", worker.client.name))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    /// A server that accepts connections and never answers.
    fn silent(listener: &TcpListener) -> Server {
        let address = listener.local_addr().unwrap().to_string();
        let mut command = Command::new("sh");
        command.args(["-c", "echo listening on http://$0; exec sleep 600", &address]);
        Server::spawn(command).unwrap()
    }

    #[test]
    fn a_server_that_answers_no_more_is_found_whoever_kills_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tools = Tools { ocictl: "unused".into() };
        let plan =
            Plan { seed: 1, kills: 1, seconds: 1, servers: 1, clients: 3, expect_loss: false };
        let mut lane = Lane::new(&tools, &plan, 0, 1, Instant::now(), None).unwrap();
        let victim = Victim::new(silent(&listener));
        victim.last.set(5);
        let mut life = lane.life();
        for worker in &mut life.workers {
            worker.client.reconnect(&victim.host().unwrap(), Rc::new(|| ()));
            worker.client.connections.limit = Duration::from_millis(20);
        }
        let load = lane.load_until(&mut life, &victim, None, None);
        let error = runtime().unwrap().block_on(load).unwrap_err();
        assert!(
            error.contains("client w0") && error.contains("no answer within 0.02 s"),
            "{error}"
        );
    }
}
