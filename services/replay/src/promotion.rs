//! Making the generation that is being built, or brought back, the one that queries read.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Generation, HistoryDigest, ListingShard, PatientId, PatientState, StreamVersion, Timestamp};
use event_log::{EventLog, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{
    Building, ProjectionStore, ProjectionUnavailable, PromoteError, Retry, SWEEP_OVERLAP_MILLIS, SweepStore,
    abandon, current, promote,
};
use read_model::{ReadModelStore, ReadModelUnavailable, Sweep};
use runtime::clock::Clock;

use crate::accepted::Accepted;
use crate::audit::account;
use crate::builds::{Pass, Seen};
use crate::difference::{Account, HISTORY};
use crate::gate::shown;
use crate::persistent::{CatchUpError, PersistentReconcile};
use crate::tables::Tables;
use crate::verify::{Finding, MAX_FINDINGS};

/// Patients whose states are read at once.
const CHUNK: u16 = 500;
/// Events that are read at once where one generation is ahead of the other.
const EVENTS: u16 = 500;

/// A promotion. It looks at what was recorded since the projector knows the generation, compares it with what queries
/// see at the moment, promotes, and looks once more: events that overtook each other are left out of a generation as
/// long as it is being built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promotion<'a, T> {
    pub(crate) tables: &'a T,
    /// What is promoted. All that was recorded before `since`, less the overlap of sweeps, is in it.
    pub(crate) building: Building,
    /// What is known, and no reason to refuse.
    pub(crate) accepted: &'a Accepted,
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
    /// The event table can't be read. Run the command again.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read or written. Run the command again.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// Somebody could not be brought to the last event. Run the command again.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The generation lacks events that queries see today, or has others in their place. Fix what keeps them from being
    /// applied; or accept it, for a patient whose events are lost.
    #[error(
        "not promoted: generation {generation} would show {} shown now{}; restore the events, or accept that \
         they are lost with --accept-less PATIENT",
        lost.told(),
        fate(*given_up)
    )]
    WouldLoseData {
        /// The generation.
        generation: Generation,
        /// What.
        lost: Lost,
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
         --accept-unsound PATIENT",
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
        "compare with a backup of the event table, or accept a link that is known to be broken with \
         --accept-broken-chain PATIENT@VERSION"
    } else if findings.iter().any(tells_of_other_events) {
        "other events were applied than there are now: compare with a backup of the event table before you rebuild"
    } else {
        "look into each, and rebuild"
    }
}

fn tells_of_other_events(finding: &Finding) -> bool {
    match finding {
        Finding::Removed { .. } => true,
        Finding::Differs { differences, .. } => {
            differences.iter().any(|difference| difference.field == HISTORY)
        }
        Finding::BrokenLink { .. }
        | Finding::Misfiled { .. }
        | Finding::Foreign { .. }
        | Finding::Behind { .. }
        | Finding::NoEvents { .. }
        | Finding::Unreadable { .. }
        | Finding::NotListed { .. } => false,
    }
}

/// What queries would not see any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost {
    /// Patients of whom less would be seen, and up to which event they would be.
    pub behind: BTreeMap<PatientId, StreamVersion>,
    /// Patients of whom other events would be seen than those that were: somebody replaced them in the event table.
    pub replaced: BTreeSet<PatientId>,
}

/// What is seen of a patient.
#[derive(Debug, Clone, Copy)]
struct Shown {
    applied: StreamVersion,
    history: Option<HistoryDigest>,
}

impl Lost {
    fn is_nothing(&self) -> bool {
        self.behind.is_empty() && self.replaced.is_empty()
    }

    fn and(mut self, other: Lost) -> Lost {
        self.behind.extend(other.behind);
        self.replaced.extend(other.replaced);
        self
    }

    fn told(&self) -> String {
        let behind = self.behind.iter();
        let behind = named(behind.map(|(patient, version)| format!("{patient} (up to event {version})")));
        let replaced = named(self.replaced.iter().map(ToString::to_string));
        match (behind, replaced) {
            (Some(behind), None) => format!("less of {behind} than is"),
            (None, Some(replaced)) => format!("other events of {replaced} than are"),
            (behind, replaced) => {
                let [behind, replaced] = [behind, replaced].map(Option::unwrap_or_default);
                format!("less of {behind}, and other events of {replaced}, than is")
            }
        }
    }
}

/// The first of them, and how many more there are; `None` if there are none.
fn named(of: impl ExactSizeIterator<Item = String>) -> Option<String> {
    const SHOWN: usize = 10;
    let more = of.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = of.take(SHOWN).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    (!shown.is_empty()).then(|| shown.join(", "))
}

impl<T: Tables> Promotion<'_, T> {
    /// Promotes one that was active before, and was built by who knows what, if it agrees with itself.
    pub(crate) async fn of_an_older_one(
        &self,
        on_pass: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        let generation = self.building.generation;
        on_pass(Pass::Audit, Seen::NOTHING);
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
        self.run(on_pass).await
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
                    .filter(|(patient, _)| !self.accepted.unsound.contains(*patient))
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
        let freshness = self.tables.read_model().freshness(active).await?;
        if freshness
            .progress
            .is_some_and(|progress| progress.software.as_deref() != Some(software))
        {
            let generation = self.building.generation;
            return Err(PromotionError::OtherProjector { generation });
        }
        Ok(())
    }

    /// Promotes; those who are quarantined in the generation, of those who were looked at.
    pub(crate) async fn run(
        &self,
        on_pass: &(impl Fn(Pass, Seen) + Sync),
    ) -> Result<BTreeMap<PatientId, StreamVersion>, PromotionError> {
        self.check_projector().await?;
        let generation = self.building.generation;
        let since = self.building.since.plus_millis(-SWEEP_OVERLAP_MILLIS);
        on_pass(Pass::Reconcile, Seen::NOTHING);
        let mut quarantined = self.reconcile(Retry::Quarantined).since(since).await?;
        on_pass(Pass::Compare, Seen::NOTHING);
        let lost = self.compare().await?;
        if !lost.is_nothing() {
            let given_up = self.gives_up && self.give_up().await?;
            return Err(PromotionError::WouldLoseData {
                generation,
                lost,
                given_up,
            });
        }
        promote(self.tables.projection(), generation, (self.clock)()).await?;
        on_pass(Pass::ReconcileAgain, Seen::NOTHING);
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
        // What it found was left out on purpose until now: the projector was not late with it.
        let sweep = Sweep::clean(began);
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

    /// What queries would not see any more, once everything was done that can be.
    async fn compare(&self) -> Result<Lost, PromotionError> {
        let active = current(self.tables.projection()).await?.active;
        let mut lost = Lost::default();
        for shard in ListingShard::all() {
            let mut after: Option<PatientId> = None;
            loop {
                let read_model = self.tables.read_model();
                let page = read_model.ids(active, shard, after.as_ref(), CHUNK).await?;
                lost = lost.and(self.compare_some(active, &page.items).await?);
                after = page.items.last().cloned();
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(lost)
    }

    async fn compare_some(&self, active: Generation, patients: &[PatientId]) -> Result<Lost, PromotionError> {
        // The active generation first: what it shows now, the other has to reach afterwards.
        let shown = self.seen(active, patients).await?;
        let lost = self.lost(&shown).await?;
        if lost.behind.is_empty() {
            return Ok(lost);
        }
        let lagging: Vec<PatientId> = lost.behind.into_keys().collect();
        self.reconcile(Retry::Quarantined).to_heads(&lagging).await?;
        self.lost(&shown).await
    }

    /// What of this would not be seen in the generation.
    async fn lost(&self, shown: &BTreeMap<PatientId, Shown>) -> Result<Lost, PromotionError> {
        let wanted = shown
            .keys()
            .filter(|patient| !self.accepted.less.contains(*patient));
        let wanted: Vec<PatientId> = wanted.cloned().collect();
        let built = self.seen(self.building.generation, &wanted).await?;
        let mut lost = Lost::default();
        for (patient, built) in built {
            let Some(shown) = shown.get(&patient) else {
                continue;
            };
            if built.applied < shown.applied {
                lost.behind.insert(patient, built.applied);
            } else if let Some(shown_history) = shown.history {
                let same = if built.applied == shown.applied {
                    built.history.is_none_or(|built| built == shown_history)
                } else {
                    // The generation was verified, so its first events are those of the event table.
                    self.history(&patient, shown.applied).await? == Some(shown_history)
                };
                if !same {
                    lost.replaced.insert(patient);
                }
            }
        }
        Ok(lost)
    }

    /// That of the events up to this version, as the event table has them; `None` if it has not.
    async fn history(
        &self,
        patient: &PatientId,
        last: StreamVersion,
    ) -> Result<Option<HistoryDigest>, LogUnavailable> {
        let (mut version, mut history) = (StreamVersion::EMPTY, HistoryDigest::EMPTY);
        while version < last {
            let entries = self.tables.log().read(patient, version, EVENTS).await?;
            if entries.is_empty() {
                return Ok(None);
            }
            for entry in entries.into_iter().take_while(|entry| entry.version <= last) {
                version = entry.version;
                let Ok(event) = entry.event else { return Ok(None) };
                history = history.with(event.hash);
            }
        }
        Ok(Some(history))
    }

    async fn seen(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<BTreeMap<PatientId, Shown>, ProjectionUnavailable> {
        let states = self.tables.projection().states(generation, patients).await?;
        let seen = |state: Option<PatientState>| {
            let PatientState { applied, history, .. } = state.unwrap_or_default();
            Shown { applied, history }
        };
        Ok(patients
            .iter()
            .cloned()
            .zip(states.into_iter().map(seen))
            .collect())
    }
}
