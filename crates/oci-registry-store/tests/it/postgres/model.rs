//! The test against a model, with two engines on one database and one storage.

use oci_registry_store::DurableRegistry;

use super::server;
use crate::model::{Time, options, play};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_anything_whichever_replica_they_ask() {
    static TIME: Time = Time::new();
    if !server::is_there("nobody_loses_anything_whichever_replica_they_ask") {
        return;
    }
    let mut options = options(|| TIME.now());
    options.database = server::fresh().await;
    let engine = TestEngine::opened(options.clone()).await;
    let other = DurableRegistry::open(engine.directory.path(), options).await.unwrap();
    play(&engine, &[other], &TIME).await;
}
