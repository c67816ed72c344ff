//! Finding the patients whose read model lags behind their stream, and repairing them.
//!
//! A stream record can be lost, to expiry, to exhausted retries or to a mapping that was set up too late. A later
//! event of the same patient reveals the gap, but there may be none. So what was recorded is compared with what was
//! applied, from time to time and at the end of every promotion.

use std::collections::BTreeMap;

use domain::{EventShard, Generation, PatientId, StreamVersion, Timestamp};
use event_log::{EventLog, LogPosition, LogUnavailable};

use crate::advance::{Advance, AdvanceError, CatchUp, Outcome, Retry};
use crate::at_once::all_at_once;
use crate::hints::Hints;
use crate::quarantine_queue::QuarantineQueue;
use crate::store::{ProjectionStore, ProjectionUnavailable};

/// How long after an event was recorded it is written, at most: as long as a Lambda function can run
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>).
const APPEND_MILLIS: i64 = 15 * 60_000;
/// By how much the clocks of two functions differ, at most.
const CLOCKS_MILLIS: i64 = 60_000;
/// How far the index is behind its table, at most. DynamoDB promises no bound, and says that it is commonly a fraction of a
/// second (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html>). What takes longer is found by a full
/// reconcile.
const INDEX_MILLIS: i64 = 60_000;

/// How far before the end of the last sweep the next one has to begin.
pub const SWEEP_OVERLAP_MILLIS: i64 = APPEND_MILLIS + CLOCKS_MILLIS + INDEX_MILLIS;

/// Patients that are compared at once.
const CHUNK: usize = 500;

/// Compares what was recorded with what was applied, and repairs what lags.
#[derive(Debug, Clone, Copy)]
pub struct Reconcile<'a, L, S, Q> {
    /// The truth.
    pub log: &'a L,
    /// What is repaired.
    pub store: &'a S,
    /// Who is told about events that can't be applied.
    pub queue: &'a Q,
    /// In which generation.
    pub generation: Generation,
    /// What to do about quarantined patients.
    pub retry: Retry,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time, for the mark on a quarantined patient.
    pub now: Timestamp,
}

/// What a reconcile came to.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// How many patients were looked at; one of whom much was recorded may count more than once.
    pub patients: u64,
    /// How many of them lagged.
    pub behind: u64,
    /// How many events were applied to those.
    pub events: u64,
    /// When the oldest event was recorded that was not applied yet, of those that a sweep met; not counting those of
    /// patients who were quarantined already.
    pub oldest: Option<Timestamp>,
    /// When the oldest event was recorded that is still not applied to one of those that failed, of those that a sweep met.
    pub oldest_failed: Option<Timestamp>,
    /// Those that still lag, since the event at this version can't be applied.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
    /// Those that still lag for another reason: reconcile them again.
    pub failed: BTreeMap<PatientId, AdvanceError>,
}

/// Why the comparison was not finished. Begin it again from where it began; what was repaired stays so.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
}

impl<L: EventLog, S: ProjectionStore, Q: QuarantineQueue> Reconcile<'_, L, S, Q> {
    /// Reconciles the patients of whom something was recorded at `from` or later. The cost grows with what was
    /// recorded since, not with history.
    ///
    /// # Errors
    /// [`ReconcileError`]
    pub async fn since(&self, from: Timestamp) -> Result<Reconciled, ReconcileError> {
        let mut remaining = Remaining::since(from);
        let mut reconciled = Reconciled::default();
        while !remaining.is_empty() {
            reconciled = reconciled.plus(self.round(&mut remaining).await?);
        }
        Ok(reconciled)
    }

    /// Reconciles a page of each shard of what remains, and leaves the rest in it.
    ///
    /// # Errors
    /// [`ReconcileError`]; what remains is then as it was.
    pub async fn round(&self, remaining: &mut Remaining) -> Result<Reconciled, ReconcileError> {
        let pages = remaining
            .shards
            .iter()
            .map(|place| self.page(remaining.from, place))
            .collect();
        let pages: Result<Vec<_>, ReconcileError> =
            all_at_once(self.concurrency, pages).await.into_iter().collect();
        let (reconciled, shards): (Vec<_>, Vec<_>) = pages?.into_iter().unzip();
        remaining.shards = shards.into_iter().flatten().collect();
        Ok(reconciled
            .into_iter()
            .fold(Reconciled::default(), Reconciled::plus))
    }

    /// Reconciles one page; what is left of the shard, if anything is.
    async fn page(
        &self,
        from: Timestamp,
        place: &Place,
    ) -> Result<(Reconciled, Option<Place>), ReconcileError> {
        let page = self
            .log
            .recorded_since(place.shard, from, place.next.clone())
            .await?;
        let reached = page
            .entries
            .last()
            .map_or(place.reached, |entry| entry.recorded_at);
        let mut recorded: BTreeMap<PatientId, Recorded> = BTreeMap::new();
        for entry in page.entries {
            let of = recorded.entry(entry.patient_id).or_default();
            of.head = entry.version.max(of.head);
            of.events.push((entry.version, entry.recorded_at));
        }
        let reconciled = self.to(recorded.into_iter().collect()).await?;
        let left = page.next.map(|next| Place {
            shard: place.shard,
            next: Some(next),
            reached,
        });
        Ok((reconciled, left))
    }

    /// Reconciles these patients with the heads of their streams, read consistently.
    ///
    /// # Errors
    /// [`ReconcileError`]
    pub async fn to_heads(&self, patients: &[PatientId]) -> Result<Reconciled, ReconcileError> {
        let reads = patients
            .iter()
            .map(|patient| async move {
                let head = self.log.head(patient).await?;
                let events = Vec::new();
                Ok((patient.clone(), Recorded { head, events }))
            })
            .collect();
        let heads: Result<_, LogUnavailable> =
            all_at_once(self.concurrency, reads).await.into_iter().collect();
        self.to(heads?).await
    }

    /// Moves each patient to this version, where it lags.
    async fn to(&self, recorded: Vec<(PatientId, Recorded)>) -> Result<Reconciled, ReconcileError> {
        let mut reconciled = Reconciled::default();
        for chunk in recorded.chunks(CHUNK) {
            let patients: Vec<PatientId> = chunk.iter().map(|(patient, _)| patient.clone()).collect();
            let states = self.store.states(self.generation, &patients).await?;
            let mut behind = Hints::default();
            let mut missing: BTreeMap<&PatientId, Option<Timestamp>> = BTreeMap::new();
            for ((patient, recorded), state) in chunk.iter().zip(states) {
                reconciled.patients += 1;
                let state = state.unwrap_or_default();
                if state.applied < recorded.head {
                    reconciled.behind += 1;
                    let oldest = recorded.oldest_after(state.applied);
                    missing.insert(patient, oldest);
                    if state.quarantine.is_none() {
                        reconciled.oldest = earlier(reconciled.oldest, oldest);
                    }
                    behind.add_head(patient.clone(), recorded.head);
                }
            }
            let failed = self.repair(&behind, &mut reconciled).await;
            for patient in failed {
                let oldest = missing.get(&patient).copied().flatten();
                reconciled.oldest_failed = earlier(reconciled.oldest_failed, oldest);
            }
        }
        Ok(reconciled)
    }

    /// Applies what is missing; the patients for whom that failed.
    async fn repair(&self, behind: &Hints, reconciled: &mut Reconciled) -> Vec<PatientId> {
        let mut failed = Vec::new();
        let advance = Advance {
            log: self.log,
            store: self.store,
            queue: self.queue,
            generation: self.generation,
            catch_up: CatchUp::FromEventTable,
            retry: self.retry,
            concurrency: self.concurrency,
            now: self.now,
        };
        for (patient, outcome) in advance.run(behind).await {
            match outcome {
                Outcome::Reached { from, to, .. } => reconciled.events += from.behind(to),
                Outcome::GapLeft => {}
                Outcome::Quarantined { at, .. } => drop(reconciled.quarantined.insert(patient, at)),
                Outcome::Failed(error) => {
                    failed.push(patient.clone());
                    reconciled.failed.insert(patient, error);
                }
            }
        }
        failed
    }
}

/// What remains of a sweep: what was recorded at some time or later, and has not been compared yet.
#[derive(Debug, Clone)]
pub struct Remaining {
    from: Timestamp,
    shards: Vec<Place>,
}

/// What remains of a shard.
#[derive(Debug, Clone)]
struct Place {
    shard: EventShard,
    /// Where to go on; `None` where nothing was read yet.
    next: Option<LogPosition>,
    /// All that was recorded in this shard before this time has been compared.
    reached: Timestamp,
}

impl Remaining {
    /// All that was recorded at `from` or later.
    #[must_use]
    pub fn since(from: Timestamp) -> Remaining {
        let shards = EventShard::all().map(|shard| Place {
            shard,
            next: None,
            reached: from,
        });
        Remaining {
            from,
            shards: shards.collect(),
        }
    }

    /// Whether everything has been compared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// All that was recorded before this time has been compared; `None` if everything has.
    #[must_use]
    pub fn reached(&self) -> Option<Timestamp> {
        self.shards.iter().map(|place| place.reached).min()
    }
}

/// What is known to be recorded of one patient.
#[derive(Debug, Default)]
struct Recorded {
    /// At least this version exists.
    head: StreamVersion,
    /// Some events, and when they were recorded.
    events: Vec<(StreamVersion, Timestamp)>,
}

impl Recorded {
    fn oldest_after(&self, applied: StreamVersion) -> Option<Timestamp> {
        let later = self.events.iter().filter(|(version, _)| *version > applied);
        later.map(|(_, recorded_at)| *recorded_at).min()
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

impl Reconciled {
    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Reconciled) -> Reconciled {
        self.patients += other.patients;
        self.behind += other.behind;
        self.events += other.events;
        self.oldest = earlier(self.oldest, other.oldest);
        self.oldest_failed = earlier(self.oldest_failed, other.oldest_failed);
        self.quarantined.extend(other.quarantined);
        self.failed.extend(other.failed);
        self
    }
}
