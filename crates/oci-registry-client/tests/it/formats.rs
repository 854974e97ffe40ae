//! Answers to a manifest that make a copy try another type, and those that end it.

use std::sync::Arc;

use http::StatusCode;
use oci_ref::{CopyOptions, ErrorKind, Format, ImageBuilder, Memory, Source, copy};
use oci_registry_client::Repository;
use oci_registry_server::{Endpoint, FaultAnswer, FaultRule, TestRegistry};
use oci_spec_types::{ErrorCode, MediaType, Platform, Tag};

use crate::server::builder;

/// Copies an OCI image to a registry that answers its first manifest so. Gives what there is then.
async fn copied(answer: FaultAnswer) -> oci_ref::Result<MediaType> {
    let registry = TestRegistry::builder()
        .fault(FaultRule::new(answer).endpoint(Endpoint::PushManifest).first(1))
        .start()
        .await
        .unwrap();
    let repository: Repository = builder()
        .build()
        .unwrap()
        .repository(&format!("{}/a/b", registry.host()).parse().unwrap())
        .unwrap();
    let from = Memory::new();
    let tag: Tag = "1".parse().unwrap();
    ImageBuilder::for_platform(&Platform::new("linux", "amd64"))
        .write(&from, std::slice::from_ref(&tag))
        .await
        .unwrap();
    let options = CopyOptions {
        format: Format::Supported,
        tags: vec![tag.clone()],
        ..CopyOptions::default()
    };
    copy(Arc::new(from), &tag.clone().into(), Arc::new(repository.clone()), options).await?;
    Ok(repository.manifest(&tag.into()).await?.media_type().clone())
}

fn status(status: u16) -> FaultAnswer {
    FaultAnswer::new(StatusCode::from_u16(status).unwrap())
}

// covers: C9
#[tokio::test]
async fn a_type_that_is_refused_gives_way_to_another() {
    let tag_invalid = ErrorCode::Other("TAG_INVALID".into());
    for (what, answer) in [
        ("400 without a code", status(400)),
        ("406 without a code", status(406)),
        ("415 without a code", status(415)),
        ("MANIFEST_INVALID", status(400).error(ErrorCode::ManifestInvalid)),
        ("UNSUPPORTED", status(400).error(ErrorCode::Unsupported)),
        ("TAG_INVALID", status(400).error(tag_invalid)),
        ("405", status(405)),
        ("501", status(501)),
    ] {
        let found = copied(answer).await;
        assert_eq!(found.unwrap(), MediaType::DOCKER_MANIFEST, "{what}");
    }
}

// covers: C9
#[tokio::test]
async fn other_refusals_are_final() {
    for (what, answer, kind) in [
        ("401", status(401), ErrorCode::Unauthorized.into()),
        ("403", status(403), ErrorCode::Denied.into()),
        ("NAME_INVALID", status(400).error(ErrorCode::NameInvalid), ErrorCode::NameInvalid.into()),
        ("413", status(413), ErrorCode::SizeInvalid.into()),
        ("500", status(500), ErrorKind::Unavailable),
    ] {
        let error = copied(answer).await.unwrap_err();
        assert_eq!(*error.kind(), kind, "{what}: {error}");
    }
}
