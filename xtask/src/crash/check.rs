//! Whether a server has what it must have, exactly, and nothing by halves.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::conformance::wire::Reply;
use crate::crash::client::{Client, Done, Failed, describe, offset};
use crate::crash::model::{Change, Model, Place};

/// How much later than its lease a server is surely taken for dead: the clients of a busy machine are late.
pub(super) const SLACK: Duration = Duration::from_secs(2);

/// What a place holds.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// Exactly this digest's content.
    Digest(String),
    /// An upload's offset.
    Offset(usize),
}

fn wrong<T>(message: String) -> Done<T> {
    Err(Failed::Wrong(message))
}

/// Finds out whether the request that got no answer happened, wholly or not at all, and tells it.
pub(super) async fn settle(client: &mut Client) -> Done<bool> {
    let changes = client.in_flight.clone();
    if changes.is_empty() {
        return Ok(false);
    }
    let before = client.model.clone();
    let after = before.after(&changes, client.sent_at);
    let (mut is_before, mut is_after) = (true, true);
    let mut seen = Vec::new();
    for change in &changes {
        let found = look(client, &before, change).await?;
        is_before &= fits(&before, change, &found);
        is_after &= fits(&after, change, &found);
        seen.push(found);
    }
    client.in_flight.clear();
    match (is_before, is_after) {
        (_, true) => {
            client.note("-- the last request had happened".to_owned());
            client.model = after;
            Ok(true)
        }
        (true, false) => {
            client.note("-- the last request had not happened".to_owned());
            Ok(false)
        }
        (false, false) => wrong(format!(
            "a request without an answer happened by halves, or undid what was before: it changes {changes:?}, and there is {seen:?}"
        )),
    }
}

async fn look(client: &mut Client, before: &Model, change: &Change) -> Done<Seen> {
    match change {
        Change::Blob((repository, digest), _) => {
            let target = format!("/v2/{repository}/blobs/{digest}");
            let reply = client.get(&target).await?;
            seen(&target, reply.status, Some(digest.clone()))
        }
        Change::Manifest((repository, name), _) | Change::Tag((repository, name), _) => {
            let target = format!("/v2/{repository}/manifests/{name}");
            let reply = client.get(&target).await?;
            seen(&target, reply.status, reply.header("docker-content-digest").map(str::to_owned))
        }
        Change::Ended(number) => match before.uploads.get(number) {
            None => Ok(Seen::Nothing),
            Some(upload) => {
                let (target, sent) = (upload.location.clone(), upload.sent);
                let least = upload.acknowledged.max(usize::from(sent == 1));
                let reply = client.get(&target).await?;
                match reply.status {
                    204 => Ok(Seen::Offset(offset(&reply, least)?)),
                    status => seen(&target, status, None),
                }
            }
        },
    }
}

fn seen(target: &str, status: u16, digest: Option<String>) -> Done<Seen> {
    match (status, digest) {
        (200, Some(digest)) => Ok(Seen::Digest(digest)),
        (404, _) => Ok(Seen::Nothing),
        _ => wrong(format!("GET {target}: status {status}, expected 200 or 404")),
    }
}

/// Whether what was seen is what a model has there.
fn fits(model: &Model, change: &Change, seen: &Seen) -> bool {
    if let Change::Blob(place, _) = change
        && *seen == Seen::Nothing
        && !model.is_certain(place)
    {
        return true;
    }
    let digest = match change {
        Change::Blob(place, _) => model.blobs.get(place).map(|blob| &blob.digest),
        Change::Manifest(place, _) => model.manifests.get(place).map(|manifest| &manifest.digest),
        Change::Tag(place, _) => model.tags.get(place),
        Change::Ended(number) => {
            return match (model.uploads.get(number), seen) {
                (None, Seen::Nothing) => true,
                (Some(upload), Seen::Offset(offset)) => {
                    (upload.acknowledged..=upload.sent).contains(offset)
                }
                _ => false,
            };
        }
    };
    match (digest, seen) {
        (None, Seen::Nothing) => true,
        (Some(digest), Seen::Digest(found)) => digest == found,
        _ => false,
    }
}

/// Checks everything in the model, byte for byte, and that what was deleted is gone. The repositories in `shared` belong
/// to others, too, so that there may be more in them.
pub(super) async fn everything(client: &mut Client, shared: &[&str]) -> Done {
    for (place, blob) in client.model.blobs.clone() {
        self::blob(client, &place, &blob.bytes).await?;
    }
    let model = client.model.clone();
    for (place, manifest) in &model.manifests {
        self::manifest(client, place, &manifest.digest, &manifest.bytes).await?;
    }
    for ((repository, tag), digest) in &model.tags {
        let Some(manifest) = model.manifests.get(&(repository.clone(), digest.clone())) else {
            return wrong(format!("{repository}:{tag} names {digest}, which is not in the model"));
        };
        let place = (repository.clone(), tag.clone());
        self::manifest(client, &place, digest, &manifest.bytes).await?;
    }
    let gone = model.gone_blobs.iter().map(|(of, digest)| format!("/v2/{of}/blobs/{digest}"));
    let manifests = model.gone_manifests.iter();
    let gone = gone.chain(manifests.map(|(of, digest)| format!("/v2/{of}/manifests/{digest}")));
    for target in gone.chain(model.ended.iter().cloned()) {
        absent(client, &target).await?;
    }
    uploads(client).await?;
    // What only has blobs may go with them at any moment.
    let lasts = |of: &&str| model.grace.is_none() || model.manifests_of(of).next().is_some();
    let repositories: BTreeSet<&str> = model.repositories().filter(lasts).collect();
    for repository in repositories {
        if !shared.contains(&repository) {
            tags(client, &model, repository).await?;
            referrers(client, &model, repository).await?;
        }
    }
    Ok(())
}

/// A blob is there, exactly, or was collected.
async fn blob(client: &mut Client, place: &Place, bytes: &[u8]) -> Done {
    let (repository, digest) = place;
    let target = format!("/v2/{repository}/blobs/{digest}");
    let reply = client.get(&target).await?;
    if reply.status == 404 && !client.model.is_certain(place) {
        client.model.apply(&[Change::Blob(place.clone(), None)], client.sent_at);
        client.collected += 1;
        return Ok(());
    }
    exact(&reply, &target, digest, bytes)
}

async fn manifest(
    client: &mut Client,
    (repository, name): &Place,
    digest: &str,
    bytes: &[u8],
) -> Done {
    let target = format!("/v2/{repository}/manifests/{name}");
    let reply = client.get(&target).await?;
    exact(&reply, &target, digest, bytes)
}

fn exact(reply: &Reply, target: &str, digest: &str, bytes: &[u8]) -> Done {
    if reply.status != 200 {
        return wrong(describe("GET", target, reply, "expected what was acknowledged"));
    }
    let header = reply.header("docker-content-digest");
    if header != Some(digest) {
        return wrong(format!("GET {target}: Docker-Content-Digest {header:?}, expected {digest}"));
    }
    if reply.body != bytes {
        let same = reply.body.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        return wrong(format!(
            "GET {target}: {} bytes, expected {}; the first difference is at {same}",
            reply.body.len(),
            bytes.len()
        ));
    }
    Ok(())
}

async fn absent(client: &mut Client, target: &str) -> Done {
    let reply = client.get(target).await?;
    match reply.status {
        404 => Ok(()),
        _ => wrong(describe("GET", target, &reply, "expected 404: it was deleted, or has ended")),
    }
}

/// Uploads that are open stand where they may stand. From then on, that is what was acknowledged.
pub(super) async fn uploads(client: &mut Client) -> Done {
    for (number, upload) in client.model.uploads.clone() {
        let reply = client.get(&upload.location).await?;
        if reply.status != 204 {
            return wrong(describe("GET", &upload.location, &reply, "expected an open upload"));
        }
        let found = offset(&reply, upload.acknowledged)?;
        if !(upload.acknowledged..=upload.sent).contains(&found) {
            return wrong(format!(
                "GET {}: the upload is at {found}, expected at least {} that were acknowledged and at most {} that were sent",
                upload.location, upload.acknowledged, upload.sent
            ));
        }
        if let Some(upload) = client.model.uploads.get_mut(&number) {
            (upload.acknowledged, upload.sent) = (found, found);
        }
    }
    Ok(())
}

async fn tags(client: &mut Client, model: &Model, repository: &str) -> Done {
    let target = format!("/v2/{repository}/tags/list?n=1000");
    let listed = list(client, &target, "tags").await?;
    let expected: Vec<&str> = model.tags_of(repository).map(|(tag, _)| tag).collect();
    if listed != expected {
        return wrong(format!("GET {target}: {listed:?}, expected {expected:?}"));
    }
    Ok(())
}

async fn referrers(client: &mut Client, model: &Model, repository: &str) -> Done {
    let subjects: BTreeSet<&String> =
        model.manifests_of(repository).filter_map(|manifest| manifest.subject.as_ref()).collect();
    for subject in subjects {
        let target = format!("/v2/{repository}/referrers/{subject}");
        let reply = client.get(&target).await?;
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let entries = value["manifests"].as_array().cloned().unwrap_or_default();
        let found: BTreeSet<&str> =
            entries.iter().filter_map(|entry| entry["digest"].as_str()).collect();
        let refer = model.manifests_of(repository).filter(|m| m.subject.as_ref() == Some(subject));
        let expected: BTreeSet<&str> = refer.map(|manifest| manifest.digest.as_str()).collect();
        if reply.status != 200 || found != expected {
            let message = format!("found {found:?}, expected {expected:?}");
            return wrong(describe("GET", &target, &reply, &message));
        }
    }
    Ok(())
}

/// A list of names, as the catalogue and the lists of tags are.
pub(super) async fn list(client: &mut Client, target: &str, field: &str) -> Done<Vec<String>> {
    let reply = client.get(target).await?;
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match (reply.status, value[field].as_array()) {
        (200, Some(names)) => {
            Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        }
        _ => wrong(describe("GET", target, &reply, &format!("expected a list of {field}"))),
    }
}

/// Goes on with an open upload, to its end, and checks what came of it. `false` if a server that was killed holds it still.
pub(super) async fn finish_upload(client: &mut Client, number: u64) -> Done<bool> {
    let Some(upload) = client.model.uploads.get(&number).cloned() else { return Ok(false) };
    if !client.commit(number).await? {
        return Ok(false);
    }
    let place = (upload.repository, upload.blob.digest.clone());
    blob(client, &place, &upload.blob.bytes).await.map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::crash::content::{Blob, Manifest};
    use crate::crash::tools::runtime;

    /// A server that has lost everything.
    async fn empty(listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                if line.is_empty() && lines.get_mut().write_all(answer).await.is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_referenced_must_be_there_however_old_it_is() {
        let (kept, free) = (Blob::noise(1, 100), Blob::noise(2, 100));
        let image = Manifest::image(&kept, &[], None, "image");
        let place = |blob: &Blob| ("a".to_owned(), blob.digest.clone());
        let pushed = |blob: &Blob| Change::Blob(place(blob), Some(blob.clone()));
        let reference = Change::Manifest(("a".to_owned(), image.digest.clone()), Some(image));
        let check = |changes: &[Change]| {
            runtime().unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let host = listener.local_addr().unwrap().to_string();
                let mut client = Client::new("one", &host, Rc::new(|| ()));
                client.model.grace = Some(Duration::from_secs(1));
                client.model.apply(changes, Instant::now());
                tokio::select! {
                    done = everything(&mut client, &[]) => done.map(|()| client.collected),
                    () = empty(listener) => unreachable!(),
                }
            })
        };
        assert!(matches!(check(&[pushed(&free)]), Ok(1)));
        let Err(Failed::Wrong(error)) = check(&[pushed(&kept), pushed(&free), reference]) else {
            panic!("a loss is not found");
        };
        assert!(error.contains(&kept.digest) && error.contains("404"), "{error}");
    }
}
