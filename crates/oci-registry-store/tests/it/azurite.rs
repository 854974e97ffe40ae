//! Azurite, an emulator of Azure Blob Storage, as a server of the tests' own.
//!
//! `OCI_TEST_AZURITE` names its program, which is looked for on `PATH` otherwise (`azurite-blob`). Where there is none, the tests that
//! need it say that they were not run; with `OCI_TEST_AZURITE_REQUIRED` set, they fail.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use oci_registry_store::{EngineOptions, Storage};

use crate::http::{Answer, ask_and_wait};

const ACCOUNT: &str = "registry";

/// The account's key. It must not show anywhere.
pub(crate) const KEY: &str = "dGVzdC1rZXktdGhhdC1ub2JvZHktbWF5LXNlZS0wMDA=";

/// What allows the tests to look into the account past the engine: a shared access signature by that key, for everything, until 2099.
const ACCESS: &str = "sv=2021-12-02&ss=b&srt=sco&sp=rwdlacu&se=2099-01-01T00%3A00%3A00Z&spr=https,http&\
                      sig=jXlcyDEs3oJXtfW0JOB%2BiTkzZu9uYShCtdnnz75iqzQ%3D";

/// A server in memory, which all tests share.
struct Server {
    host: String,
    /// Stops it when this process ends: it waits for the end of its input.
    _watch: Child,
}

impl Server {
    fn start() -> Option<Self> {
        let program = find_program()?;
        // It writes its log where it is started.
        let script = "cd \"$2\" || exit; \"$1\" --blobHost 127.0.0.1 --blobPort 0 --inMemoryPersistence --silent \
                      --disableTelemetry <&- & cat >/dev/null; kill -9 $!; rm -rf \"$2\"";
        let directory = tempfile::Builder::new().prefix("oci-azurite").tempdir().unwrap().keep();
        let mut watch = Command::new("sh")
            .args(["-c", script, "sh"])
            .args([&program, &directory])
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(watch.stdout.take().unwrap());
        let host = loop {
            let before = said.len();
            output.read_line(&mut said).unwrap();
            assert!(said.len() > before, "{} ended: {said}", program.display());
            if let Some((_, host)) = said[before..].split_once("successfully listens on http://") {
                break host.trim().to_owned();
            }
        };
        Some(Self { host, _watch: watch })
    }
}

fn find_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("OCI_TEST_AZURITE") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|place| place.join("azurite-blob")).find(|it| it.is_file())
}

/// A container of its own for a test.
pub(crate) struct Azurite {
    pub(crate) container: String,
    host: &'static str,
}

impl Azurite {
    /// `None` if there is no server, which is said.
    pub(crate) fn start(test: &str) -> Option<Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        static CONTAINERS: AtomicU32 = AtomicU32::new(0);
        let Some(server) = SERVER.get_or_init(Server::start) else {
            assert!(
                std::env::var_os("OCI_TEST_AZURITE_REQUIRED").is_none(),
                "{test} needs Azurite: put azurite-blob on PATH, or name it by OCI_TEST_AZURITE"
            );
            // Past the capture of the test harness.
            let _ = writeln!(std::io::stderr(), "NOT RUN, for there is no Azurite: {test}");
            return None;
        };
        let container = format!("container{}", CONTAINERS.fetch_add(1, Ordering::Relaxed));
        let azurite = Self { container, host: &server.host };
        assert_eq!(azurite.ask("PUT", "restype=container").status, 201);
        Some(azurite)
    }

    pub(crate) fn storage(&self) -> Storage {
        self.named(&format!("az://{}/some/prefix", self.container))
    }

    pub(crate) fn named(&self, url: &str) -> Storage {
        url.parse::<Storage>()
            .unwrap()
            .set("AZURE_STORAGE_ENDPOINT", self.endpoint())
            .set("AZURE_ALLOW_HTTP", "true")
            .set("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
            .set("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    }

    pub(crate) fn options(&self) -> EngineOptions {
        let mut options = EngineOptions::default();
        options.storage = self.storage();
        options
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.host)
    }

    /// A request about the container, by the right of the test.
    fn ask(&self, method: &str, query: &str) -> Answer {
        let path = format!("/{ACCOUNT}/{}?{query}&{ACCESS}", self.container);
        self.send(method, &path, "", b"")
    }

    /// A request to the server, by nobody's right.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        ask_and_wait(self.host, method, path, headers, body)
    }

    /// Blobs that can be seen, and blobs of which there are only blocks that were not made one.
    pub(crate) fn blobs(&self) -> (usize, usize) {
        let count = |include: &str| {
            let answer = self.ask("GET", &format!("restype=container&comp=list{include}"));
            assert_eq!(answer.status, 200);
            String::from_utf8(answer.body).unwrap().matches("<Blob>").count()
        };
        let visible = count("");
        (visible, count("&include=uncommittedblobs") - visible)
    }

    /// Deletes all blobs, and the blocks that were not made blobs, as Azure does with those after a week.
    pub(crate) fn clear(&self) {
        const NO_BLOCKS: &[u8] =
            br#"<?xml version="1.0" encoding="utf-8"?><BlockList></BlockList>"#;
        let list = self.ask("GET", "restype=container&comp=list&include=uncommittedblobs").body;
        let list = String::from_utf8(list).unwrap();
        for name in list.split("<Name>").skip(1) {
            let name = name.split_once('<').unwrap().0;
            let path = format!("/{ACCOUNT}/{}/{name}?{ACCESS}", self.container);
            let emptied = self.send("PUT", &format!("{path}&comp=blocklist"), "", NO_BLOCKS);
            assert_eq!(emptied.status, 201, "{}", String::from_utf8_lossy(&emptied.body));
            assert_eq!(self.send("DELETE", &path, "", b"").status, 202);
        }
    }
}
