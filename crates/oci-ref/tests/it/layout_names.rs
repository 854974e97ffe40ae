//! Names in layouts, our own and foreign ones.

use std::fs;
use std::sync::Arc;

use oci_ref::suite::content::{Packed, image, index, tag};
use oci_ref::{ErrorKind, ImageBuilder, Layout, Precondition, Source, Store, Target, choose_entry};
use oci_spec_types::Descriptor;
use oci_spec_types::annotations::REF_NAME;
use serde_json::{Value, json};

use crate::support::new_layout;

fn index_json(layout: &Layout) -> Value {
    serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap()
}

fn write_index(layout: &Layout, index: &Value) {
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
}

async fn names(layout: &Layout) -> Vec<(Option<String>, String)> {
    let entries = layout.entries().await.unwrap();
    let entry = |entry: oci_ref::LayoutEntry| (entry.name, entry.descriptor.digest.to_string());
    entries.into_iter().map(entry).collect()
}

fn entry(name: Option<&str>, packed: &Packed) -> (Option<String>, String) {
    (name.map(str::to_owned), packed.manifest.digest().to_string())
}

// covers: C13
#[tokio::test]
async fn a_name_moves_to_the_newest_entry_and_other_names_stay() {
    let (_directory, layout) = new_layout().await;
    let (one, two) = (image("one").unwrap(), image("two").unwrap());
    one.put(&layout, &[tag("latest"), tag("1")]).await.unwrap();
    one.put(&layout, &[tag("latest")]).await.unwrap();
    let both = [entry(Some("latest"), &one), entry(Some("1"), &one)];
    assert_eq!(names(&layout).await, both, "the same digest and name is one entry");

    two.put(&layout, &[tag("latest")]).await.unwrap();
    assert_eq!(names(&layout).await, [entry(Some("1"), &one), entry(Some("latest"), &two)]);
    two.put(&layout, &[tag("1")]).await.unwrap();
    // The first has no name left, and stays.
    let all = [entry(None, &one), entry(Some("latest"), &two), entry(Some("1"), &two)];
    assert_eq!(names(&layout).await, all);
    // It takes its entry again, instead of a further one.
    one.put(&layout, &[tag("again")]).await.unwrap();
    assert_eq!(names(&layout).await[0], entry(Some("again"), &one));
    assert_eq!(names(&layout).await.len(), 3);
}

// covers: C13
#[tokio::test]
async fn no_platform_is_invented() {
    let (_directory, layout) = new_layout().await;
    let packed = image("no platform").unwrap();
    packed.put(&layout, &[tag("t")]).await.unwrap();
    let descriptor = packed.manifest.descriptor();
    let expected = json!({
        "mediaType": descriptor.media_type.as_str(),
        "digest": descriptor.digest.as_str(),
        "size": descriptor.size,
        "annotations": { REF_NAME: "t" },
    });
    assert_eq!(index_json(&layout)["manifests"], json!([expected]));
}

#[tokio::test]
async fn names_that_are_no_tags_can_be_read_and_stay() {
    let (_directory, layout) = new_layout().await;
    let (odd, plain) = (image("odd").unwrap(), image("plain").unwrap());
    odd.put(&layout, &[tag("odd")]).await.unwrap();
    let mut index = index_json(&layout);
    index["manifests"][0]["annotations"][REF_NAME] = json!("docker.io/library/odd:1.0");
    write_index(&layout, &index);

    plain.put(&layout, &[tag("plain")]).await.unwrap();
    let expected = [entry(Some("docker.io/library/odd:1.0"), &odd), entry(Some("plain"), &plain)];
    assert_eq!(names(&layout).await, expected);
    assert_eq!(layout.tags(None, 10).await.unwrap().items, [tag("plain")]);
    let found = layout.resolve_name("docker.io/library/odd:1.0").await.unwrap();
    assert_eq!(found.digest, *odd.manifest.digest());
    let error = layout.resolve_name("docker.io/library/odd").await.unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains("docker.io/library/odd"), "{error}");
}

// podman-container-tools/skopeo#1975, #762, #405
// covers: C13
#[tokio::test]
async fn names_that_are_no_tags_are_set_and_removed() {
    let (_directory, layout) = new_layout().await;
    let (one, two) = (image("one").unwrap(), image("two").unwrap());
    one.put(&layout, &[tag("plain")]).await.unwrap();
    two.put(&layout, &[]).await.unwrap();
    let list = index([&one.manifest, &two.manifest]).unwrap();
    layout.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let name = "rancher/app:v0.0.20";
    let set = async |packed: &Packed, when: &Precondition| {
        layout.set_name(&name.parse().unwrap(), packed.manifest.digest(), when).await
    };
    set(&one, &Precondition::None).await.unwrap();
    set(&one, &Precondition::Exists).await.unwrap();
    let listed = (None, list.digest().to_string());
    let expected = [entry(Some("plain"), &one), listed.clone(), entry(Some(name), &one)];
    assert_eq!(names(&layout).await, expected, "a name of one that has another is an entry more");

    let error = set(&two, &Precondition::Absent).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
    assert!(error.to_string().contains(name), "{error}");
    // The second is in the layout by the list that lists it.
    set(&two, &Precondition::None).await.unwrap();
    assert_eq!(layout.resolve_name(name).await.unwrap().digest, *two.manifest.digest());
    assert_eq!(names(&layout).await[0], entry(Some("plain"), &one));
    let unknown = set(&image("three").unwrap(), &Precondition::None).await.unwrap_err();
    assert!(unknown.is_not_found());

    layout.remove_name(name).await.unwrap();
    assert!(layout.remove_name(name).await.unwrap_err().is_not_found());
    assert!(layout.manifest(&two.manifest.digest().clone().into()).await.is_ok());
}

#[tokio::test]
async fn unknown_fields_and_foreign_entries_stay() {
    let (_directory, layout) = new_layout().await;
    let (old, new) = (image("old").unwrap(), image("new").unwrap());
    old.put(&layout, &[tag("t")]).await.unwrap();
    let mut index = index_json(&layout);
    index["x-of-the-file"] = json!({"b": [1, null], "a": "é"});
    index["annotations"] = json!({"org.example": "kept"});
    index["manifests"][0]["x-of-the-entry"] = json!(true);
    index["manifests"][0]["platform"] =
        json!({"os": "linux", "architecture": "amd64", "x-more": 1});
    index["manifests"][0]["annotations"]["org.example"] = json!("kept too");
    let xml = json!({"mediaType": "application/xml", "digest": format!("sha256:{}", "a".repeat(64)), "size": 7});
    index["manifests"].as_array_mut().unwrap().push(xml.clone());
    write_index(&layout, &index);

    old.put(&layout, &[tag("t"), tag("u")]).await.unwrap();
    assert_eq!(index_json(&layout)["manifests"][0], index["manifests"][0]);
    new.put(&layout, &[tag("t")]).await.unwrap();
    let found = index_json(&layout);
    assert_eq!(found["x-of-the-file"], index["x-of-the-file"]);
    assert_eq!(found["annotations"], index["annotations"]);
    let mut unnamed = index["manifests"][0].clone();
    unnamed["annotations"].as_object_mut().unwrap().remove(REF_NAME);
    assert_eq!(
        found["manifests"][0], unnamed,
        "an entry that says more stays when its name moves away"
    );
    assert_eq!(found["manifests"][1], xml);
    layout.delete_tag(&tag("t")).await.unwrap();
    assert_eq!(index_json(&layout)["manifests"][0], unnamed);
}

/// A layout in which two images have the name `same`, and a third has its own.
async fn doubled() -> (tempfile::TempDir, Layout, [Packed; 3]) {
    let (directory, layout) = new_layout().await;
    let images = ["one", "two", "three"].map(|seed| image(seed).unwrap());
    for (packed, name) in images.iter().zip(["a", "b", "c"]) {
        packed.put(&layout, &[tag(name)]).await.unwrap();
    }
    let mut index = index_json(&layout);
    for position in 0..2 {
        index["manifests"][position]["annotations"][REF_NAME] = json!("same");
    }
    write_index(&layout, &index);
    (directory, layout, images)
}

/// A careless writer only ever adds: oras takes the last, skopeo the first, umoci neither.
// covers: C13
#[tokio::test]
async fn a_name_of_several_manifests_is_an_error_that_names_them_until_it_is_set() {
    let (_directory, layout, images) = doubled().await;
    let [one, two, three] = &images;
    let error = layout.resolve(&tag("same").into()).await.unwrap_err();
    let other = layout.resolve_name("same").await.unwrap_err();
    for error in [error, other] {
        assert_eq!(*error.kind(), ErrorKind::Invalid);
        for part in ["\"same\"", one.manifest.digest().as_str(), two.manifest.digest().as_str()] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    assert_eq!(layout.tags(None, 10).await.unwrap().items, [tag("c"), tag("same")]);
    // With a digest, each is found, also one that has another name.
    for packed in [one, two, three] {
        let pinned = Target::Pinned(tag("same"), packed.manifest.digest().clone());
        assert_eq!(layout.manifest(&pinned).await.unwrap(), packed.manifest);
    }
    // What is expected of a name holds if it does for all that have it.
    let matches = |packed: &[&Packed]| {
        Precondition::Matches(packed.iter().map(|one| one.manifest.digest().clone()).collect())
    };
    for when in [matches(&[one]), matches(&[two]), Precondition::Absent] {
        let put = layout.put_manifest(&three.manifest, &[tag("same")], &when).await;
        let text = put.unwrap_err().to_string();
        assert!(text.contains(one.manifest.digest().as_str()), "{text}");
        assert!(text.contains(two.manifest.digest().as_str()), "{text}");
    }
    let when = matches(&[one, two]);
    layout.put_manifest(&three.manifest, &[tag("same")], &when).await.unwrap();
    let is_same = |(name, _): &(Option<String>, String)| name.as_deref() == Some("same");
    let named: Vec<_> = names(&layout).await.into_iter().filter(is_same).collect();
    assert_eq!(named, [entry(Some("same"), three)]);
    for packed in &images {
        layout.manifest(&packed.manifest.digest().clone().into()).await.unwrap();
    }
}

/// Two entries of one manifest are no question.
// covers: C13
#[tokio::test]
async fn a_name_twice_of_one_manifest_is_that_manifest() {
    let (_directory, layout, images) = doubled().await;
    let mut index = index_json(&layout);
    index["manifests"][1] = index["manifests"][0].clone();
    index["manifests"][1]["platform"] = json!({"os": "linux", "architecture": "amd64"});
    write_index(&layout, &index);
    let found = layout.resolve(&tag("same").into()).await.unwrap();
    assert_eq!(found.digest, *images[0].manifest.digest());
}

/// A copy to such a name sets it, as any other.
// covers: C13
#[tokio::test]
async fn a_copy_ends_that_a_name_is_of_several_manifests() {
    let (_directory, layout, images) = doubled().await;
    let from = Arc::new(oci_ref::Memory::new());
    images[1].put(&*from, &[]).await.unwrap();
    let options = oci_ref::CopyOptions { tags: vec![tag("same")], ..Default::default() };
    let target = Target::Digest(images[1].manifest.digest().clone());
    oci_ref::copy(from, &target, Arc::new(layout.clone()), options).await.unwrap();
    let found = layout.resolve(&tag("same").into()).await.unwrap();
    assert_eq!(found.digest, *images[1].manifest.digest());
}

/// A platform says which of several manifests is meant: the entries', or else their configs'.
// covers: C3, C13
#[tokio::test]
async fn of_several_entries_the_one_that_fits_a_platform_is_chosen() {
    let memory = oci_ref::Memory::new();
    let mut entries = Vec::new();
    for name in ["linux/amd64", "linux/arm64", "linux/arm64"] {
        let mut builder = ImageBuilder::for_platform(&name.parse().unwrap());
        builder = builder.annotate("number", entries.len().to_string());
        let built = builder.build().unwrap();
        entries.push(built.manifest().descriptor().clone());
        built.write(&memory, &[]).await.unwrap();
    }
    let source: Arc<dyn Source> = Arc::new(memory);
    let choose = async |entries: &[Descriptor], wanted: &str| {
        choose_entry(&source, entries, &wanted.parse().unwrap()).await
    };
    assert_eq!(choose(&entries, "linux/amd64").await.unwrap(), entries[0]);
    assert_eq!(choose(&entries[..2], "linux/arm64").await.unwrap(), entries[1]);
    let error = choose(&entries, "linux/arm64").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    for entry in &entries[1..] {
        assert!(error.to_string().contains(entry.digest.as_str()), "{error}");
    }
    let error = choose(&entries, "plan9/mips").await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("linux/arm64"), "{error}");
    // What an entry states counts.
    entries[2].platform = Some("windows/amd64".parse().unwrap());
    assert_eq!(choose(&entries, "windows/amd64").await.unwrap(), entries[2]);
}

#[tokio::test]
async fn every_manifest_stays_reachable_and_children_need_no_entries() {
    let (_directory, layout) = new_layout().await;
    let images = ["one", "two"].map(|seed| image(seed).unwrap());
    for packed in &images {
        packed.put(&layout, &[]).await.unwrap();
    }
    assert_eq!(names(&layout).await, [entry(None, &images[0]), entry(None, &images[1])]);
    images[1].put(&layout, &[tag("named")]).await.unwrap();
    let both = index(images.iter().map(|packed| &packed.manifest)).unwrap();
    layout.put_manifest(&both, &[], &Precondition::None).await.unwrap();
    let root = (None, both.digest().to_string());
    assert_eq!(names(&layout).await, [entry(Some("named"), &images[1]), root]);
    for packed in &images {
        layout.manifest(&packed.manifest.digest().clone().into()).await.unwrap();
    }
    layout.delete_manifest(both.digest()).await.unwrap();
    assert_eq!(names(&layout).await, [entry(Some("named"), &images[1]), entry(None, &images[0])]);
    layout.delete_tag(&tag("named")).await.unwrap();
    assert_eq!(names(&layout).await, [entry(None, &images[1]), entry(None, &images[0])]);
}

#[tokio::test]
async fn a_blob_that_looks_like_a_manifest_is_none() {
    let (_directory, layout) = new_layout().await;
    let packed = image("blob").unwrap();
    for blob in &packed.blobs {
        blob.put(&layout).await.unwrap();
    }
    let descriptor = packed.manifest.descriptor();
    layout.put_blob(descriptor, packed.manifest.bytes()).await.unwrap();
    let target = Target::Digest(descriptor.digest.clone());
    assert!(layout.resolve(&target).await.unwrap_err().is_not_found());
    layout.put_manifest(&packed.manifest, &[], &Precondition::None).await.unwrap();
    layout.resolve(&target).await.unwrap();
    assert!(layout.delete_blob(&descriptor.digest).await.unwrap_err().is_not_found());
    layout.resolve(&target).await.unwrap();
}

// covers: C13
#[tokio::test]
async fn the_media_type_comes_from_the_entry_or_is_guessed() {
    let (_directory, layout) = new_layout().await;
    // Without a media type of its own.
    let packed = image("guessed").unwrap();
    let text = String::from_utf8(packed.manifest.bytes().to_vec()).unwrap();
    let text =
        text.replacen("\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",", "", 1);
    let manifest = oci_ref::Manifest::parse(text.into(), None, None).unwrap();
    Packed { manifest: manifest.clone(), ..packed }.put(&layout, &[tag("t")]).await.unwrap();

    for (declared, found) in [
        ("application/octet-stream", "application/vnd.oci.image.manifest.v1+json"),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
    ] {
        let mut index = index_json(&layout);
        index["manifests"][0]["mediaType"] = json!(declared);
        write_index(&layout, &index);
        for target in [tag("t").into(), Target::Digest(manifest.digest().clone())] {
            let read = layout.manifest(&target).await.unwrap();
            assert_eq!(read.media_type().as_str(), found);
            assert_eq!(read.bytes(), manifest.bytes());
        }
    }
}
