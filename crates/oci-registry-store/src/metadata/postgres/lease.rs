//! This process among those that use the database: its lease, and the sessions that it has claimed.
//!
//! A replica keeps a lease by renewing it. What it claims, and the objects that it writes, are its own while the lease runs; when
//! it has not been renewed, others may take them. No content depends on that: who had only been slow finds the
//! version of its session changed, or its object condemned, and fails. A session that was taken from somebody goes on in a
//! fresh object (see `Claim::inherited`), so that two never write to one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oci_ref::Result;
use tokio::runtime::Handle;

use super::failure::Outcome;
use super::held::{GivingBack, Held};
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
    held: Held,
}

impl Lease {
    /// A lease of a replica that is new each time a process opens the database.
    pub(super) async fn take(runner: Runner, duration: Duration) -> Result<Self> {
        let id = hex::encode(crate::random::bytes::<16>()?);
        let duration = duration.as_secs_f64();
        let lease =
            Self { runner, shared: Arc::new(Shared { id, duration, held: Held::default() }) };
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

    /// Renews the lease, and has claims given back that ended when the database could not be told.
    async fn renew(&self) -> Result<()> {
        let shared = &self.shared;
        self.runner
            .write("renew the lease", Begin::lazily(), |db| async move {
                db.execute(
                    "INSERT INTO replica (id, lease, until)
                     VALUES ($1, make_interval(secs => $2), clock_timestamp() + make_interval(secs => $2))
                     ON CONFLICT (id) DO UPDATE SET until = excluded.until",
                    &[&shared.id, &shared.duration],
                )
                .await?;
                Ok(())
            })
            .await?;
        if let Some(left) = shared.held.left() {
            // That may have to wait for another transaction, and the lease may not.
            let lease = self.clone();
            tokio::spawn(async move { lease.give_back(left).await });
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
                self.ended(id);
                None
            }
        })
    }

    async fn insert(&self, id: &SessionId, begin: Begin) -> Result<Claimed> {
        let work = |db: Arc<Db>| async move { insert(&db, id, self.holder()).await };
        self.runner.write("claim an upload", begin, work).await
    }

    /// Gives claims of ours back with nothing recorded.
    async fn give_back(&self, claims: GivingBack) {
        let giving = &claims;
        let work = |db: Arc<Db>| async move {
            for id in giving.ids() {
                give_back(&db, id, self.holder()).await?;
            }
            Ok(())
        };
        match self.runner.write("give back an upload", Begin::lazily(), work).await {
            Ok(()) => claims.done(),
            Err(error) => tracing::debug!(%error, "claims were not given back at once"),
        }
    }

    fn hold(&self, id: &SessionId) -> Option<HeldClaim> {
        let number = self.shared.held.hold(id)?;
        Some(HeldClaim { lease: self.clone(), id: id.clone(), number })
    }

    /// Notes that a transaction of the holder's has ended its claim.
    pub(super) fn ended(&self, id: &SessionId) {
        self.shared.held.ended(id);
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

impl HeldClaim {
    fn give_back(&self) -> Option<GivingBack> {
        self.lease.shared.held.give_back(&self.id, self.number)
    }
}

#[async_trait]
impl Release for HeldClaim {
    async fn now(&self) {
        if let Some(claim) = self.give_back() {
            self.lease.give_back(claim).await;
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        // Otherwise it ended when the session was recorded or closed, or is being given back.
        let Some(claim) = self.give_back() else { return };
        // Without a runtime, or if this fails, it is given back after the next renewal, or runs out.
        let Ok(runtime) = Handle::try_current() else { return };
        let lease = self.lease.clone();
        runtime.spawn(async move { lease.give_back(claim).await });
    }
}
