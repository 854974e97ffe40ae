//! The behaviour that every [`Store`] must have, as a table of cases, and sample content made of real files.
//!
//! A test of a store makes a [`Harness`] and runs the table over it:
//!
//! ```
//! use std::sync::Arc;
//! use oci_ref::suite::{Harness, run};
//! use oci_ref::{Memory, Store};
//!
//! struct MemoryHarness;
//!
//! #[async_trait::async_trait]
//! impl Harness for MemoryHarness {
//!     async fn store(&self) -> Arc<dyn Store> {
//!         Arc::new(Memory::new())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! run(&MemoryHarness).await;
//! # });
//! ```

mod blobs;
mod check;
pub mod content;
mod copying;
mod deleting;
mod manifests;
mod references;
mod referrers;
pub mod sample;
mod tags;
mod uploads;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use oci_spec_types::Name;

use crate::{Result, Store};

/// How long a case may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Makes the stores that are to be tried. It keeps alive what they need (a directory, a server) as long as it lives.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A fresh repository without content.
    async fn store(&self) -> Arc<dyn Store>;

    /// A fresh repository through two handles that have no more in common than two processes have.
    async fn handles(&self) -> [Arc<dyn Store>; 2] {
        let store = self.store().await;
        [store.clone(), store]
    }

    /// Two fresh repositories between which blobs can be mounted; `None` where there is no such thing.
    async fn siblings(&self) -> Option<Siblings> {
        None
    }
}

/// Two repositories of one registry.
pub struct Siblings {
    /// The name of the repository to mount from.
    pub name: Name,
    /// That repository.
    pub from: Arc<dyn Store>,
    /// The one to mount into.
    pub to: Arc<dyn Store>,
}

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> BoxFuture<'a, Result<()>>,
}

impl Case {
    /// What is expected.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tries it. The error says what was found instead.
    pub async fn run(&self, harness: &dyn Harness) -> Result<(), String> {
        let run = AssertUnwindSafe((self.run)(harness)).catch_unwind();
        match tokio::time::timeout(TIMEOUT, run).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.chain()),
            Ok(Err(panic)) => Err(panic_message(&*panic).to_owned()),
            Err(_) => Err(format!("it has not ended after {TIMEOUT:?}")),
        }
    }
}

/// All cases.
pub fn all() -> Vec<Case> {
    [
        blobs::CASES,
        uploads::CASES,
        manifests::CASES,
        references::CASES,
        tags::CASES,
        referrers::CASES,
        deleting::CASES,
        copying::CASES,
    ]
    .concat()
}

/// Runs all cases, each on fresh stores.
///
/// # Panics
/// If any has failed, with the name of each that has, and what was found.
pub async fn run(harness: &dyn Harness) {
    let mut failed = Vec::new();
    for case in all() {
        if let Err(found) = case.run(harness).await {
            failed.push(format!("{}: {found}", case.name()));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n{}",
        failed.len(),
        all().len(),
        failed.join("\n")
    );
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// The cases of a module, each named like its function.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: stringify!($name),
            run: |harness| Box::pin($name(harness)),
        }),*];
    };
}
use cases;
