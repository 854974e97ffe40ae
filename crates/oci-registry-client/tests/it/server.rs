//! A small HTTP/1.1 server whose answers a test gives, and which keeps what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use oci_registry_client::{Client, ClientBuilder, Repository};
use oci_spec_types::Host;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// True if the whole body came. If not, the answer is not sent.
    pub(crate) whole: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Method, path and query in one.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent before the connection breaks.
    cut: Option<usize>,
    /// Whether the length is said.
    lengthless: bool,
    /// It is sent when this has a permit for it.
    gate: Option<Arc<Semaphore>>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { status, headers, body, cut: None, lengthless: false, gate: None }
    }

    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).body(body)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The connection breaks after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// The body ends with the connection; nobody says how long it is.
    pub(crate) fn lengthless(mut self) -> Self {
        self.lengthless = true;
        self
    }

    /// It is sent when the gate has a permit for it.
    pub(crate) fn held(mut self, gate: &Arc<Semaphore>) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// An error in the specification's form.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::status(status)
            .body(format!(r#"{{"errors":[{{"code":"{code}","message":"scripted"}}]}}"#))
    }
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// After how many bytes of their bodies requests with content break, one after the other.
pub(crate) type Breaks = Arc<Mutex<VecDeque<usize>>>;

pub(crate) struct Server {
    pub(crate) host: Host,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::breaking(Breaks::default(), script).await
    }

    /// Breaks the connection within the bodies of the first requests with content. The script is
    /// told what had come.
    pub(crate) async fn breaking(
        breaks: Breaks,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string().parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, kept): (Script, _) = (Arc::new(script), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), kept.clone(), breaks.clone()));
            }
        });
        Self { host, seen }
    }

    /// Answers in order; a request too many is a failure of the test, seen as 599.
    pub(crate) async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect::<VecDeque<_>>());
        Self::start(move |_| answers.lock().unwrap().pop_front().unwrap_or(Answer::status(599)))
            .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method, path and query of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// The repository `a/b` by a client without retries.
    pub(crate) fn repository(&self) -> Repository {
        self.repository_of(builder())
    }

    pub(crate) fn repository_of(&self, builder: ClientBuilder) -> Repository {
        let client = builder.build().unwrap();
        client.registry(&self.host).unwrap().repository("a/b".parse().unwrap())
    }
}

/// Settings that neither the machine's proxies and certificates nor a stopped clock disturb.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .only_added_root_certificates()
        .connect_timeout(None)
        .idle_timeout(None)
}

async fn serve(stream: TcpStream, script: Script, kept: Arc<Mutex<Vec<Seen>>>, breaks: Breaks) {
    let mut stream = BufStream::new(stream);
    while let Some(seen) = read(&mut stream, &breaks).await {
        kept.lock().unwrap().push(seen.clone());
        let answer = script(&seen);
        if !seen.whole {
            return;
        }
        if let Some(gate) = &answer.gate {
            gate.acquire().await.unwrap().forget();
        }
        let goes_on = answer.cut.is_none() && !answer.lengthless;
        if write(&mut stream, &seen, answer).await.is_err() || !goes_on {
            return;
        }
    }
}

async fn read(stream: &mut BufStream<TcpStream>, breaks: &Breaks) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut parts = line.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned())
            }
            None => break,
        };
    }
    assert!(!headers.contains_key("transfer-encoding"), "the client always says how much it sends");
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let at = if length > 0 { breaks.lock().unwrap().pop_front() } else { None };
    let whole = at.is_none_or(|at| at >= length);
    let mut body = vec![0; length.min(at.unwrap_or(length))];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { method, target, headers, body, whole })
}

async fn write(
    stream: &mut BufStream<TcpStream>,
    seen: &Seen,
    answer: Answer,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let names_length =
        answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if answer.lengthless {
        head.push_str("Connection: close\r\n");
    } else if !names_length && answer.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    if seen.method != "HEAD" {
        let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
        stream.write_all(&answer.body[..end]).await?;
    }
    stream.flush().await
}
