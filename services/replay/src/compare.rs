//! What queries would see differently if another generation were active.

use std::time::Duration;

use domain::{Generation, ListingShard, PatientId, PatientState};
use futures::stream::{self, StreamExt, TryStreamExt};
use read_model::{Consistency, ReadModelStore, ReadModelUnavailable};
use serde::Serialize;

use crate::difference::Difference;
use crate::verify::account;

/// Patients whose summaries are read at once.
const CHUNK: u16 = 100;
/// How often, and how far apart, a patient is looked at who seems to be at another version: live traffic moves the two
/// generations one after the other.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A patient who would look different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Who.
    pub patient_id: PatientId,
    /// In which fields. What is `expected` is shown now, what was `found` would be.
    pub differences: Vec<Difference>,
}

/// Compares two generations.
#[derive(Debug, Clone, Copy)]
pub struct Compare<'a, R> {
    /// What to read.
    pub read_model: &'a R,
    /// The generation that queries see now.
    pub active: Generation,
    /// The one that they would see.
    pub built: Generation,
    /// How many patients are compared at once.
    pub concurrency: usize,
}

impl<R: ReadModelStore> Compare<'_, R> {
    /// Compares all patients of both. `on_change` is given each who would look different.
    ///
    /// # Errors
    /// [`ReadModelUnavailable`]: begin again.
    pub async fn run(&self, mut on_change: impl FnMut(Change)) -> Result<(), ReadModelUnavailable> {
        for (listed_in, skip_built) in [(self.built, false), (self.active, true)] {
            for shard in ListingShard::all() {
                let mut after: Option<PatientId> = None;
                loop {
                    let page = self
                        .read_model
                        .ids(listed_in, shard, after.as_ref(), CHUNK)
                        .await?;
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

    async fn some(
        &self,
        patients: &[PatientId],
        skip_built: bool,
    ) -> Result<Vec<Change>, ReadModelUnavailable> {
        let built = self.states(self.built, patients).await?;
        let wanted: Vec<&PatientId> = patients
            .iter()
            .zip(&built)
            .filter(|(_, state)| !skip_built || state.is_none())
            .map(|(patient, _)| patient)
            .collect();
        let mut changes: Vec<Change> = stream::iter(wanted)
            .map(|patient| self.one(patient))
            .buffer_unordered(self.concurrency.max(1))
            .try_filter_map(|change| async move { Ok(change) })
            .try_collect()
            .await?;
        changes.sort_by(|one, other| one.patient_id.cmp(&other.patient_id));
        Ok(changes)
    }

    async fn one(&self, patient: &PatientId) -> Result<Option<Change>, ReadModelUnavailable> {
        let patients = std::slice::from_ref(patient);
        let mut looks = 1;
        let (now, then) = loop {
            let state = async |generation| {
                let states = self.states(generation, patients).await?;
                Ok::<_, ReadModelUnavailable>(states.into_iter().next().flatten().unwrap_or_default())
            };
            let (now, then) = (state(self.active).await?, state(self.built).await?);
            if now.applied == then.applied || looks == LOOKS {
                break (now, then);
            }
            looks += 1;
            tokio::time::sleep(PAUSE).await;
        };
        let now = account(self.read_model, self.active, patient, now).await?;
        let then = account(self.read_model, self.built, patient, then).await?;
        let differences = then.differences(&now);
        Ok((!differences.is_empty()).then(|| Change {
            patient_id: patient.clone(),
            differences,
        }))
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ReadModelUnavailable> {
        let states = self
            .read_model
            .states(generation, patients, Consistency::Strong)
            .await?;
        // Of one whose summary is malformed nothing is shown.
        Ok(states.into_iter().map(Result::unwrap_or_default).collect())
    }
}
