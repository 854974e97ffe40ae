//! Who is measured: our server, registries that run already, and nginx as the limit of static reads.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::bench::content::Content;
use crate::bench::http::Connection;
use crate::bench::stats::listener;
use crate::process::{Result, Server, say};

/// What the targets are called that are no peers.
pub(crate) const OURS: &str = "ours";
pub(crate) const UNSYNCED: &str = "ours, --no-sync";
pub(crate) const ON_DATABASE: &str = "ours, --database";
pub(crate) const FILLED: &str = "ours, filled";
pub(crate) const NGINX: &str = "nginx";

/// A server that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `HOST:PORT`.
    pub(crate) host: String,
    /// Its process, where it is known, for what it uses.
    pub(crate) pid: Option<u32>,
    pub(crate) kind: Kind,
}

/// Who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The server of this repository.
    Ours,
    /// The same, answering before content is synced.
    Unsynced,
    /// The same with its metadata in PostgreSQL.
    OnDatabase,
    /// The same with so many manifests.
    Filled { manifests: usize },
    /// Another registry.
    Peer,
    /// A server of files.
    Files,
}

/// The targets, and what keeps those running that are not peers.
pub(crate) struct Running {
    pub(crate) targets: Vec<Target>,
    servers: Vec<Server>,
    _nginx: Option<Nginx>,
    pub(crate) scratch: tempfile::TempDir,
}

impl Running {
    /// Starts ours and nginx.
    pub(crate) async fn start(
        ocictl: &Path,
        database: Option<&str>,
        peers: &[String],
        content: &Content,
    ) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let (targets, servers) = (Vec::new(), Vec::new());
        let nginx = Nginx::start(scratch.path(), content)?;
        let files = nginx.as_ref().map(|nginx| Target {
            name: NGINX.into(),
            host: nginx.host.clone(),
            pid: nginx.worker(),
            kind: Kind::Files,
        });
        let mut running = Self { targets, servers, _nginx: nginx, scratch };
        let data = |name: &str| running.scratch.path().join(name);
        let ours = Server::start(ocictl, &data("data"), &[])?;
        let unsynced = Server::start(ocictl, &data("unsynced"), &["--no-sync"])?;
        let shared = match database {
            Some(url) => Some(Server::start(ocictl, &data("shared"), &["--database", url])?),
            None => None,
        };
        running.add(OURS, Kind::Ours, ours);
        running.add(UNSYNCED, Kind::Unsynced, unsynced);
        if let Some(shared) = shared {
            check_empty(&shared.host).await?;
            running.add(ON_DATABASE, Kind::OnDatabase, shared);
        }
        for peer in peers {
            running.targets.push(parse_peer(peer)?);
        }
        if files.is_none() {
            say("nginx is not installed: no limit of static reads to compare with");
        }
        running.targets.extend(files);
        Ok(running)
    }

    /// Adds one of our servers.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, server: Server) {
        let (name, host, pid) = (name.to_owned(), server.host.clone(), Some(server.pid()));
        self.targets.push(Target { name, host, pid, kind });
        self.servers.push(server);
    }
}

/// What a database knows of from before has its bytes elsewhere.
async fn check_empty(host: &str) -> Result {
    let answer = Connection::open(host).await?.send("GET", "/v2/_catalog?n=1", "", &[]).await?;
    let empty = r#"{"repositories":[]}"#.len() as u64;
    match (answer.status, answer.length) {
        (200, length) if length <= empty => Ok(()),
        (200, _) => Err("--database: it has content already; give an empty one".into()),
        (status, _) => Err(format!("--database: the catalogue has status {status}")),
    }
}

fn parse_peer(text: &str) -> Result<Target> {
    let wrong = || format!("--peer {text}: expected NAME=http://HOST:PORT");
    let (name, url) = text.split_once('=').ok_or_else(wrong)?;
    let host = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).ok_or_else(wrong)?;
    Ok(Target {
        name: name.to_owned(),
        host: host.to_owned(),
        pid: listener(port),
        kind: Kind::Peer,
    })
}

/// nginx with one worker a core, serving the files that a registry would answer with. Stopped when dropped.
struct Nginx {
    child: Child,
    host: String,
}

impl Nginx {
    fn start(scratch: &Path, content: &Content) -> Result<Option<Self>> {
        let Some(program) =
            ["/usr/sbin/nginx", "/usr/bin/nginx"].iter().find(|path| Path::new(path).exists())
        else {
            return Ok(None);
        };
        let root = scratch.join("nginx");
        let failed = |error| format!("preparing nginx in {}: {error}", root.display());
        for (path, bytes) in content.files() {
            let file = root.join("html").join(path.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap_or(&root)).map_err(failed)?;
            fs::write(file, bytes).map_err(failed)?;
        }
        let port = free_port()?;
        let config = format!(
            "daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
             server {{ listen 127.0.0.1:{port}; root {root}/html; default_type application/octet-stream; }} }}\n",
            root = root.display()
        );
        let file = root.join("nginx.conf");
        fs::write(&file, config).map_err(failed)?;
        let user =
            fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data));
        let mut command = Command::new(program);
        if user.is_ok_and(|uid| uid == 0) {
            command.args(["-g", "user root;"]);
        }
        let child = command
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: cannot be started: {error}"))?;
        let mut nginx = Self { child, host: format!("127.0.0.1:{port}") };
        nginx.wait()?;
        Ok(Some(nginx))
    }

    /// Waits until it answers, or has ended.
    fn wait(&mut self) -> Result {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::net::TcpStream::connect(&self.host).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("nginx ended at once: {status}"));
            }
            if std::time::Instant::now() > deadline {
                return Err("nginx does not listen after 10 s".into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The process that does the work.
    fn worker(&self) -> Option<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the master take its workers along; they would outlive a killed master.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")
        .map_err(|error| format!("finding a free port: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("finding a free port: {error}"))?;
    Ok(address.port())
}
