//! Parts of blobs and conditional requests, as RFC 9110 has them.

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{Blob, Document, IMAGE};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Ranges:
    Should V1_1 "range-of-first-bytes" [11] => first_bytes,
    Should V1_1 "range-in-the-middle" [11] => middle,
    Should V1_1 "range-of-one-byte" [11] => one_byte,
    Should V1_1 "range-to-the-end" [11] => to_the_end,
    Should V1_1 "range-past-the-end" [11] => past_the_end,
    Should V1_1 "range-suffix" [11] => suffix,
    Should V1_1 "range-suffix-longer-than-blob" [11] => long_suffix,
    Should V1_1 "range-unsatisfiable" [11] => unsatisfiable,
    Should V1_1 "range-of-empty-blob" [11] => empty_blob,
    Should V1_1 "range-keeps-whole-blob-digest" [11] => digest_of_part,
    Should Dev "range-of-unknown-unit" [11, 69] => unknown_unit,
    Should Dev "range-malformed" [11, 69] => malformed,
    Should Dev "range-several" [11, 69] => several,
    Should Dev "range-ignored-by-head" [11, 69] => ignored_by_head,
    Should Dev "range-if-range" [11, 69] => if_range,
    Should Dev "if-none-match-manifest" [69] => manifest_not_modified,
    Should Dev "if-none-match-blob" [69] => blob_not_modified,
    Should Dev "if-match-manifest" [69] => if_match,
    Should Dev "head-equals-get" [69] => head_equals_get,
];

const SIZE: usize = 10_000;

async fn ranged(registry: &Registry, blob: &Blob, range: &str) -> Result<Answer, Stop> {
    registry.get(&format!("blobs/{}", blob.digest)).header("Range", range).send().await
}

/// A 206 with the bytes from `start` to `end`, both included.
fn expect_part(got: &Answer, blob: &Blob, start: usize, end: usize) -> Verdict {
    got.expect_status(206)?;
    let size = blob.bytes.len();
    let (full, unknown) = (format!("bytes {start}-{end}/{size}"), format!("bytes {start}-{end}/*"));
    if got.header("Content-Range") != Some(&unknown) {
        got.expect_header("Content-Range", &full)?;
    }
    got.expect_body(&blob.bytes[start..=end])
}

async fn part(registry: &Registry, range: &str, start: usize, end: usize) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    expect_part(&ranged(registry, &blob, range).await?, &blob, start, end)
}

async fn first_bytes(registry: &Registry) -> Verdict {
    part(registry, "bytes=0-499", 0, 499).await
}

async fn middle(registry: &Registry) -> Verdict {
    part(registry, "bytes=500-2499", 500, 2499).await
}

async fn one_byte(registry: &Registry) -> Verdict {
    part(registry, "bytes=9999-9999", 9999, 9999).await
}

async fn to_the_end(registry: &Registry) -> Verdict {
    part(registry, "bytes=9000-", 9000, SIZE - 1).await
}

async fn past_the_end(registry: &Registry) -> Verdict {
    part(registry, "bytes=9000-99999", 9000, SIZE - 1).await
}

async fn suffix(registry: &Registry) -> Verdict {
    part(registry, "bytes=-500", SIZE - 500, SIZE - 1).await
}

/// "If the selected representation is shorter than the specified suffix-length, the entire representation is used."
async fn long_suffix(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let got = ranged(registry, &blob, "bytes=-99999").await?;
    if got.status() == 200 {
        return got.expect_body(&blob.bytes);
    }
    expect_part(&got, &blob, 0, SIZE - 1)
}

async fn unsatisfiable(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    for range in ["bytes=10000-", "bytes=10000-10001", "bytes=99999999999-"] {
        let got = ranged(registry, &blob, range).await?;
        got.expect_status(416)?;
        got.expect_header("Content-Range", "bytes */10000")?;
    }
    Ok(())
}

async fn empty_blob(registry: &Registry) -> Verdict {
    let blob = Blob::new(Vec::new());
    registry.push_blob(&blob).await?;
    let got = ranged(registry, &blob, "bytes=0-0").await?;
    // RFC 9110 lets a server ignore the header where no byte can be given.
    got.expect_one_of(&[200, 416])
}

/// The digest header is that of the blob, never of the part.
async fn digest_of_part(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let got = ranged(registry, &blob, "bytes=0-99").await?;
    got.expect_status(206)?;
    match got.header("Docker-Content-Digest") {
        Some(_) => got.expect_header("Docker-Content-Digest", &blob.digest),
        None => Ok(()),
    }
}

async fn whole(registry: &Registry, range: &str, allowed: &[u16]) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let got = ranged(registry, &blob, range).await?;
    got.expect_one_of(allowed)?;
    if got.status() == 200 {
        got.expect_body(&blob.bytes)?;
    }
    Ok(())
}

/// "An origin server MUST ignore a Range header field that contains a range unit it does not understand."
async fn unknown_unit(registry: &Registry) -> Verdict {
    whole(registry, "lines=0-1", &[200]).await
}

/// An invalid ranges-specifier is ignored or refused, and never served as a part.
async fn malformed(registry: &Registry) -> Verdict {
    for range in [
        "bytes=500-0",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "bytes",
        "bytes=1",
        "bytes=0-99999999999999999999999x",
    ] {
        whole(registry, range, &[200, 400, 416]).await?;
    }
    Ok(())
}

async fn several(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let got = ranged(registry, &blob, "bytes=0-1, 100-101").await?;
    got.expect_one_of(&[200, 206, 416])?;
    match got.status() {
        200 => got.expect_body(&blob.bytes),
        206 if got.header("Content-Range").is_none() => {
            let found = got.need_header("Content-Type")?;
            if found.starts_with("multipart/byteranges") {
                return Ok(());
            }
            Err(got.fail("multipart/byteranges", found))
        }
        _ => Ok(()),
    }
}

/// "The Range header field is defined for GET alone."
async fn ignored_by_head(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let got = registry
        .head(&format!("blobs/{}", blob.digest))
        .header("Range", "bytes=0-1")
        .send()
        .await?;
    got.expect_status(200)?;
    got.expect_header("Content-Length", "10000")
}

async fn etag(registry: &Registry, at: &str) -> Result<String, Stop> {
    let got = registry.get(at).header("Accept", IMAGE).send().await?;
    got.expect_status(200)?;
    match got.header("ETag") {
        Some(etag) => Ok(etag.to_owned()),
        None => skip(format!("no ETag on {}", at.split('/').next().unwrap_or(at))),
    }
}

async fn if_range(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(SIZE).await?;
    let at = format!("blobs/{}", blob.digest);
    let etag = etag(registry, &at).await?;
    let same =
        registry.get(&at).header("Range", "bytes=0-9").header("If-Range", etag).send().await?;
    expect_part(&same, &blob, 0, 9)?;
    let differs = registry
        .get(&at)
        .header("Range", "bytes=0-9")
        .header("If-Range", "\"other\"")
        .send()
        .await?;
    differs.expect_status(200)?;
    differs.expect_body(&blob.bytes)
}

async fn not_modified(registry: &Registry, at: &str) -> Verdict {
    let etag = etag(registry, at).await?;
    for known in [etag.clone(), format!("\"other\", {etag}"), "*".to_owned()] {
        let got =
            registry.get(at).header("Accept", IMAGE).header("If-None-Match", known).send().await?;
        got.expect_status(304)?;
    }
    let got = registry
        .get(at)
        .header("Accept", IMAGE)
        .header("If-None-Match", "\"other\"")
        .send()
        .await?;
    got.expect_status(200)
}

async fn manifest_not_modified(registry: &Registry) -> Verdict {
    let (tag, _) = registry.pushed_image().await?;
    not_modified(registry, &format!("manifests/{tag}")).await
}

async fn blob_not_modified(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(64).await?;
    not_modified(registry, &format!("blobs/{}", blob.digest)).await
}

/// A tag is not overwritten if it names another manifest than the client believes.
async fn if_match(registry: &Registry) -> Verdict {
    let (tag, first) = registry.pushed_image().await?;
    let known = etag(registry, &format!("manifests/{tag}")).await?;
    let second = Document::of(&registry.new_image().await?);
    let refused = registry.put(&tag, &second).header("If-Match", "\"other\"").send().await?;
    refused.expect_status(412)?;
    registry.expect_manifest(&tag, &first).await?;
    registry
        .put(&tag, &second)
        .header("If-Match", known.as_str())
        .send()
        .await?
        .expect_status(201)?;
    registry.expect_manifest(&tag, &second).await?;
    let third = Document::of(&registry.new_image().await?);
    registry.put(&tag, &third).header("If-Match", known).send().await?.expect_status(412)?;
    registry.put(&tag, &third).header("If-None-Match", "*").send().await?.expect_status(412)?;
    registry.expect_manifest(&tag, &second).await
}

async fn head_equals_get(registry: &Registry) -> Verdict {
    let (tag, _) = registry.pushed_image().await?;
    let blob = registry.pushed_blob(64).await?;
    for at in [format!("manifests/{tag}"), format!("blobs/{}", blob.digest)] {
        let got = registry.get(&at).header("Accept", IMAGE).send().await?;
        let head = registry.head(&at).header("Accept", IMAGE).send().await?;
        for name in ["Content-Type", "Docker-Content-Digest", "ETag", "Content-Length"] {
            if let (Some(expected), Some(_)) = (got.header(name), head.header(name)) {
                head.expect_header(name, expected)?;
            }
        }
    }
    Ok(())
}
