//! Pull: HEAD, and what names, tags and repositories mean.

use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{Document, IMAGE, INDEX, sha256};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Pull:
    Must V1_1 "head-manifest" [12] => head_manifest,
    Must V1_1 "head-blob" [12] => head_blob,
    Must V1_1 "head-missing" [12] => head_missing,
    Must Dev "head-digest-header" [13] => head_digest_header,
    Must Dev "head-content-length" [14] => head_content_length,
    Must V1_1 "unknown-repository" [38] => unknown_repository,
    Must V1_1 "repository-names" [4] => repository_names,
    Must V1_1 "tag-names" [5] => tag_names,
    Must V1_1 "blob-of-another-repository" [10] => isolation,
    Must V1_1 "manifest-of-another-repository" [10] => manifest_isolation,
    Should Dev "proxy-namespace" [66] => proxy_namespace,
];

async fn head_manifest(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    for reference in [&tag, &document.digest] {
        let got =
            registry.head(&format!("manifests/{reference}")).header("Accept", IMAGE).send().await?;
        got.expect_status(200)?;
    }
    Ok(())
}

async fn head_blob(registry: &Registry) -> Verdict {
    let blob = registry.pushed_blob(1024).await?;
    registry.head(&format!("blobs/{}", blob.digest)).send().await?.expect_status(200)
}

async fn head_missing(registry: &Registry) -> Verdict {
    registry.pushed_image().await?;
    let digest = sha256(registry.unique().as_bytes());
    for at in [
        format!("manifests/{}", registry.unique()),
        format!("manifests/{digest}"),
        format!("blobs/{digest}"),
    ] {
        registry.head(&at).send().await?.expect_status(404)?;
    }
    Ok(())
}

async fn head_header(
    registry: &Registry,
    name: &str,
    value: fn(&str, usize) -> String,
) -> Result<(), Stop> {
    let (tag, document) = registry.pushed_image().await?;
    let blob = registry.pushed_blob(1024).await?;
    for (at, digest, size) in [
        (format!("manifests/{tag}"), &document.digest, document.bytes.len()),
        (format!("manifests/{}", document.digest), &document.digest, document.bytes.len()),
        (format!("blobs/{}", blob.digest), &blob.digest, blob.bytes.len()),
    ] {
        let got = registry.head(&at).header("Accept", format!("{IMAGE}, {INDEX}")).send().await?;
        got.expect_status(200)?;
        got.expect_header(name, &value(digest, size))?;
    }
    Ok(())
}

async fn head_digest_header(registry: &Registry) -> Verdict {
    head_header(registry, "Docker-Content-Digest", |digest, _| digest.to_owned()).await
}

async fn head_content_length(registry: &Registry) -> Verdict {
    head_header(registry, "Content-Length", |_, size| size.to_string()).await
}

async fn unknown_repository(registry: &Registry) -> Verdict {
    let unknown = format!("{}-{}", registry.repository, registry.unique());
    let digest = sha256(unknown.as_bytes());
    for at in
        ["manifests/latest".to_owned(), format!("manifests/{digest}"), format!("blobs/{digest}")]
    {
        for method in ["GET", "HEAD"] {
            let url = registry.at_in(&unknown, &at);
            registry.client.request(method, url).send().await?.expect_status(404)?;
        }
    }
    Ok(())
}

/// Every separator of the regular expression, and several components.
async fn repository_names(registry: &Registry) -> Verdict {
    for rest in ["a.b", "a_b", "a__b", "a-b", "a---b", "0", "a/b/c/d.e_f__g--h"] {
        let name = format!("{}/{rest}", registry.repository);
        let blob = registry.blob(64);
        registry.push_blob_to(&name, &blob).await?;
        let url = registry.at_in(&name, &format!("blobs/{}", blob.digest));
        let got = registry.client.request("GET", url).send().await?;
        got.expect_status(200)?;
        got.expect_body(&blob.bytes)?;
    }
    Ok(())
}

async fn tag_names(registry: &Registry) -> Verdict {
    let long = registry.unique() + &"x".repeat(128);
    for tag in ["_", "0", "A", "a", "V1.2-rc_3", "a..b", "a.-_", &long[..128]] {
        // Two tags that differ in case alone are two tags.
        let document = Document::of(&registry.new_image().await?);
        registry.push(tag, &document).await?;
        registry.expect_manifest(tag, &document).await?;
        if tag == "a" {
            let upper = registry.get("manifests/A").header("Accept", IMAGE).send().await?;
            if upper.body() == document.bytes {
                return Err(upper.fail("tags A and a to be two", "the manifest of a under A"));
            }
        }
    }
    Ok(())
}

async fn isolation(registry: &Registry) -> Verdict {
    let here = registry.pushed_blob(1024).await?;
    registry.push_blob_to(&registry.other, &registry.blob(1024)).await?;
    for method in ["GET", "HEAD"] {
        let url = registry.at_in(&registry.other, &format!("blobs/{}", here.digest));
        registry.client.request(method, url).send().await?.expect_status(404)?;
    }
    Ok(())
}

async fn manifest_isolation(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    registry.push_blob_to(&registry.other, &registry.blob(1024)).await?;
    for reference in [&tag, &document.digest] {
        let url = registry.at_in(&registry.other, &format!("manifests/{reference}"));
        registry.client.request("GET", url).send().await?.expect_status(404)?;
    }
    Ok(())
}

async fn proxy_namespace(registry: &Registry) -> Verdict {
    let (tag, document) = registry.pushed_image().await?;
    let got = registry
        .get(&format!("manifests/{tag}?ns=docker.io"))
        .header("Accept", IMAGE)
        .send()
        .await?;
    if got.header("OCI-Namespace").is_some() {
        return got.expect_header("OCI-Namespace", "docker.io");
    }
    got.expect_no_server_error()?;
    // Without the header the parameter is not used, so that the answer is what it was without it.
    if got.status() != 200 {
        return skip(format!(
            "the registry uses ns, and answers {} for another host",
            got.status()
        ));
    }
    got.expect_body(&document.bytes)
}
