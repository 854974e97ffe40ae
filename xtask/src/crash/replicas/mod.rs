//! Kills of replicas: one, the other or all of them at random moments of a load that is spread over them. The load goes on
//! with those that are left.

mod bucket;
mod cluster;
mod database;

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use tokio::sync::Notify;

use self::bucket::Bucket;
use self::cluster::{Cluster, LEASE, Storage};
use self::database::Database;
use crate::crash::check;
use crate::crash::client::{Client, Done, Failed};
use crate::crash::life::Life;
use crate::crash::load::Worker;
use crate::crash::loss::{self, Loss, Trial};
use crate::crash::pulls;
use crate::crash::servers::Connections;
use crate::crash::tally::Tally;
use crate::crash::tools::{GRACE, OUTLASTS, Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, say};

/// After so many kills they begin with an empty database.
const LIFE: usize = 40;
/// After so many rounds all that is stored is looked at by `fsck`.
const FSCK_EVERY: usize = 5;
/// In every so-many-th round a blob is pulled that is deleted meanwhile.
const PULLS_EVERY: usize = 10;
/// After so many kills something is taken away, if a loss is expected.
const BEFORE_LOSS: usize = 4;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kills: usize,
    pub(super) seconds: u64,
    pub(super) replicas: usize,
    pub(super) clients: usize,
    /// A PostgreSQL server, by the URL of a database whose user may make others.
    pub(super) database: String,
    pub(super) storage: Option<String>,
    pub(super) expect_loss: bool,
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    let storage = Rc::new(match &plan.storage {
        None => Storage::Own(Bucket::start()?),
        Some(url) if url == "file:" => Storage::Directory,
        Some(url) => Storage::Given(url.clone()),
    });
    let runtime = runtime()?;
    if !plan.expect_loss {
        return runtime.block_on(Lane::new(tools, plan, &storage, None)?.run());
    }
    loss::expect(&[Loss::Tag, Loss::Object], |loss| {
        runtime.block_on(Lane::new(tools, plan, &storage, Some(loss))?.run())
    })
}

/// One cluster after the other.
struct Lane<'a> {
    tools: &'a Tools,
    plan: &'a Plan,
    storage: &'a Rc<Storage>,
    random: Random,
    scratch: tempfile::TempDir,
    lives: usize,
    tally: Tally,
    trial: Trial,
    rounds: usize,
}

impl<'a> Lane<'a> {
    fn new(
        tools: &'a Tools,
        plan: &'a Plan,
        storage: &'a Rc<Storage>,
        loss: Option<Loss>,
    ) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let (random, tally) = (Random::new(plan.seed), Tally::default());
        let trial = Trial::of(loss);
        Ok(Self { tools, plan, storage, random, scratch, lives: 0, tally, trial, rounds: 0 })
    }

    async fn run(mut self) -> Result {
        let begun = Instant::now();
        let over = |tally: &Tally| {
            tally.kills >= self.plan.kills
                || begun.elapsed() >= Duration::from_secs(self.plan.seconds)
        };
        let mut told = 0;
        while !over(&self.tally) {
            let (cluster, mut life) = self.life().await?;
            let before = self.tally;
            let mut rounds = 0;
            loop {
                let last = over(&self.tally) || self.tally.kills - before.kills >= LIFE;
                let done = self.round(&cluster, &mut life, rounds, last).await;
                self.tally.kills = before.kills + cluster.kills.get();
                self.tally.acknowledged = before.acknowledged + cluster.acknowledged();
                if let Err(error) = done {
                    return Err(self.failed(&life, &error));
                }
                if self.tally.kills / 20 > told {
                    told = self.tally.kills / 20;
                    say(&format!(
                        "{} kills, {} acknowledged, {:.0} s",
                        self.tally.kills,
                        self.tally.acknowledged,
                        begun.elapsed().as_secs_f64()
                    ));
                }
                if last {
                    break;
                }
                rounds += 1;
            }
        }
        say(&self.tally.table(begun.elapsed()));
        self.tally.is_enough(self.plan.kills)
    }

    /// A failure, with what each client did last.
    fn failed(self, life: &Life, error: &str) -> String {
        if let Some(found) = self.trial.failure(error) {
            return found;
        }
        let kept = self.scratch.keep();
        format!(
            "kill {}: {error}\nseed {}; what they said is kept in {}{}",
            self.tally.kills,
            self.plan.seed,
            kept.display(),
            life.histories()
        )
    }

    /// An empty database, and clients that have nothing in it.
    async fn life(&mut self) -> Result<(Rc<Cluster>, Life)> {
        self.lives += 1;
        let name = format!("crash_{}_{}", self.plan.seed, self.lives);
        let database = Database::create(&self.plan.database, &name).await?;
        let directory = self.scratch.path().join(&name);
        std::fs::create_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let replicas = self.plan.replicas;
        let cluster =
            Cluster::new(self.tools, self.storage, (directory, &name), database, replicas);
        let mut life = Life::new(&mut self.random, self.plan.clients, GRACE);
        for worker in &mut life.workers {
            let connections = Connections::new(cluster.servers.clone(), self.random.next());
            let acknowledge = cluster.clone();
            worker.client.connect(connections, Rc::new(move || acknowledge.acknowledge()));
            worker.client.lease = LEASE;
            worker.large = 2;
        }
        Ok((cluster, life))
    }

    /// Starts what is down, checks everything through each, and lets a load run until some are killed. The last round
    /// has no load; all that is open comes to its end.
    async fn round(
        &mut self,
        cluster: &Rc<Cluster>,
        life: &mut Life,
        number: usize,
        last: bool,
    ) -> Result {
        if self.trial.loss.is_some() && !self.trial.lost && cluster.kills.get() >= BEFORE_LOSS {
            self.lose(cluster).await?;
        }
        for down in cluster.numbers(false) {
            if self.random.percent(15) && !last {
                let after = Duration::from_micros(self.random.below(60_000) as u64);
                cluster.kill_at_start(down, after).await?;
                self.tally.at_start += 1;
            }
            cluster.start(down).await?;
        }
        cluster.all_arrived().await?;
        let checked = life.check(&cluster.servers.all(), &mut self.random, &mut self.tally).await;
        self.trial.checked(checked)?;
        if last {
            return self.finish(cluster, life).await;
        }
        if (number + 1).is_multiple_of(FSCK_EVERY) {
            cluster.fsck().await?;
            self.tally.fsck += 1;
        }
        self.load(cluster, life).await
    }

    async fn lose(&mut self, cluster: &Cluster) -> Result {
        self.trial.lost = match self.trial.loss {
            None | Some(Loss::Log) => false,
            Some(Loss::Tag) => cluster.database.lose_tag().await?,
            Some(Loss::Object) => cluster.lose_object().await?,
        };
        if self.trial.lost {
            // What they remember is not lost.
            cluster.numbers(true).into_iter().for_each(|number| cluster.kill(number));
        }
        Ok(())
    }

    /// The load, with one, two or three kills.
    async fn load(&mut self, cluster: &Rc<Cluster>, life: &mut Life) -> Result {
        let random = &mut self.random;
        let all = cluster.numbers(true);
        let first = match random.below(10) {
            0..8 => vec![all[random.below(all.len())]],
            _ => all,
        };
        let pulls = self.rounds % PULLS_EVERY == PULLS_EVERY / 2;
        self.rounds += 1;
        let at_answer = (!pulls && random.percent(50)).then(|| 1 + random.below(120) as u64);
        let delay = Duration::from_micros(random.below(800_000) as u64);
        let (alone, beside) = (random.below(500) as u64, random.below(300) as u64);
        let (starts, kills) = (random.percent(50), random.percent(40));
        let second = random.below(self.plan.replicas);
        let (first_pull, seed) = (Notify::new(), random.next());
        cluster.ends.set(false);
        let script = async {
            if pulls {
                first_pull.notified().await;
            }
            match at_answer {
                // A client that waits in vain ends the load.
                Some(count) => cluster.kill_at(count, first.clone()).await,
                None => tokio::time::sleep(delay).await,
            }
            first.iter().for_each(|number| cluster.kill(*number));
            if first.len() == 1 {
                tokio::time::sleep(Duration::from_millis(alone)).await;
                if starts {
                    cluster.start(first[0]).await?;
                    tokio::time::sleep(Duration::from_millis(beside)).await;
                }
                if kills {
                    cluster.kill(second);
                }
            }
            Result::Ok(())
        };
        // Whatever fails ends the load, or the others would go on for ever.
        let script = async {
            let done = script.await;
            cluster.end();
            done
        };
        let works = life.workers.iter_mut().map(|worker| async {
            let done = work(cluster, worker).await;
            if done.is_err() {
                cluster.end();
            }
            done
        });
        let mut client = Client::new("pulls", "", Rc::new(|| ()));
        client.model.grace = Some(GRACE);
        client.connect(Connections::new(cluster.servers.clone(), seed), Rc::new(|| ()));
        let pulls = async {
            match pulls {
                true => {
                    let tally = &mut self.tally.pulls;
                    pulls::run(&mut client, seed, OUTLASTS, tally, &first_pull).await
                }
                false => std::future::pending().await,
            }
        };
        let (done, script) = tokio::select! {
            done = join(join_all(works), script) => done,
            error = pulls => return Err(error),
        };
        script?;
        for (number, done) in done.into_iter().enumerate() {
            done.map_err(|failed| format!("client w{number}: {}", String::from(failed)))?;
        }
        Ok(())
    }

    /// When every lease has run out, all uploads can be brought to their end.
    async fn finish(&mut self, cluster: &Rc<Cluster>, life: &mut Life) -> Result {
        let busy =
            |client: &Client| client.model.uploads.values().any(|upload| upload.held.is_some());
        if life.workers.iter().any(|worker| busy(&worker.client)) {
            tokio::time::sleep(LEASE + check::SLACK).await;
        }
        for worker in &mut life.workers {
            let client = &mut worker.client;
            let open: Vec<u64> = client.model.uploads.keys().copied().collect();
            for upload in open {
                if !check::finish_upload(client, upload).await? {
                    return Err(format!("client {}: an upload is held for ever", client.name));
                }
                self.tally.resumed += 1;
            }
        }
        let checked = life.check(&cluster.servers.all(), &mut self.random, &mut self.tally).await;
        self.trial.checked(checked)?;
        cluster.numbers(true).into_iter().for_each(|number| cluster.kill(number));
        cluster.all_arrived().await?;
        cluster.fsck().await?;
        self.tally.fsck += 1;
        Ok(())
    }
}

/// One client's load. When the replica that it asked is killed, it goes on with another.
async fn work(cluster: &Cluster, worker: &mut Worker) -> Done {
    loop {
        let done = worker.run(|| cluster.ends.get()).await;
        let client = &mut worker.client;
        match done {
            Err(Failed::Lost(_)) if !client.connections.last_is_up() => {}
            Ok(()) => return Ok(()),
            Err(failed) => return Err(failed),
        }
        client.server_is_gone();
        let host = client.connections.last.clone();
        cluster.arrived(&host).await.map_err(Failed::Wrong)?;
        loop {
            if cluster.servers.all().is_empty() {
                // Nobody is left. What comes next is the check after a start.
                return Ok(());
            }
            match recover(client).await {
                Ok(()) => break,
                Err(Failed::Lost(_)) if !client.connections.last_is_up() => {}
                Err(failed) => return Err(failed),
            }
        }
    }
}

/// Finds out what became of a request that got no answer, and where uploads stand.
async fn recover(client: &mut Client) -> Done {
    check::settle(client).await?;
    check::uploads(client).await
}
