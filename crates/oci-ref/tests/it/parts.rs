//! Blobs whose writing broke off: what stays, who goes on with it, and what is removed.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_ref::suite::content::{noise, noise_blob};
use oci_ref::{
    Body, Directory, Error, ErrorKind, Layout, OciArchiveWriter, Reopen, Result, Source, Store,
    open_locked,
};
use oci_spec_types::{Algorithm, Descriptor, ErrorCode};

const SIZE: usize = 3 << 20;

/// Content that breaks off after so many bytes the first times it is read, and says from where it
/// was read.
struct Breaking {
    content: Bytes,
    breaks: Mutex<Vec<usize>>,
    opened: Mutex<Vec<u64>>,
}

impl Breaking {
    fn new(content: &Bytes, breaks: &[usize]) -> Self {
        let breaks = breaks.iter().rev().copied().collect();
        Self { content: content.clone(), breaks: Mutex::new(breaks), opened: Mutex::default() }
    }

    fn opened(&self) -> Vec<u64> {
        self.opened.lock().unwrap().clone()
    }
}

#[async_trait]
impl Reopen for Breaking {
    async fn open(&self, offset: u64) -> Result<Body> {
        self.opened.lock().unwrap().push(offset);
        let rest = self.content.slice(offset as usize..);
        Ok(match self.breaks.lock().unwrap().pop() {
            None => stream::once(async { Ok(rest) }).boxed(),
            Some(at) => {
                let came = rest.slice(..at);
                stream::iter([Ok(came), Err(Error::new(ErrorKind::Unavailable, "cut"))]).boxed()
            }
        })
    }
}

/// The names of hidden files below a directory.
fn hidden(at: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(hidden(&entry.path()));
        }
        if name.starts_with('.') {
            found.push(name);
        }
    }
    found
}

// containers/image#2045, foundriesio/aktualizr-lite#241
// covers: C13
#[tokio::test]
async fn the_next_writer_goes_on_with_what_has_come() {
    let blob = noise_blob("parts", SIZE);
    let directory = tempfile::tempdir().unwrap();
    for form in ["oci", "dir"] {
        let path = directory.path().join(form);
        let open = || async {
            match form {
                "oci" => Box::new(Layout::create(&path).await.unwrap()) as Box<dyn Store>,
                _ => Box::new(Directory::create(&path).await.unwrap()),
            }
        };
        let content = Breaking::new(&blob.bytes, &[1_000_000, 500_000]);
        for _ in 0..2 {
            let error = open().await.put_blob(&blob.descriptor, &content).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Unavailable);
            assert_eq!(hidden(&path).len(), 1);
        }
        let store = open().await;
        store.put_blob(&blob.descriptor, &content).await.unwrap();
        assert_eq!(content.opened(), [0, 1_000_000, 1_500_000], "{form}");
        let size = store.blob_size(&blob.descriptor.digest).await.unwrap();
        assert_eq!(size, Some(SIZE as u64));
        assert!(hidden(&path).is_empty());
    }
}

#[tokio::test]
async fn a_small_blob_leaves_nothing() {
    let blob = noise_blob("small", 600_000);
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    let content = Breaking::new(&blob.bytes, &[500_000]);
    layout.put_blob(&blob.descriptor, &content).await.unwrap_err();
    assert!(hidden(directory.path()).is_empty());
}

#[tokio::test]
async fn what_was_damaged_since_is_begun_anew() {
    let blob = noise_blob("damaged", SIZE);
    let longer = noise("longer", SIZE + 1);
    let whole = blob.bytes.len();
    for (left, opened) in [
        (&longer[..1_000_000], vec![1_000_000, 0]),
        // Nothing is missing, but it is wrong; or right; or more than there can be.
        (&longer[..whole], vec![0]),
        (&blob.bytes[..], vec![]),
        (&longer[..], vec![0]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).await.unwrap();
        let digest = &blob.descriptor.digest;
        let part = format!("blobs/.partial-sha256-{}", digest.encoded());
        fs::write(directory.path().join(part), left).unwrap();
        let content = Breaking::new(&blob.bytes, &[]);
        layout.put_blob(&blob.descriptor, &content).await.unwrap();
        assert_eq!(content.opened(), opened);
        assert_eq!(layout.blob_size(digest).await.unwrap(), Some(whole as u64));
        assert!(hidden(directory.path()).is_empty());
    }
}

// covers: C16
#[tokio::test]
async fn what_is_wrong_does_not_stay() {
    let blob = noise_blob("wrong", SIZE);
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    for (content, code) in [
        (noise("other", SIZE), ErrorCode::DigestInvalid),
        (noise("other", SIZE + 1), ErrorCode::SizeInvalid),
        (noise("other", SIZE - 1), ErrorCode::SizeInvalid),
    ] {
        let error = layout.put_blob(&blob.descriptor, &content).await.unwrap_err();
        assert_eq!(error.code(), Some(&code));
        assert!(hidden(directory.path()).is_empty());
    }
}

#[tokio::test]
async fn writers_at_the_same_time_do_not_share_a_part() {
    let blob = noise_blob("both", SIZE);
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).await.unwrap();
    let digest = &blob.descriptor.digest;
    let part = directory.path().join(format!("blobs/.partial-sha256-{}", digest.encoded()));
    let other = open_locked(&part).unwrap().unwrap();
    assert!(open_locked(&part).unwrap().is_none());
    layout.put_blob(&blob.descriptor, &blob.bytes).await.unwrap();
    assert_eq!(layout.blob_size(digest).await.unwrap(), Some(SIZE as u64));
    assert!(part.exists());
    drop(other);
}

#[tokio::test]
async fn what_was_left_behind_goes_when_somebody_comes_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let layout = Layout::create(path).await.unwrap();
    let mut staged = layout.stage(Algorithm::Sha256).await.unwrap();
    staged.append(noise("slow", 600_000)).await.unwrap();
    let (root, blobs) = (path.join(".writing-1"), path.join("blobs/.writing-2"));
    let (old, fresh) = (path.join("blobs/.partial-sha256-1"), path.join("blobs/.partial-sha256-2"));
    for file in [&root, &blobs, &old, &fresh] {
        fs::write(file, "x").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(25 * 3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();

    Layout::open(path).await.unwrap();
    assert!(root.exists(), "a reader leaves it alone");
    Layout::create(path).await.unwrap();
    assert!(!root.exists() && !blobs.exists() && !old.exists() && fresh.exists());
    let digest = oci_spec_types::Digest::sha256(&noise("slow", 600_000));
    staged.commit(&digest).await.unwrap();
}

// podman#19201
// covers: C14
#[tokio::test]
async fn an_archive_that_is_given_up_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.tar");
    let blob = noise_blob("archived", SIZE);
    let content = Breaking::new(&blob.bytes, &[1_000_000]);
    let archive = OciArchiveWriter::create(&path).await.unwrap();
    archive.put_blob(&blob.descriptor, &content).await.unwrap_err();
    assert!(!hidden(directory.path()).is_empty());
    drop(archive);
    assert!(hidden(directory.path()).is_empty());

    // One whose process was killed is removed by the next; what another writes is not.
    let killed = directory.path().join(".writing-image.tar.killed");
    fs::create_dir_all(killed.join("layout/blobs")).unwrap();
    fs::write(killed.join("lock"), "").unwrap();
    let foreign = directory.path().join(".writing-other.tar.killed");
    fs::create_dir(&foreign).unwrap();
    let one = OciArchiveWriter::create(&path).await.unwrap();
    assert!(!killed.exists() && foreign.exists());
    let two = OciArchiveWriter::create(&path).await.unwrap();
    let empty = Descriptor::empty_json();
    one.put_blob(&empty, &Bytes::from_static(b"{}")).await.unwrap();
    drop((one, two));
    assert_eq!(hidden(directory.path()), [".writing-other.tar.killed"]);
}
