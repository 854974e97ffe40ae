//! The manifest under the tag of a subject is changed if it is a list of the subject's referrers,
//! and left alone otherwise.

use oci_ref::{Document, ErrorKind, Manifest, Store};
use oci_registry_client::{ReferrersChange, ReferrersStep};
use oci_spec_types::{Descriptor, ImageIndex, ImageManifest, MediaType, Platform};

use super::old::{Old, push};
use super::{artifact, entries, failure, subject, tag, written_by_others};
use crate::server::{Server, builder};

fn seal(document: &ImageIndex) -> Manifest {
    Manifest::parse(serde_json::to_vec(document).unwrap().into(), None, None).unwrap()
}

fn index_of(manifests: &[&Manifest]) -> ImageIndex {
    ImageIndex::new(manifests.iter().map(|manifest| manifest.descriptor().clone()).collect())
}

/// An image of its own, about nothing.
fn image(number: u32) -> Manifest {
    let mut image = ImageManifest::new(Descriptor::empty_json(), Vec::new());
    image.annotations.insert("number".into(), number.to_string());
    Manifest::parse(serde_json::to_vec(&image).unwrap().into(), None, None).unwrap()
}

/// An artifact about something else than the subject.
fn about_another() -> Manifest {
    let Document::Image(mut image) = artifact("x", 50).document().clone() else { unreachable!() };
    image.subject = Some(Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"another subject"));
    Manifest::parse(serde_json::to_vec(&image).unwrap().into(), None, None).unwrap()
}

/// Manifests that are no list of the subject's referrers, and how each comes under the tag. The
/// entries are there.
fn others() -> Vec<(&'static str, Manifest)> {
    let mut with_platform = index_of(&[&image(1), &image(2)]);
    for entry in &mut with_platform.manifests {
        entry.platform = Some(Platform::new("linux", "amd64"));
    }
    let mut gone = with_platform.clone();
    gone.manifests[0] = Descriptor {
        platform: Some(Platform::new("linux", "arm64")),
        ..image(77).descriptor().clone()
    };
    let listed = artifact("x", 51).as_referrer().unwrap();
    let mut mixed = with_platform.clone();
    mixed.manifests.push(listed.clone());
    let mut docker = ImageIndex::new(vec![listed.clone()]);
    docker.media_type = Some(MediaType::DOCKER_MANIFEST_LIST);
    let mut referrer = ImageIndex::new(Vec::new());
    referrer.subject = Some(subject());
    let lying = ImageIndex::new(vec![about_another().as_referrer().unwrap()]);
    let with_subject = ImageIndex::new(vec![listed, subject()]);
    vec![
        ("an image", image(3)),
        ("the images of an index, as oc-mirror tags them", seal(&with_platform)),
        ("images without platforms", seal(&index_of(&[&image(1), &image(2)]))),
        ("an image that is gone", seal(&gone)),
        ("images, and a referrer among them", seal(&mixed)),
        ("a Docker list", seal(&docker)),
        ("a referrer of its own", seal(&referrer)),
        ("the referrers of another", seal(&lying)),
        ("the subject among its referrers", seal(&with_subject)),
    ]
}

/// A registry where the tag names something, with the entries that it may have.
async fn with_tagged(other: &Manifest) -> (Old, Server) {
    let old = Old::default();
    for there in [image(1), image(2), artifact("x", 51), about_another()] {
        old.put(&there, &[]);
    }
    old.put(other, &[&tag(), "other"]);
    let server = old.serve().await;
    (old, server)
}

fn changes_of_others(server: &Server, pushed: &Manifest) -> Vec<String> {
    let ours = format!("PUT /v2/a/b/manifests/{}", pushed.digest());
    let changes = server.lines().into_iter().filter(|line| !line.starts_with("GET"));
    changes.filter(|line| *line != ours).collect()
}

// openshift/oc-mirror#981, google/go-containerregistry#2366
// covers: O17, O24
#[tokio::test]
async fn what_is_no_list_is_neither_written_over_nor_deleted() {
    for (what, other) in others() {
        let (old, server) = with_tagged(&other).await;
        let pushed = artifact("x", 1);
        let error = push(&server, builder(), std::slice::from_ref(&pushed))
            .await
            .pop()
            .unwrap()
            .unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unlisted, "{what}: {error}");
        let failure = failure(&error);
        assert_eq!((failure.change, failure.step), (ReferrersChange::Add, ReferrersStep::Read));
        assert_eq!((&failure.subject, &failure.referrer), (&subject().digest, pushed.digest()));
        let names = error.to_string().contains(other.digest().as_str());
        assert!(names && error.to_string().contains(&tag()), "{what}: {error}");
        assert!(old.has(pushed.digest()) && old.has(other.digest()), "{what}");
        assert_eq!(changes_of_others(&server, &pushed), [""; 0], "{what}");
    }
}

// oras-project/oras-go#1396
// covers: O17, O24
#[tokio::test]
async fn the_subject_under_its_own_tag_stays() {
    let image = seal(&index_of(&[&image(1), &image(2)]));
    let mut signature = ImageManifest::new(Descriptor::empty_json(), Vec::new());
    signature.subject = Some(image.descriptor().clone());
    let signature =
        Manifest::parse(serde_json::to_vec(&signature).unwrap().into(), None, None).unwrap();
    let own_tag = image.digest().as_str().replace(':', "-");
    let old = Old::default();
    old.put(&image, &["v1", &own_tag]);
    let server = old.serve().await;
    let pushed = push(&server, builder(), std::slice::from_ref(&signature)).await.pop().unwrap();
    let error = pushed.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unlisted);
    assert!(error.to_string().contains("it names the subject itself"), "{error}");
    assert_eq!(changes_of_others(&server, &signature), [""; 0]);
    for tag in ["v1", &own_tag] {
        assert_eq!(old.named(tag).as_deref(), Some(image.digest().as_str()));
    }
    // Nothing refers to it by that, and what refers to it can go again.
    let repository = server.repository();
    assert_eq!(repository.predecessors(image.digest()).await.unwrap(), []);
    repository.delete_manifest(signature.digest()).await.unwrap();
    assert!(!old.has(signature.digest()) && old.has(image.digest()));
}

// oras-project/oras-go#1396: GitLab goes on answering with the subject.
// covers: O17, O24
#[tokio::test]
async fn a_registry_that_does_not_keep_the_list_is_written_to_once() {
    let old = Old::default();
    old.0.lock().unwrap().others = vec![image(1)];
    let server = old.serve().await;
    let error = push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unlisted, "{error}");
    assert_eq!(failure(&error).step, ReferrersStep::Write);
    assert_eq!(old.0.lock().unwrap().index_writes, 1);
}

// covers: O17
#[tokio::test]
async fn what_is_no_list_is_not_read_as_one() {
    for (what, other) in others() {
        let (_, server) = with_tagged(&other).await;
        let found = server.repository().predecessors(&subject().digest).await.unwrap();
        // Entries that say themselves what they are get the benefit of the doubt.
        let expected = match what {
            "images, and a referrer among them" => entries(&[("x", 51)]),
            "the referrers of another" => vec![about_another().as_referrer().unwrap()],
            _ => Vec::new(),
        };
        assert_eq!(found, expected, "{what}");
    }
}

// covers: O17
#[tokio::test]
async fn deleting_leaves_alone_what_is_no_list() {
    for (what, other) in others() {
        let (old, server) = with_tagged(&other).await;
        let gone = artifact("x", 51);
        let deleted = server.repository().delete_manifest(gone.digest()).await;
        let lists = other.manifests().iter().any(|entry| entry.digest == *gone.digest());
        assert_eq!(deleted.is_err(), lists, "{what}: {deleted:?}");
        if let Err(error) = deleted {
            assert_eq!(*error.kind(), ErrorKind::Unlisted, "{what}: {error}");
            assert_eq!(failure(&error).change, ReferrersChange::Remove);
        }
        assert_eq!(old.has(gone.digest()), lists, "{what}");
        assert_eq!(old.named(&tag()).as_deref(), Some(other.digest().as_str()), "{what}");
        assert!(server.lines().iter().all(|line| !line.starts_with("PUT")), "{what}");
    }
}

// covers: O17
#[tokio::test]
async fn lists_of_other_clients_are_changed() {
    let (read, mut bare) = (artifact("x", 2), artifact("x", 3).as_referrer().unwrap());
    bare.artifact_type = None;
    // One that is gone, one of an index without a type, one with a platform: all referrers.
    let mut with_platform = read.as_referrer().unwrap();
    with_platform.platform = Some(Platform::new("unknown", "unknown"));
    let mut listed = entries(&[("y", 1)]);
    listed.extend([bare, with_platform]);
    let list = seal(&ImageIndex::new(listed.clone()));
    let old = Old::default();
    old.put(&read, &[]);
    old.put(&artifact("x", 3), &[]);
    old.put(&list, &[&tag()]);
    let server = old.serve().await;
    push(&server, builder(), &[artifact("x", 9)]).await.pop().unwrap().unwrap();
    assert_eq!(server.repository().predecessors(&subject().digest).await.unwrap().len(), 4);
    listed.extend(entries(&[("x", 9)]));
    assert_eq!(old.listed(), listed);
    assert!(!old.has(list.digest()), "the old one is deleted");
}

// covers: O17
#[tokio::test]
async fn an_empty_list_is_one_and_not_deleted() {
    let empty = written_by_others(&[]);
    let old = Old::default();
    old.put(&empty, &[&tag(), "sha256-of-another-subject"]);
    let server = old.serve().await;
    push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
    assert_eq!(old.listed(), entries(&[("x", 1)]));
    assert_eq!(old.named("sha256-of-another-subject").as_deref(), Some(empty.digest().as_str()));
}

// covers: O17
#[tokio::test]
async fn a_long_list_is_looked_at_in_part_and_once() {
    let many: Vec<_> = (0..150).map(|number| ("x", number)).collect();
    let old = Old::default();
    for (kind, number) in &many {
        old.put(&artifact(kind, *number), &[]);
    }
    old.put(&written_by_others(&many), &[&tag()]);
    let server = old.serve().await;
    let repository = server.repository();
    let put = async |number| {
        let when = oci_ref::Precondition::None;
        repository.put_manifest(&artifact("y", number), &[], &when).await.unwrap();
        let read = |line: &String| line.starts_with("GET /v2/a/b/manifests/sha256:");
        server.lines().iter().filter(|line| read(line)).count()
    };
    assert_eq!(put(1).await, 100);
    assert_eq!(put(2).await, 100, "the list that was written is known");
    assert_eq!(old.listed().len(), 152);
}
