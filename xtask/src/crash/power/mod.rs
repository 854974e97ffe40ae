//! Power cuts: what a server does to its directory is recorded, and it is started on every state that the disk may have
//! after a cut.

mod cuts;
mod disk;
mod record;
mod trace;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use self::cuts::{Chosen, Cut};
use self::disk::{Disk, Tree};
use self::record::Recording;
use crate::crash::check;
use crate::crash::client::Client;
use crate::crash::tools::{Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, say};

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    /// How long states are tried, in seconds. Those that are left then are counted. `None`: until all have been.
    pub(super) seconds: Option<u64>,
    pub(super) no_sync: bool,
    pub(super) expect_loss: bool,
    pub(super) servers: usize,
}

/// What is said of a state on which no server starts. Content may be lost when nothing is synced, but that may not be.
const DOES_NOT_START: &str = "it does not start";

/// So many states a server are tried one after the other as a batch.
const BATCH: usize = 100;

/// States that are told in full, of those on which something was lost.
const TOLD: usize = 5;

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    record::check_strace()?;
    let options: &[&str] = if plan.no_sync { &["--no-sync"] } else { &[] };
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let directory = |name: &str| -> Result<PathBuf> {
        let path = scratch.path().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    let mut recordings = vec![
        record::usual(&tools.ocictl, &directory("usual")?, options)?,
        record::checkpointed(&tools.ocictl, &directory("checkpointed")?, options)?,
        record::collected(&tools.ocictl, &directory("collected")?, options)?,
    ];
    for sync in 1.. {
        let directory = directory(&format!("interrupted{sync}"))?;
        match record::interrupted(&tools.ocictl, &directory, options, sync)? {
            Some(recording) => recordings.push(recording),
            None => break,
        }
    }
    let begun = Instant::now();
    let deadline = plan.seconds.map(|seconds| begun + Duration::from_secs(seconds));
    let mut total = Done::default();
    say(
        "| recorded | calls | answers | cut points | tried | skipped | states | tried | equal to one tried | lost or damaged | seconds |\n\
         |---|---|---|---|---|---|---|---|---|---|---|",
    );
    let count = recordings.len();
    let mut all = (0, 0);
    let mut skipped = 0;
    for (number, recording) in recordings.iter().enumerate() {
        let mut random = Random::new(plan.seed ^ number as u64);
        let Chosen { cuts, skipped: skips } = cuts::choose(recording, &mut random)?;
        // The first are the longest, and have the states that matter most.
        let parts = if number < 3 { 3 } else { (count - number) as u32 };
        let share = deadline.map(|deadline| {
            Instant::now() + deadline.saturating_duration_since(Instant::now()) / parts
        });
        let started = Instant::now();
        let done = try_all(tools, plan, recording, &cuts, share)?;
        let answers: usize = recording.clients.iter().map(|client| client.steps.len()).sum();
        say(&format!(
            "| {} | {} | {answers} | {} | {} | {skips} | {} | {} | {} | {} | {:.0} |",
            recording.name,
            recording.events.len() / 2,
            cuts.iter().filter(|cut| cut.first).count(),
            done.points,
            cuts.len(),
            done.tried,
            done.equal,
            done.losses.len(),
            started.elapsed().as_secs_f64(),
        ));
        all.0 += cuts.iter().filter(|cut| cut.first).count();
        all.1 += cuts.len();
        skipped += skips;
        total.add(done);
    }
    let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
    say(&format!(
        "{:.1} % of {} cut points and {:.1} % of {} states tried in {:.0} s; after {skipped} more changes, each much like others, no \
         cut is made",
        share(total.points, all.0),
        all.0,
        share(total.tried + total.equal, all.1),
        all.1,
        begun.elapsed().as_secs_f64(),
    ));
    let (tried, losses) = (total.tried, total.losses);
    let stays = |loss: &&String| loss.contains(DOES_NOT_START);
    let stopped: Vec<&String> = losses.iter().filter(stays).collect();
    if plan.expect_loss && !stopped.is_empty() {
        stopped.iter().take(TOLD).for_each(|loss| say(loss));
        return Err(format!("on {} of {tried} states it does not start", stopped.len()));
    }
    for loss in losses.iter().take(if plan.expect_loss { 1 } else { TOLD }) {
        say(loss);
    }
    match (losses.is_empty(), plan.expect_loss) {
        (true, false) => {
            say(&format!("{tried} states tried, nothing was lost"));
            Ok(())
        }
        (false, true) => {
            say(&format!("{} of {tried} states show a loss, as was expected", losses.len()));
            Ok(())
        }
        (true, true) => Err(format!("{tried} states tried, and none shows the loss expected")),
        (false, false) => Err(format!(
            "something is lost or damaged on {} of {tried} states; seed {}",
            losses.len(),
            plan.seed
        )),
    }
}

/// What was tried.
#[derive(Default)]
struct Done {
    /// At how many points the power was cut.
    points: usize,
    /// States.
    tried: usize,
    /// States that were not tried, since they are what was tried before, and no more must be there.
    equal: usize,
    losses: Vec<String>,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.points += other.points;
        self.tried += other.tried;
        self.equal += other.equal;
        self.losses.extend(other.losses);
    }
}

/// Tries states until the time is up.
fn try_all(
    tools: &Tools,
    plan: &Plan,
    recording: &Recording,
    cuts: &[Cut],
    deadline: Option<Instant>,
) -> Result<Done> {
    // Those of a batch are tried in the order of their events, so that the disk is brought up to them only once.
    let batches: Vec<Vec<&Cut>> = cuts
        .chunks(BATCH * plan.servers)
        .map(|batch| {
            let mut batch: Vec<&Cut> = batch.iter().collect();
            batch.sort_by_key(|cut| cut.events);
            batch
        })
        .collect();
    let done = Mutex::new(Done::default());
    let known = Mutex::new(HashSet::new());
    let results: Vec<Result> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.servers)
            .map(|first| {
                let (batches, done, known) = (&batches, &done, &known);
                scope.spawn(move || -> Result {
                    let place = Place::new()?;
                    let runtime = runtime()?;
                    for batch in batches {
                        let (mut disk, mut at) = (Disk::default(), 0);
                        for cut in batch.iter().skip(first).step_by(plan.servers) {
                            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                                return Ok(());
                            }
                            for event in &recording.events[at..cut.events] {
                                disk.event(event)?;
                            }
                            at = cut.events;
                            let tree = disk.tree(&cut.fates);
                            let fresh = lock(known).insert(fingerprint(&tree, &cut.answers));
                            lock(done).points += usize::from(cut.first);
                            if !fresh {
                                lock(done).equal += 1;
                                continue;
                            }
                            place.write(&tree, &recording.data)?;
                            let check = check_one(tools, plan, recording, cut, &place);
                            let checked = runtime.block_on(check);
                            let mut done = lock(done);
                            done.tried += 1;
                            if let Err(error) = checked {
                                done.losses.push(describe(recording, cut, &disk, &error));
                            }
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("panicked".into())))
            .collect()
    });
    results.into_iter().collect::<Result<Vec<()>>>()?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What tells a state from others: all that is on the disk, and how much must be there.
fn fingerprint(tree: &Tree, answers: &[usize]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for (path, content) in tree {
        part(path.as_os_str().as_encoded_bytes());
        part(&[u8::from(content.is_some())]);
        part(content.as_deref().unwrap_or_default());
    }
    answers.iter().for_each(|count| part(&count.to_le_bytes()));
    hash.finalize().into()
}

/// Starts a server on what a cut has left, and checks all that was acknowledged before.
async fn check_one(
    tools: &Tools,
    plan: &Plan,
    recording: &Recording,
    cut: &Cut,
    place: &Place,
) -> Result {
    let options: &[&str] = if plan.no_sync { &["--no-sync"] } else { &[] };
    let server =
        tools.start(&place.data, options).map_err(|error| format!("{DOES_NOT_START}: {error}"))?;
    for (recorded, answers) in recording.clients.iter().zip(&cut.answers) {
        let mut client = Client::new("after the cut", &server.host, std::rc::Rc::new(|| ()));
        match recorded.steps.get(*answers) {
            Some(step) => {
                client.model = step.model.clone();
                client.in_flight = step.changes.clone();
            }
            None => client.model = recorded.end.clone(),
        }
        check::settle(&mut client).await.map_err(String::from)?;
        check::everything(&mut client, &[]).await.map_err(String::from)?;
        let open: Vec<u64> = client.model.uploads.keys().copied().collect();
        for upload in open {
            check::finish_upload(&mut client, upload).await.map_err(String::from)?;
        }
    }
    server.kill()?;
    tools.fsck(&place.data)
}

fn describe(recording: &Recording, cut: &Cut, disk: &Disk, error: &str) -> String {
    let names: std::collections::HashMap<usize, String> = recording.events[..cut.events]
        .iter()
        .filter_map(|event| match event {
            trace::Event::Began(id, action) => Some((*id, tell(action, &recording.data))),
            trace::Event::Ended(_) => None,
        })
        .collect();
    let mut text = format!(
        "{}: a cut after event {} of {}, with answers {:?}: {error}\n  pending then:",
        recording.name,
        cut.events,
        recording.events.len(),
        cut.answers,
    );
    for open in disk.open().iter().rev().take(30) {
        let fate = cut.fates.get(&open.id).copied().unwrap_or(disk::Fate::Lost);
        let name = names.get(&open.id).map_or("", String::as_str);
        text.push_str(&format!("\n    {name}: {fate:?}"));
    }
    text
}

fn tell(action: &trace::Action, data: &Path) -> String {
    use trace::Action;
    let short = |path: &Path| path.strip_prefix(data).unwrap_or(path).display().to_string();
    match action {
        Action::Create(path) => format!("make {}", short(path)),
        Action::MakeDirectory(path) => format!("make directory {}", short(path)),
        Action::Write { path, offset, bytes } => {
            format!("write {} bytes at {offset} to {}", bytes.len(), short(path))
        }
        Action::Truncate { path, length } => format!("cut {} to {length} bytes", short(path)),
        Action::Rename { from, to } => format!("rename {} to {}", short(from), short(to)),
        Action::Unlink(path) => format!("unlink {}", short(path)),
        Action::Sync(path) => format!("sync {}", short(path)),
        Action::Answer(port) => format!("answer to port {port}"),
    }
}

/// Where states are laid out: in memory where that is possible, since they need not last.
struct Place {
    _scratch: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let scratch = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let scratch = scratch.map_err(|error| format!("making a scratch directory: {error}"))?;
        Ok(Self { data: scratch.path().join("data"), _scratch: scratch })
    }

    /// Lays a tree out in place of what was there before. Its paths lie in `recorded`.
    fn write(&self, tree: &Tree, recorded: &Path) -> Result {
        let failed = |error: std::io::Error| format!("{}: {error}", self.data.display());
        match std::fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(error));
            }
            _ => {}
        }
        for (path, content) in tree {
            let inner = path.strip_prefix(recorded).map_err(|error| error.to_string())?;
            let path = match inner.as_os_str().is_empty() {
                true => self.data.clone(),
                false => self.data.join(inner),
            };
            match content {
                None => std::fs::create_dir(path).map_err(failed)?,
                Some(bytes) => std::fs::write(path, bytes).map_err(failed)?,
            }
        }
        Ok(())
    }
}
