//! This process among those that use the database: its lease, and the sessions that it has claimed.
//!
//! A replica keeps a lease by renewing it. What it claims, and the objects that it writes, are its own while the lease runs; when
//! it has not been renewed, others may take them. No content depends on that: who had only been slow finds the
//! version of its session changed, or its object condemned, and fails. A session that was taken from somebody goes on in a
//! fresh object (see `Claim::inherited`), so that two never write to one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use oci_ref::Result;
use tokio::runtime::Handle;

use super::failure::Outcome;
use super::run::{Begin, Db, Runner};
use crate::metadata::{Claim, Release};
use crate::upload::SessionId;

/// Whether the replica `replica` is alive. After a start of the database nobody is taken for dead before everybody has had
/// the time to come back.
pub(super) const ALIVE: &str =
    "greatest(replica.until, pg_postmaster_start_time() + replica.lease) > clock_timestamp()";

/// How many times a lease is renewed while it runs.
const RENEWALS: u32 = 4;

/// The lease of this process.
#[derive(Clone)]
pub(super) struct Lease {
    runner: Runner,
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    /// In seconds.
    duration: f64,
    held: Mutex<Claims>,
}

#[derive(Default)]
struct Claims {
    claims: HashMap<SessionId, Held>,
    next: u64,
}

/// A session that nobody else in this process may claim.
struct Held {
    /// Tells one claim from the next.
    number: u64,
    /// Nobody writes to it any more, but the database does not know that yet.
    ended: bool,
}

impl Lease {
    /// A lease of a replica that is new each time a process opens the database.
    pub(super) async fn take(runner: Runner, duration: Duration) -> Result<Self> {
        let id = hex::encode(crate::random::bytes::<16>()?);
        let duration = duration.as_secs_f64();
        let lease =
            Self { runner, shared: Arc::new(Shared { id, duration, held: Mutex::default() }) };
        lease.renew().await?;
        Ok(lease)
    }

    /// The name of this replica.
    pub(super) fn holder(&self) -> &str {
        &self.shared.id
    }

    /// Renews the lease for as long as this is polled.
    pub(super) async fn keep(self) {
        let every = Duration::from_secs_f64(self.shared.duration) / RENEWALS;
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the lease in the metadata database could not be renewed; trying again");
            }
        }
    }

    /// Renews the lease, and gives back claims that ended when the database could not be told.
    async fn renew(&self) -> Result<()> {
        let ended: Vec<SessionId> = {
            let held = self.lock();
            held.claims.iter().filter(|(_, held)| held.ended).map(|(id, _)| id.clone()).collect()
        };
        let (shared, ended) = (&self.shared, &ended);
        self.runner
            .write("renew the lease", Begin::lazily(), |db| async move {
                db.execute(
                    "INSERT INTO replica (id, lease, until)
                     VALUES ($1, make_interval(secs => $2), clock_timestamp() + make_interval(secs => $2))
                     ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                    &[&shared.id, &shared.duration],
                )
                .await?;
                for id in ended {
                    give_back(&db, id, &shared.id).await?;
                }
                Ok(())
            })
            .await?;
        for id in ended {
            self.released(id);
        }
        Ok(())
    }

    /// Claims a session. `None` if it is being written, here or by a replica that is alive.
    pub(super) async fn claim(&self, id: &SessionId) -> Result<Option<Claim>> {
        let Some(release) = self.hold(id) else { return Ok(None) };
        let taken = match self.insert(id, Begin::lazily()).await? {
            // What is not recorded shares nothing with anybody. Otherwise the claim must outlive a crash of the database, so that
            // nobody goes on with the same object thinking that it is free.
            Claimed::Yes { recorded: true, .. } => self.insert(id, Begin::default()).await?,
            other => other,
        };
        Ok(match taken {
            Claimed::Yes { inherited, .. } => Some(Claim::new(inherited, Box::new(release))),
            Claimed::No => {
                // There is nothing to give back.
                self.released(id);
                None
            }
        })
    }

    async fn insert(&self, id: &SessionId, begin: Begin) -> Result<Claimed> {
        let work = |db: Arc<Db>| async move { insert(&db, id, self.holder()).await };
        self.runner.write("claim an upload", begin, work).await
    }

    /// Gives a claim of ours back with nothing recorded.
    async fn give_back(&self, id: &SessionId) {
        let work = |db: Arc<Db>| async move { give_back(&db, id, self.holder()).await };
        match self.runner.write("give back an upload", Begin::lazily(), work).await {
            Ok(()) => self.released(id),
            Err(error) => tracing::debug!(%id, %error, "a claim was not given back at once"),
        }
    }

    fn hold(&self, id: &SessionId) -> Option<HeldClaim> {
        let mut held = self.lock();
        if held.claims.contains_key(id) {
            return None;
        }
        held.next += 1;
        let number = held.next;
        held.claims.insert(id.clone(), Held { number, ended: false });
        Some(HeldClaim { lease: self.clone(), id: id.clone(), number })
    }

    /// Notes that a transaction has given a claim back.
    pub(super) fn released(&self, id: &SessionId) {
        self.lock().claims.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.shared.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Claimed {
    /// Whether it was somebody else's, and whether there is anything recorded.
    Yes {
        inherited: bool,
        recorded: bool,
    },
    No,
}

async fn insert(db: &Db, id: &SessionId, holder: &str) -> Outcome<Claimed> {
    let taken: Option<i32> = db
        .value(
            &format!(
                "INSERT INTO claim (session, holder) VALUES ($1, $2)
                 ON CONFLICT (session) DO UPDATE SET holder = excluded.holder,
                     taken = claim.taken + (claim.holder <> excluded.holder)::integer
                 WHERE claim.holder = excluded.holder
                 OR NOT EXISTS (SELECT 1 FROM replica WHERE replica.id = claim.holder AND {ALIVE})
                 RETURNING taken"
            ),
            &[&id.as_str(), &holder],
        )
        .await?;
    let Some(taken) = taken else { return Ok(Claimed::No) };
    let recorded = "SELECT EXISTS (SELECT 1 FROM session WHERE id = $1 AND NOT closed)";
    let recorded = db.value(recorded, &[&id.as_str()]).await?;
    Ok(Claimed::Yes { inherited: taken > 0, recorded: recorded.unwrap_or(true) })
}

/// Ends a claim, as part of a transaction that records or closes the session.
pub(super) async fn release(db: &Db, id: &SessionId, holder: &str) -> Outcome<()> {
    db.execute("DELETE FROM claim WHERE session = $1 AND holder = $2", &[&id.as_str(), &holder])
        .await?;
    Ok(())
}

/// Gives a claim back with nothing recorded. If it was taken from somebody who may still be writing, it stays known that it was.
async fn give_back(db: &Db, id: &SessionId, holder: &str) -> Outcome<()> {
    let id = id.as_str();
    db.execute(
        "DELETE FROM claim WHERE session = $1 AND holder = $2 AND taken = 0",
        &[&id, &holder],
    )
    .await?;
    db.execute("UPDATE claim SET holder = '' WHERE session = $1 AND holder = $2", &[&id, &holder])
        .await?;
    Ok(())
}

/// A claim that this process holds.
struct HeldClaim {
    lease: Lease,
    id: SessionId,
    number: u64,
}

#[async_trait]
impl Release for HeldClaim {
    async fn now(&self) {
        self.lease.give_back(&self.id).await;
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        match self.lease.lock().claims.get_mut(&self.id) {
            Some(held) if held.number == self.number => held.ended = true,
            // It ended when the session was recorded or closed.
            _ => return,
        }
        // Without a runtime, or if this fails, it is given back with the next renewal, or runs out.
        let Ok(runtime) = Handle::try_current() else { return };
        let (lease, id) = (self.lease.clone(), self.id.clone());
        runtime.spawn(async move { lease.give_back(&id).await });
    }
}
