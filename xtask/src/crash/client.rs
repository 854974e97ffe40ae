//! A client that does one thing at a time, and keeps a model of what was acknowledged to it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conformance::wire::Reply;
use crate::crash::check::SLACK;
use crate::crash::content::{Blob, Manifest};
use crate::crash::model::{Change, Model, Upload};
use crate::crash::servers::{Connections, Servers};

/// How many requests are remembered, to be told when something is wrong.
const HISTORY: usize = 30;

/// Why a request did not come to its end.
#[derive(Debug)]
pub(super) enum Failed {
    /// There was no answer. Whether it happened is not known.
    Lost(String),
    /// The answer is not what it must be.
    Wrong(String),
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Lost(error) | Failed::Wrong(error) => error,
        }
    }
}

pub(super) type Done<T = ()> = Result<T, Failed>;

/// What was acknowledged before a request, and what the request changes.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The port from which it was sent.
    pub(super) port: u16,
    pub(super) model: Model,
    pub(super) changes: Vec<Change>,
}

/// A client.
pub(super) struct Client {
    pub(super) name: String,
    pub(super) connections: Connections,
    pub(super) model: Model,
    /// What the request that got no answer changes, if it happened.
    pub(super) in_flight: Vec<Change>,
    /// The last answer that was not the expected one.
    pub(super) refusal: Option<Reply>,
    /// The upload that it writes to.
    writes: Option<u64>,
    /// How long an upload is kept from others that a killed server was writing, where servers share their uploads.
    pub(super) lease: Duration,
    /// When the last request was sent.
    pub(super) sent_at: Instant,
    /// How many blobs were found to be collected.
    pub(super) collected: usize,
    pub(super) history: VecDeque<String>,
    /// Every request, if they are recorded.
    pub(super) steps: Option<Vec<Step>>,
    /// Called after each acknowledgement.
    acknowledged: Rc<dyn Fn()>,
    next_upload: Rc<Cell<u64>>,
}

impl Client {
    pub(super) fn new(name: &str, host: &str, acknowledged: Rc<dyn Fn()>) -> Self {
        Self {
            name: name.to_owned(),
            connections: Connections::new(Servers::one(host), 0),
            model: Model::default(),
            in_flight: Vec::new(),
            refusal: None,
            writes: None,
            lease: Duration::ZERO,
            sent_at: Instant::now(),
            collected: 0,
            history: VecDeque::new(),
            steps: None,
            acknowledged,
            next_upload: Rc::default(),
        }
    }

    /// Goes on with a server that was started again.
    pub(super) fn reconnect(&mut self, host: &str, acknowledged: Rc<dyn Fn()>) {
        self.connect(Connections::new(Servers::one(host), 0), acknowledged);
        self.note("-- the server was started again".to_owned());
    }

    /// Goes on with other servers.
    pub(super) fn connect(&mut self, connections: Connections, acknowledged: Rc<dyn Fn()>) {
        (self.connections, self.acknowledged) = (connections, acknowledged);
    }

    pub(super) fn note(&mut self, line: String) {
        self.history.push_back(line);
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// Sends a request that changes something, whose answer must have the given status.
    async fn change(
        &mut self,
        (method, target): (&str, &str),
        headers: &[(&str, String)],
        body: &[u8],
        expected: u16,
        changes: Vec<Change>,
    ) -> Done<Reply> {
        let reply = self.try_change((method, target), headers, body, expected, changes).await?;
        if reply.status == expected {
            return Ok(reply);
        }
        Err(Failed::Wrong(describe(method, target, &reply, &format!("expected {expected}"))))
    }

    /// The same; any other answer means that nothing was changed.
    pub(super) async fn try_change(
        &mut self,
        (method, target): (&str, &str),
        headers: &[(&str, String)],
        body: &[u8],
        expected: u16,
        changes: Vec<Change>,
    ) -> Done<Reply> {
        self.record(&changes).await?;
        self.in_flight = changes;
        self.sent_at = Instant::now();
        let sent = self.connections.send(method, target, headers, body).await;
        let answer = sent.as_ref().map_or("no answer".to_owned(), |reply| reply.status.to_string());
        let asked = &self.connections.last;
        self.note(format!("{method} {target} ({} bytes) to {asked}: {answer}", body.len()));
        let reply = sent.map_err(Failed::Lost)?;
        let changes = std::mem::take(&mut self.in_flight);
        if reply.status == expected {
            self.model.apply(&changes, self.sent_at);
            (self.acknowledged)();
        } else {
            self.refusal = Some(reply.clone());
        }
        Ok(reply)
    }

    async fn record(&mut self, changes: &[Change]) -> Done {
        if let Some(steps) = &mut self.steps {
            let port = self.connections.port().await.map_err(Failed::Lost)?;
            steps.push(Step { port, model: self.model.clone(), changes: changes.to_vec() });
        }
        Ok(())
    }

    /// Pushes a blob in one request.
    pub(super) async fn push_at_once(&mut self, repository: &str, blob: &Blob) -> Done {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
        let changes =
            vec![Change::Blob((repository.to_owned(), blob.digest.clone()), Some(blob.clone()))];
        self.change(("POST", &target), &[], &blob.bytes, 201, changes).await.map(drop)
    }

    /// Begins an upload, and gives its number.
    pub(super) async fn begin(&mut self, repository: &str, blob: &Blob) -> Done<u64> {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let reply = self.change(("POST", &target), &[], &[], 202, Vec::new()).await?;
        self.begun(repository, blob, &reply)
    }

    fn begun(&mut self, repository: &str, blob: &Blob, reply: &Reply) -> Done<u64> {
        let number = self.next_upload.replace(self.next_upload.get() + 1);
        let upload = Upload {
            repository: repository.to_owned(),
            location: location(reply)?,
            blob: blob.clone(),
            acknowledged: 0,
            sent: 0,
            held: None,
        };
        self.model.uploads.insert(number, upload);
        Ok(number)
    }

    /// Sends some bytes more of an upload: never a single one, since an upload at one byte says what one without bytes says.
    pub(super) async fn patch(&mut self, number: u64, count: usize) -> Done {
        let upload = self.upload(number)?;
        let start = upload.acknowledged;
        let end = (start + if count == 1 { 2 } else { count }).min(upload.blob.size());
        upload.sent = end;
        let (target, blob) = (upload.location.clone(), upload.blob.clone());
        let mut headers = vec![("Content-Type", "application/octet-stream".to_owned())];
        // Every other chunk says where it belongs.
        if end > start && (start + end) % 2 == 0 {
            headers.push(("Content-Range", format!("{start}-{}", end - 1)));
        }
        let bytes = &blob.bytes[start..end];
        let sent = self.write(number, ("PATCH", &target), &headers, bytes, 202, Vec::new()).await?;
        let Some(reply) = sent else { return Ok(()) };
        let offset = offset(&reply, end)?;
        if offset != end {
            let message = format!("PATCH {target}: the upload is at {offset}, expected {end}");
            return Err(Failed::Wrong(message));
        }
        let location = location(&reply)?;
        let upload = self.upload(number)?;
        upload.location = location;
        upload.acknowledged = end;
        Ok(())
    }

    /// Sends the rest of an upload, and ends it. `false` if a server that was killed holds it still.
    pub(super) async fn commit(&mut self, number: u64) -> Done<bool> {
        let upload = self.upload(number)?;
        upload.sent = upload.blob.size();
        let upload = upload.clone();
        let separator = if upload.location.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}digest={}", upload.location, upload.blob.digest);
        let place = (upload.repository.clone(), upload.blob.digest.clone());
        let changes = vec![Change::Ended(number), Change::Blob(place, Some(upload.blob.clone()))];
        let rest = &upload.blob.bytes[upload.acknowledged..];
        let sent = self.write(number, ("PUT", &target), &[], rest, 201, changes).await?;
        Ok(sent.is_some())
    }

    /// Writes to an upload. `None` if a server that was killed holds it still: that ends with its lease, and until then
    /// the others say truly where the upload stands.
    async fn write(
        &mut self,
        number: u64,
        (method, target): (&str, &str),
        headers: &[(&str, String)],
        body: &[u8],
        expected: u16,
        changes: Vec<Change>,
    ) -> Done<Option<Reply>> {
        let upload = self.upload(number)?;
        let (held, acknowledged) = (upload.held, upload.acknowledged);
        self.writes = Some(number);
        let sent = self.try_change((method, target), headers, body, expected, changes).await;
        let reply = sent?;
        self.writes = None;
        let lease = self.lease;
        let upload = self.model.uploads.get_mut(&number);
        match (reply.status, held) {
            (status, _) if status == expected => {
                if let Some(upload) = upload {
                    upload.held = None;
                }
                Ok(Some(reply))
            }
            // Of a cancelled upload nobody asks where it stands.
            (409, Some(since)) if method == "DELETE" && since.elapsed() < lease + SLACK => Ok(None),
            (416, Some(since)) if since.elapsed() < lease + SLACK => {
                let found = offset(&reply, acknowledged)?;
                if found != acknowledged {
                    let message = format!("expected the Range up to {acknowledged}, found {found}");
                    return Err(Failed::Wrong(describe(method, target, &reply, &message)));
                }
                if let Some(upload) = upload {
                    upload.sent = acknowledged;
                }
                Ok(None)
            }
            _ => Err(Failed::Wrong(describe(
                method,
                target,
                &reply,
                &format!("expected {expected}"),
            ))),
        }
    }

    /// The server that was asked last was killed, and had not answered: it may hold the upload that it was writing.
    pub(super) fn server_is_gone(&mut self) {
        let upload = self.writes.take().and_then(|number| self.model.uploads.get_mut(&number));
        if let Some(upload) = upload {
            upload.held = Some(Instant::now());
        }
    }

    pub(super) async fn cancel(&mut self, number: u64) -> Done {
        let target = self.upload(number)?.location.clone();
        let changes = vec![Change::Ended(number)];
        self.write(number, ("DELETE", &target), &[], &[], 204, changes).await.map(drop)
    }

    fn upload(&mut self, number: u64) -> Done<&mut Upload> {
        let missing = || Failed::Wrong(format!("there is no upload {number}"));
        self.model.uploads.get_mut(&number).ok_or_else(missing)
    }

    /// Takes a blob over from another repository, and tells whether it was there.
    pub(super) async fn mount(&mut self, from: &str, to: &str, blob: &Blob) -> Done<bool> {
        let target = format!("/v2/{to}/blobs/uploads/?mount={}&from={from}", blob.digest);
        let place = (to.to_owned(), blob.digest.clone());
        let changes = vec![Change::Blob(place, Some(blob.clone()))];
        let reply = self.try_change(("POST", &target), &[], &[], 201, changes).await?;
        match reply.status {
            201 => Ok(true),
            202 => {
                let number = self.begun(to, blob, &reply)?;
                self.cancel(number).await.map(|()| false)
            }
            _ => Err(Failed::Wrong(describe("POST", &target, &reply, "expected 201 or 202"))),
        }
    }

    /// Pushes a manifest by its digest, or as a tag.
    pub(super) async fn put_manifest(
        &mut self,
        repository: &str,
        manifest: &Arc<Manifest>,
        tag: Option<&str>,
    ) -> Done {
        let name = tag.unwrap_or(&manifest.digest);
        let target = format!("/v2/{repository}/manifests/{name}");
        let place = (repository.to_owned(), manifest.digest.clone());
        let mut changes = vec![Change::Manifest(place, Some(manifest.clone()))];
        if let Some(tag) = tag {
            let place = (repository.to_owned(), tag.to_owned());
            changes.push(Change::Tag(place, Some(manifest.digest.clone())));
        }
        let headers = [("Content-Type", manifest.media_type.to_owned())];
        let body = &manifest.bytes;
        let reply = self.try_change(("PUT", &target), &headers, body, 201, changes).await?;
        let place = |blob: &String| (repository.to_owned(), blob.clone());
        let collected = || manifest.blobs.iter().any(|blob| !self.model.is_certain(&place(blob)));
        match reply.status {
            201 => Ok(()),
            404 if collected() => Ok(()),
            _ => Err(Failed::Wrong(describe("PUT", &target, &reply, "expected 201"))),
        }
    }

    pub(super) async fn delete_tag(&mut self, repository: &str, tag: &str) -> Done {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let changes = vec![Change::Tag((repository.to_owned(), tag.to_owned()), None)];
        self.change(("DELETE", &target), &[], &[], 202, changes).await.map(drop)
    }

    pub(super) async fn delete_manifest(&mut self, repository: &str, digest: &str) -> Done {
        let target = format!("/v2/{repository}/manifests/{digest}");
        let changes = self.model.without_manifest(repository, digest);
        self.change(("DELETE", &target), &[], &[], 202, changes).await.map(drop)
    }

    /// Deletes a blob. One that a manifest references must stay.
    pub(super) async fn delete_blob(&mut self, repository: &str, digest: &str) -> Done {
        let target = format!("/v2/{repository}/blobs/{digest}");
        if self.model.is_referenced(repository, digest) {
            return self.change(("DELETE", &target), &[], &[], 403, Vec::new()).await.map(drop);
        }
        let place = (repository.to_owned(), digest.to_owned());
        let changes = vec![Change::Blob(place.clone(), None)];
        let sent = self.try_change(("DELETE", &target), &[], &[], 202, changes.clone()).await?;
        match sent.status {
            202 => Ok(()),
            404 if !self.model.is_certain(&place) => {
                self.model.apply(&changes, self.sent_at);
                Ok(())
            }
            _ => Err(Failed::Wrong(describe("DELETE", &target, &sent, "expected 202"))),
        }
    }

    /// Asks for something.
    pub(super) async fn get(&mut self, target: &str) -> Done<Reply> {
        self.record(&[]).await?;
        self.connections.send("GET", target, &[], &[]).await.map_err(Failed::Lost)
    }
}

/// Where an upload stands, as an answer says it. `0-0` is said of an upload without bytes, too.
pub(super) fn offset(reply: &Reply, expected: usize) -> Done<usize> {
    let range = reply.header("range").unwrap_or_default();
    let last: Option<usize> = range.strip_prefix("0-").and_then(|last| last.parse().ok());
    match last {
        Some(0) => Ok(expected.min(1)),
        Some(last) => Ok(last + 1),
        None => Err(Failed::Wrong(format!("an upload's answer has the Range {range:?}"))),
    }
}

fn location(reply: &Reply) -> Done<String> {
    let location = reply.header("location").unwrap_or_default();
    match location.find("/v2/") {
        Some(start) => Ok(location[start..].to_owned()),
        None => Err(Failed::Wrong(format!("an upload's answer has the Location {location:?}"))),
    }
}

pub(super) fn describe(method: &str, target: &str, reply: &Reply, expected: &str) -> String {
    let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(300)]).into_owned();
    format!("{method} {target}: status {}, {expected}: {body}", reply.status)
}
