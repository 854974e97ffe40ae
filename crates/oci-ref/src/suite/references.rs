//! References of manifests, whatever their type: they must be there, of the size that is said, and
//! is held.

use std::sync::Arc;

use bytes::Bytes;
use oci_spec_types::{Descriptor, ErrorCode, ImageIndex, MediaType};
use serde_json::{Value, json};

use super::check::{blob_is, manifest_is, no_manifest, referrers, refused, refused_as};
use super::content::{Piece, image, image_with, noise, noise_blob, seal, tag};
use super::{Harness, cases};
use crate::{
    CopyOptions, Found, Manifest, Memory, Precondition, Ref, Result, Store, WalkOptions, copy,
};

cases![
    indexes_may_list_blobs,
    artifact_manifests_hold_their_blobs,
    manifests_of_unknown_types_hold_what_they_describe,
    digests_in_manifests_of_unknown_types_hold_what_is_there,
    sizes_must_be_those_of_the_content,
    layers_with_urls_may_be_absent,
    media_types_are_kept_as_they_are_written,
    build_caches_are_copied,
];

async fn put(store: &dyn Store, manifest: &Manifest, name: &str) -> Result<()> {
    store.put_manifest(manifest, &[tag(name)], &Precondition::None).await
}

fn parse(document: &Value) -> Result<Manifest> {
    Ok(Manifest::parse(Bytes::from(document.to_string()), None, None)?)
}

/// A cache as BuildKit pushes it with `image-manifest=false`: an index whose entries are layers,
/// and a config.
fn cache(seed: &str) -> Result<(Manifest, [Piece; 2])> {
    let layer = Piece::new(MediaType::OCI_LAYER_GZIP, noise(seed, 1000));
    let config = MediaType::from_static("application/vnd.buildkit.cacheconfig.v0");
    let config = Piece::new(config, format!(r#"{{"layers":[],"records":[],"x":{seed:?}}}"#));
    let entries = [&layer, &config].map(|blob| blob.descriptor.clone());
    Ok((seal(serde_json::to_vec(&ImageIndex::new(entries.into())))?, [layer, config]))
}

/// The store takes the manifest only with all its blobs, and holds them.
async fn holds(store: &dyn Store, manifest: &Manifest, blobs: &[Piece], name: &str) -> Result<()> {
    for (position, missing) in blobs.iter().enumerate() {
        let stored = put(store, manifest, name).await;
        if position == 0 && stored.is_ok() && store.capabilities().sparse != Some(false) {
            break;
        }
        let error = refused_as(ErrorCode::ManifestBlobUnknown, stored, "a manifest without a blob");
        let (digest, said) = (missing.descriptor.digest.as_str(), error.chain());
        assert!(said.contains(digest), "the error does not name {digest}: {said}");
        no_manifest(store, manifest.digest().clone()).await;
        missing.put(store).await?;
    }
    for blob in blobs {
        blob.put(store).await?;
    }
    put(store, manifest, name).await?;
    manifest_is(store, manifest, &[tag(name)]).await?;
    are_held(store, blobs).await?;
    manifest_is(store, manifest, &[tag(name)]).await
}

/// The store does not delete blobs, if it looks at references at all.
async fn are_held(store: &dyn Store, blobs: &[Piece]) -> Result<()> {
    let held = image("held")?;
    held.put(store, &[tag("held")]).await?;
    let looks = store.delete_blob(&held.blobs[1].descriptor.digest).await.is_err();
    for blob in blobs {
        if looks {
            refused(
                store.delete_blob(&blob.descriptor.digest).await,
                "deleting what is referenced",
            );
        }
        blob_is(store, &blob.descriptor, &blob.bytes).await?;
    }
    Ok(())
}

// moby/buildkit#1550, #2479, #3781, goharbor/harbor#14774
async fn indexes_may_list_blobs(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (index, blobs) = cache("cache")?;
    holds(&*store, &index, &blobs, "cache").await?;
    // A walk comes upon them and reads none.
    let root = Ref::read(store.clone(), &tag("cache").into()).await?;
    let mut found = Vec::new();
    crate::visit_refs(root, WalkOptions::default(), |visit| {
        found.push((visit.path.to_string(), matches!(visit.found, Found::Blob)));
        Ok(())
    })
    .await?;
    let paths = [("manifests/0", true), ("manifests/1", true), ("", false)];
    assert_eq!(found, paths.map(|(path, blob)| (path.to_owned(), blob)));
    Ok(())
}

// goharbor/harbor#12975, #15445
async fn artifact_manifests_hold_their_blobs(harness: &dyn Harness) -> Result<()> {
    for media_type in [MediaType::OCI_ARTIFACT_MANIFEST, MediaType::ORAS_ARTIFACT_MANIFEST] {
        let store = harness.store().await;
        let subject = image("subject")?;
        let blobs = [noise_blob(media_type.as_str(), 100), noise_blob("another", 10)];
        let artifact = parse(&json!({
            "mediaType": media_type, "artifactType": "an artifact", "annotations": {"a": "b"},
            "blobs": [blobs[0].descriptor, blobs[1].descriptor],
            "subject": subject.manifest.descriptor(),
        }))?;
        assert_eq!(*artifact.media_type(), media_type);
        holds(&*store, &artifact, &blobs, "artifact").await?;
        let listed = referrers(&*store, subject.manifest.digest(), Some("an artifact"), 10).await?;
        assert_eq!(listed, [artifact.as_referrer().expect("it has a subject")]);
    }
    Ok(())
}

// goharbor/harbor#12975, #15445
async fn manifests_of_unknown_types_hold_what_they_describe(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (subject, child) = (image("subject")?, image("child")?);
    child.put(&store, &[]).await?;
    let blobs = [noise_blob("shallow", 100), noise_blob("deep", 10)];
    let bundle = parse(&json!({
        "mediaType": "application/vnd.example.bundle.v1+json",
        "artifactType": "a kind of bundle",
        "config": blobs[0].descriptor,
        "parts": {"more": [{"deeper": [[blobs[1].descriptor]]}, child.manifest.descriptor()]},
        "subject": subject.manifest.descriptor(),
    }))?;
    holds(&*store, &bundle, &blobs, "bundle").await?;
    manifest_is(&*store, &child.manifest, &[]).await?;
    no_manifest(&*store, subject.manifest.digest().clone()).await;
    let listed = referrers(&*store, subject.manifest.digest(), None, 10).await?;
    assert_eq!(listed, [bundle.as_referrer().expect("it has a subject")]);
    Ok(())
}

async fn digests_in_manifests_of_unknown_types_hold_what_is_there(
    harness: &dyn Harness,
) -> Result<()> {
    let store = harness.store().await;
    let [there, absent] = ["there", "absent"].map(|seed| noise_blob(seed, 10));
    there.put(&store).await?;
    let listing = parse(&json!({
        "mediaType": "application/vnd.example.listing+json",
        "layers": [there.descriptor.digest, {"digest": absent.descriptor.digest}],
    }))?;
    put(&*store, &listing, "listing").await?;
    absent.put(&store).await?;
    are_held(&*store, &[there, absent]).await?;
    manifest_is(&*store, &listing, &[tag("listing")]).await
}

async fn sizes_must_be_those_of_the_content(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("sizes")?;
    packed.put(&store, &[]).await?;
    let wrong =
        |descriptor: &Descriptor| Descriptor { size: descriptor.size + 1, ..descriptor.clone() };
    let [config, layer] = [0, 1].map(|position| packed.blobs[position].descriptor.clone());
    let manifest = packed.manifest.descriptor();
    let entries = |entry| seal(serde_json::to_vec(&ImageIndex::new(vec![entry])));
    let lies = [
        image_with("sizes", |manifest| manifest.config = wrong(&config))?.manifest,
        image_with("sizes", |manifest| manifest.layers[0] = wrong(&layer))?.manifest,
        entries(wrong(manifest))?,
        entries(wrong(&layer))?,
        parse(&json!({"mediaType": "application/vnd.example+json", "x": [wrong(&layer)]}))?,
        parse(&json!({"mediaType": MediaType::OCI_ARTIFACT_MANIFEST, "blobs": [wrong(&layer)]}))?,
    ];
    for lie in lies {
        let stored = put(&*store, &lie, "lie").await;
        let error = refused_as(ErrorCode::ManifestInvalid, stored, "a descriptor of another size");
        let said = error.chain();
        let size = lie.references().filter_map(|it| it.descriptor).map(|it| it.size.to_string());
        assert!(size.into_iter().any(|size| said.contains(&size)), "no size is named: {said}");
        no_manifest(&*store, lie.digest().clone()).await;
        no_manifest(&*store, tag("lie")).await;
    }
    Ok(())
}

// olareg's "Foreign layers": OCI 1.1 has nothing but `urls` for them
async fn layers_with_urls_may_be_absent(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let elsewhere = Descriptor {
        media_type: MediaType::OCI_LAYER_GZIP,
        urls: vec!["https://layers.example/base".into()],
        ..noise_blob("elsewhere", 100).descriptor
    };
    let packed = image_with("urls", |manifest| manifest.layers.insert(0, elsewhere))?;
    packed.put(&store, &[tag("urls")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("urls")]).await?;
    let copied = Arc::new(Memory::new());
    copy(store, &tag("urls").into(), copied.clone(), CopyOptions::default()).await?;
    manifest_is(&*copied, &packed.manifest, &[]).await
}

// oras: `oras push note.txt:'text/plain; charset=utf-8'`, and "referrer.image" of its own tests;
// sigstore's bundles
async fn media_types_are_kept_as_they_are_written(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let subject = image("subject")?;
    for (position, written) in [
        "text/plain; charset=utf-8",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "referrer.image",
        "Application/X",
        "\u{e4}/\u{f6}",
    ]
    .into_iter()
    .enumerate()
    {
        let media_type = MediaType::as_written(written).expect("it can be written");
        let artifact = image_with(written, |manifest| {
            manifest.config.media_type = media_type.clone();
            manifest.layers[0].media_type = media_type.clone();
            manifest.subject = Some(subject.manifest.descriptor().clone());
        })?;
        let name = format!("written-{position}");
        artifact.put(&store, &[tag(&name)]).await?;
        manifest_is(&*store, &artifact.manifest, &[tag(&name)]).await?;
        let listed = referrers(&*store, subject.manifest.digest(), Some(written), 10).await?;
        assert_eq!(listed, [artifact.manifest.as_referrer().expect("it has a subject")]);
    }
    Ok(())
}

// moby/buildkit#1550: crane and oras copy it
async fn build_caches_are_copied(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (index, blobs) = cache("copied")?;
    let from = Arc::new(Memory::new());
    for blob in &blobs {
        blob.put(&from).await?;
    }
    put(&*from, &index, "cache").await?;
    let options = CopyOptions { tags: vec![tag("there")], ..CopyOptions::default() };
    let copied = copy(from, &tag("cache").into(), store.clone(), options.clone()).await?;
    assert_eq!((copied.manifests, copied.blobs), (1, 2));
    let back = Arc::new(Memory::new());
    copy(store.clone(), &tag("there").into(), back.clone(), options).await?;
    for store in [&*store, &*back as &dyn Store] {
        manifest_is(store, &index, &[tag("there")]).await?;
        for blob in &blobs {
            blob_is(store, &blob.descriptor, &blob.bytes).await?;
        }
    }
    Ok(())
}
