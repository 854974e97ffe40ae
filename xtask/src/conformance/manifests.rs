//! Push: manifests.

use serde_json::{Value, json};

use super::check::{Check, Verdict, checks};
use super::content::{Blob, DOCKER_LIST, Document, EMPTY, IMAGE, image, index, sha256, with};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Manifests:
    Must V1_1 "manifest-put-by-tag" [34] => put_by_tag,
    Must V1_1 "manifest-put-by-digest" [34, 35] => put_by_digest,
    Must V1_1 "manifest-put-again" [34] => put_again,
    Must V1_1 "manifest-bytes-kept" [33] => bytes_kept,
    Must V1_1 "manifest-kinds" [33, 34] => kinds,
    Should V1_1 "manifest-with-foreign-layer" [34] => foreign_layer,
    Must V1_1 "manifest-of-docker-list" [33, 34] => docker_list,
    Must V1_1 "tag-moves" [8, 34] => tag_moves,
    Should V1_1 "content-type-parameters" [32] => content_type_parameters,
    Must V1_1 "subject-absent" [15] => subject_absent,
    Must V1_1 "subject-of-index-absent" [15] => subject_of_index_absent,
];

async fn put_by_tag(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    let pushed = registry.push(&registry.unique(), &document).await?;
    registry.expect_pullable(&pushed, &document.bytes, IMAGE).await
}

async fn put_by_digest(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    let pushed = registry.push(&document.digest, &document).await?;
    if pushed.header("Docker-Content-Digest").is_some() {
        pushed.expect_header("Docker-Content-Digest", &document.digest)?;
    }
    registry.expect_pullable(&pushed, &document.bytes, IMAGE).await
}

async fn put_again(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    registry.push(&tag, &document).await?;
    registry.push(&document.digest, &document).await?;
    registry.push(&registry.unique(), &document).await?;
    registry.expect_manifest(&tag, &document).await
}

/// White space, the order of fields, escapes, unknown fields and large numbers come back as they went in.
async fn bytes_kept(registry: &Registry) -> Verdict {
    let plain = registry.new_image().await?;
    let odd = format!(
        "\r\n{{ \"x-unknown\" : {{\"big\": 18446744073709551615, \"f\": 1.0e2, \"nested\": [null,true]}},\n\
         \t\"annotations\": {{\"b\": \"\\u00e9\\/\", \"a\": \"é\"}},\n \"layers\": {},\n \"config\": {},\n\
         \"mediaType\":\"{IMAGE}\" , \"schemaVersion\":2 }}\n\n",
        plain["layers"], plain["config"],
    );
    let document = Document::new(IMAGE, odd.into_bytes());
    let tag = registry.unique();
    registry.push(&tag, &document).await?;
    registry.expect_manifest(&tag, &document).await?;
    registry.expect_manifest(&document.digest, &document).await
}

/// What the image specification lets a manifest be.
async fn kinds(registry: &Registry) -> Verdict {
    let plain = registry.new_image().await?;
    let empty = Blob::new(b"{}".to_vec());
    registry.push_blob(&empty).await?;
    let empty = with(empty.descriptor(EMPTY), "data", "e30=".into());
    let mut untyped = plain.clone();
    untyped.as_object_mut().map(|fields| fields.remove("mediaType"));
    let (_, child) = registry.pushed_image().await?;
    let nested = Document::of(&index(&[child.descriptor()]));
    registry.push(&nested.digest, &nested).await?;
    let artifact = with(
        image(&empty, &[plain["layers"][0].clone()]),
        "artifactType",
        "application/vnd.test.sbom".into(),
    );
    let platform = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    for document in [
        image(&plain["config"], &[]),
        image(&empty, std::slice::from_ref(&empty)),
        with(plain.clone(), "annotations", json!({"org.example.é": "", "a": "x".repeat(5000)})),
        artifact,
        untyped,
        index(&[]),
        index(&[with(child.descriptor(), "platform", platform)]),
        index(&[nested.descriptor(), child.descriptor(), child.descriptor()]),
        with(index(&[]), "artifactType", "application/vnd.test.list".into()),
    ] {
        // Unique, so that the registry cannot have it already.
        let document = Document::of(&with(document, "x-run", registry.unique().into()));
        let tag = registry.unique();
        registry.push(&tag, &document).await?;
        registry.expect_manifest(&tag, &document).await?;
    }
    Ok(())
}

/// A layer that may not be distributed is where its URLs say, and not here.
async fn foreign_layer(registry: &Registry) -> Verdict {
    let plain = registry.new_image().await?;
    let absent = json!({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "digest": sha256(registry.unique().as_bytes()), "size": 123_456, "urls": ["https://example.com/layer"]});
    let mut foreign = plain.clone();
    foreign["layers"] = json!([absent, plain["layers"][0]]);
    let document = Document::of(&foreign);
    let tag = registry.unique();
    registry.push(&tag, &document).await?;
    registry.expect_manifest(&tag, &document).await
}

async fn docker_list(registry: &Registry) -> Verdict {
    let (_, child) = registry.pushed_image().await?;
    let platform = json!({"architecture": "amd64", "os": "linux"});
    let mut list = index(&[with(child.descriptor(), "platform", platform)]);
    list["mediaType"] = DOCKER_LIST.into();
    let document = Document::of(&list);
    let tag = registry.unique();
    registry.push(&tag, &document).await?;
    registry.expect_manifest(&tag, &document).await
}

async fn tag_moves(registry: &Registry) -> Verdict {
    let (tag, first) = registry.pushed_image().await?;
    let second = Document::of(&registry.new_image().await?);
    registry.push(&tag, &second).await?;
    registry.expect_manifest(&tag, &second).await?;
    registry.expect_manifest(&first.digest, &first).await
}

async fn content_type_parameters(registry: &Registry) -> Verdict {
    let mut document = Document::of(&registry.new_image().await?);
    document.media_type = format!("{IMAGE}; charset=utf-8");
    let tag = registry.unique();
    registry.push(&tag, &document).await?;
    let got = registry.get(&format!("manifests/{tag}")).header("Accept", IMAGE).send().await?;
    got.expect_status(200)?;
    got.expect_body(&document.bytes)
}

/// A descriptor of a manifest that is nowhere.
pub(super) fn nowhere(registry: &Registry) -> Value {
    json!({"mediaType": IMAGE, "digest": sha256(registry.unique().as_bytes()), "size": 1234})
}

async fn subject_absent(registry: &Registry) -> Verdict {
    let document = with(registry.new_image().await?, "subject", nowhere(registry));
    let document = Document::of(&document);
    registry.push(&document.digest, &document).await?;
    registry.expect_manifest(&document.digest, &document).await
}

async fn subject_of_index_absent(registry: &Registry) -> Verdict {
    let document = Document::of(&with(index(&[]), "subject", nowhere(registry)));
    registry.push(&document.digest, &document).await?;
    registry.expect_manifest(&document.digest, &document).await
}
