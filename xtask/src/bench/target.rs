//! Who is measured: our server, registries that run already, and nginx as the limit of static reads.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::bench::scenarios::Content;
use crate::bench::stats::listener;
use crate::process::{Result, Server, say};

/// A server that is measured.
pub(crate) struct Target {
    pub(crate) name: String,
    /// `HOST:PORT`.
    pub(crate) host: String,
    /// Its process, where it is known, for what it uses.
    pub(crate) pid: Option<u32>,
    /// Whether it serves files only.
    pub(crate) read_only: bool,
    /// Whether it is the server of this repository.
    pub(crate) ours: bool,
}

/// The targets, and what keeps ours running.
pub(crate) struct Running {
    pub(crate) targets: Vec<Target>,
    _ours: Server,
    _nginx: Option<Nginx>,
    _scratch: tempfile::TempDir,
}

pub(crate) fn start_all(
    ocictl: &Path,
    no_sync: bool,
    peers: &[String],
    content: &Content,
) -> Result<Running> {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let extra: &[&str] = if no_sync { &["--no-sync"] } else { &[] };
    let ours = Server::start(ocictl, &scratch.path().join("data"), extra)?;
    let mut targets = vec![Target {
        name: "ours".into(),
        host: ours.host.clone(),
        pid: Some(ours.pid()),
        read_only: false,
        ours: true,
    }];
    for peer in peers {
        targets.push(parse_peer(peer)?);
    }
    let nginx = Nginx::start(scratch.path(), content)?;
    match &nginx {
        Some(nginx) => targets.push(Target {
            name: "nginx (static files)".into(),
            host: nginx.host.clone(),
            pid: nginx.worker(),
            read_only: true,
            ours: false,
        }),
        None => say("nginx is not installed: no limit of static reads to compare with"),
    }
    Ok(Running { targets, _ours: ours, _nginx: nginx, _scratch: scratch })
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
        read_only: false,
        ours: false,
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
