//! One replay at a time.
//!
//! Two at once would do no harm: every step can be repeated, and what matters is conditional. But two operators who
//! do not know of each other should learn of it. So whoever changes the read model holds a lease, and shows by a beat
//! that it is alive. Whether somebody else is, is seen from its beat alone: clocks are not compared.

use std::future::Future;
use std::time::Duration;

use domain::Timestamp;
use projection::ProjectionUnavailable;
use serde::{Deserialize, Serialize};

/// How often the holder shows that it is alive.
const BEAT: Duration = Duration::from_secs(2);
/// After how long without a beat a holder counts as dead.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(500);

/// Who is changing the read model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Names the holder; another one each time.
    pub holder: String,
    /// What it does.
    pub command: String,
    /// Since when.
    pub since: Timestamp,
    /// Counts up as long as it is alive.
    pub beat: u64,
}

/// Keeping the lease.
pub(crate) trait LeaseStore: Send + Sync {
    /// The lease, if somebody has it.
    fn lease(&self) -> impl Future<Output = Result<Option<Lease>, ProjectionUnavailable>> + Send;

    /// Puts it, if it still is `expected`; whether it was.
    fn put_lease(
        &self,
        expected: Option<&Lease>,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, ProjectionUnavailable>> + Send;

    /// Removes it, if this holder still has it.
    fn end_lease(&self, holder: &str) -> impl Future<Output = Result<(), ProjectionUnavailable>> + Send;
}

/// Why a command did not begin, or did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Another one is at work. Wait for it, or end it.
    #[error("`replay {}` is at work since {}: wait for it, or end it", .0.command, .0.since)]
    Held(Lease),
    /// This one was so slow to show that it is alive that another one took over. Look at the status.
    #[error("another replay took over")]
    Lost,
    /// The read model can't be reached. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
}

/// Runs a command while nobody else does. `on_wait` is called if somebody has the lease who may be dead.
pub(crate) async fn alone<S: LeaseStore, V>(
    store: &S,
    lease: Lease,
    on_wait: impl Fn(&Lease),
    command: impl Future<Output = V>,
) -> Result<V, LeaseError> {
    take(store, &lease, on_wait).await?;
    let done = tokio::select! {
        done = command => Ok(done),
        lost = beat(store, lease.clone()) => Err(lost),
    };
    // If it stays, the next one waits a moment until it is clear that nobody is there.
    let _ = store.end_lease(&lease.holder).await;
    done
}

async fn take(store: &impl LeaseStore, lease: &Lease, on_wait: impl Fn(&Lease)) -> Result<(), LeaseError> {
    let mut held = store.lease().await?;
    let mut waited = Duration::ZERO;
    loop {
        let free = held.is_none() || waited >= PATIENCE;
        if free && store.put_lease(held.as_ref(), lease).await? {
            return Ok(());
        }
        let now = store.lease().await?;
        match (held, &now) {
            (Some(before), Some(now)) if before != *now => return Err(LeaseError::Held(now.clone())),
            (None, Some(now)) => return Err(LeaseError::Held(now.clone())),
            (Some(_), Some(now)) if waited.is_zero() => on_wait(now),
            _ => {}
        }
        held = now;
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

/// Shows that the holder is alive, until it has lost the lease.
async fn beat(store: &impl LeaseStore, mut lease: Lease) -> LeaseError {
    loop {
        tokio::time::sleep(BEAT).await;
        let next = Lease {
            beat: lease.beat + 1,
            ..lease.clone()
        };
        match store.put_lease(Some(&lease), &next).await {
            Ok(true) => lease = next,
            Ok(false) => match store.lease().await {
                // A beat whose reply was lost.
                Ok(Some(now)) if now.holder == lease.holder => lease = now,
                Ok(_) => return LeaseError::Lost,
                Err(_) => {}
            },
            // The next beat may get through.
            Err(_) => {}
        }
    }
}
