//! What queries would see differently if another generation were active.

use std::collections::BTreeSet;

use domain::{Generation, ListingShard, PatientId, PatientState, StoredEntry, StreamEntry, StreamVersion};
use event_log::{EventLog, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{ProjectionUnavailable, Retry};
use read_model::{Consistency, ReadModelStore, ReadModelUnavailable};
use runtime::clock::Clock;
use serde::Serialize;

use crate::audit::account;
use crate::difference::{Account, Difference, HISTORY};
use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::tables::Tables;
use crate::verify::{OVERDUE_MILLIS, fold, overdue};

/// Patients whose summaries are read at once.
const CHUNK: u16 = 100;
/// Events that are read at once.
const EVENTS: u16 = 500;

/// A patient who would look different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Who.
    pub patient_id: PatientId,
    /// Whether fewer events would be shown, or others: that is not promoted unless it is accepted.
    pub shows_less: bool,
    /// In which fields. What is `expected` is shown now, what was `found` would be.
    pub differences: Vec<Difference>,
}

/// Compares the active generation with one that was built, and verified.
#[derive(Debug, Clone, Copy)]
pub struct Compare<'a, T> {
    /// What it works on.
    pub tables: &'a T,
    /// The generation that queries see now.
    pub active: Generation,
    /// The one that they would see.
    pub built: Generation,
    /// How many patients are compared at once.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// Why there is no comparison. Begin it again.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read.
    #[error(transparent)]
    ReadModel(#[from] ReadModelUnavailable),
    /// The read model can't be read as it is stored.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// Somebody could not be brought to the last event.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
}

impl<T: Tables> Compare<'_, T> {
    /// Compares all patients of both. `on_change` is given each who would look different.
    ///
    /// Live traffic is no difference: what it appends meanwhile is brought to the built generation, which leaves gaps; and
    /// a patient with whom the active one lags for the moment is compared as of there.
    ///
    /// # Errors
    /// [`CompareError`]
    pub async fn run(&self, mut on_change: impl FnMut(Change)) -> Result<(), CompareError> {
        for (listed_in, skip_built) in [(self.built, false), (self.active, true)] {
            for shard in ListingShard::all() {
                let mut after: Option<PatientId> = None;
                loop {
                    let read_model = self.tables.read_model();
                    let page = read_model.ids(listed_in, shard, after.as_ref(), CHUNK).await?;
                    let changes = self.some(&page.items, skip_built).await?;
                    changes.into_iter().for_each(&mut on_change);
                    after = page.items.last().cloned();
                    if !page.more || after.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn some(&self, patients: &[PatientId], skip_built: bool) -> Result<Vec<Change>, CompareError> {
        // The active generation first: what it shows now, the other has to reach afterwards.
        let now = self.states(self.active, patients).await?;
        let then = self.states(self.built, patients).await?;
        let behind: BTreeSet<PatientId> = patients
            .iter()
            .zip(now.iter().zip(&then))
            .filter(|(_, (now, then))| applied(then.as_ref()) < applied(now.as_ref()))
            .map(|(patient, _)| patient.clone())
            .collect();
        let then = if behind.is_empty() {
            then
        } else {
            let behind: Vec<PatientId> = behind.into_iter().collect();
            self.reconcile().to_heads(&behind).await?;
            self.states(self.built, patients).await?
        };
        let wanted = patients.iter().zip(now.into_iter().zip(then));
        let wanted: Vec<_> = wanted
            .filter(|(_, (_, then))| !skip_built || then.is_none())
            .map(|(patient, (now, then))| {
                self.one(patient, now.unwrap_or_default(), then.unwrap_or_default())
            })
            .collect();
        let mut changes: Vec<Change> = stream::iter(wanted)
            .buffer_unordered(self.concurrency.max(1))
            .try_filter_map(|change| async move { Ok(change) })
            .try_collect()
            .await?;
        changes.sort_by(|one, other| one.patient_id.cmp(&other.patient_id));
        Ok(changes)
    }

    fn reconcile(&self) -> PersistentReconcile<'_, T> {
        PersistentReconcile {
            tables: self.tables,
            generation: self.built,
            retry: Retry::Quarantined,
            concurrency: self.concurrency,
            clock: self.clock,
        }
    }

    async fn one(
        &self,
        patient: &PatientId,
        now: PatientState,
        then: PatientState,
    ) -> Result<Option<Change>, CompareError> {
        let is_less = then.applied < now.applied;
        let then = self.comparable(patient, &now, then).await?;
        let now = account(self.tables.audit(), self.active, patient, now).await?;
        let differences = then.differences(&now);
        let is_other = differences.iter().any(|difference| difference.field == HISTORY);
        Ok((!differences.is_empty()).then(|| Change {
            patient_id: patient.clone(),
            shows_less: is_less || is_other,
            differences,
        }))
    }

    /// What the built generation has of a patient, as of where the active one is if that lags only for the moment.
    async fn comparable(
        &self,
        patient: &PatientId,
        now: &PatientState,
        then: PatientState,
    ) -> Result<Account, CompareError> {
        if then.applied > now.applied && now.quarantine.is_none() {
            let entries = self.events(patient, now.applied.next()).await?;
            let before = (self.clock)().plus_millis(-OVERDUE_MILLIS);
            if overdue(&entries, now.applied, before).is_none() {
                // The built generation was verified, so it is the fold.
                return Ok(fold(entries, now));
            }
        }
        Ok(account(self.tables.audit(), self.built, patient, then).await?)
    }

    /// The events up to this version.
    async fn events(
        &self,
        patient: &PatientId,
        last: StreamVersion,
    ) -> Result<Vec<StreamEntry>, LogUnavailable> {
        let mut entries: Vec<StreamEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(StreamVersion::EMPTY, |entry| entry.version);
            let later = self.tables.log().read(patient, after, EVENTS).await?;
            let more = !later.is_empty();
            entries.extend(later.into_iter().map(StoredEntry::decode));
            if !more || entries.last().is_some_and(|entry| entry.version >= last) {
                return Ok(entries);
            }
        }
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ReadModelUnavailable> {
        let read_model = self.tables.read_model();
        let states = read_model
            .states(generation, patients, Consistency::Strong)
            .await?;
        // Of one whose summary is malformed nothing is shown.
        Ok(states.into_iter().map(Result::unwrap_or_default).collect())
    }
}

fn applied(state: Option<&PatientState>) -> StreamVersion {
    state.map_or(StreamVersion::EMPTY, |state| state.applied)
}
