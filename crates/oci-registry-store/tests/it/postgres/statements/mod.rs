//! The cost of each operation in the database: statements, commits, each of which syncs the log,
//! and the pages that each statement touches. None of these depends on the machine.
//!
//! The content is skewed, as real content is: a layer and an image that all repositories have, an
//! image that thousands of indexes list, one repository with more manifests than all others
//! together, and one subject to which thousands refer. A statement is planned once, for tables
//! whose rows are few on average; it must not read what is many here.

mod costs;
mod fill;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{
    Access, ByteRange, Cursor, Manifest, Mounted, Precondition, Registry, Store, Target,
};
use oci_registry_store::{CollectOptions, DurableRegistry, EngineOptions};
use oci_spec_types::Descriptor;

use self::costs::{Costs, reads, writes};
use self::fill::{CONFIG, fill};
use super::server::{self, Server};
use crate::support::*;

/// The time of the engine, which the test sets.
static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);

/// Counts what is new.
static NEXT: AtomicU64 = AtomicU64::new(1000);

/// The most pages for a page of 100 entries: each may lie on another one.
const PAGE: i64 = 400;

/// The most pages for 500 rows that are changed, with their entries in indexes.
const BULK: i64 = 12_000;

/// Content that is new each time.
fn fresh() -> Bytes {
    noise(300, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The content of the registry.
struct World {
    registry: DurableRegistry,
    layer: Descriptor,
    config: Descriptor,
    /// The image that all repositories have.
    shared: Manifest,
    /// The repository with many manifests, and that with a subject of many referrers.
    huge: Arc<dyn Store>,
    subjects: Arc<dyn Store>,
    subject: Manifest,
}

impl World {
    async fn at(&self, repository: &str) -> Arc<dyn Store> {
        self.registry.repository(&name(repository), Access::Write).await.unwrap()
    }

    /// One of the many repositories.
    async fn one_of_many(&self, n: usize) -> Arc<dyn Store> {
        self.at(&format!("many/{}", 17 + 1000 * n)).await
    }

    async fn push_image(&self, store: &dyn Store, text: &str, tags: &[&str]) -> Manifest {
        let pushed = image(&self.config, std::slice::from_ref(&self.layer), text, None);
        let tags: Vec<_> = tags.iter().map(|text| tag(text)).collect();
        store.put_manifest(&pushed, &tags, &Precondition::None).await.unwrap();
        pushed
    }

    async fn read(&self, costs: &mut Costs) {
        let many = async |n| self.one_of_many(n).await;
        let huge = async |_| Arc::clone(&self.huge);
        let subjects = async |_| Arc::clone(&self.subjects);
        let by_digest: Target = self.shared.digest().clone().into();
        let subject = self.subject.digest();
        let layer = &self.layer.digest;
        costs
            .of(
                "is a repository there",
                reads(1),
                async |n| n,
                async |n| {
                    let repository = name(&format!("many/{}", 23 + n));
                    self.registry.repository(&repository, Access::Read).await.unwrap();
                },
            )
            .await;
        costs
            .of("GET by tag", reads(2), many, async |it| {
                it.manifest(&tag("latest").into()).await.unwrap();
            })
            .await;
        costs
            .of("GET by digest", reads(2), many, async |it| {
                it.manifest(&by_digest).await.unwrap();
            })
            .await;
        costs
            .of("GET a part of a manifest", reads(1), many, async |it| {
                it.manifest_part(self.shared.digest(), 10..20).await.unwrap().unwrap();
            })
            .await;
        costs
            .of("HEAD by tag", reads(1), many, async |it| {
                it.resolve(&tag("latest").into()).await.unwrap();
            })
            .await;
        costs
            .of("HEAD by digest", reads(1), many, async |it| {
                it.resolve(&by_digest).await.unwrap();
            })
            .await;
        costs
            .of("HEAD by digest, listed by thousands", reads(1), huge, async |it| {
                it.resolve(&by_digest).await.unwrap();
            })
            .await;
        costs
            .of("HEAD blob", reads(1), many, async |it| {
                it.blob_size(layer).await.unwrap().unwrap();
            })
            .await;
        costs
            .of("HEAD blob that is not there", reads(1), subjects, async |it| {
                assert_eq!(it.blob_size(layer).await.unwrap(), None);
            })
            .await;
        costs
            .of("GET blob", reads(1), many, async |it| {
                pull(&*it, layer, ByteRange::All).await.unwrap();
            })
            .await;
        costs
            .of("page of 100 tags", reads(1).pages(PAGE), huge, async |it| {
                let after = Cursor::After("v15".into());
                assert_eq!(it.tags(Some(&after), 100).await.unwrap().items.len(), 100);
            })
            .await;
        costs
            .of(
                "page of 100 repositories",
                reads(1).pages(PAGE),
                async |_| (),
                async |()| {
                    let after = Cursor::After("many/5".into());
                    assert_eq!(
                        self.registry.catalog(Some(&after), 100).await.unwrap().items.len(),
                        100
                    );
                },
            )
            .await;
        costs
            .of("page of 100 referrers", reads(1).pages(PAGE), subjects, async |it| {
                let page = it.referrers(subject, None, None, 100).await.unwrap().page;
                assert_eq!(page.items.len(), 100);
            })
            .await;
        costs
            .of("referrers of a rare type", reads(1), subjects, async |it| {
                it.referrers(subject, Some("application/rare"), None, 100).await.unwrap();
            })
            .await;
        costs
            .of(
                "10 holders of a blob",
                reads(1).pages(100),
                async |_| (),
                async |()| {
                    assert_eq!(self.registry.holders(layer, 10).await.unwrap().len(), 10);
                },
            )
            .await;
    }

    async fn push(&self, costs: &mut Costs) {
        let many = async |n| self.one_of_many(n).await;
        let huge = async |_| Arc::clone(&self.huge);
        let blank =
            async |_| self.at(&format!("blank/{}", NEXT.fetch_add(1, Ordering::Relaxed))).await;
        costs
            .of("push a blob", writes(6), many, async |it| {
                push(&*it, &fresh()).await;
            })
            .await;
        costs
            .of("push a blob that others have", writes(6), blank, async |it| {
                push(&*it, &noise(500, 1)).await;
            })
            .await;
        costs
            .of("mount", writes(6), blank, async |it| {
                let from = name("many/17");
                assert!(matches!(it.mount(&self.layer, Some(&from)).await.unwrap(), Mounted::Done));
            })
            .await;
        let text = || format!("image {}", NEXT.fetch_add(1, Ordering::Relaxed));
        for (what, place) in [("many", 0), ("huge", 1)] {
            let store = async |n| if place == 0 { many(n).await } else { huge(n).await };
            costs
                .of(&format!("push an image to {what}"), writes(10), store, async |it| {
                    let text = text();
                    self.push_image(&*it, &text, &[&text.replace(' ', "-")]).await;
                })
                .await;
        }
        costs
            .of(
                "push an image that others have",
                writes(8),
                async |n| {
                    let it = blank(n).await;
                    for (blob, bytes) in [(&self.layer, noise(500, 1)), (&self.config, "{}".into())]
                    {
                        it.put_blob(blob, &bytes).await.unwrap();
                    }
                    it
                },
                async |it| {
                    it.put_manifest(&self.shared, &[], &Precondition::None).await.unwrap();
                },
            )
            .await;
        costs
            .of("push an image without a tag", writes(8), huge, async |it| {
                self.push_image(&*it, &text(), &[]).await;
            })
            .await;
        costs
            .of("push an index again", writes(8), huge, async |it| {
                let listing = index_about(&[&self.shared], Some(&self.subject));
                it.put_manifest(&listing, &[], &Precondition::None).await.unwrap();
            })
            .await;
        costs
            .of(
                "push a referrer",
                writes(9),
                async |_| {
                    self.subjects.put_blob(&self.config, &Bytes::from("{}")).await.unwrap();
                },
                async |()| {
                    let about = Some(self.subject.descriptor());
                    let referrer = image(&self.config, &[], &text(), about);
                    self.subjects.put_manifest(&referrer, &[], &Precondition::None).await.unwrap();
                },
            )
            .await;
    }

    async fn delete(&self, costs: &mut Costs) {
        let many = async |n| self.one_of_many(n).await;
        let text = || format!("image {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let pushed = async |it: Arc<dyn Store>| {
            let image = self.push_image(&*it, &text(), &["gone"]).await;
            (it, image)
        };
        costs
            .of(
                "delete a tag",
                writes(3),
                async |n| pushed(many(n).await).await,
                async |(it, _)| {
                    it.delete_tag(&tag("gone")).await.unwrap();
                },
            )
            .await;
        costs
            .of(
                "delete an image",
                writes(14),
                async |n| pushed(many(n).await).await,
                async |(it, image)| it.delete_manifest(image.digest()).await.unwrap(),
            )
            .await;
        costs
            .of(
                "delete an image in huge",
                writes(14),
                async |_| pushed(Arc::clone(&self.huge)).await,
                async |(it, image)| it.delete_manifest(image.digest()).await.unwrap(),
            )
            .await;
        costs
            .of("delete a blob that is referenced", reads(5), many, async |it| {
                it.delete_blob(&self.layer.digest).await.unwrap_err();
            })
            .await;
        costs
            .of(
                "delete a blob",
                writes(9),
                async |n| {
                    let it = many(n).await;
                    (push(&*it, &fresh()).await, it)
                },
                async |(blob, it)| it.delete_blob(&blob.digest).await.unwrap(),
            )
            .await;
    }

    async fn collect(&self, costs: &mut Costs) {
        let text = || format!("image {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let collect = async |()| {
            NOW.fetch_add(3 * DAY, Ordering::SeqCst);
            self.registry.collect(&CollectOptions::default(), |_| {}).await.unwrap();
        };
        collect(()).await;
        costs.of("collect nothing", writes(7).commits(4), async |_| (), collect).await;
        costs
            .of(
                "collect an image",
                writes(30).commits(6),
                async |n| {
                    let it = self.one_of_many(n).await;
                    push(&*it, &fresh()).await;
                    self.push_image(&*it, &text(), &[]).await;
                },
                collect,
            )
            .await;
        costs
            .of(
                "collect an image that thousands list",
                writes(10).commits(4),
                async |_| {
                    // It becomes a candidate, and is held.
                    self.huge.put_manifest(&self.shared, &[], &Precondition::None).await.unwrap();
                    self.huge.delete_tag(&tag("shared")).await.ok();
                },
                collect,
            )
            .await;
        costs
            .of(
                "HEAD by digest, untagged and listed by thousands",
                reads(2),
                async |_| Arc::clone(&self.huge),
                async |it| {
                    it.resolve(&self.shared.digest().clone().into()).await.unwrap();
                },
            )
            .await;
        let tags = [tag("shared")];
        self.huge.put_manifest(&self.shared, &tags, &Precondition::None).await.unwrap();
        // Half of the pages are the rows that are changed, and their indexes.
        costs
            .of(
                "delete a subject of thousands",
                writes(14).pages(BULK),
                async |_| {
                    push(&*self.subjects, &Bytes::from_static(b"{}")).await;
                    self.subjects
                        .put_manifest(&self.subject, &[], &Precondition::None)
                        .await
                        .unwrap();
                },
                async |()| self.subjects.delete_manifest(self.subject.digest()).await.unwrap(),
            )
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_costs_the_same_whatever_there_is() {
    let test = "each_operation_costs_the_same_whatever_there_is";
    let server = server::is_there(test).then(Server::start_counting).flatten();
    let Some(server) = server else { return };
    server::create(&server.url("postgres"), "counted").await;
    let url = server.url("counted");
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options.untagged = Some(Duration::ZERO);
    options.clock = || NOW.load(Ordering::SeqCst);
    // Each look-up is one of the database.
    options.cache = 0;
    let directory = tempfile::tempdir().unwrap();
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    let at = async |repository: &str| {
        registry.repository(&name(repository), Access::Write).await.unwrap()
    };
    let huge = at("huge").await;
    let layer = push(&*huge, &noise(500, 1)).await;
    let config = push(&*huge, &Bytes::from_static(b"{}")).await;
    assert_eq!(config.digest.as_str(), CONFIG);
    let shared = image(&config, std::slice::from_ref(&layer), "shared", None);
    huge.put_manifest(&shared, &[tag("shared")], &Precondition::None).await.unwrap();
    let subjects = at("subjects").await;
    let subject = push_image(&*subjects, "subject", &[tag("subject")]).await;

    let client = server::connect(&url).await;
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let filled = fill(layer.digest.as_str(), shared.digest().as_str(), subject.digest().as_str());
    client.batch_execute(&filled).await.unwrap();
    let world = World { registry, layer, config, shared, huge, subjects, subject };
    let mut costs = Costs { client, told: String::new(), problems: Vec::new() };
    // With what the server believes of empty tables, and with what it knows of these.
    for knows in [false, true] {
        if knows {
            costs.client.batch_execute("VACUUM ANALYZE").await.unwrap();
        }
        world.read(&mut costs).await;
        world.push(&mut costs).await;
        world.delete(&mut costs).await;
        world.collect(&mut costs).await;
    }
    println!("{}", costs.told);
    assert!(costs.problems.is_empty(), "{}", costs.problems.join("\n"));
}
