//! Replicas: processes on one database and one storage, of which any may be killed and started at any time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::bucket::Bucket;
use super::database::Database;
use crate::crash::servers::Servers;
use crate::crash::tools::{COLLECTING, Tools};
use crate::process::{Result, Server};

/// How long a killed replica is taken for alive.
pub(super) const LEASE: Duration = Duration::from_secs(4);

/// Where the bytes of large blobs lie.
pub(super) enum Storage {
    /// A directory that all replicas share.
    Directory,
    /// A bucket of this process.
    Own(Bucket),
    /// A bucket somewhere, for which the environment has the credentials.
    Given(String),
}

/// The replicas, with all that they share.
pub(super) struct Cluster {
    tools: Tools,
    storage: Rc<Storage>,
    directory: PathBuf,
    /// Tells it from the clusters before it on the same storage.
    name: String,
    pub(super) database: Database,
    replicas: RefCell<Vec<Option<Server>>>,
    /// The hosts that are up.
    pub(super) servers: Servers,
    /// What the database calls the process at a host.
    names: RefCell<BTreeMap<String, String>>,
    killed: RefCell<Vec<String>>,
    starts: Cell<usize>,
    acknowledged: Cell<u64>,
    /// At this acknowledgement these are killed.
    last: RefCell<(u64, Vec<usize>)>,
    /// Something was killed, or the load ends.
    told: Notify,
    pub(super) kills: Cell<usize>,
    /// The load ends.
    pub(super) ends: Cell<bool>,
}

impl Cluster {
    pub(super) fn new(
        tools: &Tools,
        storage: &Rc<Storage>,
        (directory, name): (PathBuf, &str),
        database: Database,
        replicas: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            tools: tools.clone(),
            storage: storage.clone(),
            directory,
            name: name.to_owned(),
            database,
            replicas: RefCell::new((0..replicas).map(|_| None).collect()),
            servers: Servers::default(),
            names: RefCell::default(),
            killed: RefCell::default(),
            starts: Cell::default(),
            acknowledged: Cell::default(),
            last: RefCell::new((u64::MAX, Vec::new())),
            told: Notify::new(),
            kills: Cell::default(),
            ends: Cell::default(),
        })
    }

    /// The numbers of the replicas that are up, or of those that are not.
    pub(super) fn numbers(&self, up: bool) -> Vec<usize> {
        let replicas = self.replicas.borrow();
        (0..replicas.len()).filter(|number| replicas[*number].is_some() == up).collect()
    }

    fn data(&self, number: usize) -> PathBuf {
        match *self.storage {
            Storage::Directory => self.directory.join("data"),
            _ => self.directory.join(format!("data{number}")),
        }
    }

    /// What all commands are told: where content lies.
    fn place(&self, user: &str) -> (Vec<String>, Vec<(String, String)>) {
        let mut environment = vec![("OCICTL_DATABASE".to_owned(), self.database.url(user))];
        let storage = match &*self.storage {
            Storage::Directory => "file:".to_owned(),
            Storage::Own(bucket) => {
                environment.extend(bucket.environment());
                bucket.url(&self.name)
            }
            Storage::Given(url) => format!("{}/{}", url.trim_end_matches('/'), self.name),
        };
        (vec!["--storage".to_owned(), storage], environment)
    }

    /// A command that starts a replica, and what the database will call it.
    fn command(&self, number: usize) -> Result<(Command, String)> {
        self.starts.set(self.starts.get() + 1);
        let user = format!("{}-{}", self.name, self.starts.get());
        let (storage, environment) = self.place(&user);
        let lease = format!("{}s", LEASE.as_secs());
        let mut options: Vec<&str> = storage.iter().map(String::as_str).collect();
        options.extend(["--lease", &lease]);
        options.extend(COLLECTING);
        let mut command = self.tools.serve(&self.data(number), &options)?;
        command.envs(environment);
        Ok((command, user))
    }

    /// Starts a replica, beside everything else.
    pub(super) async fn start(&self, number: usize) -> Result {
        let (command, user) = self.command(number)?;
        let started = tokio::task::spawn_blocking(move || Server::spawn(command)).await;
        let started = started.map_err(|error| format!("starting replica {number}: {error}"))?;
        let server = started
            .map_err(|error| format!("{error}: {}", self.tools.said_last(&self.data(number))))?;
        self.names.borrow_mut().insert(server.host.clone(), user);
        self.servers.up(&server.host);
        self.replicas.borrow_mut()[number] = Some(server);
        Ok(())
    }

    /// Starts a replica, and kills it after a time in which it has hardly begun.
    pub(super) async fn kill_at_start(&self, number: usize, after: Duration) -> Result {
        let (mut command, user) = self.command(number)?;
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = started.map_err(|error| format!("starting replica {number}: {error}"))?;
        tokio::time::sleep(after).await;
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|error| format!("killing replica {number}: {error}"))?;
        self.kills.set(self.kills.get() + 1);
        self.database.arrived(&user).await
    }

    pub(super) fn kill(&self, number: usize) {
        let Some(server) = self.replicas.borrow_mut()[number].take() else { return };
        let host = server.host.clone();
        // It may have ended by itself, which the clients notice.
        let _ = server.kill();
        self.servers.down(&host);
        self.killed.borrow_mut().push(host);
        self.kills.set(self.kills.get() + 1);
        self.told.notify_one();
    }

    /// These are killed after so many acknowledgements. Waits for that, however long it takes, or until the load ends.
    pub(super) async fn kill_at(&self, count: u64, numbers: Vec<usize>) {
        *self.last.borrow_mut() = (self.acknowledged.get() + count, numbers);
        // An earlier kill may have left its notice.
        while !self.ends.get() && !self.last.borrow().1.is_empty() {
            self.told.notified().await;
        }
        *self.last.borrow_mut() = (u64::MAX, Vec::new());
    }

    /// The load ends.
    pub(super) fn end(&self) {
        self.ends.set(true);
        self.told.notify_one();
    }

    pub(super) fn acknowledge(&self) {
        self.acknowledged.set(self.acknowledged.get() + 1);
        if self.acknowledged.get() == self.last.borrow().0 {
            let (_, numbers) = std::mem::take(&mut *self.last.borrow_mut());
            numbers.into_iter().for_each(|number| self.kill(number));
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    /// Waits until the database has done, or dropped, all that the killed one at a host had asked for.
    pub(super) async fn arrived(&self, host: &str) -> Result {
        let user = self.names.borrow().get(host).cloned();
        match user {
            Some(user) => self.database.arrived(&user).await,
            None => Ok(()),
        }
    }

    /// The same of all that were killed.
    pub(super) async fn all_arrived(&self) -> Result {
        let killed = std::mem::take(&mut *self.killed.borrow_mut());
        for host in killed {
            self.arrived(&host).await?;
        }
        Ok(())
    }

    /// Checks all that is stored: through the first replica if that is up, and beside all of them otherwise.
    pub(super) async fn fsck(&self) -> Result {
        let (storage, environment) = self.place(&format!("{}-fsck", self.name));
        let (tools, data) = (self.tools.clone(), self.data(0));
        let checked =
            tokio::task::spawn_blocking(move || tools.fsck_at(&data, &storage, &environment));
        checked.await.map_err(|error| error.to_string())?
    }

    /// Removes the file of some object that must be there, behind the servers' backs.
    pub(super) async fn lose_object(&self) -> Result<bool> {
        let Some(key) = self.database.some_object().await? else { return Ok(false) };
        let root = match &*self.storage {
            Storage::Directory => self.directory.join("data"),
            Storage::Own(bucket) => bucket.files(),
            Storage::Given(_) => {
                return Err("objects can be taken away from our own bucket only".into());
            }
        };
        Ok(remove(&root, &key))
    }
}

/// Removes the file with a name, wherever it is.
fn remove(directory: &Path, name: &str) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => remove(&path, name),
            false => entry.file_name() == name && std::fs::remove_file(&path).is_ok(),
        }
    })
}
