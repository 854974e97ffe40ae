//! Content management: deleting tags, manifests and blobs.

use serde_json::json;

use super::answer::Answer;
use super::check::{Check, Verdict, checks, skip};
use super::content::{Document, IMAGE, sha256};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Delete:
    Must V1_1 "delete-status" [62, 63] => status,
    Must V1_1 "delete-tag" [62] => tag,
    Must V1_1 "delete-tag-leaves-the-rest" [62] => tag_alone,
    Must V1_1 "delete-manifest" [62] => manifest,
    Must V1_1 "delete-manifest-takes-tags" [62] => manifest_and_tags,
    Must V1_1 "delete-manifest-of-unknown-repository" [64] => unknown_repository,
    Should V1_1 "delete-missing-manifest" [62, 71] => missing_manifest,
    Must V1_1 "delete-blob" [62] => blob,
    Must V1_1 "delete-missing-blob" [65] => missing_blob,
    Must V1_1 "delete-blob-of-one-repository" [62] => blob_of_one_repository,
    Must V1_1 "delete-then-push-again" [20, 34, 62] => push_again,
    Should V1_1 "delete-last-tag" [43, 45, 62] => last_tag,
];

/// 202, or a reason to skip if the registry says that it does not delete.
fn expect_deleted(answer: &Answer, what: &str) -> Verdict {
    if matches!(answer.status(), 400 | 405) {
        return skip(format!("{what} deletion is disabled ({})", answer.status()));
    }
    answer.expect_status(202)
}

/// Whether deletion is enabled or not, the answer is one of the specification's.
async fn status(registry: &Registry) -> Verdict {
    let (tag, _) = registry.pushed_image().await?;
    let (_, document) = registry.pushed_image().await?;
    let blob = registry.pushed_blob(10).await?;
    let paths = [
        format!("manifests/{tag}"),
        format!("manifests/{}", document.digest),
        format!("blobs/{}", blob.digest),
    ];
    for path in paths {
        registry.delete(&path).send().await?.expect_one_of(&[202, 400, 405])?;
    }
    Ok(())
}

async fn expect_gone(registry: &Registry, path: &str) -> Verdict {
    for request in [registry.get(path), registry.head(path)] {
        request.header("Accept", format!("{IMAGE}, */*")).send().await?.expect_status(404)?;
    }
    Ok(())
}

async fn tag(registry: &Registry) -> Verdict {
    let (tag, _) = registry.pushed_image().await?;
    let path = format!("manifests/{tag}");
    expect_deleted(&registry.delete(&path).send().await?, "tag")?;
    expect_gone(registry, &path).await
}

async fn tag_alone(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    let sibling = registry.unique();
    registry.push(&sibling, &document).await?;
    expect_deleted(&registry.delete(&format!("manifests/{tag}")).send().await?, "tag")?;
    registry.expect_manifest(&sibling, &document).await?;
    registry.expect_manifest(&document.digest, &document).await
}

async fn manifest(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    registry.push(&document.digest, &document).await?;
    let path = format!("manifests/{}", document.digest);
    expect_deleted(&registry.delete(&path).send().await?, "manifest")?;
    expect_gone(registry, &path).await
}

async fn manifest_and_tags(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    let second = registry.unique();
    registry.push(&second, &document).await?;
    expect_deleted(
        &registry.delete(&format!("manifests/{}", document.digest)).send().await?,
        "manifest",
    )?;
    for tag in [tag, second] {
        expect_gone(registry, &format!("manifests/{tag}")).await?;
    }
    Ok(())
}

async fn unknown_repository(registry: &Registry) -> Verdict {
    let unknown = format!("{}-{}", registry.repository, registry.unique());
    let url = registry.at_in(&unknown, &format!("manifests/{}", sha256(b"any")));
    let gone = registry.client.request("DELETE", url).send().await?;
    if matches!(gone.status(), 400 | 405) {
        return skip(format!("manifest deletion is disabled ({})", gone.status()));
    }
    gone.expect_status(404)
}

async fn missing_manifest(registry: &Registry) -> Verdict {
    registry.pushed_image().await?;
    for reference in [registry.unique(), sha256(registry.unique().as_bytes())] {
        let gone = registry.delete(&format!("manifests/{reference}")).send().await?;
        if matches!(gone.status(), 400 | 405) {
            return skip(format!("deletion is disabled ({})", gone.status()));
        }
        gone.expect_status(404)?;
    }
    Ok(())
}

async fn blob(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    let path = format!("blobs/{}", blob.digest);
    expect_deleted(&registry.delete(&path).send().await?, "blob")?;
    expect_gone(registry, &path).await
}

async fn missing_blob(registry: &Registry) -> Verdict {
    registry.pushed_blob(10).await?;
    let gone =
        registry.delete(&format!("blobs/{}", sha256(registry.unique().as_bytes()))).send().await?;
    if matches!(gone.status(), 400 | 405) {
        return skip(format!("blob deletion is disabled ({})", gone.status()));
    }
    gone.expect_status(404)
}

/// A blob that two repositories have is deleted from one.
async fn blob_of_one_repository(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    registry.push_blob_to(&registry.other, &blob).await?;
    let path = format!("blobs/{}", blob.digest);
    expect_deleted(&registry.delete(&path).send().await?, "blob")?;
    let url = registry.at_in(&registry.other, &path);
    let got = registry.client.request("GET", url).send().await?;
    got.expect_status(200)?;
    got.expect_body(&blob.bytes)
}

async fn push_again(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(100).await?;
    expect_deleted(&registry.delete(&format!("blobs/{}", blob.digest)).send().await?, "blob")?;
    registry.push_blob(&blob).await?;
    registry.expect_blob(&blob).await?;
    let (tag, document) = registry.pushed_image().await?;
    expect_deleted(
        &registry.delete(&format!("manifests/{}", document.digest)).send().await?,
        "manifest",
    )?;
    registry.push(&tag, &document).await?;
    registry.expect_manifest(&tag, &document).await
}

async fn last_tag(registry: &Registry) -> Verdict {
    let name = format!("{}/{}", registry.repository, registry.unique());
    let document = Document::of(&registry.new_image_in(&name).await?);
    registry.put_in(&name, "only", &document).send().await?.expect_status(201)?;
    let url = registry.at_in(&name, "manifests/only");
    expect_deleted(&registry.client.request("DELETE", url).send().await?, "tag")?;
    let listed = registry.client.request("GET", registry.at_in(&name, "tags/list")).send().await?;
    listed.expect_status(200)?;
    let body = listed.json()?;
    if body.get("tags") != Some(&json!([])) {
        return Err(listed.fail("tags: []", body.to_string()));
    }
    Ok(())
}
