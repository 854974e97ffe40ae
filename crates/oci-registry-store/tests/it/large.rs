//! Large blobs in little memory.
#![cfg(target_os = "linux")]

use std::process::Command;

use futures_util::StreamExt;
use oci_ref::{ByteRange, Source, Store};
use oci_spec_types::Algorithm;

use crate::support::*;

/// How much of the blob is there at a time, on the side of the test.
const PIECE: usize = 64 << 10;
const PIECES: usize = 1024;

/// The most memory that this process has ever used, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Peak memory belongs to a process, so the measuring is done in one of its own.
#[test]
fn a_large_blob_takes_little_memory() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "large::measured", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measured in a process of its own by a_large_blob_takes_little_memory"]
async fn measured() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    push(&*store, &noise(1 << 20, 1)).await;
    let before = peak();
    let mut staged = store.stage(sha256()).await.unwrap();
    let mut hasher = Algorithm::Sha256.hasher();
    for n in 0..PIECES {
        let piece = noise(PIECE, n as u64);
        hasher.update(&piece);
        staged.append(piece).await.unwrap();
    }
    let digest = hasher.finish();
    staged.commit(&digest).await.unwrap();

    let mut body = store.blob(&digest, ByteRange::All).await.unwrap().body;
    let mut verifier = digest.verifier().unwrap();
    while let Some(chunk) = body.next().await {
        verifier.update(&chunk.unwrap());
    }
    verifier.finish().unwrap();
    let grown = peak() - before;
    assert!(grown < 16 << 10, "64 MiB in and out took {grown} KiB more than 1 MiB did");
}
