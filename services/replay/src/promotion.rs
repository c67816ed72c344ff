//! Making the generation that is being built, or brought back, the one that queries read.

use std::collections::BTreeMap;

use domain::{Generation, ListingShard, PatientId, PatientState, StreamVersion, Timestamp};
use projection::{
    Building, ProjectionStore, ProjectionUnavailable, PromoteError, Retry, SWEEP_OVERLAP_MILLIS, SweepStore,
    abandon, current, promote,
};
use read_model::{ReadModelStore, ReadModelUnavailable, Sweep};
use runtime::clock::Clock;

use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::tables::Tables;

/// Patients whose states are read at once.
const CHUNK: u16 = 500;

/// A promotion. It looks at what was recorded since the projector knows the generation, compares it with what queries
/// see at the moment, promotes, and looks once more: events that overtook each other are left out of a generation as
/// long as it is being built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promotion<'a, T> {
    pub(crate) tables: &'a T,
    /// What is promoted. All that was recorded before `since`, less the overlap of sweeps, is in it.
    pub(crate) building: Building,
    /// How many calls are under way at once, at most.
    pub(crate) concurrency: usize,
    pub(crate) clock: Clock,
}

/// Why a generation is not active, but for [`PromotionError::NotComparedAgain`]. Queries read the one that they did, unless the
/// read model was unavailable at the very moment of the promotion: look at the status.
#[derive(Debug, thiserror::Error)]
pub enum PromotionError {
    /// The read model can't be read. Run the command again.
    #[error(transparent)]
    ReadModel(#[from] ReadModelUnavailable),
    /// The read model can't be read or written. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// Somebody could not be brought to the last event. Run the command again.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The generation lacks events that queries see today, and was given up. Fix what keeps them from being applied.
    #[error(
        "not promoted: generation {generation} would show less of {} than is shown now",
        patients(behind)
    )]
    WouldLoseData {
        /// The generation.
        generation: Generation,
        /// The patients, and the version at which the generation has them.
        behind: BTreeMap<PatientId, StreamVersion>,
    },
    /// Somebody else changed the generations.
    #[error(transparent)]
    Promote(#[from] PromoteError),
    /// The generation **is** active, but was not compared with the events once more. The reconciler does that, on its
    /// schedule.
    #[error(
        "generation {generation} is active, but the last comparison failed: the reconciler will make up for it"
    )]
    NotComparedAgain {
        /// The generation.
        generation: Generation,
        /// What failed.
        source: CatchUpError,
    },
}

fn patients(behind: &BTreeMap<PatientId, StreamVersion>) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<String> = behind
        .iter()
        .take(SHOWN)
        .map(|(patient, version)| format!("{patient} (up to event {version})"))
        .collect();
    if behind.len() > SHOWN {
        shown.push(format!("{} more", behind.len() - SHOWN));
    }
    shown.join(", ")
}

impl<T: Tables> Promotion<'_, T> {
    /// Promotes; those who are quarantined in the generation, of those who were looked at.
    pub(crate) async fn run(&self) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        let generation = self.building.generation;
        let since = self.building.since.plus_millis(-SWEEP_OVERLAP_MILLIS);
        let mut quarantined = self.reconcile(Retry::Quarantined).since(since).await?;
        let behind = self.compare().await?;
        if !behind.is_empty() {
            match abandon(self.tables.projection(), generation).await {
                // Somebody gave it up, and has perhaps begun to prune it: no wonder.
                Err(given_up @ PromoteError::NotBuilding { .. }) => return Err(given_up.into()),
                // If it stays, the next run is refused for the same reason.
                Ok(()) | Err(PromoteError::Conflict | PromoteError::Unavailable(_)) => {}
            }
            return Err(PromotionError::WouldLoseData { generation, behind });
        }
        promote(self.tables.projection(), generation, (self.clock)()).await?;
        let began = (self.clock)();
        let overtaken = self.look_once_more(generation, since, began).await;
        let overtaken =
            overtaken.map_err(|source| PromotionError::NotComparedAgain { generation, source })?;
        quarantined.extend(overtaken);
        Ok(quarantined)
    }

    async fn look_once_more(
        &self,
        generation: Generation,
        since: Timestamp,
        began: Timestamp,
    ) -> Result<BTreeMap<PatientId, StreamVersion>, CatchUpError> {
        let overtaken = self.reconcile(Retry::No).since(since).await?;
        // Everything recorded until now has been compared, so the reconciler need not look at history. If it can't be
        // noted, it does.
        let sweep = Sweep {
            swept_to: began,
            // What it found was left out on purpose until now: the projector was not late with it.
            lag_millis: 0,
        };
        let _ = self.tables.projection().put_sweep(generation, &sweep).await;
        Ok(overtaken)
    }

    fn reconcile(&self, retry: Retry) -> PersistentReconcile<'_, T> {
        PersistentReconcile {
            tables: self.tables,
            generation: self.building.generation,
            retry,
            concurrency: self.concurrency,
            clock: self.clock,
        }
    }

    /// The patients of whom queries would see less than now, once everything was done that can be.
    async fn compare(&self) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        let active = current(self.tables.projection()).await?.active;
        let mut behind = BTreeMap::new();
        for shard in ListingShard::all() {
            let mut after: Option<PatientId> = None;
            loop {
                let read_model = self.tables.read_model();
                let page = read_model.ids(active, shard, after.as_ref(), CHUNK).await?;
                behind.extend(self.compare_some(active, &page.items).await?);
                after = page.items.last().cloned();
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(behind)
    }

    async fn compare_some(
        &self,
        active: Generation,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        // The active generation first: what it shows now, the other has to reach afterwards.
        let shown = self.applied(active, patients).await?;
        let lagging = self.less_than(&shown, patients).await?;
        if lagging.is_empty() {
            return Ok(BTreeMap::new());
        }
        let lagging: Vec<PatientId> = lagging.into_keys().collect();
        self.reconcile(Retry::Quarantined).to_heads(&lagging).await?;
        self.less_than(&shown, &lagging).await
    }

    /// Those of whom less is in the generation than `shown`.
    async fn less_than(
        &self,
        shown: &BTreeMap<PatientId, StreamVersion>,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        let mut built = self.applied(self.building.generation, patients).await?;
        built.retain(|patient, applied| shown.get(patient).is_some_and(|shown| shown > applied));
        Ok(built)
    }

    async fn applied(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, StreamVersion>, ProjectionUnavailable> {
        let states = self.tables.projection().states(generation, patients).await?;
        let applied = |state: Option<PatientState>| state.map_or(StreamVersion::EMPTY, |state| state.applied);
        Ok(patients
            .iter()
            .cloned()
            .zip(states.into_iter().map(applied))
            .collect())
    }
}
