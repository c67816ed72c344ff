//! Making the generation that is being built, or brought back, the one that queries read.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Generation, ListingShard, PatientId, PatientState, StreamVersion, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{
    Building, ProjectionStore, ProjectionUnavailable, PromoteError, Retry, SWEEP_OVERLAP_MILLIS, SweepStore,
    abandon, current, promote,
};
use read_model::{ReadModelStore, ReadModelUnavailable, Sweep};
use runtime::clock::Clock;

use crate::audit::account;
use crate::difference::Account;
use crate::gate::shown;
use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::tables::Tables;
use crate::verify::{Finding, MAX_FINDINGS};

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
    /// Patients of whom less may be shown than before.
    pub(crate) accepted: &'a BTreeSet<PatientId>,
    /// Whether a generation that is refused is given up.
    pub(crate) gives_up: bool,
    /// Of which software the projector has to be, which goes on in the generation from then on; `None` if any will do.
    pub(crate) projector: Option<&'a str>,
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
    /// The generation lacks events that queries see today. Fix what keeps them from being applied; or accept it, for a
    /// patient whose events are lost.
    #[error(
        "not promoted: generation {generation} would show less of {} than is shown now{}; restore the events, or accept that \
         they are lost with --accept-broken-chain PATIENT",
        patients(behind),
        fate(*given_up)
    )]
    WouldLoseData {
        /// The generation.
        generation: Generation,
        /// The patients, and the version at which the generation has them.
        behind: BTreeMap<PatientId, StreamVersion>,
        /// Whether the generation was given up: then the next rebuild builds another one.
        given_up: bool,
    },
    /// The projector would go on in the generation by other rules than those that it was built by. Deploy it first. What
    /// was built stays as it is.
    #[error(
        "not promoted: generation {generation} was built by other software than that of the projector which applied the last \
         events, and which may go on in it by other rules; deploy the projector, and promote once it has applied an event, or \
         with --any-projector"
    )]
    OtherProjector {
        /// The generation.
        generation: Generation,
    },
    /// The generation contradicts itself, or its indexes. Rebuild instead; or accept it.
    #[error(
        "not promoted: generation {generation} does not agree with itself{}: {}; rebuild, or accept it with \
         --accept-broken-chain PATIENT",
        fate(*given_up),
        shown(findings, *wrong)
    )]
    Unsound {
        /// The generation.
        generation: Generation,
        /// How many patients that is so of.
        wrong: u64,
        /// The first of them.
        findings: Vec<Finding>,
        /// Whether it was given up: then it is the previous one again.
        given_up: bool,
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

/// What became of a generation that was refused.
pub(crate) const fn fate(given_up: bool) -> &'static str {
    if given_up { ", and was given up" } else { "" }
}

/// What can be done about these findings.
pub(crate) fn next_step(findings: &[Finding]) -> &'static str {
    if findings
        .iter()
        .any(|finding| matches!(finding, Finding::BrokenLink { .. }))
    {
        "compare with a backup of the event table, or accept a chain that is known to be broken with \
         --accept-broken-chain PATIENT"
    } else {
        "look into each, and rebuild"
    }
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
    /// Promotes one that was active before, and was built by who knows what, if it agrees with itself.
    pub(crate) async fn of_an_older_one(&self) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        let generation = self.building.generation;
        let (wrong, findings) = self.unsound().await?;
        if wrong > 0 {
            let given_up = self.give_up().await?;
            return Err(PromotionError::Unsound {
                generation,
                wrong,
                findings,
                given_up,
            });
        }
        self.run().await
    }

    /// The patients whose summaries do not count the check-ins that there are.
    async fn unsound(&self) -> Result<(u64, Vec<Finding>), PromotionError> {
        let generation = self.building.generation;
        let (mut wrong, mut findings) = (0, Vec::new());
        for shard in ListingShard::all() {
            let mut after: Option<PatientId> = None;
            loop {
                let read_model = self.tables.read_model();
                let page = read_model.ids(generation, shard, after.as_ref(), CHUNK).await?;
                let states = self.tables.projection().states(generation, &page.items).await?;
                let known = page.items.iter().zip(states);
                let accounts: Vec<_> = known
                    .filter(|(patient, _)| !self.accepted.contains(*patient))
                    .filter_map(|(patient, state)| Some(self.account(patient, state?)))
                    .collect();
                let accounts: Vec<(&PatientId, Account)> = stream::iter(accounts)
                    .buffered(self.concurrency.max(1))
                    .try_collect()
                    .await?;
                for (patient, account) in accounts {
                    let differences = account.inconsistencies();
                    if differences.is_empty() {
                        continue;
                    }
                    wrong += 1;
                    if findings.len() < MAX_FINDINGS {
                        findings.push(Finding::Differs {
                            patient_id: patient.clone(),
                            version: account.state.applied,
                            differences,
                        });
                    }
                }
                after = page.items.last().cloned();
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok((wrong, findings))
    }

    async fn account<'p>(
        &self,
        patient: &'p PatientId,
        state: PatientState,
    ) -> Result<(&'p PatientId, Account), ProjectionUnavailable> {
        let generation = self.building.generation;
        let account = account(self.tables.audit(), generation, patient, state).await?;
        Ok((patient, account))
    }

    /// Whether the projector is of the right software, as far as it has said anything. One that has not applied an event
    /// since it was deployed has not said so, and one that says nothing of its software is an older one.
    pub(crate) async fn check_projector(&self) -> Result<(), PromotionError> {
        let Some(software) = self.projector else {
            return Ok(());
        };
        let active = current(self.tables.projection()).await?.active;
        let progress = self.tables.read_model().progress(active).await?;
        if progress.is_some_and(|progress| progress.software.as_deref() != Some(software)) {
            let generation = self.building.generation;
            return Err(PromotionError::OtherProjector { generation });
        }
        Ok(())
    }

    /// Promotes; those who are quarantined in the generation, of those who were looked at.
    pub(crate) async fn run(&self) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        self.check_projector().await?;
        let generation = self.building.generation;
        let since = self.building.since.plus_millis(-SWEEP_OVERLAP_MILLIS);
        let mut quarantined = self.reconcile(Retry::Quarantined).since(since).await?;
        let behind = self.compare().await?;
        if !behind.is_empty() {
            let given_up = self.gives_up && self.give_up().await?;
            return Err(PromotionError::WouldLoseData {
                generation,
                behind,
                given_up,
            });
        }
        promote(self.tables.projection(), generation, (self.clock)()).await?;
        let began = (self.clock)();
        let overtaken = self.look_once_more(generation, since, began).await;
        let overtaken =
            overtaken.map_err(|source| PromotionError::NotComparedAgain { generation, source })?;
        quarantined.extend(overtaken);
        Ok(quarantined)
    }

    /// Gives the generation up; whether that could be done.
    pub(crate) async fn give_up(&self) -> Result<bool, PromoteError> {
        match abandon(self.tables.projection(), self.building.generation).await {
            Ok(()) => Ok(true),
            // Somebody gave it up, and has perhaps begun to prune it: no wonder.
            Err(given_up @ PromoteError::NotBuilding { .. }) => Err(given_up),
            // If it stays, the next run is refused for the same reason.
            Err(PromoteError::Conflict | PromoteError::Unavailable(_)) => Ok(false),
        }
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
        built.retain(|patient, applied| {
            !self.accepted.contains(patient) && shown.get(patient).is_some_and(|shown| shown > applied)
        });
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
