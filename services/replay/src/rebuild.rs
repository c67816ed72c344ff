//! Building the next generation from the events, while live traffic goes on.
//!
//! From the moment that a generation is being built, the projector applies new events to it as well, where they
//! continue what is there. So the rebuild has three passes: it scans the event table, each page of which sees all
//! that was appended before the build began; it compares every patient with the head of its stream; and it
//! promotes, and then looks once more at those of whom something was recorded meanwhile, since events that
//! overtook each other are left out of a generation that is being built.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Generation, PatientId, StreamVersion, Timestamp};
use event_log::{EventLog, LogUnavailable, Segment};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{
    Advance, AdvanceError, BeginError, CatchUp, Hints, ProjectionStore, ProjectionUnavailable, PromoteError,
    QuarantineQueue, Reconcile, ReconcileError, Reconciled, Retry, SWEEP_OVERLAP_MILLIS, abandon,
    begin_building, current, promote,
};
use runtime::clock::Clock;

/// How often patients that could not be advanced are tried again before the command gives up. Each attempt
/// already contains the SDK's own, with pauses.
const ATTEMPTS: u32 = 5;
/// Patients whose states in the active generation are read at once.
const CHUNK: usize = 500;

/// A rebuild of the read model.
#[derive(Debug, Clone, Copy)]
pub struct Rebuild<'a, L, S, Q> {
    /// The events.
    pub log: &'a L,
    /// The read model.
    pub store: &'a S,
    /// Who is told about events that can't be applied.
    pub queue: &'a Q,
    /// Into how many parts the event table is divided; all of them are read at once.
    pub segments: u16,
    /// How many calls each of them has under way at once, at most.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The generation that is active now.
    pub generation: Generation,
    /// How many patients it has.
    pub patients: u64,
    /// How many events were read.
    pub events: u64,
    /// Patients that stay behind, as they did before, at the event that can't be applied.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
}

/// Why a rebuild did not end as it should. Queries still read the generation that they did, but for
/// [`RebuildError::NotComparedAgain`].
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The build could not be begun.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The event table can't be read. Run the command again: it goes on with the same generation.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read. Run the command again: it goes on with the same generation.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// The generation could not be compared with the events. Run the command again: it goes on with the same
    /// generation.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// A patient could not be advanced, however often it was tried. Run the command again: it goes on with the same
    /// generation.
    #[error("patient {patient} could not be advanced")]
    Patient {
        /// Which one.
        patient: PatientId,
        /// What the last attempt said.
        source: AdvanceError,
    },
    /// The new generation lacks events that queries see today, and was given up. Fix what keeps them from being
    /// applied, then run the command again: it builds another one.
    #[error(
        "not promoted: generation {generation} would show less of {} than is shown now",
        patients(behind)
    )]
    WouldLoseData {
        /// The generation that was built.
        generation: Generation,
        /// The patients, and the first event that could not be applied.
        behind: BTreeMap<PatientId, StreamVersion>,
    },
    /// Somebody else promoted it, or gave it up.
    #[error(transparent)]
    Promote(#[from] PromoteError),
    /// The new generation **is** active, but was not compared with the events once more. The reconciler does that, on
    /// its schedule.
    #[error(
        "generation {generation} is active, but the last comparison failed: the reconciler will make up for it"
    )]
    NotComparedAgain {
        /// The generation.
        generation: Generation,
        /// What failed.
        source: Box<RebuildError>,
    },
}

fn patients(behind: &BTreeMap<PatientId, StreamVersion>) -> String {
    behind
        .iter()
        .map(|(patient, version)| format!("{patient} (event {version})"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl<L: EventLog, S: ProjectionStore, Q: QuarantineQueue> Rebuild<'_, L, S, Q> {
    /// Builds the next generation, or goes on with the one that is being built, and promotes it. `on_events` is
    /// told how many events each step has read.
    ///
    /// # Errors
    /// [`RebuildError`]: run it again, after what the variant says.
    pub async fn run(&self, on_events: &(impl Fn(u64) + Sync)) -> Result<Rebuilt, RebuildError> {
        let began = (self.clock)();
        let generation = begin_building(self.store).await?;
        let (scanned, events) = self.scan(generation, on_events).await?;
        let scanned: Vec<PatientId> = scanned.into_iter().collect();
        let mut quarantined = self.compare(generation, &scanned).await?;
        promote(self.store, generation).await?;
        let overtaken = self.look_once_more(generation, &scanned, began).await;
        let overtaken = overtaken.map_err(|source| RebuildError::NotComparedAgain {
            generation,
            source: Box::new(source),
        })?;
        quarantined.extend(overtaken);
        let patients = u64::try_from(scanned.len()).unwrap_or(u64::MAX);
        Ok(Rebuilt {
            generation,
            patients,
            events,
            quarantined,
        })
    }

    /// Brings what events that overtook each other left out of the generation while it was being built. Patients who
    /// were known are compared with their streams, and newer ones with the index, which follows its table and so may
    /// leave some to the reconciler.
    async fn look_once_more(
        &self,
        generation: Generation,
        scanned: &[PatientId],
        began: Timestamp,
    ) -> Result<BTreeMap<PatientId, StreamVersion>, RebuildError> {
        let mut quarantined = BTreeMap::new();
        for chunk in scanned.chunks(CHUNK) {
            let reconciled = self.reconcile(generation, Retry::No).to_heads(chunk).await?;
            quarantined.extend(self.insist(generation, reconciled).await?.quarantined);
        }
        let since = began.plus_millis(-SWEEP_OVERLAP_MILLIS);
        let reconciled = self.reconcile(generation, Retry::No).since(since).await?;
        quarantined.extend(self.insist(generation, reconciled).await?.quarantined);
        Ok(quarantined)
    }

    fn reconcile(&self, generation: Generation, retry: Retry) -> Reconcile<'_, L, S, Q> {
        Reconcile {
            log: self.log,
            store: self.store,
            queue: self.queue,
            generation,
            retry,
            concurrency: self.concurrency,
            now: (self.clock)(),
        }
    }

    /// Tries again those that failed.
    async fn insist(
        &self,
        generation: Generation,
        mut reconciled: Reconciled,
    ) -> Result<Reconciled, RebuildError> {
        for _ in 0..ATTEMPTS {
            let failed: Vec<PatientId> = reconciled.failed.keys().cloned().collect();
            if failed.is_empty() {
                break;
            }
            let again = self
                .reconcile(generation, Retry::Quarantined)
                .to_heads(&failed)
                .await?;
            reconciled.quarantined.extend(again.quarantined);
            reconciled.failed = again.failed;
        }
        match reconciled.failed.pop_first() {
            None => Ok(reconciled),
            Some((patient, source)) => Err(RebuildError::Patient { patient, source }),
        }
    }

    /// Reads all segments of the event table and applies what is in them; the patients found there, and how many
    /// events.
    async fn scan(
        &self,
        generation: Generation,
        on_events: &(impl Fn(u64) + Sync),
    ) -> Result<(BTreeSet<PatientId>, u64), RebuildError> {
        let segments = (0..self.segments).map(|index| Segment {
            index,
            total: self.segments,
        });
        let found: Vec<(BTreeSet<PatientId>, u64)> = stream::iter(segments)
            .map(|segment| self.scan_segment(generation, segment, on_events))
            .buffer_unordered(self.segments.into())
            .try_collect()
            .await?;
        let events = found.iter().map(|(_, events)| events).sum();
        Ok((
            found.into_iter().flat_map(|(patients, _)| patients).collect(),
            events,
        ))
    }

    async fn scan_segment(
        &self,
        generation: Generation,
        segment: Segment,
        on_events: &(impl Fn(u64) + Sync),
    ) -> Result<(BTreeSet<PatientId>, u64), RebuildError> {
        let advance = Advance {
            log: self.log,
            store: self.store,
            queue: self.queue,
            generation,
            catch_up: CatchUp::FromEventTable,
            retry: Retry::Quarantined,
            concurrency: self.concurrency,
            now: (self.clock)(),
        };
        let mut patients = BTreeSet::new();
        let mut events = 0;
        let mut next = None;
        loop {
            let page = self.log.scan(segment, next).await?;
            let read = u64::try_from(page.entries.len()).unwrap_or(u64::MAX);
            let mut hints = Hints::default();
            for entry in page.entries {
                patients.insert(entry.patient_id.clone());
                hints.add(entry);
            }
            // Whoever fails, or is quarantined, is looked at again when the generation is compared.
            advance.run(&hints).await;
            events += read;
            on_events(read);
            next = page.next;
            if next.is_none() {
                return Ok((patients, events));
            }
        }
    }

    /// Brings every patient to the head of its stream, and refuses to go on if queries would see less than now.
    async fn compare(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, StreamVersion>, RebuildError> {
        let active = current(self.store).await?.active;
        let mut quarantined = BTreeMap::new();
        let mut behind = BTreeMap::new();
        for chunk in patients.chunks(CHUNK) {
            // The active generation first: what it shows now, the heads that are read afterwards cover.
            let shown = self.store.states(active, chunk).await?;
            let reconciled = self
                .reconcile(generation, Retry::Quarantined)
                .to_heads(chunk)
                .await?;
            let reconciled = self.insist(generation, reconciled).await?;
            for (patient, state) in chunk.iter().zip(shown) {
                let Some(stopped_at) = reconciled.quarantined.get(patient) else {
                    continue;
                };
                if state.is_some_and(|state| state.applied >= *stopped_at) {
                    behind.insert(patient.clone(), *stopped_at);
                }
            }
            quarantined.extend(reconciled.quarantined);
        }
        if behind.is_empty() {
            return Ok(quarantined);
        }
        abandon(self.store, generation).await?;
        Err(RebuildError::WouldLoseData { generation, behind })
    }
}
