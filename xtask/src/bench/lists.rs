//! Tags and referrers: storing many, and asking for a page of them.

use oci_spec_types::{ImageManifest, MediaType};
use serde_json::Value;

use crate::bench::content::{Blob, Content, REPOSITORY, expect, push_blob, push_manifest};
use crate::bench::http::Connection;
use crate::bench::target::{Kind, Target};
use crate::process::Result;

/// How many tags go into one push, where that is possible.
const TAGS_PER_PUSH: usize = 50;

/// How many tags a page has.
pub(crate) const PAGE: usize = 100;

/// How many referrers there are.
const REFERRERS: usize = 500;

/// A list that is asked for.
pub(crate) struct List {
    pub(crate) path: String,
    /// The field of the answer that has the list.
    pub(crate) field: &'static str,
    /// How many entries it has.
    pub(crate) length: usize,
}

impl List {
    /// Asks for it, and says how many bytes came.
    pub(crate) async fn get(&self, connection: &mut Connection) -> Result<u64> {
        let answer = connection.send("GET", &self.path, "", &[]).await?;
        expect(answer.status, 200, &self.path)?;
        Ok(answer.length)
    }

    /// How many entries come. Ours must be all; others may have smaller pages, but not empty ones.
    pub(crate) async fn count(&self, target: &Target) -> Result<usize> {
        let document = Connection::open(&target.host).await?.document(&self.path).await?;
        let entries = document.get(self.field).and_then(Value::as_array);
        let found = entries.map_or(0, Vec::len);
        let enough = match target.kind {
            Kind::Peer => found > 0,
            _ => found == self.length,
        };
        if !enough {
            let expected = self.length;
            return Err(format!("GET {}: {found} entries, expected {expected}", self.path));
        }
        Ok(found)
    }
}

/// The repository that has so many tags.
fn repository(tags: usize) -> String {
    format!("{REPOSITORY}/tags{tags}")
}

fn tag(number: usize) -> String {
    format!("v{number:06}")
}

/// Stores so many tags for one manifest, unless they are there.
pub(crate) async fn store_tags(target: &Target, content: &Content, tags: usize) -> Result {
    let mut connection = Connection::open(&target.host).await?;
    let repository = repository(tags);
    let manifests = format!("/v2/{repository}/manifests");
    let last = format!("{manifests}/{}", tag(tags - 1));
    if connection.send("HEAD", &last, "", &[]).await?.status == 200 {
        return Ok(());
    }
    push_blob(&mut connection, &repository, &content.config).await?;
    push_blob(&mut connection, &repository, &content.small).await?;
    let manifest = &content.manifest;
    let headers = format!("Content-Type: {}\r\n", MediaType::OCI_IMAGE_MANIFEST);
    let mut path = format!("{manifests}/{}?", manifest.digest);
    for number in 0..tags {
        let tag = tag(number);
        if target.kind == Kind::Peer {
            push_manifest(&mut connection, &repository, manifest, &tag).await?;
            continue;
        }
        path.push_str(&format!("&tag={tag}"));
        if (number + 1) % TAGS_PER_PUSH == 0 || number + 1 == tags {
            let done = connection.send("PUT", &path, &headers, &manifest.bytes).await?;
            expect(done.status, 201, "pushing a manifest with many tags")?;
            path = format!("{manifests}/{}?", manifest.digest);
        }
    }
    Ok(())
}

/// A page somewhere among so many tags.
pub(crate) fn tag_page(tags: usize, number: u64) -> List {
    // Elsewhere every time. No remainder is larger than `tags`.
    let last = tag((number * 7919 % (tags - PAGE) as u64) as usize);
    let path = format!("/v2/{}/tags/list?n={PAGE}&last={last}", repository(tags));
    List { path, field: "tags", length: PAGE }
}

/// Stores the referrers of the manifest that everybody reads.
pub(crate) async fn store_referrers(target: &Target, content: &Content) -> Result {
    let mut connection = Connection::open(&target.host).await?;
    let subject = content.manifest.descriptor(MediaType::OCI_IMAGE_MANIFEST);
    for number in 0..REFERRERS {
        let config = content.config.descriptor(MediaType::OCI_EMPTY_JSON);
        let mut manifest = ImageManifest::new(config.clone(), vec![config]);
        manifest.artifact_type = Some("application/vnd.example.bench".into());
        manifest.subject = Some(subject.clone());
        manifest.annotations.insert("number".into(), number.to_string());
        let manifest = Blob::new(serde_json::to_vec(&manifest).unwrap_or_default());
        let digest = manifest.digest.to_string();
        push_manifest(&mut connection, REPOSITORY, &manifest, &digest).await?;
    }
    Ok(())
}

/// The first page of the referrers, which is all of them wherever pages are of a reasonable size.
pub(crate) fn referrers(subject: &Blob) -> List {
    let path = format!("/v2/{REPOSITORY}/referrers/{}", subject.digest);
    List { path, field: "manifests", length: REFERRERS }
}
