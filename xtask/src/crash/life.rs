//! The clients of a registry for as long as its content lasts, and whether all is there that they were told.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::crash::check;
use crate::crash::client::{Client, Done, Failed};
use crate::crash::content::Blob;
use crate::crash::load::{Common, INLINE, Worker};
use crate::crash::model::{Model, Place};
use crate::crash::pulls;
use crate::crash::shared::SharedTags;
use crate::crash::tally::Tally;
use crate::noise::Random;

/// What lives as long as a registry's content.
pub(super) struct Life {
    common: Rc<Common>,
    pub(super) workers: Vec<Worker>,
}

impl Life {
    /// Clients of an empty registry. `grace`: how long it keeps what nothing references.
    pub(super) fn new(random: &mut Random, clients: usize, grace: Duration) -> Self {
        let common = Common::new(random.next() >> 24);
        let workers = (0..clients).map(|number| {
            let mut client = Client::new(&format!("w{number}"), "", Rc::new(|| ()));
            client.model.grace = Some(grace);
            Worker::new(client, random.next(), common.clone())
        });
        Self { workers: workers.collect(), common: common.clone() }
    }

    /// What each client did last.
    pub(super) fn histories(&self) -> String {
        let histories = self.workers.iter().map(|worker| {
            let lines: Vec<_> = worker.client.history.iter().map(String::as_str).collect();
            format!("\n{}:\n  {}", worker.client.name, lines.join("\n  "))
        });
        histories.collect()
    }

    /// What clients know of that wait for no answer.
    fn settled(&self) -> impl Iterator<Item = &Model> {
        let clients = self.workers.iter().map(|worker| &worker.client);
        clients.filter(|client| client.in_flight.is_empty()).map(|client| &client.model)
    }

    /// A tag that must be there.
    pub(super) fn some_tag(&self) -> Option<Place> {
        self.settled().find_map(|model| model.tags.keys().next().cloned())
    }

    /// A blob that must be there, in a file.
    pub(super) fn some_object(&self) -> Option<Blob> {
        self.settled().find_map(|model| {
            let held = |(place, blob): &(&Place, &Blob)| {
                blob.size() > INLINE && model.is_referenced(&place.0, &place.1)
            };
            model.blobs.iter().find(held).map(|(_, blob)| blob.clone())
        })
    }

    /// Everything is there, and nothing by halves; through each of the servers, if several are named.
    pub(super) async fn check(
        &mut self,
        servers: &[String],
        random: &mut Random,
        tally: &mut Tally,
    ) -> Done {
        for worker in &mut self.workers {
            let unanswered = !worker.client.in_flight.is_empty();
            let settled = check::settle(&mut worker.client).await;
            let happened = named(&worker.client.name, settled)?;
            tally.unanswered += usize::from(unanswered);
            tally.happened += usize::from(happened);
        }
        match servers {
            [] => self.check_through(None).await?,
            servers => {
                for server in servers {
                    self.check_through(Some(server)).await?;
                }
            }
        }
        for worker in &mut self.workers {
            worker.client.connections.only = None;
            tally.collected += std::mem::take(&mut worker.client.collected);
        }
        // Some of the open uploads go on at once, the others later.
        let open = self.workers.iter().any(|worker| !worker.client.model.uploads.is_empty());
        if open && random.percent(50) {
            for worker in &mut self.workers {
                if let Some(upload) = worker.client.model.uploads.keys().next().copied() {
                    let finished = check::finish_upload(&mut worker.client, upload).await;
                    tally.resumed += usize::from(named(&worker.client.name, finished)?);
                }
            }
        }
        Ok(())
    }

    async fn check_through(&mut self, server: Option<&String>) -> Done {
        let checks = self.workers.iter_mut().map(|worker| async {
            worker.client.connections.only = server.cloned();
            let checked = check::everything(&mut worker.client, &[SharedTags::REPOSITORY]).await;
            named(&worker.client.name, checked)
        });
        join_all(checks).await.into_iter().collect::<Done<Vec<()>>>()?;
        let tags = self.common.tags.clone();
        let models = || self.workers.iter().map(|worker| &worker.client.model);
        let most: BTreeSet<String> =
            models().flat_map(|model| model.repositories().map(str::to_owned)).collect();
        let Some(first) = self.workers.first_mut() else { return Ok(()) };
        tags.check(&mut first.client).await?;
        let listed = check::list(&mut first.client, "/v2/_catalog?n=1000", "repositories").await?;
        let listed: BTreeSet<String> = listed.into_iter().collect();
        // After the list was read: until then it must have been there.
        let models = || self.workers.iter().map(|worker| &worker.client.model);
        let least: BTreeSet<String> =
            models().flat_map(|model| model.lasting().map(str::to_owned)).collect();
        let extra = |name: &&String| !most.contains(*name) && *name != pulls::REPOSITORY;
        if listed.iter().any(|name| extra(&name)) || !listed.is_superset(&least) {
            return Err(Failed::Wrong(format!(
                "the catalogue has {listed:?}, expected {least:?} to {most:?}"
            )));
        }
        Ok(())
    }
}

fn named<T>(client: &str, done: Done<T>) -> Done<T> {
    done.map_err(|failed| match failed {
        Failed::Lost(error) => Failed::Lost(format!("client {client}: {error}")),
        Failed::Wrong(error) => Failed::Wrong(format!("client {client}: {error}")),
    })
}
