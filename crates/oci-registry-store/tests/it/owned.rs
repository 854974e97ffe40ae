//! Data directories that are planted, or that others may read: links, other users' files, and
//! modes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use oci_ref::{Access, Error, ErrorKind, Registry as _};
use oci_registry_store::{DurableRegistry, EngineOptions};

use crate::support::*;

/// The message of refusing a directory, which names it.
async fn refused(path: &Path) -> String {
    let error: Error = error_of(DurableRegistry::open(path, EngineOptions::default()).await);
    let message = error.to_string();
    assert_eq!(*error.kind(), ErrorKind::Invalid, "{message}");
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    message
}

async fn opens(path: &Path) {
    DurableRegistry::open(path, EngineOptions::default()).await.unwrap().close().await;
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// A directory, and all that is in it.
fn everything(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        found.extend(
            fs::read_dir(path).unwrap().flat_map(|entry| everything(&entry.unwrap().path())),
        );
    }
    found
}

fn assert_private(data: &Path) {
    for path in everything(data) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

/// The files of other programs have this name, too: dpkg's and apt's, for example.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_keeps_its_bytes() {
    for (name, words) in [("lock", "theirs"), ("lock", "process of theirs"), ("format", "theirs")] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(name), words).unwrap();
        refused(directory.path()).await;
        assert_eq!(fs::read_to_string(directory.path().join(name)).unwrap(), words);
        // With more of theirs.
        fs::write(directory.path().join("lock"), words).unwrap();
        fs::write(directory.path().join("thesis.txt"), "words").unwrap();
        refused(directory.path()).await;
        assert_eq!(fs::read_to_string(directory.path().join("lock")).unwrap(), words);
        assert!(everything(directory.path()).len() <= 4, "something was made");
    }
    // One that ours has left is no obstacle, nor what a power cut has made of it.
    for words in ["", "process 4711", "\0\0\0\0", "\0\0\0\0\x004711", "process \0\0"] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("lock"), words).unwrap();
        opens(directory.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_a_link() {
    let names = [
        "lock",
        "format",
        "metadata.sqlite",
        "metadata.sqlite-journal",
        "metadata.sqlite-wal",
        "metadata.sqlite-shm",
        "objects",
        "objects/7f",
    ];
    for used in [false, true] {
        for name in names {
            let scratch = tempfile::tempdir().unwrap();
            let (data, victim) = (scratch.path().join("data"), scratch.path().join("victim"));
            fs::create_dir(&data).unwrap();
            if used {
                opens(&data).await;
            }
            if name.starts_with("objects") {
                fs::create_dir(&victim).unwrap();
                fs::create_dir_all(data.join(name).parent().unwrap()).unwrap();
                let _ = fs::remove_dir_all(data.join(name));
            } else {
                fs::write(&victim, "process 1").unwrap();
                let _ = fs::remove_file(data.join(name));
            }
            symlink(&victim, data.join(name)).unwrap();
            let (before, mode_before) = (everything(&victim), mode(&victim));
            if name == "objects/7f" {
                let opened = DurableRegistry::open(&data, EngineOptions::default()).await;
                let message = error_of(opened).to_string();
                assert!(message.contains("objects/7f"), "{message}");
            } else {
                let message = refused(&data).await;
                assert!(message.contains(&format!("link in it, {name}")), "{message}");
            }
            assert_eq!((everything(&victim), mode(&victim)), (before, mode_before), "{name}");
            if victim.is_file() {
                assert_eq!(fs::read_to_string(&victim).unwrap(), "process 1", "{name}");
            }
        }
    }
}

/// The directory may be named by a link, such as to a volume.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_itself_may_lie_behind_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let (volume, data) = (scratch.path().join("volume"), scratch.path().join("data"));
    fs::create_dir(&volume).unwrap();
    symlink(&volume, &data).unwrap();
    opens(&data).await;
    opens(&volume.join("../data")).await;
    assert_private(&volume);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_or_no_directory_is_refused() {
    for name in ["lock", "metadata.sqlite", "metadata.sqlite-wal", "format"] {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join(name)).unwrap();
        let message = refused(scratch.path()).await;
        assert!(message.contains(&format!("has {name} in it, which is not a file")), "{message}");
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("objects"), "").unwrap();
    let message = refused(scratch.path()).await;
    assert!(message.contains("has objects in it, which is not a directory"), "{message}");
}

/// Needs the right to give files away.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_user_is_refused() {
    const OTHER: u32 = 54321;
    let scratch = tempfile::tempdir().unwrap();
    if fs::metadata(scratch.path()).unwrap().uid() != 0 {
        return;
    }
    for name in ["", "lock", "format", "metadata.sqlite", "objects"] {
        let data = scratch.path().join(format!("data-{name}"));
        opens(&data).await;
        let given = if name.is_empty() { data.clone() } else { data.join(name) };
        chown(&given, Some(OTHER), None).unwrap();
        let message = refused(&data).await;
        assert!(message.contains(&OTHER.to_string()) && message.contains(name), "{message}");
        chown(&given, Some(0), None).unwrap();
        opens(&data).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_is_for_its_owner_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("some/data");
    let registry = DurableRegistry::open(&data, EngineOptions::default()).await.unwrap();
    let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();
    let bytes = noise(700_000, 1);
    store.put_blob(&describe(&bytes), &bytes).await.unwrap();
    // With the files that SQLite keeps beside its own while it is open.
    assert!(everything(&data).len() > 262, "{:?}", everything(&data));
    assert_private(&data);
    let backup = scratch.path().join("backup");
    registry.backup(&backup, |_| {}).await.unwrap();
    assert_private(&backup);
    drop(store);
    registry.close().await;

    // An older version made it for everybody, or somebody let them in.
    for path in everything(&data).into_iter().filter(|path| !path.starts_with(data.join("objects")))
    {
        let opened = if path.is_dir() { 0o2775 } else { 0o664 };
        fs::set_permissions(path, Permissions::from_mode(opened)).unwrap();
    }
    fs::set_permissions(data.join("objects"), Permissions::from_mode(0o755)).unwrap();
    opens(&data).await;
    assert_private(&data);
    let whole = fs::metadata(&data).unwrap().permissions().mode() & 0o7777;
    assert_eq!(whole, 0o2700, "what new files inherit is not touched");

    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, Permissions::from_mode(0o777)).unwrap();
    opens(&empty).await;
    assert_private(&empty);
}
