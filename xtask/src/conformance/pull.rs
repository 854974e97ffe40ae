//! Pull: manifests and blobs by GET and HEAD.

use super::check::{Check, Verdict, checks};
use super::content::{
    Blob, CONFIG, DOCKER_IMAGE, Document, IMAGE, LAYER, digest_like, image, index, sha256,
};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Pull:
    Must V1_1 "api-version" [1] => api_version,
    Must V1_1 "manifest-by-tag" [1, 5, 8] => manifest_by_tag,
    Must V1_1 "manifest-by-digest" [5, 8] => manifest_by_digest,
    Must V1_1 "manifest-without-accept" [8] => manifest_without_accept,
    Should V1_1 "manifest-content-type" [7] => manifest_content_type,
    Should V1_1 "manifest-content-type-without-parameters" [6] => content_type_without_parameters,
    Must Dev "manifest-digest-header" [9] => manifest_digest_header,
    Must V1_1 "blob" [1, 8] => blob,
    Must V1_1 "blob-of-5-mib" [8] => large_blob,
    Must Dev "blob-digest-header" [9] => blob_digest_header,
    Should V1_1 "sha512-blob" [8, 9] => sha512_blob,
    Should V1_1 "sha512-manifest" [8, 9] => sha512_manifest,
    Must V1_1 "missing-manifest" [10] => missing_manifest,
    Must V1_1 "missing-blob" [10] => missing_blob,
];

async fn api_version(registry: &Registry) -> Verdict {
    registry.raw("GET", "/v2/").send().await?.expect_status(200)
}

async fn manifest_by_tag(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    registry.expect_manifest(&tag, &document).await
}

async fn manifest_by_digest(registry: &Registry) -> Verdict {
    let (_, document) = registry.pushed_image().await?;
    registry.expect_manifest(&document.digest, &document).await
}

async fn manifest_without_accept(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    for accept in [None, Some("*/*"), Some("application/json, */*;q=0.1")] {
        let mut request = registry.get(&format!("manifests/{tag}"));
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let got = request.send().await?;
        got.expect_status(200)?;
        got.expect_body(&document.bytes)?;
    }
    Ok(())
}

async fn manifest_content_type(registry: &Registry) -> Verdict {
    let image = registry.new_image().await?;
    let (_, child) = registry.pushed_image().await?;
    let mut docker = image.clone();
    docker["mediaType"] = DOCKER_IMAGE.into();
    docker["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    docker["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    for document in
        [Document::of(&image), Document::of(&docker), Document::of(&index(&[child.descriptor()]))]
    {
        let tag = registry.unique();
        registry.push(&tag, &document).await?;
        for reference in [&tag, &document.digest] {
            let at = format!("manifests/{reference}");
            let accept = document.media_type.as_str();
            registry
                .get(&at)
                .header("Accept", accept)
                .send()
                .await?
                .expect_header("Content-Type", accept)?;
            registry
                .head(&at)
                .header("Accept", accept)
                .send()
                .await?
                .expect_header("Content-Type", accept)?;
        }
    }
    Ok(())
}

async fn content_type_without_parameters(registry: &Registry) -> Verdict {
    let (tag, _) = registry.pushed_image().await?;
    let got = registry.get(&format!("manifests/{tag}")).header("Accept", IMAGE).send().await?;
    let found = got.need_header("Content-Type")?;
    if found.contains(';') {
        return Err(got.fail("a Content-Type without parameters", found));
    }
    Ok(())
}

async fn manifest_digest_header(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    for reference in [&tag, &document.digest] {
        let got =
            registry.get(&format!("manifests/{reference}")).header("Accept", IMAGE).send().await?;
        got.expect_status(200)?;
        got.expect_header("Docker-Content-Digest", &document.digest)?;
    }
    Ok(())
}

async fn blob(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(4096).await?;
    registry.expect_blob(&blob).await?;
    let got = registry.get(&format!("blobs/{}", blob.digest.replace(':', "%3A"))).send().await?;
    got.expect_status(200)?;
    got.expect_body(&blob.bytes)
}

async fn large_blob(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(5 << 20).await?;
    registry.expect_blob(&blob).await
}

async fn blob_digest_header(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(4096).await?;
    let got = registry.get(&format!("blobs/{}", blob.digest)).send().await?;
    let header = got.need_header("Docker-Content-Digest")?;
    got.expect_header("Docker-Content-Digest", &digest_like(header, got.body()))
}

async fn sha512_blob(registry: &Registry) -> Verdict {
    let blob = Blob::with_sha512(registry.bytes(4096));
    registry.push_blob(&blob).await?;
    registry.expect_blob(&blob).await?;
    let got = registry.head(&format!("blobs/{}", blob.digest)).send().await?;
    got.expect_status(200)?;
    got.expect_header("Docker-Content-Digest", &blob.digest)
}

async fn sha512_manifest(registry: &Registry) -> Verdict {
    let config = Blob::with_sha512(format!("{{\"author\":{:?}}}", registry.unique()).into_bytes());
    let layer = Blob::with_sha512(registry.bytes(512));
    registry.push_blob(&config).await?;
    registry.push_blob(&layer).await?;
    let document = image(&config.descriptor(CONFIG), &[layer.descriptor(LAYER)]);
    let document = Document::of(&document).with_sha512();
    let pushed = registry.push(&document.digest, &document).await?;
    pushed.expect_header("Docker-Content-Digest", &document.digest)?;
    registry.expect_manifest(&document.digest, &document).await
}

async fn missing_manifest(registry: &Registry) -> Verdict {
    registry.pushed_image().await?;
    let digest = sha256(registry.unique().as_bytes());
    for reference in [registry.unique(), digest] {
        registry.get(&format!("manifests/{reference}")).send().await?.expect_status(404)?;
    }
    Ok(())
}

async fn missing_blob(registry: &Registry) -> Verdict {
    registry.pushed_blob(1024).await?;
    let missing = sha256(registry.unique().as_bytes());
    registry.get(&format!("blobs/{missing}")).send().await?.expect_status(404)
}
