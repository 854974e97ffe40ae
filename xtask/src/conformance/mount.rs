//! Push: mounting a blob of another repository.

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{Blob, sha256};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Mount:
    Must V1_1 "mount" [30] => mount,
    Should V1_1 "mount-of-sha512" [30] => mount_sha512,
    Must V1_1 "mount-what-is-here" [30, 31] => mount_present,
    Should V1_1 "mount-of-missing-blob" [31] => missing_blob,
    Should V1_1 "mount-from-unknown-repository" [31] => unknown_source,
    Should V1_1 "mount-without-from" [30, 31] => without_from,
    Should V1_1 "mount-then-upload" [20, 31] => then_upload,
    Should Dev "mount-of-malformed-digest" [17, 31] => malformed,
];

async fn ask(registry: &Registry, digest: &str, from: Option<&str>) -> Result<Answer, Stop> {
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    let url = registry.at_in(&registry.other, &format!("blobs/uploads/?mount={digest}{from}"));
    registry.client.request("POST", url).body(Vec::new()).send().await
}

/// A mount that was made: the blob can be pulled from its new repository.
async fn expect_mounted(registry: &Registry, answer: &Answer, blob: &Blob) -> Verdict {
    answer.expect_status(201)?;
    registry.expect_pullable(answer, &blob.bytes, "*/*").await?;
    let url = registry.at_in(&registry.other, &format!("blobs/{}", blob.digest));
    let got = registry.client.request("GET", url).send().await?;
    got.expect_status(200)?;
    got.expect_body(&blob.bytes)
}

async fn mount_blob(registry: &Registry, blob: &Blob) -> Verdict {
    registry.push_blob(blob).await?;
    let asked = ask(registry, &blob.digest, Some(&registry.repository)).await?;
    if asked.status() == 202 {
        return skip("no mounting (202)");
    }
    expect_mounted(registry, &asked, blob).await
}

async fn mount(registry: &Registry) -> Verdict {
    mount_blob(registry, &registry.blob(4096)).await
}

async fn mount_sha512(registry: &Registry) -> Verdict {
    mount_blob(registry, &Blob::with_sha512(registry.bytes(4096))).await
}

async fn mount_present(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    registry.push_blob_to(&registry.other, &blob).await?;
    let asked = ask(registry, &blob.digest, Some(&registry.repository)).await?;
    asked.expect_one_of(&[201, 202])?;
    asked.location().map(drop)
}

async fn expect_upload(answer: &Answer) -> Verdict {
    answer.expect_status(202)?;
    answer.location().map(drop)
}

async fn missing_blob(registry: &Registry) -> Verdict {
    registry.pushed_blob(10).await?;
    let digest = sha256(registry.unique().as_bytes());
    expect_upload(&ask(registry, &digest, Some(&registry.repository)).await?).await
}

async fn unknown_source(registry: &Registry) -> Verdict {
    let blob = registry.blob(100);
    let unknown = format!("{}-{}", registry.repository, registry.unique());
    expect_upload(&ask(registry, &blob.digest, Some(&unknown)).await?).await
}

/// The registry may find the blob by itself, or begin an upload.
async fn without_from(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    let asked = ask(registry, &blob.digest, None).await?;
    if asked.status() == 201 {
        return expect_mounted(registry, &asked, &blob).await;
    }
    expect_upload(&asked).await
}

async fn then_upload(registry: &Registry) -> Verdict {
    let blob = registry.blob(4096);
    let asked = ask(registry, &blob.digest, Some(&registry.repository)).await?;
    asked.expect_status(202)?;
    let closed = registry.close_upload(&asked.location()?, &blob.digest, &blob.bytes).await?;
    expect_mounted(registry, &closed, &blob).await
}

/// Invalid, or merely not there: the specification allows both answers.
async fn malformed(registry: &Registry) -> Verdict {
    for digest in
        ["sha256:baddigest", "sha256:", "nodigest", "md5:d41d8cd98f00b204e9800998ecf8427e"]
    {
        ask(registry, digest, Some(&registry.repository)).await?.expect_one_of(&[202, 400])?;
    }
    let digest = sha256(b"any");
    for from in ["UPPER", "..%2Fx", "a%2F%2Fb", "%00"] {
        // A repository that cannot be is one that the blob cannot be mounted from.
        ask(registry, &digest, Some(from)).await?.expect_one_of(&[202, 400, 404])?;
    }
    Ok(())
}
