//! Content discovery: what an entry of a referrers list says, and lists filtered by it.

use serde_json::{Value, json};

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks, skip};
use super::content::{Blob, CONFIG, Document, INDEX, image, index, with};
use super::context::Registry;
use super::referrers::{TYPE, entry, expect_field, list, refer, subject};
use super::url::query_value;

pub(super) const CHECKS: &[Check] = checks![Referrers:
    Must V1_1 "referrers-artifact-type" [53] => artifact_type,
    Must V1_1 "referrers-config-media-type" [54] => config_media_type,
    Must V1_1 "referrers-index-without-type" [55] => index_without_type,
    Must V1_1 "referrers-annotations" [56] => annotations,
    Should V1_1 "referrers-filter" [59] => filter,
    Must V1_1 "referrers-filter-applied" [60] => filter_applied,
    Must V1_1 "referrers-filter-without-match" [57, 60] => filter_without_match,
];

async fn artifact_type(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let document = refer(registry, &subject, Some(TYPE)).await?;
    let (listed, found) = entry(registry, &subject, &document).await?;
    expect_field(&listed, &found, "artifactType", &json!(TYPE))?;
    let list = with(index(&[]), "subject", subject.clone());
    let list = Document::of(&with(list, "artifactType", "application/vnd.test.list".into()));
    registry.push(&list.digest, &list).await?;
    let (listed, found) = entry(registry, &subject, &list).await?;
    expect_field(&listed, &found, "artifactType", &json!("application/vnd.test.list"))
}

async fn config_media_type(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let document = refer(registry, &subject, None).await?;
    let (listed, found) = entry(registry, &subject, &document).await?;
    expect_field(&listed, &found, "artifactType", &json!(CONFIG))?;
    let config = Blob::new(registry.bytes(20));
    registry.push_blob(&config).await?;
    let other = image(&config.descriptor("application/vnd.test.config"), &[]);
    let other = with(with(other, "subject", subject.clone()), "artifactType", "".into());
    let other = Document::of(&other);
    let pushed = registry.put(&other.digest, &other).send().await?;
    if pushed.status() != 201 {
        // An empty artifactType may be refused as an invalid manifest.
        return pushed.expect_refusal();
    }
    let (listed, found) = entry(registry, &subject, &other).await?;
    expect_field(&listed, &found, "artifactType", &json!("application/vnd.test.config"))
}

async fn index_without_type(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let list = Document::of(&with(index(&[]), "subject", subject.clone()));
    registry.push(&list.digest, &list).await?;
    let (listed, found) = entry(registry, &subject, &list).await?;
    expect_field(&listed, &found, "mediaType", &json!(INDEX))?;
    match found.get("artifactType") {
        None => Ok(()),
        Some(other) => {
            Err(listed.fail("no artifactType for an index without one", other.to_string()))
        }
    }
}

async fn annotations(registry: &Registry) -> Verdict {
    registry.need_referrers().await?;
    let subject = subject(registry);
    let annotations = json!({"org.example.a": "1", "é\"\\": "\u{1F980}\n", "empty": ""});
    let image = with(registry.new_image().await?, "subject", subject.clone());
    for document in [image, with(index(&[]), "subject", subject.clone())] {
        let document = Document::of(&with(document, "annotations", annotations.clone()));
        registry.push(&document.digest, &document).await?;
        let (listed, found) = entry(registry, &subject, &document).await?;
        expect_field(&listed, &found, "annotations", &annotations)?;
    }
    Ok(())
}

/// The answer to a list of one artifact type, of the two that there are.
async fn filtered(registry: &Registry, wanted: &str) -> Result<(Answer, Vec<Value>), Stop> {
    registry.need_referrers().await?;
    let subject = subject(registry);
    refer(registry, &subject, Some(TYPE)).await?;
    refer(registry, &subject, Some("application/vnd.test.signature")).await?;
    list(registry, &subject, &format!("?artifactType={}", query_value(wanted))).await
}

fn types(found: &[Value]) -> Vec<&str> {
    found.iter().filter_map(|entry| entry.get("artifactType").and_then(Value::as_str)).collect()
}

async fn filter(registry: &Registry) -> Verdict {
    let (listed, found) = filtered(registry, TYPE).await?;
    if types(&found) != [TYPE] {
        return Err(
            listed.fail(format!("only entries with artifactType {TYPE}"), types(&found).join(" "))
        );
    }
    Ok(())
}

async fn filter_applied(registry: &Registry) -> Verdict {
    let (listed, found) = filtered(registry, TYPE).await?;
    let names: Vec<_> =
        listed.reply.all("OCI-Filters-Applied").flat_map(|value| value.split(',')).collect();
    let named = names.iter().any(|name| name.trim() == "artifactType");
    let applied = types(&found) == [TYPE];
    if !named && !applied {
        return skip("no filter by artifactType");
    }
    if named != applied {
        let found =
            format!("OCI-Filters-Applied {names:?}, and entries of {}", types(&found).join(" "));
        return Err(
            listed.fail("OCI-Filters-Applied: artifactType with a list that is filtered", found)
        );
    }
    Ok(())
}

async fn filter_without_match(registry: &Registry) -> Verdict {
    let (listed, found) = filtered(registry, "application/vnd.test.none").await?;
    if listed.header("OCI-Filters-Applied").is_none() && found.len() == 2 {
        return skip("no filter by artifactType");
    }
    listed.expect_header("OCI-Filters-Applied", "artifactType")?;
    if !found.is_empty() {
        return Err(listed.fail("an empty list", types(&found).join(" ")));
    }
    Ok(())
}
