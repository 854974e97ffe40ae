//! The behavioural suite on this crate's own stores.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use oci_ref::suite::{Harness, run};
use oci_ref::{Layout, LayoutOptions, Memory, OciArchiveWriter, Store};
use tempfile::TempDir;

struct MemoryHarness(fn() -> Memory);

#[async_trait]
impl Harness for MemoryHarness {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new((self.0)())
    }
}

#[tokio::test]
async fn memory() {
    run(&MemoryHarness(Memory::new)).await;
}

#[tokio::test]
async fn sparse_memory() {
    run(&MemoryHarness(Memory::sparse)).await;
}

struct LayoutHarness {
    options: fn(&Path) -> LayoutOptions,
    directories: Mutex<Vec<TempDir>>,
}

impl LayoutHarness {
    fn new(options: fn(&Path) -> LayoutOptions) -> Self {
        Self { options, directories: Mutex::default() }
    }
}

#[async_trait]
impl Harness for LayoutHarness {
    async fn store(&self) -> Arc<dyn Store> {
        let [store, _] = self.handles().await;
        store
    }

    async fn handles(&self) -> [Arc<dyn Store>; 2] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("layout");
        let options = (self.options)(directory.path());
        self.directories.lock().unwrap().push(directory);
        let first = Layout::create_with(&path, options.clone()).await.unwrap();
        let second = Layout::open_with(&path, options).await.unwrap();
        [Arc::new(first), Arc::new(second)]
    }
}

// covers: M7
#[tokio::test]
async fn layout() {
    run(&LayoutHarness::new(|_| LayoutOptions::default())).await;
}

#[tokio::test]
async fn synced_layout() {
    run(&LayoutHarness::new(|_| LayoutOptions { sync: true, ..LayoutOptions::default() })).await;
}

#[tokio::test]
async fn sparse_layout() {
    run(&LayoutHarness::new(|_| LayoutOptions { sparse: true, ..LayoutOptions::default() })).await;
}

// covers: C13
#[tokio::test]
async fn layout_with_shared_blobs() {
    run(&LayoutHarness::new(|directory| LayoutOptions {
        shared_blobs: Some(directory.join("shared")),
        ..LayoutOptions::default()
    }))
    .await;
}

struct OciArchiveHarness(Mutex<Vec<TempDir>>);

#[async_trait]
impl Harness for OciArchiveHarness {
    async fn store(&self) -> Arc<dyn Store> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("archive.tar");
        self.0.lock().unwrap().push(directory);
        Arc::new(OciArchiveWriter::create(path).await.unwrap())
    }
}

// covers: C14
#[tokio::test]
async fn oci_archive_before_it_is_finished() {
    run(&OciArchiveHarness(Mutex::default())).await;
}

/// The suite finds what is wrong with a store, and names it.
#[tokio::test]
async fn a_store_that_forgets_fails_by_name() {
    struct Forgetful;

    #[async_trait]
    impl Harness for Forgetful {
        async fn store(&self) -> Arc<dyn Store> {
            Arc::new(Memory::new())
        }

        async fn handles(&self) -> [Arc<dyn Store>; 2] {
            [self.store().await, self.store().await]
        }
    }

    let failure = tokio::spawn(async { run(&Forgetful).await }).await.unwrap_err().into_panic();
    let message = failure.downcast_ref::<String>().unwrap();
    assert!(message.contains("two_writers_lose_nothing: "), "{message}");
    assert!(!message.contains("blobs_of_all_sizes_come_back"), "{message}");
}
