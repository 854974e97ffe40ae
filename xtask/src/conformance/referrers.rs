//! Content discovery: referrers.

use serde_json::{Value, json};

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{Blob, Document, EMPTY, INDEX, image, index, sha256, with};
use super::context::Registry;

pub(super) const CHECKS: &[Check] = checks![Referrers:
    Must V1_1 "referrers-none" [50, 57] => none,
    Must V1_1 "referrers-bad-digest" [51] => bad_digest,
    Must V1_1 "referrers-body" [52] => body,
    Must V1_1 "referrers-of-later-subject" [15, 68] => later_subject,
    Must V1_1 "referrers-each-once" [68] => each_once,
    Must V1_1 "referrers-of-other-repository" [52] => other_repository,
    Should V1_1 "referrers-of-sha512-subject" [50, 68] => sha512_subject,
    Must V1_1 "referrers-many" [58, 68] => many,
    Must V1_1 "referrers-with-fallback-tag" [67, 68] => fallback_tag,
    Should V1_1 "referrers-of-deleted" [52] => deleted,
];

pub(super) const TYPE: &str = "application/vnd.test.sbom.v1+json";

/// A subject that is nowhere; its referrers can be pushed all the same.
pub(super) fn subject(registry: &Registry) -> Value {
    let bytes = registry.bytes(200);
    json!({"mediaType": super::content::IMAGE, "digest": sha256(&bytes), "size": bytes.len()})
}

fn digest_of(descriptor: &Value) -> &str {
    descriptor.get("digest").and_then(Value::as_str).unwrap_or_default()
}

/// Pushes an image that refers to a subject.
pub(super) async fn refer(
    registry: &Registry,
    subject: &Value,
    artifact_type: Option<&str>,
) -> Result<Document, Stop> {
    let mut document = with(registry.new_image().await?, "subject", subject.clone());
    if let Some(artifact_type) = artifact_type {
        document["artifactType"] = artifact_type.into();
    }
    let document = Document::of(&document);
    registry.push(&document.digest, &document).await?;
    Ok(document)
}

/// All pages of a list.
pub(super) async fn list(
    registry: &Registry,
    subject: &Value,
    query: &str,
) -> Result<(Answer, Vec<Value>), Stop> {
    let mut url = registry.at(&format!("referrers/{}{query}", digest_of(subject)));
    let mut found = Vec::new();
    loop {
        let listed = registry.client.request("GET", url).send().await?;
        listed.expect_status(200)?;
        let body = listed.json()?;
        let page = body.get("manifests").and_then(Value::as_array);
        let page = page.ok_or_else(|| listed.fail("manifests: a list", "no such list"))?;
        found.extend_from_slice(page);
        match listed.next_page()? {
            Some(next) if found.len() < 10_000 && !page.is_empty() => url = next,
            _ => return Ok((listed, found)),
        }
    }
}

/// The list has exactly one entry for the document.
pub(super) async fn entry(
    registry: &Registry,
    subject: &Value,
    document: &Document,
) -> Result<(Answer, Value), Stop> {
    let (listed, found) = list(registry, subject, "").await?;
    let mut entries = found.iter().filter(|entry| digest_of(entry) == document.digest);
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok((listed, entry.clone())),
        (None, _) => Err(listed
            .fail(format!("an entry for {}", document.digest), format!("{} others", found.len()))),
        _ => Err(listed.fail(format!("one entry for {}", document.digest), "more than one")),
    }
}

pub(super) fn expect_field(
    listed: &Answer,
    entry: &Value,
    field: &str,
    expected: &Value,
) -> Verdict {
    let found = entry.get(field).unwrap_or(&Value::Null);
    if found == expected {
        return Ok(());
    }
    Err(listed.fail(format!("an entry with {field} {expected}"), format!("{field} {found}")))
}

async fn none(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let (listed, found) = list(registry, &subject(registry), "").await?;
    if !found.is_empty() {
        return Err(listed.fail("an empty list", format!("{} entries", found.len())));
    }
    Ok(())
}

async fn bad_digest(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    for digest in [
        "sha256:baddigest",
        "nodigest",
        "sha256:",
        "sha256:..%2F..",
        &format!("sha256:{}", "A".repeat(64)),
    ] {
        registry.get(&format!("referrers/{digest}")).send().await?.expect_status(400)?;
    }
    Ok(())
}

async fn body(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let document = refer(registry, &subject, Some(TYPE)).await?;
    let (listed, entry) = entry(registry, &subject, &document).await?;
    listed.expect_header("Content-Type", INDEX)?;
    let body = listed.json()?;
    expect_field(&listed, &body, "schemaVersion", &json!(2))?;
    expect_field(&listed, &body, "mediaType", &json!(INDEX))?;
    expect_field(&listed, &entry, "mediaType", &json!(document.media_type))?;
    expect_field(&listed, &entry, "size", &json!(document.bytes.len()))
}

async fn later_subject(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let image = Document::of(&registry.new_image().await?);
    let before = refer(registry, &image.descriptor(), Some(TYPE)).await?;
    entry(registry, &image.descriptor(), &before).await?;
    registry.push(&image.digest, &image).await?;
    let after = refer(registry, &image.descriptor(), Some(TYPE)).await?;
    for document in [&before, &after] {
        entry(registry, &image.descriptor(), document).await?;
    }
    Ok(())
}

async fn each_once(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let document = refer(registry, &subject, Some(TYPE)).await?;
    registry.push(&registry.unique(), &document).await?;
    registry.push(&document.digest, &document).await?;
    entry(registry, &subject, &document).await.map(drop)
}

async fn other_repository(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    refer(registry, &subject, Some(TYPE)).await?;
    registry.push_blob_to(&registry.other, &registry.blob(10)).await?;
    let url = registry.at_in(&registry.other, &format!("referrers/{}", digest_of(&subject)));
    let listed = registry.client.request("GET", url).send().await?;
    listed.expect_status(200)?;
    expect_field(&listed, &listed.json()?, "manifests", &json!([]))
}

async fn sha512_subject(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let blob = Blob::with_sha512(registry.bytes(100));
    let subject = blob.descriptor(super::content::IMAGE);
    let document = refer(registry, &subject, Some(TYPE)).await?;
    entry(registry, &subject, &document).await.map(drop)
}

/// More than fits into a manifest of 4 MiB: all of them are listed, over as many pages as it takes.
async fn many(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let config = registry.pushed_blob(64).await?;
    let mut expected = Vec::new();
    for number in 0..24 {
        let document = with(image(&config.descriptor(EMPTY), &[]), "subject", subject.clone());
        let annotations = json!({"number": number.to_string(), "padding": "p".repeat(200 << 10)});
        let document = Document::of(&with(document, "annotations", annotations));
        registry.push(&document.digest, &document).await?;
        expected.push(document.digest);
    }
    let (listed, found) = list(registry, &subject, "").await?;
    let mut found: Vec<_> = found.iter().map(|entry| digest_of(entry).to_owned()).collect();
    found.sort();
    expected.sort();
    if found != expected {
        return Err(listed.fail(
            "all of 24 referrers on all pages, each once",
            format!("{} entries", found.len()),
        ));
    }
    Ok(())
}

/// An index under the referrers tag, as older clients keep it, neither hides nor doubles what the API lists.
async fn fallback_tag(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let listed_there = refer(registry, &subject, Some(TYPE)).await?;
    let fallback =
        Document::of(&index(&[with(listed_there.descriptor(), "artifactType", TYPE.into())]));
    registry.push(&digest_of(&subject).replace(':', "-"), &fallback).await?;
    let later = refer(registry, &subject, Some(TYPE)).await?;
    for document in [&listed_there, &later] {
        entry(registry, &subject, document).await?;
    }
    Ok(())
}

async fn deleted(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let document = refer(registry, &subject, Some(TYPE)).await?;
    let gone = registry.delete(&format!("manifests/{}", document.digest)).send().await?;
    if gone.status() != 202 {
        return skip(format!("no manifest deletion ({})", gone.status()));
    }
    let (listed, found) = list(registry, &subject, "").await?;
    if !found.is_empty() {
        return Err(
            listed.fail("no entry of a deleted manifest", format!("{} entries", found.len()))
        );
    }
    Ok(())
}
