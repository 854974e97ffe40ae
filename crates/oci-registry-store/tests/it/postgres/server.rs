//! A PostgreSQL server for the tests, or the databases of one that is there. Tests of more than one crate use this file.
//!
//! `OCI_TEST_POSTGRES` names one by its URL, whose user may create databases. Otherwise one is started from the programs of an
//! installed package, in a temporary directory and on a socket of its own, and is gone when the tests have ended, however they end.
//! Where neither is possible, the tests that need a server say that they were not run; with `OCI_TEST_POSTGRES_REQUIRED` set, they
//! fail.

#![allow(dead_code, reason = "each of those that use it needs something else")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use oci_registry_store::Database;
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// The password of the server's administrator. It must not show anywhere.
pub(crate) const PASSWORD: &str = "not-to-be-shown";

/// Who runs a server that root starts, since PostgreSQL refuses to be root.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server of the tests' own.
pub(crate) struct Server {
    directory: TempDir,
    programs: PathBuf,
    /// The port on the network, and the number of its socket.
    port: u16,
    /// How it is reached by the network.
    network: &'static str,
    /// The options that make it count the cost of statements, if it does.
    counting: &'static str,
    /// Stops the server when it is dropped, and when this process ends: it waits for the end of its input.
    _watch: Child,
}

impl Server {
    /// Starts a server, if its programs can be found.
    pub(crate) fn start() -> Option<Self> {
        let server = Self::prepare()?;
        server.resume();
        Some(server)
    }

    /// Starts a server that counts what each statement costs, and syncs its log, by the extension
    /// `pg_stat_statements`, which distributions have with the server.
    pub(crate) fn start_counting() -> Option<Self> {
        let mut server = Self::prepare()?;
        server.counting = "-c shared_preload_libraries=pg_stat_statements -c fsync=on";
        server.resume();
        Some(server)
    }

    /// Starts a server that is reached by the network, too, if the connection is encrypted: with this certificate. It is given
    /// with its port.
    pub(crate) fn start_encrypted(certificate: &str, key: &str) -> Option<(Self, u16)> {
        let mut server = Self::prepare()?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.port = free.local_addr().unwrap().port();
        server.network = "127.0.0.1 -c ssl=on";
        drop(free);
        let rules = "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        for (name, text) in
            [("server.crt", certificate), ("server.key", key), ("pg_hba.conf", rules)]
        {
            let path = server.data().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                run(Command::new("chown").arg(user()).arg(&path));
            }
        }
        server.resume();
        let port = server.port;
        Some((server, port))
    }

    /// Makes one that is not running yet.
    fn prepare() -> Option<Self> {
        let programs = find_programs()?;
        let directory = tempfile::Builder::new().prefix("oci-pg").tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let own = path.join("own");
        fs::create_dir(&own).unwrap();
        if is_root() {
            run(Command::new("chown").arg(user()).arg(&own));
        }
        let password = path.join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
        run(as_user(&programs.join("initdb"))
            .args(["--auth=scram-sha-256", "--username=admin", "--encoding=UTF8", "--no-sync"])
            .args(["--locale=C", "--pwfile"])
            .arg(&password)
            .arg("--pgdata")
            .arg(own.join("data")));
        // A server outlives the process that started it, so somebody has to see that process end.
        let script =
            "cat >/dev/null; \"$1\" stop --pgdata \"$2\" --mode immediate --silent; rm -rf \"$3\"";
        let watch = as_user(Path::new("sh"))
            .args(["-c", script, "sh"])
            .arg(programs.join("pg_ctl"))
            .args([own.join("data"), own.clone()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { directory, programs, port: 5432, network: "", counting: "", _watch: watch })
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut command = as_user(&self.programs.join("pg_ctl"));
        command.args(arguments).arg("--silent").arg("--wait").arg("--pgdata").arg(self.data());
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("own/data")
    }

    /// Starts it again.
    pub(crate) fn resume(&self) {
        let own = self.directory.path().join("own");
        let options = format!(
            "-c listen_addresses={} -c port={} -k {} -c max_connections=400 -c fsync=off -c shared_buffers=32MB {}",
            self.network,
            self.port,
            own.display(),
            self.counting
        );
        run(self.control(&["start", "-o", &options]).arg("--log").arg(own.join("log")));
    }

    /// Stops it at once, as if the machine had been switched off.
    pub(crate) fn stop(&self) {
        run(&mut self.control(&["stop", "--mode", "immediate"]));
    }

    /// The URL of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        let socket = self.directory.path().join("own");
        let port = self.port;
        format!("postgres://admin:{PASSWORD}@/{database}?host={}&port={port}", socket.display())
    }
}

/// Databases are made on this server.
enum Where {
    Given(String),
    Ours(Server),
}

/// The server that all tests share.
fn shared() -> Option<&'static Where> {
    static SHARED: OnceLock<Option<Where>> = OnceLock::new();
    let found = SHARED.get_or_init(|| match std::env::var("OCI_TEST_POSTGRES") {
        Ok(url) => Some(Where::Given(url)),
        Err(_) => Server::start().map(Where::Ours),
    });
    found.as_ref()
}

/// Whether there is a server. If not, the test that asks says that it was not run, or fails if it has to.
pub(crate) fn is_there(test: &str) -> bool {
    if shared().is_some() {
        return true;
    }
    assert!(
        std::env::var_os("OCI_TEST_POSTGRES_REQUIRED").is_none(),
        "there is no PostgreSQL to test on: install it, or name a server by OCI_TEST_POSTGRES"
    );
    // Past the capture of the test harness.
    let _ = writeln!(std::io::stderr(), "NOT RUN, for there is no PostgreSQL: {test}");
    false
}

/// A fresh database on the server that all tests share: its URL.
pub(crate) async fn fresh_url() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("oci_test_{}_{number}", std::process::id());
    let (admin, url) = match shared().expect("the test has asked whether there is a server") {
        Where::Ours(server) => (server.url("postgres"), server.url(&name)),
        Where::Given(given) => {
            let (base, settings) = given.split_once('?').unwrap_or((given, ""));
            let server = base.rsplit_once('/').expect("the URL names a database").0;
            (given.clone(), format!("{server}/{name}?{settings}"))
        }
    };
    create(&admin, &name).await;
    url
}

/// A fresh database.
pub(crate) async fn fresh() -> Database {
    remember(fresh_url().await)
}

/// A copy of a database, as if all that use it had crashed.
pub(crate) async fn copy(original: &Database) -> Database {
    let from = url_of(original);
    let name = database_of(&from).to_owned();
    let to = fresh_url().await;
    let copy = database_of(&to).to_owned();
    let admin = to.replace(&copy, "postgres");
    let client = connect(&admin).await;
    client.execute(&format!("DROP DATABASE {copy}"), &[]).await.unwrap();
    // Nobody may be connected to what is copied. Who was connects again.
    let disconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    loop {
        client.execute(disconnect, &[&name]).await.unwrap();
        if client.execute(&format!("CREATE DATABASE {copy} TEMPLATE {name}"), &[]).await.is_ok() {
            break;
        }
    }
    execute(&to, "DELETE FROM replica").await;
    remember(to)
}

fn database_of(url: &str) -> &str {
    let path = url.split('?').next().unwrap();
    path.rsplit('/').next().unwrap()
}

/// The URLs of databases, by how they are shown.
static URLS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn remember(url: String) -> Database {
    let database: Database = url.parse().unwrap();
    URLS.lock().unwrap().insert(database.to_string(), url);
    database
}

/// The URL of a database that was made here.
pub(crate) fn url_of(database: &Database) -> String {
    URLS.lock().unwrap()[&database.to_string()].clone()
}

pub(crate) async fn create(admin: &str, name: &str) {
    execute(admin, &format!("CREATE DATABASE {name}")).await;
}

/// Runs statements beside the engine.
pub(crate) async fn execute(url: &str, statements: &str) {
    let client = connect(url).await;
    client.batch_execute(statements).await.unwrap();
}

pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The only value of a query.
pub(crate) async fn number(url: &str, query: &str) -> i64 {
    connect(url).await.query_one(query, &[]).await.unwrap().get(0)
}

/// Asks for a number until it is as wanted.
pub(crate) async fn until(
    client: &tokio_postgres::Client,
    query: &str,
    wanted: impl Fn(i64) -> bool,
) {
    while !wanted(client.query_one(query, &[]).await.unwrap().get(0)) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Runs one of the server's client programs.
pub(crate) fn run_client(program: &str, arguments: &[&str]) {
    let place = find_programs().map_or_else(PathBuf::new, |place| place.join(program));
    let program = if place.is_file() { place } else { program.into() };
    run(Command::new(program).args(arguments));
}

fn find_programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|found| found.map(|entry| entry.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    places.extend(versions.into_iter().rev());
    places.into_iter().find(|place| ["initdb", "pg_ctl"].iter().all(|it| place.join(it).is_file()))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

fn user() -> &'static str {
    let exists = |user: &&str| Command::new("id").arg(user).output().unwrap().status.success();
    USERS.into_iter().find(exists).expect("there is a user that is not root")
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = user();
    command.arg(format!("--reuid={user}")).args(["--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn run(command: &mut Command) {
    // A server that is started inherits what is captured, so that it would never end.
    let log = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone().unwrap());
    let status = command.status().unwrap();
    if !status.success() {
        use std::io::{Read as _, Seek as _};
        let (mut log, mut text) = (log, String::new());
        log.rewind().unwrap();
        log.read_to_string(&mut text).unwrap();
        panic!("{command:?}: {status}: {text}");
    }
}
