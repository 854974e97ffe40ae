//! Manifests: exact bytes, by every kind of target, with what they reference.

use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, ImageIndex, MediaType};

use super::check::{manifest_is, no_manifest, refused_as};
use super::content::{Packed, Piece, image, image_with, index, noise_blob, seal, tag};
use super::{Harness, cases};
use crate::{Manifest, Precondition, Ref, Result, Store, Target};

cases![
    manifests_come_back_byte_for_byte,
    manifests_in_parts_where_they_are_given,
    manifests_with_sha512_digests,
    unknown_manifests_are_not_found,
    a_tag_with_a_digest_means_the_digest,
    missing_blobs_are_refused_by_name,
    missing_manifests_are_refused_by_name,
    sparse_indexes_where_they_are_taken,
    absent_subjects_are_accepted,
    non_distributable_layers_may_be_absent,
    indexes_nest,
    indexes_and_images_may_be_empty,
    artifacts_with_a_subject,
    embedded_data_is_used,
    docker_types_are_kept,
    manifests_can_be_stored_again,
];

async fn put(store: &dyn Store, manifest: &Manifest, tags: &[&str]) -> Result<()> {
    let tags: Vec<_> = tags.iter().copied().map(tag).collect();
    store.put_manifest(manifest, &tags, &Precondition::None).await
}

fn parse(text: String) -> Result<Manifest> {
    Ok(Manifest::parse(text.into(), None, None)?)
}

async fn manifests_come_back_byte_for_byte(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let config = Piece::new(MediaType::OCI_IMAGE_CONFIG, "{ }");
    config.put(&store).await?;
    let digest = &config.descriptor.digest;
    let odd = [
        // Order, white space, escapes, numbers and fields that nobody knows.
        format!(
            "\n{{ \"layers\":[ ],\t\"x-unknown\":{{\"b\":1.0e2,\"a\":[null,true,\"\\u00e9\\/\"]}}, \
             \"config\" : {{\"size\":3, \"digest\":\"{digest}\",\r\n\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\
             \"x-more\":-0}} ,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"schemaVersion\": 2 }}\n\n"
        ),
        r#"{"manifests":[],"annotations":{"ключ":"значение \ud83d\ude00"},"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#.to_owned(),
        // Without a media type.
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":3}},"layers":[]}}"#
        ),
    ];
    for (position, text) in odd.into_iter().enumerate() {
        let manifest = parse(text)?;
        let name = format!("odd-{position}");
        put(&*store, &manifest, &[&name]).await?;
        manifest_is(&*store, &manifest, &[tag(&name)]).await?;
    }
    let by_digest = image("by digest only")?;
    by_digest.put(&store, &[]).await?;
    manifest_is(&*store, &by_digest.manifest, &[]).await
}

async fn manifests_in_parts_where_they_are_given(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let text = "0123456789".repeat(30_000);
    let manifest = parse(format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"x":"{text}"}}"#,
        MediaType::OCI_IMAGE_INDEX
    ))?;
    let (digest, bytes) = (manifest.digest(), manifest.bytes());
    put(&*store, &manifest, &["large"]).await?;
    let size = bytes.len() as u64;
    for range in [0..size, 0..1, 0..65_536, 65_535..200_001, size - 1..size] {
        let Some(part) = store.manifest_part(digest, range.clone()).await? else {
            return Ok(());
        };
        // Both ends are at most the length.
        let expected = &bytes[range.start as usize..range.end as usize];
        assert!(part == expected, "bytes {range:?} are others");
    }
    let part = async |range| store.manifest_part(digest, range).await;
    let end = bytes.slice(bytes.len() - 2..);
    assert_eq!(part(size - 2..size + 9).await?, Some(end), "there are no more");
    for beyond in [size..size + 9, 1 << 40..(1 << 40) + 1] {
        assert_eq!(part(beyond).await?, Some(bytes.slice(..0)), "there are none beyond the end");
    }
    let other = Algorithm::Sha256.digest(b"another");
    let part = store.manifest_part(&other, 0..1).await;
    refused_as(ErrorCode::ManifestUnknown, part, "a part of an unknown manifest");
    let elsewhere = harness.store().await;
    let part = elsewhere.manifest_part(digest, 0..1).await;
    refused_as(ErrorCode::ManifestUnknown, part, "a part of a manifest of another repository");
    Ok(())
}

async fn manifests_with_sha512_digests(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("sha512")?;
    let bytes = packed.manifest.bytes().clone();
    let digest = Algorithm::Sha512.digest(&bytes);
    let manifest = Manifest::parse(bytes, None, Some(&digest))?;
    let packed = Packed { manifest, ..packed };
    packed.put(&store, &[]).await?;
    manifest_is(&*store, &packed.manifest, &[]).await?;

    let outer = index([&packed.manifest])?;
    put(&*store, &outer, &["outer"]).await?;
    manifest_is(&*store, &outer, &[tag("outer")]).await?;
    manifest_is(&*store, &packed.manifest, &[]).await
}

async fn unknown_manifests_are_not_found(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let unknown = Digest::sha256(b"unknown");
    no_manifest(&*store, tag("unknown")).await;
    no_manifest(&*store, unknown.clone()).await;
    image("known")?.put(&store, &[tag("known")]).await?;
    no_manifest(&*store, tag("unknown")).await;
    no_manifest(&*store, unknown.clone()).await;
    no_manifest(&*store, Target::Pinned(tag("unknown"), unknown)).await;
    Ok(())
}

async fn a_tag_with_a_digest_means_the_digest(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (first, second) = (image("first")?, image("second")?);
    first.put(&store, &[tag("one")]).await?;
    second.put(&store, &[tag("two")]).await?;
    // What the tag names, what it named once or never, and what no tag has.
    for named in ["one", "two", "gone"] {
        for packed in [&first, &second] {
            let target = Target::Pinned(tag(named), packed.manifest.digest().clone());
            let found = store.manifest(&target).await?;
            assert_eq!(found.bytes(), packed.manifest.bytes(), "bytes of {target}");
            let resolved = store.resolve(&target).await?;
            assert_eq!(resolved.digest, *packed.manifest.digest(), "digest of {target}, resolved");
        }
        no_manifest(&*store, Target::Pinned(tag(named), Digest::sha256(b"unknown"))).await;
    }
    Ok(())
}

async fn missing_blobs_are_refused_by_name(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for missing in 0..2 {
        let packed = image(&format!("without blob {missing}"))?;
        for (position, blob) in packed.blobs.iter().enumerate() {
            if position != missing {
                blob.put(&store).await?;
            }
        }
        let stored = put(&*store, &packed.manifest, &["refused"]).await;
        let error = refused_as(ErrorCode::ManifestBlobUnknown, stored, "a manifest without a blob");
        let digest = packed.blobs[missing].descriptor.digest.as_str();
        let said = error.chain();
        assert!(said.contains(digest), "the error does not name {digest}: {said}");
        no_manifest(&*store, packed.manifest.digest().clone()).await;
        no_manifest(&*store, tag("refused")).await;
        packed.put(&store, &[tag("taken")]).await?;
        manifest_is(&*store, &packed.manifest, &[tag("taken")]).await?;
    }
    Ok(())
}

async fn missing_manifests_are_refused_by_name(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    if store.capabilities().sparse == Some(true) {
        return Ok(());
    }
    let (there, missing) = (image("there")?, image("missing")?);
    there.put(&store, &[]).await?;
    let index = index([&there.manifest, &missing.manifest])?;
    let stored = put(&*store, &index, &["refused"]).await;
    if store.capabilities().sparse.is_none() && stored.is_ok() {
        return Ok(());
    }
    let error = refused_as(ErrorCode::ManifestBlobUnknown, stored, "an index without a manifest");
    let digest = missing.manifest.digest().as_str();
    let said = error.chain();
    assert!(said.contains(digest), "the error does not name {digest}: {said}");
    no_manifest(&*store, index.digest().clone()).await;
    no_manifest(&*store, tag("refused")).await;
    missing.put(&store, &[]).await?;
    put(&*store, &index, &["taken"]).await?;
    manifest_is(&*store, &index, &[tag("taken")]).await?;
    manifest_is(&*store, &there.manifest, &[]).await?;
    manifest_is(&*store, &missing.manifest, &[]).await
}

async fn sparse_indexes_where_they_are_taken(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    if store.capabilities().sparse == Some(false) {
        return Ok(());
    }
    let (there, missing) = (image("there")?, image("missing")?);
    there.put(&store, &[]).await?;
    let index = index([&there.manifest, &missing.manifest])?;
    let stored = put(&*store, &index, &["sparse"]).await;
    if store.capabilities().sparse.is_none() && stored.is_err() {
        refused_as(ErrorCode::ManifestBlobUnknown, stored, "an index without a manifest");
        no_manifest(&*store, index.digest().clone()).await;
        return Ok(());
    }
    stored?;
    manifest_is(&*store, &index, &[tag("sparse")]).await?;
    manifest_is(&*store, &there.manifest, &[]).await?;
    no_manifest(&*store, missing.manifest.digest().clone()).await;
    missing.put(&store, &[]).await?;
    manifest_is(&*store, &missing.manifest, &[]).await
}

async fn absent_subjects_are_accepted(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let subject = image("an absent subject")?.manifest;
    let packed = image_with("about something absent", |manifest| {
        manifest.subject = Some(subject.descriptor().clone());
    })?;
    packed.put(&store, &[tag("early")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("early")]).await?;
    no_manifest(&*store, subject.digest().clone()).await;
    Ok(())
}

async fn non_distributable_layers_may_be_absent(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for media_type in
        [MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP, MediaType::DOCKER_FOREIGN_LAYER_GZIP]
    {
        let mut elsewhere = noise_blob("elsewhere", 100).descriptor;
        elsewhere.media_type = media_type.clone();
        elsewhere.urls = vec!["https://layers.example/base".into()];
        let packed =
            image_with(media_type.as_str(), |manifest| manifest.layers.insert(0, elsewhere))?;
        packed.put(&store, &[tag("windows")]).await?;
        manifest_is(&*store, &packed.manifest, &[tag("windows")]).await?;
    }
    Ok(())
}

async fn indexes_nest(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let image = image("nested")?;
    image.put(&store, &[]).await?;
    let mut manifest = image.manifest.clone();
    for depth in 0..4 {
        let outer = index([&manifest, &image.manifest])?;
        put(&*store, &outer, &[]).await?;
        for there in [&outer, &manifest, &image.manifest] {
            manifest_is(&*store, there, &[]).await?;
        }
        assert_ne!(outer.digest(), manifest.digest(), "depth {depth}");
        manifest = outer;
    }
    put(&*store, &manifest, &["outermost"]).await?;
    manifest_is(&*store, &manifest, &[tag("outermost")]).await?;
    manifest_is(&*store, &image.manifest, &[]).await
}

async fn indexes_and_images_may_be_empty(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let no_manifests = index([])?;
    put(&*store, &no_manifests, &["no-manifests"]).await?;
    manifest_is(&*store, &no_manifests, &[tag("no-manifests")]).await?;
    let no_layers = image_with("no layers", |manifest| manifest.layers.clear())?;
    no_layers.put(&store, &[tag("no-layers")]).await?;
    manifest_is(&*store, &no_layers.manifest, &[tag("no-layers")]).await
}

async fn artifacts_with_a_subject(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let subject = image("subject")?;
    subject.put(&store, &[tag("subject")]).await?;
    let empty = Piece::new(MediaType::OCI_EMPTY_JSON, "{}");
    empty.put(&store).await?;
    let artifact = image_with("artifact", |manifest| {
        manifest.artifact_type = Some("application/vnd.example.note".into());
        manifest.config = Descriptor::empty_json();
        manifest.subject = Some(subject.manifest.descriptor().clone());
    })?;
    artifact.put(&store, &[]).await?;
    manifest_is(&*store, &artifact.manifest, &[]).await?;
    let found = store.manifest(&artifact.manifest.digest().clone().into()).await?;
    assert_eq!(found.subject(), Some(subject.manifest.descriptor()));
    manifest_is(&*store, &subject.manifest, &[tag("subject")]).await
}

async fn embedded_data_is_used(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let text = Piece::new(MediaType::OCTET_STREAM, "embedded in the manifest");
    text.put(&store).await?;
    let packed = image_with("data", |manifest| {
        let data = Some(text.bytes.to_vec());
        manifest.layers = vec![Descriptor { data, ..text.descriptor.clone() }];
    })?;
    packed.put(&store, &[tag("data")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("data")]).await?;
    let read = Ref::read(store, &tag("data").into()).await?;
    let image = read.as_image()?;
    let found = image.read_blob_verified(&image.layers()[0], 1000).await?;
    assert_eq!(found, text.bytes);
    Ok(())
}

async fn docker_types_are_kept(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image_with("docker", |manifest| {
        manifest.media_type = Some(MediaType::DOCKER_MANIFEST);
        manifest.config.media_type = MediaType::DOCKER_CONFIG;
        manifest.layers[0].media_type = MediaType::DOCKER_LAYER_GZIP;
    })?;
    assert_eq!(*packed.manifest.media_type(), MediaType::DOCKER_MANIFEST);
    packed.put(&store, &[tag("docker")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("docker")]).await?;
    let list = seal(serde_json::to_vec(&ImageIndex {
        media_type: Some(MediaType::DOCKER_MANIFEST_LIST),
        ..ImageIndex::new(vec![packed.manifest.descriptor().clone()])
    }))?;
    put(&*store, &list, &["docker-list"]).await?;
    manifest_is(&*store, &list, &[tag("docker-list")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("docker")]).await
}

async fn manifests_can_be_stored_again(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("again")?;
    packed.put(&store, &[tag("first")]).await?;
    packed.put(&store, &[tag("first")]).await?;
    packed.put(&store, &[]).await?;
    packed.put(&store, &[tag("second"), tag("third")]).await?;
    let tags = ["first", "second", "third"].map(tag);
    manifest_is(&*store, &packed.manifest, &tags).await?;
    assert_eq!(super::check::tags(&store, 100).await?, ["first", "second", "third"]);
    Ok(())
}
