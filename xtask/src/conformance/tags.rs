//! Content discovery: tags, page by page.

use std::collections::BTreeSet;

use serde_json::Value;

use super::answer::Answer;
use super::check::{Check, Stop, Verdict, checks};
use super::content::Document;
use super::context::Registry;
use super::url::Url;

pub(super) const CHECKS: &[Check] = checks![Tags:
    Must V1_1 "tags-list" [43, 45] => list,
    Must V1_1 "tags-of-untagged-repository" [43, 45] => untagged,
    Must Dev "tags-order" [44] => order,
    Must V1_1 "tags-n" [46] => some,
    Must V1_1 "tags-n-above-total" [46] => more_than_all,
    Must V1_1 "tags-n-zero" [48] => none,
    Must V1_1 "tags-last" [49] => last,
    Must V1_1 "tags-last-without-n" [49] => last_without_n,
    Must V1_1 "tags-last-of-all" [49] => last_of_all,
    Must V1_1 "tags-last-is-no-index" [49] => last_is_no_index,
    Must V1_1 "tags-link" [47] => link,
    Must V1_1 "tags-all-pages" [46, 47] => all_pages,
    Should V1_1 "tags-of-unknown-repository" [38] => unknown_repository,
];

/// A repository of its own with these tags, all of one image.
async fn tagged(registry: &Registry, tags: &[&str]) -> Result<String, Stop> {
    let name = format!("{}/{}", registry.repository, registry.unique());
    let document = Document::of(&registry.new_image_in(&name).await?);
    for tag in tags {
        registry.put_in(&name, tag, &document).send().await?.expect_status(201)?;
    }
    registry.put_in(&name, &document.digest, &document).send().await?.expect_status(201)?;
    Ok(name)
}

const TAGS: [&str; 7] = ["v1", "2", "latest", "10", "A", "b", "v1.0-rc_1"];

async fn ask(registry: &Registry, url: Url) -> Result<(Answer, Vec<String>), Stop> {
    let listed = registry.client.request("GET", url).send().await?;
    listed.expect_status(200)?;
    let body = listed.json()?;
    let tags = body.get("tags").and_then(Value::as_array);
    let tags =
        tags.and_then(|tags| tags.iter().map(|tag| tag.as_str().map(str::to_owned)).collect());
    let tags: Option<Vec<String>> = tags;
    let tags = tags.ok_or_else(|| listed.fail("tags: a list of strings", body.to_string()))?;
    Ok((listed, tags))
}

async fn tags_of(
    registry: &Registry,
    name: &str,
    query: &str,
) -> Result<(Answer, Vec<String>), Stop> {
    ask(registry, registry.at_in(name, &format!("tags/list{query}"))).await
}

async fn list(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (listed, tags) = tags_of(registry, &name, "").await?;
    if listed.json()?.get("name").and_then(Value::as_str) != Some(&name) {
        return Err(listed.fail(format!("name: {name}"), String::from_utf8_lossy(listed.body())));
    }
    expect_set(&listed, &tags, &TAGS)
}

fn expect_set(listed: &Answer, found: &[String], expected: &[&str]) -> Verdict {
    if expected.is_empty() && !found.is_empty() {
        return Err(listed.fail("an empty list", found.join(" ")));
    }
    let set: BTreeSet<_> = found.iter().map(String::as_str).collect();
    if set == expected.iter().copied().collect() && found.len() == expected.len() {
        return Ok(());
    }
    Err(listed.fail(format!("the tags {}, each once", expected.join(" ")), found.join(" ")))
}

async fn untagged(registry: &Registry) -> Verdict {
    let name = tagged(registry, &[]).await?;
    let (listed, tags) = tags_of(registry, &name, "").await?;
    expect_set(&listed, &tags, &[])
}

async fn order(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (listed, tags) = tags_of(registry, &name, "").await?;
    if tags.is_sorted() || tags.is_sorted_by_key(|tag| tag.to_lowercase()) {
        return Ok(());
    }
    Err(listed.fail("tags in lexical or ASCIIbetical order", tags.join(" ")))
}

async fn some(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (_, all) = tags_of(registry, &name, "").await?;
    for n in [1, 3, TAGS.len()] {
        let (listed, tags) = tags_of(registry, &name, &format!("?n={n}")).await?;
        // "MAY return fewer than <int> results, but only when … a Link header is provided."
        let short = tags.len() < n && listed.header("Link").is_some();
        if !(short || tags.len() == n) || !all.starts_with(&tags) {
            return Err(listed.fail(format!("the first {n} of {}", all.join(" ")), tags.join(" ")));
        }
    }
    Ok(())
}

async fn more_than_all(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (listed, tags) = tags_of(registry, &name, "?n=100").await?;
    if listed.header("Link").is_some() && tags.len() < TAGS.len() {
        return Ok(());
    }
    expect_set(&listed, &tags, &TAGS)
}

async fn none(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (listed, tags) = tags_of(registry, &name, "?n=0").await?;
    expect_set(&listed, &tags, &[])?;
    match listed.header("Link") {
        Some(link) => Err(listed.fail("no Link with n=0", format!("Link: {link}"))),
        None => Ok(()),
    }
}

/// What comes after a tag, in the registry's own order.
async fn after(registry: &Registry, name: &str, query: &str, limit: usize) -> Verdict {
    let (_, all) = tags_of(registry, name, "").await?;
    for (at, tag) in all.iter().enumerate() {
        let (listed, tags) = tags_of(registry, name, &format!("?last={tag}{query}")).await?;
        let rest = &all[at + 1..];
        let complete = tags.len() == rest.len().min(limit) || listed.header("Link").is_some();
        if !rest.starts_with(&tags) || !complete {
            let expected = rest.iter().take(limit).cloned().collect::<Vec<_>>().join(" ");
            return Err(listed.fail(format!("what follows {tag}: {expected:?}"), tags.join(" ")));
        }
    }
    Ok(())
}

async fn last(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    after(registry, &name, "&n=2", 2).await
}

async fn last_without_n(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    after(registry, &name, "", usize::MAX).await
}

async fn last_of_all(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (_, all) = tags_of(registry, &name, "").await?;
    let last = all.last().map(String::as_str).unwrap_or_default();
    let (listed, tags) = tags_of(registry, &name, &format!("?n=5&last={last}")).await?;
    expect_set(&listed, &tags, &[])
}

/// `last=2` means the tag "2", though there are two tags before the third.
async fn last_is_no_index(registry: &Registry) -> Verdict {
    let name = tagged(registry, &["1", "2", "3", "4", "a", "b"]).await?;
    let (listed, tags) = tags_of(registry, &name, "?n=2&last=3").await?;
    if tags != ["4", "a"] && listed.header("Link").is_none() {
        return Err(listed.fail("4 a", tags.join(" ")));
    }
    Ok(())
}

/// If a Link is sent, it is well-formed and leads to a page of tags.
async fn link(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (listed, first) = tags_of(registry, &name, "?n=2").await?;
    let Some(next) = listed.next_page()? else {
        // To send one is a MAY.
        return Ok(());
    };
    let (listed, second) = ask(registry, next).await?;
    if second.is_empty() || second.iter().any(|tag| first.contains(tag)) {
        return Err(listed.fail("other tags than on the first page", second.join(" ")));
    }
    Ok(())
}

/// All pages together are all tags, each once, by Link where it is given and by `last` where it is not.
async fn all_pages(registry: &Registry) -> Verdict {
    let name = tagged(registry, &TAGS).await?;
    let (_, all) = tags_of(registry, &name, "").await?;
    for n in [1, 2, 3] {
        let mut found = Vec::new();
        let mut url = registry.at_in(&name, &format!("tags/list?n={n}"));
        loop {
            let (listed, tags) = ask(registry, url).await?;
            found.extend_from_slice(&tags);
            url = match (listed.next_page()?, tags.last()) {
                (Some(next), _) => next,
                (None, Some(last)) if tags.len() == n => {
                    registry.at_in(&name, &format!("tags/list?n={n}&last={last}"))
                }
                _ => {
                    if found != all {
                        return Err(listed.fail(
                            format!("all pages of {n}: {}", all.join(" ")),
                            found.join(" "),
                        ));
                    }
                    break;
                }
            };
            if found.len() > all.len() {
                return Err(
                    listed.fail(format!("all pages of {n}: {}", all.join(" ")), found.join(" "))
                );
            }
        }
    }
    Ok(())
}

async fn unknown_repository(registry: &Registry) -> Verdict {
    let unknown = format!("{}-{}", registry.repository, registry.unique());
    let url = registry.at_in(&unknown, "tags/list");
    registry.client.request("GET", url).send().await?.expect_status(404)
}
