//! A registry in front of another one.

use std::sync::Arc;

use oci_ref::suite::sample;
use oci_ref::{Access, CopyOptions, Memory, Registry, Source, Store, copy};
use oci_registry_client::Client;
use oci_registry_server::{ProxyRegistry, ServerOptions, TestRegistry};
use oci_spec_types::{Name, Reference, Tag};

#[tokio::test]
async fn pulls_are_passed_on_and_writes_are_not() {
    let upstream = TestRegistry::start().await.unwrap();
    let name: Name = "a/b".parse().unwrap();
    let content = upstream.registry().repository(&name, Access::Write).await.unwrap();
    let sample = sample::write_all(&content).await.unwrap();

    let client = Client::builder().build().unwrap();
    let proxy = ProxyRegistry::new(client.clone(), upstream.host().parse().unwrap());
    let proxy = TestRegistry::with(proxy, ServerOptions::new()).await.unwrap();
    let through = Reference::new(proxy.host().parse().unwrap(), name);
    let through = client.repository(&through).unwrap();

    let index: Tag = "index".parse().unwrap();
    let to = Arc::new(Memory::new());
    let options = CopyOptions { referrers: true, ..CopyOptions::default() };
    copy(Arc::new(through.clone()), &index.clone().into(), to.clone(), options).await.unwrap();
    assert!(to.resolve(&sample.index.digest.clone().into()).await.is_ok());
    assert!(to.resolve(&sample.signature.digest.clone().into()).await.is_ok());

    let unknown: Tag = "unknown".parse().unwrap();
    assert!(through.manifest(&unknown.into()).await.unwrap_err().is_not_found());
    let manifest = through.manifest(&index.clone().into()).await.unwrap();
    let other: Tag = "other".parse().unwrap();
    let put = through.put_manifest(&manifest, &[other], &Default::default()).await;
    assert!(put.unwrap_err().is_unsupported());
    assert!(through.delete_tag(&index).await.unwrap_err().is_unsupported());
    assert!(content.resolve(&index.into()).await.is_ok());
}
