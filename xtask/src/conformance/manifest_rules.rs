//! Push: what a registry looks at in a manifest: references, digest, size, subject, tag parameters.

use serde_json::json;

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{CONFIG, Document, IMAGE, INDEX, LAYER, image, index, sha256, with};
use super::context::Registry;
use super::manifests::nowhere;

pub(super) const CHECKS: &[Check] = checks![Manifests:
    Should V1_1 "manifest-of-4-mib" [41] => four_mib,
    Should V1_1 "manifest-too-large" [39, 40] => too_large,
    Must V1_1 "oci-subject" [42] => oci_subject,
    Should Dev "ten-tag-parameters" [36] => ten_tags,
    Must Dev "tag-parameters-listed" [37] => tags_listed,
    Must V1_1 "missing-references-refused" [16] => missing_references,
    Should Dev "manifest-wrong-digest" [17] => wrong_digest,
];

async fn four_mib(registry: &Registry) -> Verdict {
    let document = sized(registry, 4 << 20).await?;
    let tag = registry.unique();
    registry.push(&tag, &document).await?;
    registry.expect_manifest(&tag, &document).await
}

/// An image manifest of exactly this many bytes.
async fn sized(registry: &Registry, size: usize) -> Result<Document, Stop> {
    let document = with(registry.new_image().await?, "annotations", json!({"padding": ""}));
    let padding = "p".repeat(size.saturating_sub(document.to_string().len()));
    Ok(Document::of(&with(document, "annotations", json!({"padding": padding}))))
}

async fn too_large(registry: &Registry) -> Verdict {
    let document = sized(registry, 64 << 20).await?;
    registry.put(&registry.unique(), &document).send().await?.expect_status(413)
}

async fn oci_subject(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let (_, subject) = registry.pushed_image().await?;
    for subject in [subject.descriptor(), nowhere(registry)] {
        let document = Document::of(&with(registry.new_image().await?, "subject", subject.clone()));
        let digest = subject["digest"].as_str().unwrap_or_default();
        registry.push(&registry.unique(), &document).await?.expect_header("OCI-Subject", digest)?;
        registry.push(&document.digest, &document).await?.expect_header("OCI-Subject", digest)?;
    }
    Ok(())
}

/// Pushes a new image by its digest with these tags, and gives those that the answer lists.
async fn push_with_tags(
    registry: &Registry,
    document: &Document,
    tags: &[String],
) -> Result<(Answer, Vec<String>), Stop> {
    let query: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let pushed =
        registry.push(&format!("{}?{}", document.digest, query.join("&")), document).await?;
    let listed = pushed
        .reply
        .all("OCI-Tag")
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().to_owned());
    let listed: Vec<_> = listed.filter(|tag| !tag.is_empty()).collect();
    if listed.is_empty() {
        let first =
            registry.get(&format!("manifests/{}", tags[0])).header("Accept", IMAGE).send().await?;
        if first.status() == 404 {
            return skip("no tag parameters");
        }
    }
    Ok((pushed, listed))
}

async fn ten_tags(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    let tags: Vec<_> = (0..10).map(|_| registry.unique()).collect();
    let (pushed, listed) = push_with_tags(registry, &document, &tags).await?;
    if let Some(missing) = tags.iter().find(|tag| !listed.contains(tag)) {
        return Err(
            pushed.fail(format!("OCI-Tag with all of 10 tags, {missing} too"), listed.join(", "))
        );
    }
    Ok(())
}

/// Each tag that was made is listed, and each that is listed was made.
async fn tags_listed(registry: &Registry) -> Verdict {
    let document = Document::of(&with(index(&[]), "x-run", registry.unique().into()));
    let tags: Vec<_> = (0..3).map(|_| registry.unique()).collect();
    let (pushed, listed) = push_with_tags(registry, &document, &tags).await?;
    for tag in &tags {
        let got = registry.get(&format!("manifests/{tag}")).header("Accept", INDEX).send().await?;
        if (got.status() == 200) != listed.contains(tag) {
            return Err(pushed.fail(
                "OCI-Tag with each accepted tag, and no other",
                format!("{:?}, while GET of {tag} answers {}", listed, got.status()),
            ));
        }
        if got.status() == 200 {
            got.expect_body(&document.bytes)?;
        }
    }
    if let Some(other) = listed.iter().find(|tag| !tags.contains(tag)) {
        return Err(pushed.fail("OCI-Tag with nothing but what was asked for", other.as_str()));
    }
    Ok(())
}

/// A registry may take a manifest whose blobs are missing. If it does not, it says why.
async fn missing_references(registry: &Registry) -> Verdict {
    let plain = registry.new_image().await?;
    let absent = registry.blob(777);
    for document in [
        image(&absent.descriptor(CONFIG), &[]),
        image(&plain["config"], &[absent.descriptor(LAYER)]),
        index(&[nowhere(registry)]),
    ] {
        let pushed = registry.put(&registry.unique(), &Document::of(&document)).send().await?;
        if pushed.status() != 201 {
            pushed.expect_refusal()?;
            pushed.expect_code(&["MANIFEST_BLOB_UNKNOWN"])?;
        }
    }
    Ok(())
}

async fn wrong_digest(registry: &Registry) -> Verdict {
    let document = Document::of(&registry.new_image().await?);
    let other = sha256(registry.unique().as_bytes());
    registry.put(&other, &document).send().await?.expect_status(400)?;
    registry.get(&format!("manifests/{other}")).send().await?.expect_status(404)?;
    for digest in
        ["sha256:baddigest", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", "sha999:00"]
    {
        registry.put(digest, &document).send().await?.expect_status(400)?;
    }
    Ok(())
}
