//! The registry under test, and the steps that many checks share.

use std::cell::Cell;

use serde_json::{Value, json};

use super::answer::Answer;
use super::check::Stop;
use super::client::Client;
use super::content::{Blob, CONFIG, Document, LAYER, image};
use super::request::Request;
use super::url::Url;

/// A registry, and the two repositories in it that the checks use.
pub(super) struct Registry {
    pub(super) client: Client,
    pub(super) repository: String,
    /// Where blobs are mounted.
    pub(super) other: String,
    /// Unlike that of any other run.
    run: String,
    count: Cell<u32>,
}

impl Registry {
    pub(super) fn new(client: Client, repository: String, other: String, run: String) -> Self {
        Self { client, repository, other, run, count: Cell::new(0) }
    }

    /// A word that was not used before; also a tag and a part of a repository's name.
    pub(super) fn unique(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("u{}-{}", self.run, self.count.get())
    }

    /// A blob of this length that is not in the registry.
    pub(super) fn blob(&self, length: usize) -> Blob {
        Blob::new(self.bytes(length))
    }

    pub(super) fn bytes(&self, length: usize) -> Vec<u8> {
        let word = format!("{} ", self.unique());
        word.bytes().cycle().take(length.max(word.len())).collect()
    }

    /// The address of something in the repository: `manifests/tag`.
    pub(super) fn at(&self, rest: &str) -> Url {
        self.at_in(&self.repository, rest)
    }

    pub(super) fn at_in(&self, repository: &str, rest: &str) -> Url {
        let base = self.client.base.target.trim_end_matches('/');
        self.client.base.with_target(format!("{base}/v2/{repository}/{rest}"))
    }

    /// Any target on the registry's host, sent as it is.
    pub(super) fn raw(&self, method: &'static str, target: impl Into<String>) -> Request<'_> {
        let base = self.client.base.target.trim_end_matches('/');
        let url = self.client.base.with_target(format!("{base}{}", target.into()));
        self.client.request(method, url)
    }

    pub(super) fn get(&self, rest: &str) -> Request<'_> {
        self.client.request("GET", self.at(rest))
    }

    pub(super) fn head(&self, rest: &str) -> Request<'_> {
        self.client.request("HEAD", self.at(rest))
    }

    pub(super) fn post(&self, rest: &str) -> Request<'_> {
        self.client.request("POST", self.at(rest)).body(Vec::new())
    }

    pub(super) fn delete(&self, rest: &str) -> Request<'_> {
        self.client.request("DELETE", self.at(rest))
    }

    /// Begins an upload, with a query such as `?digest-algorithm=sha512`, and gives its address.
    pub(super) async fn begin_upload(&self, query: &str) -> Result<Url, Stop> {
        self.begin_upload_in(&self.repository, query).await
    }

    pub(super) async fn begin_upload_in(&self, repository: &str, query: &str) -> Result<Url, Stop> {
        let url = self.at_in(repository, &format!("blobs/uploads/{query}"));
        let begun = self.client.request("POST", url).body(Vec::new()).send().await?;
        begun.expect_status(202)?;
        begun.location()
    }

    /// Sends a chunk that starts at an offset.
    pub(super) async fn patch(
        &self,
        upload: &Url,
        start: usize,
        chunk: &[u8],
    ) -> Result<Answer, Stop> {
        let range = content_range(start, chunk.len());
        let request = self.client.request("PATCH", upload.clone()).header("Content-Range", range);
        request.header("Content-Type", "application/octet-stream").body(chunk).send().await
    }

    /// Closes an upload with what is left of the blob.
    pub(super) async fn close_upload(
        &self,
        upload: &Url,
        digest: &str,
        rest: &[u8],
    ) -> Result<Answer, Stop> {
        let url = upload.with_query(&format!("digest={digest}"));
        let request = self.client.request("PUT", url);
        request.header("Content-Type", "application/octet-stream").body(rest).send().await
    }

    /// Pushes a blob with POST and PUT.
    pub(super) async fn push_blob(&self, blob: &Blob) -> Result<Answer, Stop> {
        self.push_blob_to(&self.repository, blob).await
    }

    pub(super) async fn push_blob_to(&self, repository: &str, blob: &Blob) -> Result<Answer, Stop> {
        let algorithm = blob.digest.split(':').next().unwrap_or_default();
        let query = if algorithm == "sha256" {
            String::new()
        } else {
            format!("?digest-algorithm={algorithm}")
        };
        let upload = self.begin_upload_in(repository, &query).await?;
        let closed = self.close_upload(&upload, &blob.digest, &blob.bytes).await?;
        closed.expect_status(201)?;
        Ok(closed)
    }

    /// Pushes a new blob of this length.
    pub(super) async fn pushed_blob(&self, length: usize) -> Result<Blob, Stop> {
        let blob = self.blob(length);
        self.push_blob(&blob).await?;
        Ok(blob)
    }

    pub(super) fn put(&self, reference: &str, document: &Document) -> Request<'_> {
        self.put_in(&self.repository, reference, document)
    }

    pub(super) fn put_in(
        &self,
        repository: &str,
        reference: &str,
        document: &Document,
    ) -> Request<'_> {
        let url = self.at_in(repository, &format!("manifests/{reference}"));
        let request = self.client.request("PUT", url);
        request.header("Content-Type", document.media_type.as_str()).body(document.bytes.as_slice())
    }

    /// Pushes a manifest that must be accepted, by its digest or by a tag.
    pub(super) async fn push(&self, reference: &str, document: &Document) -> Result<Answer, Stop> {
        let pushed = self.put(reference, document).send().await?;
        pushed.expect_status(201)?;
        Ok(pushed)
    }

    /// A new image whose config and layer are in the repository, but not the manifest itself.
    pub(super) async fn new_image(&self) -> Result<Value, Stop> {
        self.new_image_in(&self.repository).await
    }

    pub(super) async fn new_image_in(&self, repository: &str) -> Result<Value, Stop> {
        let config = json!({"architecture": "amd64", "os": "linux", "author": self.unique(),
            "rootfs": {"type": "layers", "diff_ids": []}});
        let config = Blob::new(config.to_string().into_bytes());
        self.push_blob_to(repository, &config).await?;
        let layer = self.blob(1024);
        self.push_blob_to(repository, &layer).await?;
        Ok(image(&config.descriptor(CONFIG), &[layer.descriptor(LAYER)]))
    }

    /// Pushes a new image with a new tag, and gives both.
    pub(super) async fn pushed_image(&self) -> Result<(String, Document), Stop> {
        let tag = self.unique();
        let document = Document::of(&self.new_image().await?);
        self.push(&tag, &document).await?;
        Ok((tag, document))
    }

    /// The manifest is in the repository, byte for byte.
    pub(super) async fn expect_manifest(
        &self,
        reference: &str,
        document: &Document,
    ) -> Result<(), Stop> {
        let got = self
            .get(&format!("manifests/{reference}"))
            .header("Accept", document.media_type.as_str())
            .send()
            .await?;
        got.expect_status(200)?;
        got.expect_body(&document.bytes)
    }

    /// The blob is in the repository, byte for byte.
    pub(super) async fn expect_blob(&self, blob: &Blob) -> Result<(), Stop> {
        let got = self.get(&format!("blobs/{}", blob.digest)).send().await?;
        got.expect_status(200)?;
        got.expect_body(&blob.bytes)
    }

    /// `Location` is there and gives these bytes: the "pullable URL" of the specification.
    pub(super) async fn expect_pullable(
        &self,
        pushed: &Answer,
        bytes: &[u8],
        accept: &str,
    ) -> Result<(), Stop> {
        let got =
            self.client.request("GET", pushed.location()?).header("Accept", accept).send().await?;
        got.expect_status(200)?;
        got.expect_body(bytes)
    }

    /// Whether the registry has the referrers API; if not, a reason to skip.
    pub(super) async fn need_referrers(&self) -> Result<(), Stop> {
        // The repository must exist before the answer means anything.
        let (_, document) = self.pushed_image().await?;
        let listed = self.get(&format!("referrers/{}", document.digest)).send().await?;
        if matches!(listed.status(), 404 | 405) {
            return super::check::skip(format!("no referrers API (status {})", listed.status()));
        }
        Ok(())
    }
}

/// The value of `Content-Range` for a chunk: inclusive on both ends.
pub(super) fn content_range(start: usize, length: usize) -> String {
    format!("{start}-{}", start + length.saturating_sub(1))
}
