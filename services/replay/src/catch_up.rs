//! Bringing a generation to the heads of the streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{EventShard, Generation, PatientId, StreamVersion, Timestamp};
use event_log::{EventLog, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{
    Advance, AdvanceError, CatchUp, Hints, Outcome, ProjectionStore, ProjectionUnavailable, QuarantineQueue,
    Retry,
};

/// How often patients that could not be advanced are tried again before the command gives up.
const ATTEMPTS: u32 = 6;
/// The first wait before that; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Patients that are compared at once.
const CHUNK: usize = 500;

/// Why a generation was not brought to the heads. Run the command again; what was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// A patient could not be advanced, however often it was tried.
    #[error("patient {patient} could not be advanced")]
    Patient {
        /// Which one.
        patient: PatientId,
        /// What the last attempt said.
        source: AdvanceError,
    },
}

/// What bringing a generation to the heads came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// How many patients were looked at.
    pub patients: u64,
    /// How many of them were behind.
    pub behind: u64,
    /// Patients that stay behind, at the event that can't be applied.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
}

/// Moves patients of one generation, with retries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CatchUpTo<'a, L, S, Q> {
    pub(crate) log: &'a L,
    pub(crate) store: &'a S,
    pub(crate) queue: &'a Q,
    pub(crate) generation: Generation,
    pub(crate) concurrency: usize,
    pub(crate) now: Timestamp,
}

impl<L: EventLog, S: ProjectionStore, Q: QuarantineQueue> CatchUpTo<'_, L, S, Q> {
    /// Moves every hinted patient to its hinted version; the quarantined ones, and where.
    pub(crate) async fn advance(
        &self,
        mut hints: Hints,
    ) -> Result<BTreeMap<PatientId, StreamVersion>, CatchUpError> {
        let advance = Advance {
            log: self.log,
            store: self.store,
            queue: self.queue,
            generation: self.generation,
            catch_up: CatchUp::FromEventTable,
            retry: Retry::Quarantined,
            concurrency: self.concurrency,
            now: self.now,
        };
        let mut quarantined = BTreeMap::new();
        for attempt in 1.. {
            let mut failed = Vec::new();
            for (patient, outcome) in advance.run(&hints).await {
                match outcome {
                    Outcome::Reached { .. } | Outcome::GapLeft => {}
                    Outcome::Quarantined { at, .. } => drop(quarantined.insert(patient, at)),
                    Outcome::Failed(error) => failed.push((patient, error)),
                }
            }
            hints = hints.only(failed.iter().map(|(patient, _)| patient));
            match failed.pop() {
                None => break,
                Some((patient, source)) if attempt == ATTEMPTS => {
                    return Err(CatchUpError::Patient { patient, source });
                }
                Some(_) => tokio::time::sleep(FIRST_BACKOFF * (1 << (attempt - 1))).await,
            }
        }
        Ok(quarantined)
    }

    /// Compares these patients with the heads of their streams, read consistently, and moves those behind.
    pub(crate) async fn to_heads(
        &self,
        patients: impl IntoIterator<Item = PatientId>,
    ) -> Result<Reconciled, CatchUpError> {
        let mut reconciled = Reconciled::default();
        let mut patients = patients.into_iter().peekable();
        while patients.peek().is_some() {
            let chunk: Vec<PatientId> = patients.by_ref().take(CHUNK).collect();
            let heads: Vec<(PatientId, StreamVersion)> = stream::iter(&chunk)
                .map(
                    |patient| async move { self.log.head(patient).await.map(|head| (patient.clone(), head)) },
                )
                .buffered(self.concurrency)
                .try_collect()
                .await?;
            let states = self.store.states(self.generation, &chunk).await?;
            let mut behind = Hints::default();
            for ((patient, head), state) in heads.into_iter().zip(states) {
                reconciled.patients += 1;
                if state.map_or(StreamVersion::EMPTY, |state| state.applied) < head {
                    reconciled.behind += 1;
                    behind.add_head(patient, head);
                }
            }
            reconciled.quarantined.extend(self.advance(behind).await?);
        }
        Ok(reconciled)
    }

    /// As [`CatchUpTo::to_heads`], for the patients of whom something was recorded at `from` or later.
    pub(crate) async fn to_heads_since(&self, from: Timestamp) -> Result<Reconciled, CatchUpError> {
        self.to_heads(recorded_since(self.log, from).await?).await
    }
}

/// The patients of whom something was recorded at `from` or later.
pub(crate) async fn recorded_since(
    log: &impl EventLog,
    from: Timestamp,
) -> Result<BTreeSet<PatientId>, LogUnavailable> {
    let shards: Vec<BTreeSet<PatientId>> = stream::iter(EventShard::all())
        .map(|shard| async move {
            let mut patients = BTreeSet::new();
            let mut next = None;
            loop {
                let page = log.recorded_since(shard, from, next).await?;
                patients.extend(page.entries.into_iter().map(|entry| entry.patient_id));
                next = page.next;
                if next.is_none() {
                    break Ok::<_, LogUnavailable>(patients);
                }
            }
        })
        .buffer_unordered(8)
        .try_collect()
        .await?;
    Ok(shards.into_iter().flatten().collect())
}
