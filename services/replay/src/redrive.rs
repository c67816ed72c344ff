//! Trying again what could not be applied.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Generation, ListingShard, PatientId, StreamVersion, Timestamp};
use projection::{
    ProjectionStore, ProjectionUnavailable, Reconcile, ReconcileError, Reconciled, Remaining, Retry,
    SWEEP_OVERLAP_MILLIS, current,
};
use read_model::{ReadModelStore, ReadModelUnavailable};
use runtime::clock::Clock;
use serde::Serialize;

use crate::letters::{Letter, Letters, LettersUnavailable, QuarantinedEvent, given_up_from};
use crate::tables::Tables;

/// Patients that are looked at at once.
const CHUNK: u16 = 100;
/// Patients that a report names; the others are only counted.
const NAMED: usize = 1_000;

/// A redrive of the active generation. It may be repeated, and run against live traffic: all it does is to advance those
/// patients whom it names.
#[derive(Debug, Clone, Copy)]
pub struct Redrive<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// What a redrive came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    /// Quarantined patients that were tried again.
    pub tried: u64,
    /// How many events were applied to them.
    pub events: u64,
    /// Those who are quarantined still, at which event, and why; the first thousand.
    pub quarantined: BTreeMap<PatientId, StillQuarantined>,
    /// Those who failed for another reason, and which: run the command again.
    pub failed: BTreeMap<PatientId, String>,
    /// Messages on the quarantine queue that were settled, and removed.
    pub settled: u64,
    /// Messages on it that stay.
    pub unsettled: u64,
    /// Batches that had been given up, whose patients were reconciled.
    pub batches: u64,
}

/// The event that keeps a patient in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StillQuarantined {
    /// Its version.
    pub version: StreamVersion,
    /// The code of why it can't be applied (docs/EVENTS.md).
    pub reason: String,
}

/// Messages that stay, each by its id, as it was received last. Of each only what it is put back by.
type Left = BTreeMap<String, Letter>;

/// Why a redrive did not finish. Run it again.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The tables can't be read.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// The read model can't be read.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// The list of patients can't be read.
    #[error(transparent)]
    ReadModel(#[from] ReadModelUnavailable),
    /// A queue can't be reached.
    #[error(transparent)]
    Letters(#[from] LettersUnavailable),
}

impl<T: Tables> Redrive<'_, T> {
    /// Tries one patient again, if it is quarantined, and no other. Its message stays until [`Redrive::all`] settles it.
    ///
    /// # Errors
    /// [`RedriveError`]
    pub async fn patient(&self, patient: &PatientId) -> Result<Redriven, RedriveError> {
        let generation = current(self.tables.projection()).await?.active;
        let patients = std::slice::from_ref(patient);
        let states = self.tables.projection().states(generation, patients).await?;
        let mut redriven = Redriven::default();
        if states
            .into_iter()
            .flatten()
            .any(|state| state.quarantine.is_some())
        {
            let reconcile = self.reconcile(generation, Retry::Quarantined);
            let reconciled = reconcile.to_heads(patients).await?;
            self.count(generation, patients, reconciled, &mut redriven)
                .await?;
        }
        Ok(redriven)
    }

    /// Tries all quarantined patients again, reconciles those whose stream records were given up, and removes the
    /// messages that are settled by that.
    ///
    /// # Errors
    /// [`RedriveError`]
    pub async fn all(&self) -> Result<Redriven, RedriveError> {
        let generation = current(self.tables.projection()).await?.active;
        let mut redriven = Redriven::default();
        if let Some(letters) = self.tables.given_up() {
            self.batches(generation, letters, &mut redriven).await?;
        }
        self.patients(generation, &mut redriven).await?;
        if let Some(letters) = self.tables.quarantined() {
            self.settle(letters, &mut redriven).await?;
        }
        Ok(redriven)
    }

    fn reconcile(
        &self,
        generation: Generation,
        retry: Retry,
    ) -> Reconcile<'_, T::Log, T::Projection, T::Queue> {
        Reconcile {
            log: self.tables.log(),
            store: self.tables.projection(),
            queue: self.tables.queue(),
            generation,
            retry,
            concurrency: self.concurrency,
            now: (self.clock)(),
        }
    }

    /// Counts what a reconcile of those who were `tried` came to, and asks who is quarantined still, and why. Whose event is gone
    /// from the event table is at the head of the stream, and no reconcile names them: but the mark is there.
    async fn count(
        &self,
        generation: Generation,
        tried: &[PatientId],
        reconciled: Reconciled,
        redriven: &mut Redriven,
    ) -> Result<(), ProjectionUnavailable> {
        redriven.tried += u64::try_from(tried.len()).unwrap_or(u64::MAX);
        redriven.events += reconciled.events;
        let room = NAMED.saturating_sub(redriven.failed.len());
        let failed = reconciled.failed.into_iter().take(room);
        redriven
            .failed
            .extend(failed.map(|(patient, error)| (patient, runtime::telemetry::chain(&error))));
        let room = NAMED.saturating_sub(redriven.quarantined.len());
        let named: BTreeSet<PatientId> = reconciled
            .quarantined
            .into_keys()
            .chain(tried.iter().cloned())
            .collect();
        let named: Vec<PatientId> = named.into_iter().take(room).collect();
        for some in named.chunks(CHUNK.into()) {
            let states = self.tables.projection().states(generation, some).await?;
            let marks = states.into_iter().map(|state| state?.quarantine);
            let marked = some.iter().zip(marks);
            redriven.quarantined.extend(marked.filter_map(|(patient, mark)| {
                let mark = mark?;
                let why = StillQuarantined {
                    version: mark.version,
                    reason: mark.reason.code().to_owned(),
                };
                Some((patient.clone(), why))
            }));
        }
        Ok(())
    }

    /// The records of a batch that was given up are perhaps no longer in the stream, and the message names no patient:
    /// but what was recorded since they came is known. One sweep, from the earliest of them, does for all.
    async fn batches(
        &self,
        generation: Generation,
        letters: &T::Letters,
        redriven: &mut Redriven,
    ) -> Result<(), RedriveError> {
        let (mut batches, mut left) = (Left::new(), Left::new());
        let done = self
            .sweep(generation, letters, &mut batches, &mut left, redriven)
            .await;
        left.append(&mut batches);
        put_back(letters, left).await;
        done
    }

    /// Leaves the messages in `batches` that could not be dealt with, and those in `left` that are about something else.
    async fn sweep(
        &self,
        generation: Generation,
        letters: &T::Letters,
        batches: &mut Left,
        left: &mut Left,
        redriven: &mut Redriven,
    ) -> Result<(), RedriveError> {
        let mut earliest: Option<Timestamp> = None;
        loop {
            let received = letters.receive().await?;
            if received.is_empty() {
                break;
            }
            for letter in received {
                // Whatever else is there is not from an event source mapping.
                let given_up = given_up_from(&letter);
                let kind = if given_up.is_some() {
                    &mut *batches
                } else {
                    &mut *left
                };
                keep(letters, kind, letter).await?;
                earliest = earliest.into_iter().chain(given_up).min();
            }
        }
        let Some(earliest) = earliest else {
            return Ok(());
        };
        let mut remaining = Remaining::since(earliest.plus_millis(-SWEEP_OVERLAP_MILLIS));
        let mut complete = true;
        while !remaining.is_empty() {
            let reconcile = self.reconcile(generation, Retry::No);
            let swept = reconcile.round(&mut remaining).await?;
            complete &= swept.failed.is_empty();
            self.count(generation, &[], swept, redriven).await?;
        }
        while let (true, Some((id, letter))) = (complete, batches.pop_first()) {
            if let Err(error) = letters.remove(&letter).await {
                batches.insert(id, letter);
                return Err(error.into());
            }
            redriven.batches += 1;
        }
        Ok(())
    }

    async fn patients(&self, generation: Generation, redriven: &mut Redriven) -> Result<(), RedriveError> {
        for shard in ListingShard::all() {
            let mut after: Option<PatientId> = None;
            loop {
                let read_model = self.tables.read_model();
                let page = read_model.ids(generation, shard, after.as_ref(), CHUNK).await?;
                let states = self.tables.projection().states(generation, &page.items).await?;
                let quarantined: Vec<PatientId> = page
                    .items
                    .iter()
                    .zip(states)
                    .filter(|(_, state)| state.as_ref().is_some_and(|state| state.quarantine.is_some()))
                    .map(|(patient, _)| patient.clone())
                    .collect();
                let reconcile = self.reconcile(generation, Retry::Quarantined);
                let reconciled = reconcile.to_heads(&quarantined).await?;
                self.count(generation, &quarantined, reconciled, redriven).await?;
                after = page.items.last().cloned();
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the messages about events that have been applied meanwhile, or that are about a generation which nobody
    /// reads, builds, or can roll back to. The others are there for everybody again as soon as all have been looked at: not
    /// before, or this run would receive them again and again.
    async fn settle(&self, letters: &T::Letters, redriven: &mut Redriven) -> Result<(), RedriveError> {
        let mut left = Left::new();
        let done = self.settle_all(letters, &mut left, redriven).await;
        redriven.unsettled = u64::try_from(left.len()).unwrap_or(u64::MAX);
        put_back(letters, left).await;
        done
    }

    async fn settle_all(
        &self,
        letters: &T::Letters,
        left: &mut Left,
        redriven: &mut Redriven,
    ) -> Result<(), RedriveError> {
        loop {
            let received = letters.receive().await?;
            if received.is_empty() {
                return Ok(());
            }
            for letter in received {
                if self.is_settled(&letter).await? {
                    letters.remove(&letter).await?;
                    left.remove(&letter.id);
                    redriven.settled += 1;
                } else {
                    keep(letters, left, letter).await?;
                }
            }
        }
    }

    async fn is_settled(&self, letter: &Letter) -> Result<bool, RedriveError> {
        let Some(event) = QuarantinedEvent::read(letter) else {
            return Ok(false);
        };
        let projection = self.tables.projection();
        let control = current(projection).await?;
        let alive = [Some(control.active), control.building, control.previous];
        if !alive.contains(&Some(event.generation)) {
            return Ok(true);
        }
        let patients = std::slice::from_ref(&event.patient_id);
        let states = projection.states(event.generation, patients).await?;
        let state = states.into_iter().next().flatten();
        Ok(state.is_some_and(|state| state.applied >= event.version))
    }
}

/// Remembers a message that may stay. One that comes a second time was seen so long ago that its time is over, and so are
/// perhaps many others: from now on it is held, or it would come again and again, in the place of those not seen yet.
async fn keep<L: Letters>(letters: &L, left: &mut Left, letter: Letter) -> Result<(), LettersUnavailable> {
    let letter = Letter {
        body: String::new(),
        ..letter
    };
    let known = left.insert(letter.id.clone(), letter.clone()).is_some();
    if known {
        letters.hold(&letter).await?;
    }
    Ok(())
}

/// Lets everybody see these messages again.
async fn put_back<L: Letters>(letters: &L, left: Left) {
    for letter in left.values() {
        // Its time may be over, or somebody has removed it; otherwise it comes again when its time is.
        let _ = letters.put_back(letter).await;
    }
}
