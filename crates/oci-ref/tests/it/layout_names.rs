//! Names in layouts, our own and foreign ones.

use std::fs;

use oci_ref::suite::content::{Packed, image, index, tag};
use oci_ref::{Layout, Precondition, Source, Store, Target};
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

/// A careless writer only ever adds: the newest entry counts, and the next move cleans up.
#[tokio::test]
async fn of_several_entries_with_a_name_the_newest_counts() {
    let (_directory, layout) = new_layout().await;
    let images = ["one", "two", "three"].map(|seed| image(seed).unwrap());
    for (packed, name) in images.iter().zip(["a", "b", "c"]) {
        packed.put(&layout, &[tag(name)]).await.unwrap();
    }
    let mut index = index_json(&layout);
    for position in 0..2 {
        index["manifests"][position]["annotations"][REF_NAME] = json!("same");
    }
    write_index(&layout, &index);
    let found = layout.resolve(&tag("same").into()).await.unwrap();
    assert_eq!(found.digest, *images[1].manifest.digest());
    assert_eq!(layout.tags(None, 10).await.unwrap().items, [tag("c"), tag("same")]);
    images[2].put(&layout, &[tag("same")]).await.unwrap();
    let named: Vec<_> = names(&layout)
        .await
        .into_iter()
        .filter(|(name, _)| name.as_deref() == Some("same"))
        .collect();
    assert_eq!(named, [entry(Some("same"), &images[2])]);
    for packed in &images {
        layout.manifest(&packed.manifest.digest().clone().into()).await.unwrap();
    }
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
