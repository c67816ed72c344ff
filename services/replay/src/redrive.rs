//! Trying again what could not be applied.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Generation, ListingShard, PatientId, StreamVersion, Timestamp};
use projection::{
    ProjectionStore, ProjectionUnavailable, Reconcile, ReconcileError, Reconciled, Retry,
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
    /// Those whose event still can't be applied, and its version; the first thousand.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
    /// Those who failed for another reason, and which: run the command again.
    pub failed: BTreeMap<PatientId, String>,
    /// Messages on the quarantine queue that were settled, and removed.
    pub settled: u64,
    /// Messages on it that stay.
    pub unsettled: u64,
    /// Batches that had been given up, whose patients were reconciled.
    pub batches: u64,
}

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

impl Redriven {
    fn add(&mut self, tried: usize, reconciled: Reconciled) {
        self.tried += u64::try_from(tried).unwrap_or(u64::MAX);
        self.events += reconciled.events;
        let room = NAMED.saturating_sub(self.quarantined.len());
        self.quarantined
            .extend(reconciled.quarantined.into_iter().take(room));
        let room = NAMED.saturating_sub(self.failed.len());
        let failed = reconciled.failed.into_iter().take(room);
        self.failed
            .extend(failed.map(|(patient, error)| (patient, runtime::telemetry::chain(&error))));
    }
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
            redriven.add(1, reconcile.to_heads(patients).await?);
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

    /// The records of a batch that was given up are perhaps no longer in the stream, and the message names no patient:
    /// but what was recorded since they came is known.
    async fn batches(
        &self,
        generation: Generation,
        letters: &T::Letters,
        redriven: &mut Redriven,
    ) -> Result<(), RedriveError> {
        let mut left = BTreeSet::new();
        loop {
            let received = letters.receive().await?;
            let known: Vec<(Letter, Timestamp)> = received
                .iter()
                .filter_map(|letter| Some((letter.clone(), given_up_from(letter)?)))
                .collect();
            let Some(earliest) = known.iter().map(|(_, from)| *from).min() else {
                // Whatever is left is not from an event source mapping.
                if received.is_empty() || received.iter().any(|letter| !left.insert(letter.id.clone())) {
                    return Ok(());
                }
                continue;
            };
            let from = earliest.plus_millis(-SWEEP_OVERLAP_MILLIS);
            let reconciled = self.reconcile(generation, Retry::No).since(from).await?;
            let complete = reconciled.failed.is_empty();
            redriven.add(0, reconciled);
            if !complete {
                return Ok(());
            }
            for (letter, _) in &known {
                letters.remove(letter).await?;
                redriven.batches += 1;
            }
        }
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
                redriven.add(quarantined.len(), reconcile.to_heads(&quarantined).await?);
                after = page.items.last().cloned();
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the messages about events that have been applied meanwhile, or that are about a generation which nobody
    /// reads, builds, or can roll back to.
    async fn settle(&self, letters: &T::Letters, redriven: &mut Redriven) -> Result<(), RedriveError> {
        let mut left = BTreeSet::new();
        loop {
            let received = letters.receive().await?;
            if received.is_empty() {
                return Ok(());
            }
            for letter in received {
                if self.is_settled(&letter).await? {
                    letters.remove(&letter).await?;
                    redriven.settled += 1;
                } else if left.insert(letter.id.clone()) {
                    redriven.unsettled += 1;
                } else {
                    // The first ones are visible again: all have been seen.
                    return Ok(());
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
