//! Push: blobs in chunks and streams.

use super::check::{Check, Stop, Verdict, checks};
use super::content::{Blob, sha256};
use super::context::{Registry, content_range};
use super::url::Url;

pub(super) const CHECKS: &[Check] = checks![Chunks:
    Must V1_1 "chunk-accepted" [24] => accepted,
    Must Dev "chunk-range-ends-at-last-byte-of-blob" [24] => range_of_later_chunk,
    Must V1_1 "chunks-then-put" [20, 24] => chunks_then_put,
    Must V1_1 "last-chunk-in-put" [20, 24] => last_chunk_in_put,
    Must V1_1 "whole-blob-in-one-chunk" [20, 24] => one_chunk,
    Should V1_1 "stream-without-length" [24] => stream,
    Should V1_1 "patch-without-content-range" [24] => without_content_range,
    Must V1_1 "chunk-not-at-zero" [25] => not_at_zero,
    Must V1_1 "chunk-out-of-order" [25] => out_of_order,
    Must V1_1 "chunk-twice" [25] => twice,
    Must V1_1 "chunk-after-416" [25, 27] => goes_on,
    Must Dev "last-chunk-out-of-order" [26] => last_out_of_order,
    Should V1_1 "chunk-length-mismatch" [25, 70] => length_mismatch,
    Should V1_1 "chunk-malformed-content-range" [25, 70] => malformed,
    Should V1_1 "chunks-wrong-digest" [17] => wrong_digest,
];

const SIZE: usize = 30_000;

/// Sends the blob's bytes up to `end` in chunks of a third, and gives where to go on.
async fn send_until(registry: &Registry, blob: &Blob, end: usize) -> Result<Url, Stop> {
    let mut upload = registry.begin_upload("").await?;
    for start in (0..end).step_by(SIZE / 3) {
        let stop = end.min(start + SIZE / 3);
        let patched = registry.patch(&upload, start, &blob.bytes[start..stop]).await?;
        patched.expect_status(202)?;
        upload = patched.location()?;
    }
    Ok(upload)
}

async fn accepted(registry: &Registry) -> Verdict {
    let upload = registry.begin_upload("").await?;
    let patched = registry.patch(&upload, 0, &registry.bytes(1000)).await?;
    patched.expect_status(202)?;
    patched.location()?;
    patched.expect_header("Range", "0-999")
}

async fn range_of_later_chunk(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, 10_000).await?;
    let patched = registry.patch(&upload, 10_000, &blob.bytes[10_000..12_345]).await?;
    patched.expect_status(202)?;
    patched.expect_header("Range", "0-12344")
}

async fn chunks_then_put(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, SIZE).await?;
    let closed = registry.close_upload(&upload, &blob.digest, b"").await?;
    closed.expect_status(201)?;
    registry.expect_pullable(&closed, &blob.bytes, "*/*").await
}

async fn last_chunk_in_put(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, 20_000).await?;
    let url = upload.with_query(&format!("digest={}", blob.digest));
    let request =
        registry.client.request("PUT", url).header("Content-Range", content_range(20_000, 10_000));
    let closed = request
        .header("Content-Type", "application/octet-stream")
        .body(&blob.bytes[20_000..])
        .send()
        .await?;
    closed.expect_status(201)?;
    registry.expect_pullable(&closed, &blob.bytes, "*/*").await
}

async fn one_chunk(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = registry.begin_upload("").await?;
    let patched = registry.patch(&upload, 0, &blob.bytes).await?;
    patched.expect_status(202)?;
    registry.close_upload(&patched.location()?, &blob.digest, b"").await?.expect_status(201)?;
    registry.expect_blob(&blob).await
}

async fn stream(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = registry.begin_upload("").await?;
    let request =
        registry.client.request("PATCH", upload).header("Content-Type", "application/octet-stream");
    let patched = request.stream(blob.bytes.as_slice()).send().await?;
    patched.expect_status(202)?;
    registry.close_upload(&patched.location()?, &blob.digest, b"").await?.expect_status(201)?;
    registry.expect_blob(&blob).await?;
    // The closing PUT may be a stream as well.
    let blob = registry.blob(SIZE);
    let upload = registry.begin_upload("").await?.with_query(&format!("digest={}", blob.digest));
    let closed =
        registry.client.request("PUT", upload).stream(blob.bytes.as_slice()).send().await?;
    closed.expect_status(201)?;
    registry.expect_blob(&blob).await
}

async fn without_content_range(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let mut upload = registry.begin_upload("").await?;
    for piece in blob.bytes.chunks(SIZE / 2) {
        let request = registry
            .client
            .request("PATCH", upload)
            .header("Content-Type", "application/octet-stream");
        let patched = request.body(piece).send().await?;
        patched.expect_status(202)?;
        upload = patched.location()?;
    }
    registry.close_upload(&upload, &blob.digest, b"").await?.expect_status(201)?;
    registry.expect_blob(&blob).await
}

async fn not_at_zero(registry: &Registry) -> Verdict {
    let upload = registry.begin_upload("").await?;
    registry.patch(&upload, 1, &registry.bytes(100)).await?.expect_status(416)
}

async fn out_of_order(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    for start in [10_001, 20_000, 9_999] {
        let upload = send_until(registry, &blob, 10_000).await?;
        registry
            .patch(&upload, start, &blob.bytes[start..start + 100])
            .await?
            .expect_status(416)?;
    }
    Ok(())
}

async fn twice(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, 10_000).await?;
    registry.patch(&upload, 0, &blob.bytes[..10_000]).await?.expect_status(416)
}

/// "A GET request may be used to retrieve the current valid offset and upload location."
async fn goes_on(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, 10_000).await?;
    registry.patch(&upload, 20_000, &blob.bytes[20_000..]).await?.expect_status(416)?;
    let asked = registry.client.request("GET", upload).send().await?;
    asked.expect_status(204)?;
    asked.expect_header("Range", "0-9999")?;
    let patched = registry.patch(&asked.location()?, 10_000, &blob.bytes[10_000..]).await?;
    patched.expect_status(202)?;
    registry.close_upload(&patched.location()?, &blob.digest, b"").await?.expect_status(201)?;
    registry.expect_blob(&blob).await
}

async fn last_out_of_order(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, 10_000).await?;
    let url = upload.with_query(&format!("digest={}", blob.digest));
    let request =
        registry.client.request("PUT", url).header("Content-Range", content_range(20_000, 10_000));
    request.body(&blob.bytes[20_000..]).send().await?.expect_status(416)?;
    registry.get(&format!("blobs/{}", blob.digest)).send().await?.expect_status(404)
}

async fn length_mismatch(registry: &Registry) -> Verdict {
    for range in ["0-10", "0-5000"] {
        let upload = registry.begin_upload("").await?;
        let request = registry.client.request("PATCH", upload).header("Content-Range", range);
        request.body(registry.bytes(1000)).send().await?.expect_refusal()?;
    }
    Ok(())
}

async fn malformed(registry: &Registry) -> Verdict {
    for range in [
        "abc",
        "0",
        "-",
        "0-",
        "-99",
        "99-0",
        "0-99-1",
        "0-99999999999999999999999",
        "-1-99",
        "bytes 0-x/*",
    ] {
        let upload = registry.begin_upload("").await?;
        let request = registry.client.request("PATCH", upload).header("Content-Range", range);
        request.body(registry.bytes(100)).send().await?.expect_refusal()?;
    }
    Ok(())
}

async fn wrong_digest(registry: &Registry) -> Verdict {
    let blob = registry.blob(SIZE);
    let upload = send_until(registry, &blob, SIZE).await?;
    let other = sha256(registry.unique().as_bytes());
    registry.close_upload(&upload, &other, b"").await?.expect_status(400)?;
    registry.get(&format!("blobs/{other}")).send().await?.expect_status(404)
}
