//! Push: the digest that a blob is pushed with, right and wrong.

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks};
use super::content::{Blob, sha256, sha512};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Uploads:
    Should V1_1 "upload-single-post-wrong-digest" [17] => single_post_wrong_digest,
    Should V1_1 "upload-wrong-digest" [17] => wrong_digest,
    Must V1_1 "upload-wrong-digest-not-stored" [10, 17] => wrong_digest_not_stored,
    Should V1_1 "upload-malformed-digest" [17] => malformed_digest,
    Should V1_1 "upload-without-digest" [17] => without_digest,
    Should V1_1 "upload-unsupported-algorithm" [17] => unsupported_algorithm,
    Should Dev "upload-unsupported-digest-algorithm-parameter" [17] => unsupported_parameter,
    Must Dev "upload-digest-algorithm-sha256" [18] => sha256_parameter,
    Should Dev "upload-digest-algorithm-sha512" [20] => sha512_parameter,
    Should V1_1 "upload-sha512-unannounced" [20] => sha512_unannounced,
];

async fn single_post_wrong_digest(registry: &Registry) -> Verdict {
    for digest in [sha256(registry.unique().as_bytes()), "sha256:baddigest".to_owned()] {
        let request =
            registry.post(&format!("blobs/uploads/?digest={digest}")).body(registry.bytes(100));
        let posted = request.header("Content-Type", "application/octet-stream").send().await?;
        if posted.status() != 202 {
            posted.expect_status(400)?;
        }
    }
    Ok(())
}

async fn close_with(registry: &Registry, digest: &str) -> Result<Answer, Stop> {
    let upload = registry.begin_upload("").await?;
    registry.close_upload(&upload, digest, &registry.bytes(200)).await
}

async fn wrong_digest(registry: &Registry) -> Verdict {
    let other = sha256(registry.unique().as_bytes());
    close_with(registry, &other).await?.expect_status(400)
}

async fn wrong_digest_not_stored(registry: &Registry) -> Verdict {
    let other = sha256(registry.unique().as_bytes());
    close_with(registry, &other).await?.expect_refusal()?;
    registry.get(&format!("blobs/{other}")).send().await?.expect_status(404)?;
    registry.head(&format!("blobs/{other}")).send().await?.expect_status(404)
}

async fn malformed_digest(registry: &Registry) -> Verdict {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:baddigest".to_owned(),
        "sha256:".to_owned(),
        format!(":{hex}"),
        hex.clone(),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", "g".repeat(64)),
        format!("sha256%2F{hex}"),
        format!("sha256:..%2F..%2F{hex}"),
        format!("sha256:{hex}%00"),
        String::new(),
    ] {
        close_with(registry, &digest).await?.expect_status(400)?;
    }
    Ok(())
}

async fn without_digest(registry: &Registry) -> Verdict {
    let upload = registry.begin_upload("").await?;
    let request = registry.client.request("PUT", upload).body(registry.bytes(10));
    request.send().await?.expect_status(400)
}

async fn unsupported_algorithm(registry: &Registry) -> Verdict {
    for digest in [
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "unknown+alg:00ff",
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
    ] {
        close_with(registry, digest).await?.expect_status(400)?;
    }
    Ok(())
}

async fn unsupported_parameter(registry: &Registry) -> Verdict {
    for algorithm in ["md5", "sha256:", "..%2F"] {
        let posted =
            registry.post(&format!("blobs/uploads/?digest-algorithm={algorithm}")).send().await?;
        posted.expect_status(400)?;
    }
    Ok(())
}

async fn sha256_parameter(registry: &Registry) -> Verdict {
    let blob = registry.blob(100);
    let upload = registry.begin_upload("?digest-algorithm=sha256").await?;
    registry.close_upload(&upload, &blob.digest, &blob.bytes).await?.expect_status(201)
}

async fn sha512_parameter(registry: &Registry) -> Verdict {
    let blob = Blob::with_sha512(registry.bytes(5000));
    let upload = registry.begin_upload("?digest-algorithm=sha512").await?;
    let patched = registry.patch(&upload, 0, &blob.bytes[..3000]).await?;
    patched.expect_status(202)?;
    let closed =
        registry.close_upload(&patched.location()?, &blob.digest, &blob.bytes[3000..]).await?;
    closed.expect_status(201)?;
    registry.expect_pullable(&closed, &blob.bytes, "*/*").await?;
    let wrong = sha512(registry.unique().as_bytes());
    let upload = registry.begin_upload("?digest-algorithm=sha512").await?;
    registry.close_upload(&upload, &wrong, &blob.bytes).await?.expect_status(400)
}

async fn sha512_unannounced(registry: &Registry) -> Verdict {
    let blob = Blob::with_sha512(registry.bytes(5000));
    let upload = registry.begin_upload("").await?;
    registry.close_upload(&upload, &blob.digest, &blob.bytes).await?.expect_status(201)?;
    registry.expect_blob(&blob).await
}
