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
    /// Another one was at work, and has ended meanwhile: whoever began this one could not know what that one did. Look at the
    /// status, and decide anew.
    #[error("{0} ended just now: look at the status, and run it again")]
    Ended(String),
    /// This one was so slow to show that it is alive that another one took over. Look at the status.
    #[error("another replay took over")]
    Lost,
    /// The read model can't be reached. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
}

/// Runs a command while nobody else does. `on_wait` is called if somebody has the lease who may be dead. Only the lease of
/// somebody dead is taken over: one that goes away shows, as one that changes does, that its holder was alive.
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
            // It was put, but the reply was lost, and the SDK repeated it.
            (_, Some(now)) if now.holder == lease.holder => return Ok(()),
            (Some(before), Some(now)) if before != *now => return Err(LeaseError::Held(now.clone())),
            (Some(before), None) => {
                let name = format!(
                    "`replay {}`, which was begun at {},",
                    before.command, before.since
                );
                return Err(LeaseError::Ended(name));
            }
            // It came and went between two looks.
            (None, None) => return Err(LeaseError::Ended("another command".to_owned())),
            (None, Some(now)) => return Err(LeaseError::Held(now.clone())),
            (Some(_), Some(now)) => {
                if waited.is_zero() {
                    on_wait(now);
                }
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct OneLease(Mutex<Option<Lease>>);

    impl LeaseStore for OneLease {
        async fn lease(&self) -> Result<Option<Lease>, ProjectionUnavailable> {
            Ok(self.0.lock().unwrap().clone())
        }

        async fn put_lease(
            &self,
            expected: Option<&Lease>,
            lease: &Lease,
        ) -> Result<bool, ProjectionUnavailable> {
            let mut held = self.0.lock().unwrap();
            let as_expected = held.as_ref() == expected;
            if as_expected {
                *held = Some(lease.clone());
            }
            Ok(as_expected)
        }

        async fn end_lease(&self, holder: &str) -> Result<(), ProjectionUnavailable> {
            self.0.lock().unwrap().take_if(|lease| lease.holder == holder);
            Ok(())
        }
    }

    fn lease(holder: &str) -> Lease {
        Lease {
            holder: holder.to_owned(),
            command: "rebuild".to_owned(),
            since: Timestamp::EARLIEST,
            beat: 0,
        }
    }

    async fn run(store: &OneLease, holder: &str, seconds: u64) -> Result<(), LeaseError> {
        let command = tokio::time::sleep(Duration::from_secs(seconds));
        alone(store, lease(holder), |_| (), command).await
    }

    #[tokio::test(start_paused = true)]
    async fn second_command_is_refused_while_the_first_is_at_work() {
        let store = OneLease::default();
        let (first, second) = tokio::join!(run(&store, "first", 60), async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            run(&store, "second", 1).await
        });
        first.unwrap();
        let error = second.unwrap_err();
        let LeaseError::Held(held) = &error else {
            panic!("{error}")
        };
        assert_eq!(held.holder, "first");
        assert!(
            error.to_string().starts_with("`replay rebuild` is at work since"),
            "{error}"
        );
        run(&store, "third", 1).await.unwrap();
        assert_eq!(store.lease().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn second_command_is_refused_if_the_first_ends_while_it_looks() {
        // Whatever the moment: before or after a beat, and just before the end.
        for late in [100, 3_900, 4_100, 5_800, 6_100, 6_499] {
            let store = OneLease::default();
            let (first, second) = tokio::join!(run(&store, "first", 7), async {
                tokio::time::sleep(Duration::from_millis(late)).await;
                run(&store, "second", 1).await
            });
            first.unwrap();
            let error = second.unwrap_err();
            let expected = if late > 6_000 {
                "ended just now"
            } else {
                "is at work since"
            };
            assert!(error.to_string().contains(expected), "{late}: {error}");
            assert_eq!(store.lease().await.unwrap(), None);
            run(&store, "third", 1).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_find_the_lease_of_a_command_that_was_killed_one_is_refused() {
        let store = OneLease(Mutex::new(Some(lease("killed"))));
        let (one, other) = tokio::join!(run(&store, "one", 0), run(&store, "other", 0));
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lease_of_a_command_that_was_killed_is_taken_over() {
        let store = OneLease(Mutex::new(Some(lease("killed"))));
        let began = tokio::time::Instant::now();
        run(&store, "next", 0).await.unwrap();
        assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
        assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn command_whose_lease_was_taken_over_ends() {
        let store = OneLease::default();
        let (slow, ()) = tokio::join!(run(&store, "slow", 60), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            *store.0.lock().unwrap() = Some(lease("other"));
        });
        assert!(matches!(slow, Err(LeaseError::Lost)), "{slow:?}");
        let left = store.lease().await.unwrap().map(|lease| lease.holder);
        assert_eq!(left.as_deref(), Some("other"));
    }
}
