//! Push: blobs in one piece, upload sessions, and what is wrong with a digest.

use super::check::{Check, Verdict, checks, skip};
use super::content::{Blob, sha256};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Uploads:
    Must V1_1 "upload-post" [18] => post,
    Must V1_1 "upload-location-has-uuid" [19] => uuid,
    Must V1_1 "upload-post-put" [20] => post_put,
    Must V1_1 "upload-empty-blob" [20] => empty,
    Must V1_1 "upload-again" [20] => again,
    Must V1_1 "upload-single-post" [21] => single_post,
    Should V1_1 "upload-single-post-or-202" [22] => single_post_fallback,
    Should V1_1 "upload-chunk-minimum" [23] => chunk_minimum,
    Must V1_1 "upload-status" [27] => status,
    Should Dev "upload-cancel" [28] => cancel,
    Should V1_1 "upload-closed-is-gone" [27] => closed_is_gone,
    Must V1_1 "upload-interleaved" [19, 20] => interleaved,
];

async fn post(registry: &Registry) -> Verdict {
    let begun = registry.post("blobs/uploads/").send().await?;
    begun.expect_status(202)?;
    begun.location().map(drop)
}

async fn uuid(registry: &Registry) -> Verdict {
    let begun = registry.post("blobs/uploads/").send().await?;
    begun.expect_status(202)?;
    let location = begun.need_header("Location")?;
    let words = location.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    if !words.into_iter().any(is_uuid) {
        return Err(begun.fail("a UUID in Location", location));
    }
    Ok(())
}

/// Digits in groups of 8, 4, 4, 4 and 12, or 32 in one (RFC 9562).
fn is_uuid(word: &str) -> bool {
    let groups: Vec<_> = word.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] || groups == [32]
}

async fn post_put(registry: &Registry) -> Verdict {
    let blob = registry.blob(4096);
    let closed = registry.push_blob(&blob).await?;
    registry.expect_pullable(&closed, &blob.bytes, "*/*").await?;
    registry.expect_blob(&blob).await
}

async fn empty(registry: &Registry) -> Verdict {
    let blob = Blob::new(Vec::new());
    registry.push_blob(&blob).await?;
    registry.expect_blob(&blob).await?;
    registry
        .head(&format!("blobs/{}", blob.digest))
        .send()
        .await?
        .expect_header("Content-Length", "0")
}

async fn again(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    let closed = registry.push_blob(&blob).await?;
    registry.expect_pullable(&closed, &blob.bytes, "*/*").await
}

async fn single_post(registry: &Registry) -> Verdict {
    let blob = registry.blob(4096);
    let request = registry
        .post(&format!("blobs/uploads/?digest={}", blob.digest))
        .body(blob.bytes.as_slice());
    let posted = request.header("Content-Type", "application/octet-stream").send().await?;
    if posted.status() == 202 {
        return skip("no upload with a single POST (202)");
    }
    posted.expect_status(201)?;
    registry.expect_pullable(&posted, &blob.bytes, "*/*").await
}

async fn single_post_fallback(registry: &Registry) -> Verdict {
    let blob = registry.blob(4096);
    let request = registry
        .post(&format!("blobs/uploads/?digest={}", blob.digest))
        .body(blob.bytes.as_slice());
    let posted = request.header("Content-Type", "application/octet-stream").send().await?;
    posted.expect_one_of(&[201, 202])?;
    if posted.status() == 202 {
        let closed = registry.close_upload(&posted.location()?, &blob.digest, &blob.bytes).await?;
        closed.expect_status(201)?;
    }
    registry.expect_blob(&blob).await
}

/// A chunk of one byte, the last one aside, is taken unless a minimum was announced.
async fn chunk_minimum(registry: &Registry) -> Verdict {
    let begun = registry.post("blobs/uploads/").send().await?;
    begun.expect_status(202)?;
    if let Some(minimum) = begun.header("OCI-Chunk-Min-Length") {
        return match minimum.parse::<u64>() {
            Ok(_) => Ok(()),
            Err(_) => Err(begun.fail("OCI-Chunk-Min-Length: a number of bytes", minimum)),
        };
    }
    let first = registry.patch(&begun.location()?, 0, b"a").await?;
    first.expect_status(202)?;
    registry.patch(&first.location()?, 1, b"b").await?.expect_status(202)
}

async fn status(registry: &Registry) -> Verdict {
    let blob = registry.blob(3000);
    let upload = registry.begin_upload("").await?;
    let asked = registry.client.request("GET", upload).send().await?;
    asked.expect_status(204)?;
    let patched = registry.patch(&asked.location()?, 0, &blob.bytes[..1000]).await?;
    patched.expect_status(202)?;
    let asked = registry.client.request("GET", patched.location()?).send().await?;
    asked.expect_status(204)?;
    asked.expect_header("Range", "0-999")?;
    // The Location of the status is good for what follows.
    let closed =
        registry.close_upload(&asked.location()?, &blob.digest, &blob.bytes[1000..]).await?;
    closed.expect_status(201)
}

async fn cancel(registry: &Registry) -> Verdict {
    let upload = registry.begin_upload("").await?;
    let patched = registry.patch(&upload, 0, b"some bytes").await?;
    patched.expect_status(202)?;
    let upload = patched.location()?;
    let canceled =
        registry.client.request("DELETE", upload.clone()).body(Vec::new()).send().await?;
    canceled.expect_status(204)?;
    registry.client.request("GET", upload.clone()).send().await?.expect_status(404)?;
    registry.patch(&upload, 10, b"more").await?.expect_status(404)?;
    registry.close_upload(&upload, &sha256(b"some bytes"), b"").await?.expect_status(404)
}

async fn closed_is_gone(registry: &Registry) -> Verdict {
    let blob = registry.blob(50);
    let upload = registry.begin_upload("").await?;
    registry.close_upload(&upload, &blob.digest, &blob.bytes).await?.expect_status(201)?;
    registry.client.request("GET", upload.clone()).send().await?.expect_status(404)?;
    registry.patch(&upload, 50, b"more").await?.expect_status(404)
}

/// Two sessions of one repository do not touch each other.
async fn interleaved(registry: &Registry) -> Verdict {
    let blobs = [registry.blob(1000), registry.blob(1000)];
    let mut uploads = Vec::new();
    for blob in &blobs {
        let upload = registry.begin_upload("").await?;
        let patched = registry.patch(&upload, 0, &blob.bytes[..500]).await?;
        patched.expect_status(202)?;
        uploads.push(patched.location()?);
    }
    for (blob, upload) in blobs.iter().zip(&uploads) {
        registry
            .close_upload(upload, &blob.digest, &blob.bytes[500..])
            .await?
            .expect_status(201)?;
        registry.expect_blob(blob).await?;
    }
    Ok(())
}
