//! Blobs: writing, reading, ranges, mounting.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType};

use super::check::{blob_is, collect, no_blob, refused, refused_as};
use super::content::{Piece, noise, noise_blob};
use super::{Harness, cases};
use crate::{ByteRange, ErrorKind, Mounted, Result};

cases![
    blobs_of_all_sizes_come_back,
    sha512_blobs_come_back,
    unknown_blobs_are_not_found,
    ranges_of_blobs,
    wrong_content_is_refused_and_leaves_nothing,
    unsupported_algorithms_are_refused,
    a_blob_can_be_stored_again,
    one_blob_from_many_writers,
    blobs_are_mounted_from_siblings,
];

async fn blobs_of_all_sizes_come_back(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let mib = 1 << 20;
    for size in [0, 1, 63, 64, 4095, 65_536, mib / 4 - 1, mib / 4, mib / 4 + 1, 5 * mib + 3] {
        let blob = noise_blob(&format!("size {size}"), size);
        blob.put(&store).await?;
        blob_is(&*store, &blob.descriptor, &blob.bytes).await?;
    }
    Ok(())
}

async fn sha512_blobs_come_back(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for size in [0, 300_000] {
        let bytes = noise("sha512", size);
        let blob = Piece::with(Algorithm::Sha512, MediaType::OCTET_STREAM, bytes);
        blob.put(&store).await?;
        blob_is(&*store, &blob.descriptor, &blob.bytes).await?;
        no_blob(&*store, &Digest::sha256(&blob.bytes)).await?;
    }
    Ok(())
}

async fn unknown_blobs_are_not_found(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    no_blob(&*store, &Digest::sha256(b"unknown")).await?;
    noise_blob("another", 10).put(&store).await?;
    no_blob(&*store, &Digest::sha256(b"unknown")).await
}

async fn ranges_of_blobs(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let size = 700_001_u64;
    let blob = noise_blob("ranges", size as usize);
    blob.put(&store).await?;
    let digest = &blob.descriptor.digest;
    for range in [
        ByteRange::All,
        ByteRange::From(0),
        ByteRange::From(1),
        ByteRange::From(size - 1),
        ByteRange::Inclusive(0, 0),
        ByteRange::Inclusive(5, 5),
        ByteRange::Inclusive(262_143, 262_144),
        ByteRange::Inclusive(100, 600_000),
        ByteRange::Inclusive(size - 1, size + 100),
        ByteRange::Last(1),
        ByteRange::Last(300_000),
        ByteRange::Last(size + 1),
    ] {
        let wanted = range.within(size).expect("the range is within the blob");
        let read = store.blob(digest, range).await?;
        assert_eq!(read.size, size, "size of the whole for {range:?}");
        let given = read.range.clone();
        let whole = 0..size;
        assert!(given == wanted || given == whole, "{range:?} gave {given:?}");
        let expected = blob.bytes.slice(given.start as usize..given.end as usize);
        assert!(collect(read).await? == expected, "content of {range:?} differs");
    }
    for range in [ByteRange::From(size), ByteRange::Inclusive(size, size + 1)] {
        let error = refused(store.blob(digest, range).await, &format!("{range:?}"));
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::RangeInvalid { .. }), "{range:?}: {error:?}");
    }
    Ok(())
}

async fn wrong_content_is_refused_and_leaves_nothing(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for size in [11, 400_000] {
        let right = noise_blob("right", size);
        let wrong = noise("wrong", size);
        let longer: Bytes = [&right.bytes[..], b"!"].concat().into();
        let shorter = right.bytes.slice(..size - 1);
        for (content, code) in [
            (wrong, ErrorCode::DigestInvalid),
            (longer, ErrorCode::SizeInvalid),
            (shorter, ErrorCode::SizeInvalid),
            (Bytes::new(), ErrorCode::SizeInvalid),
        ] {
            let what = format!("{} bytes for a blob of {size}", content.len());
            let stored = store.put_blob(&right.descriptor, &content).await;
            refused_as(code, stored, &what);
            no_blob(&*store, &right.descriptor.digest).await?;
        }
        right.put(&store).await?;
        blob_is(&*store, &right.descriptor, &right.bytes).await?;
    }
    Ok(())
}

async fn unsupported_algorithms_are_refused(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let digest: Digest = "md5+x:00".parse().expect("a well-formed digest");
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, 1);
    let stored = store.put_blob(&descriptor, &Bytes::from_static(b"x")).await;
    refused_as(ErrorCode::DigestInvalid, stored, "a digest that cannot be computed");
    Ok(())
}

async fn a_blob_can_be_stored_again(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let blob = noise_blob("again", 10_000);
    blob.put(&store).await?;
    blob.put(&store).await?;
    let wrong = noise("not again", 10_000);
    // Refused, or not looked at because the blob is there already: in no case does it take the blob's place.
    let _ = store.put_blob(&blob.descriptor, &wrong).await;
    blob_is(&*store, &blob.descriptor, &blob.bytes).await
}

async fn one_blob_from_many_writers(harness: &dyn Harness) -> Result<()> {
    let handles = harness.handles().await;
    let blob = Arc::new(noise_blob("many writers", 600_000));
    let writers = (0..8).map(|n| {
        let (store, blob) = (handles[n % 2].clone(), blob.clone());
        async move {
            // In steps of several sizes, so that the writers overlap.
            let mut staged = store.stage(Algorithm::Sha256).await?;
            let mut rest = blob.bytes.clone();
            while !rest.is_empty() {
                let step = rest.len().min(50_000 + n * 10_000);
                staged.append(rest.split_to(step)).await?;
            }
            staged.commit(&blob.descriptor.digest).await
        }
    });
    try_join_all(writers).await?;
    for store in &handles {
        blob_is(&**store, &blob.descriptor, &blob.bytes).await?;
    }
    Ok(())
}

async fn blobs_are_mounted_from_siblings(harness: &dyn Harness) -> Result<()> {
    let Some(siblings) = harness.siblings().await else {
        let store = harness.store().await;
        assert!(
            !store.capabilities().mount,
            "a store that can mount needs siblings to try it with"
        );
        let absent = noise_blob("absent", 10);
        let mounted = store.mount(&absent.descriptor, None).await?;
        assert!(!matches!(mounted, Mounted::Done), "a blob was mounted from nowhere");
        return Ok(());
    };
    let (from, to) = (siblings.from, siblings.to);
    assert!(to.capabilities().mount, "siblings without the capability to mount");
    let blob = noise_blob("mounted", 100_000);
    blob.put(&from).await?;
    no_blob(&*to, &blob.descriptor.digest).await?;
    match to.mount(&blob.descriptor, Some(&siblings.name)).await? {
        Mounted::Done => blob_is(&*to, &blob.descriptor, &blob.bytes).await?,
        _ => panic!("a blob of a sibling was not mounted"),
    }
    let absent = noise_blob("absent", 10);
    match to.mount(&absent.descriptor, Some(&siblings.name)).await? {
        Mounted::Done => panic!("a blob that the sibling does not have was mounted"),
        Mounted::No => no_blob(&*to, &absent.descriptor.digest).await,
        Mounted::Upload(mut staged) => {
            no_blob(&*to, &absent.descriptor.digest).await?;
            staged.append(absent.bytes.clone()).await?;
            staged.commit(&absent.descriptor.digest).await?;
            blob_is(&*to, &absent.descriptor, &absent.bytes).await
        }
    }
}
