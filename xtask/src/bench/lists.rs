//! Tags and referrers: storing many, and asking for a page of them.

use oci_spec_types::{ImageManifest, MediaType};

use crate::bench::content::{Blob, Content, REPOSITORY, expect, push_blob, push_manifest};
use crate::bench::http::Connection;
use crate::bench::target::{Kind, Target};
use crate::process::Result;

/// How many tags go into one push, where that is possible.
const TAGS_PER_PUSH: usize = 100;

/// How many tags a page has.
const PAGE: usize = 100;

/// How many referrers there are.
const REFERRERS: usize = 500;

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

/// Asks for a page somewhere among so many tags.
pub(crate) async fn tag_page(connection: &mut Connection, tags: usize, number: u64) -> Result<u64> {
    // Elsewhere every time. No remainder is larger than `tags`.
    let last = tag((number * 7919 % (tags - PAGE) as u64) as usize);
    let path = format!("/v2/{}/tags/list?n={PAGE}&last={last}", repository(tags));
    let answer = connection.send("GET", &path, "", &[]).await?;
    expect(answer.status, 200, "GET of a page of tags")?;
    Ok(answer.length)
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

/// Asks for the referrers: the first page, which is all of them wherever pages are of a reasonable size.
pub(crate) async fn referrers(connection: &mut Connection, subject: &Blob) -> Result<u64> {
    let path = format!("/v2/{REPOSITORY}/referrers/{}", subject.digest);
    let answer = connection.send("GET", &path, "", &[]).await?;
    expect(answer.status, 200, "GET of referrers")?;
    Ok(answer.length)
}
