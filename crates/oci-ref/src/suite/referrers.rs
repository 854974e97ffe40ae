//! Referrers: what says something about a manifest.

use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};

use super::check::{manifest_is, referrers};
use super::content::{Packed, Piece, image, image_with, seal, tag};
use super::{Harness, cases};
use crate::{Manifest, Precondition, Result};

cases![
    referrers_are_listed_filtered_and_in_pages,
    referrers_may_come_before_their_subject,
    nothing_refers_to_an_unknown_subject,
    deleted_referrers_are_not_listed,
    a_referrer_that_an_index_lists,
];

const NOTE: &str = "application/vnd.example.note";
const SEAL: &str = "application/vnd.example.seal";

/// An artifact about a subject.
fn artifact(seed: &str, subject: &Manifest, artifact_type: &str) -> Result<Packed> {
    let mut packed = image_with(seed, |manifest| {
        manifest.artifact_type = Some(artifact_type.into());
        manifest.config = Descriptor::empty_json();
        manifest.subject = Some(subject.descriptor().clone());
        manifest.annotations.insert("org.example.seed".into(), seed.into());
    })?;
    packed.blobs.push(Piece::new(MediaType::OCI_EMPTY_JSON, "{}"));
    Ok(packed)
}

/// The descriptors by which manifests are listed, in the order of their digests.
fn expected(manifests: &[&Manifest]) -> Vec<Descriptor> {
    let mut all: Vec<_> = manifests
        .iter()
        .map(|manifest| manifest.as_referrer().expect("the test's referrers have a subject"))
        .collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    all
}

async fn referrers_are_listed_filtered_and_in_pages(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (subject, other) = (image("subject")?, image("another subject")?);
    subject.put(&store, &[tag("subject")]).await?;
    other.put(&store, &[tag("other")]).await?;
    let digest = subject.manifest.digest();

    let mut notes = Vec::new();
    for n in 0..5 {
        let note = artifact(&format!("note {n}"), &subject.manifest, NOTE)?;
        note.put(&store, &[]).await?;
        notes.push(note.manifest);
    }
    let seal_ = artifact("seal", &subject.manifest, SEAL)?;
    seal_.put(&store, &[tag("seal")]).await?;
    artifact("elsewhere", &other.manifest, NOTE)?.put(&store, &[]).await?;
    // An image without an artifact type is listed with its config's media type, an index without one has none.
    let about = image_with("an image about an image", |manifest| {
        manifest.subject = Some(subject.manifest.descriptor().clone());
    })?;
    about.put(&store, &[]).await?;
    let list = seal(serde_json::to_vec(&ImageIndex {
        subject: Some(subject.manifest.descriptor().clone()),
        annotations: [("org.example.kind".to_owned(), "list".to_owned())].into(),
        ..ImageIndex::new(Vec::new())
    }))?;
    store.put_manifest(&list, &[], &Precondition::None).await?;

    let mut all: Vec<&Manifest> = notes.iter().collect();
    let of_type = expected(&all);
    all.extend([&seal_.manifest, &about.manifest, &list]);
    for limit in [1, 3, 8, 100] {
        let found = referrers(&*store, digest, None, limit).await?;
        assert_eq!(found, expected(&all), "all, in pages of {limit}");
        let found = referrers(&*store, digest, Some(NOTE), limit).await?;
        assert_eq!(found, of_type, "notes, in pages of {limit}");
    }
    let found = referrers(&*store, digest, Some(SEAL), 10).await?;
    assert_eq!(found, expected(&[&seal_.manifest]));
    let found = referrers(&*store, digest, Some(MediaType::OCI_IMAGE_CONFIG.as_str()), 10).await?;
    assert_eq!(found, expected(&[&about.manifest]));
    let found = referrers(&*store, digest, Some("application/vnd.example.unknown"), 10).await?;
    assert_eq!(found, []);
    Ok(())
}

async fn referrers_may_come_before_their_subject(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let subject = image("late")?;
    let note = artifact("early", &subject.manifest, NOTE)?;
    note.put(&store, &[]).await?;
    let digest = subject.manifest.digest();
    assert_eq!(referrers(&*store, digest, None, 10).await?, expected(&[&note.manifest]));
    subject.put(&store, &[tag("late")]).await?;
    assert_eq!(referrers(&*store, digest, None, 10).await?, expected(&[&note.manifest]));
    Ok(())
}

async fn nothing_refers_to_an_unknown_subject(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("alone")?;
    packed.put(&store, &[tag("alone")]).await?;
    let unknown = Digest::sha256(b"unknown");
    assert_eq!(referrers(&*store, &unknown, None, 10).await?, []);
    assert_eq!(referrers(&*store, packed.manifest.digest(), None, 10).await?, []);
    Ok(())
}

async fn deleted_referrers_are_not_listed(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let subject = image("subject")?;
    subject.put(&store, &[tag("subject")]).await?;
    let digest = subject.manifest.digest();
    let notes = [artifact("a", &subject.manifest, NOTE)?, artifact("b", &subject.manifest, NOTE)?];
    for note in &notes {
        note.put(&store, &[]).await?;
    }
    let both = expected(&[&notes[0].manifest, &notes[1].manifest]);
    assert_eq!(referrers(&*store, digest, None, 10).await?, both);
    assert_eq!(referrers(&*other, digest, None, 10).await?, both);
    store.delete_manifest(notes[0].manifest.digest()).await?;
    for store in [&store, &other] {
        let found = referrers(&**store, digest, None, 10).await?;
        assert_eq!(found, expected(&[&notes[1].manifest]));
    }
    notes[0].put(&store, &[]).await?;
    assert_eq!(referrers(&*other, digest, None, 10).await?, both);
    // What refers to a manifest stays when that is deleted.
    store.delete_manifest(digest).await?;
    assert_eq!(referrers(&*store, digest, None, 10).await?, both);
    Ok(())
}

async fn a_referrer_that_an_index_lists(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let subject = image("subject")?;
    subject.put(&store, &[tag("subject")]).await?;
    let digest = subject.manifest.digest();
    let note = artifact("listed", &subject.manifest, NOTE)?;
    note.put(&store, &[]).await?;
    let listed = expected(&[&note.manifest]);
    let index = super::content::index([&subject.manifest, &note.manifest])?;
    store.put_manifest(&index, &[tag("bundle")], &Precondition::None).await?;
    assert_eq!(referrers(&*store, digest, None, 10).await?, listed);
    store.delete_manifest(index.digest()).await?;
    assert_eq!(referrers(&*store, digest, None, 10).await?, listed);
    manifest_is(&*store, &note.manifest, &[]).await
}
