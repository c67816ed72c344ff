//! Whether a generation is what the events say.
//!
//! For each patient: the hash chain is followed, the events up to the applied version are folded anew, and the fold is
//! compared with what queries see, field by field and row by row. A patient who lags is compared as of the applied
//! version, so live traffic is no difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{
    Applied, BrokenLink, Generation, HashChain, ListingShard, PatientId, PatientState, StoredEntry,
    StreamEntry, StreamVersion, Timestamp,
};
use event_log::{EventLog, LogUnavailable, Segment};
use futures::stream::{self, StreamExt};
use projection::{ProjectionUnavailable, SWEEP_OVERLAP_MILLIS};
use read_model::{Consistency, ReadModelStore, ReadModelUnavailable, StoredState};
use serde::Serialize;

use crate::accepted::{Accepted, KnownBreak};
use crate::audit::account;
use crate::difference::{Account, Difference};
use crate::segments::all_segments;
use crate::streams::{Walk, WholeStream};
use crate::tables::Tables;

/// Entries of a listing that are read at once.
const PAGE: u16 = 1_000;
/// Events that are read at once where a patient has moved on since the scan.
const EVENTS: u16 = 500;
/// How many findings a report names; the others are only counted.
pub const MAX_FINDINGS: usize = 100;
/// After how long an event should be applied whatever happened: the reconciler runs far more often, and looks back that far.
pub(crate) const OVERDUE_MILLIS: i64 = SWEEP_OVERLAP_MILLIS;
/// How long before a sweep began an event must have been recorded for the sweep to have found it: longer than an append
/// commonly takes, and than the index commonly needs to follow.
const SWEPT_MILLIS: i64 = 2 * 60_000;
/// How many fields a finding names in words.
const FIELDS_SHOWN: usize = 8;
/// How often, and how far apart, a listing is looked at before a patient counts as not listed: an index follows its
/// table, commonly within a second.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// What is wrong with one patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Finding {
    /// The stream is not what was appended, from this version on. Compare with a backup of the event table.
    BrokenLink {
        /// Whose stream.
        patient_id: PatientId,
        /// The first event that does not fit.
        version: StreamVersion,
        /// The code of [`domain::Break`].
        how: &'static str,
        /// Whether the read model shows what follows from it.
        applied: bool,
    },
    /// An event that was applied is not in the event table any more. Compare with a backup of it.
    Removed {
        /// Whose stream.
        patient_id: PatientId,
        /// The first that is missing at the end of the stream.
        version: StreamVersion,
    },
    /// Queries see something other than the events up to the applied version say. Rebuild; but where `history` is among
    /// the fields, other events were applied than those which are there now: compare with a backup of the event table.
    Differs {
        /// Of whom.
        patient_id: PatientId,
        /// The applied version.
        version: StreamVersion,
        /// In which fields.
        differences: Vec<Difference>,
    },
    /// The index by time of recording has an event in another place than it should, so sweeps and tails miss it: the hash
    /// does not cover this attribute. Set it to what docs/EVENTS.md says.
    Misfiled {
        /// Whose stream.
        patient_id: PatientId,
        /// Which event.
        version: StreamVersion,
        /// The attribute.
        attribute: &'static str,
    },
    /// An event has an attribute that no event has, so somebody edited it: the hash does not cover it, and nothing reads it.
    /// Remove it, once it is clear who put it there.
    Foreign {
        /// Whose stream.
        patient_id: PatientId,
        /// Which event.
        version: StreamVersion,
        /// The attribute's name.
        attribute: String,
    },
    /// Events that a reconcile should have found long ago are not applied. Run `replay reconcile --full`.
    Behind {
        /// Who.
        patient_id: PatientId,
        /// The first of them.
        version: StreamVersion,
    },
    /// The read model knows a patient of whom there is no event. Rebuild, once it is clear where the events are.
    NoEvents {
        /// Who.
        patient_id: PatientId,
    },
    /// What is stored of a patient can't be read, so nobody sees it. It is made anew with the patient's next event, by a
    /// full reconcile or a rebuild.
    Unreadable {
        /// Who.
        patient_id: PatientId,
    },
    /// A patient is missing in the list of patients.
    NotListed {
        /// Who.
        patient_id: PatientId,
    },
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Finding::BrokenLink {
                patient_id,
                version,
                how,
                applied,
            } => {
                let seen = if *applied { "" } else { " (not applied)" };
                write!(
                    f,
                    "{patient_id}: the hash chain is broken at event {version}: {how}{seen}"
                )
            }
            Finding::Removed { patient_id, version } => {
                write!(f, "{patient_id}: event {version} was applied, and is missing")
            }
            Finding::Differs {
                patient_id,
                version,
                differences,
            } => {
                let fields: Vec<&str> = differences
                    .iter()
                    .take(FIELDS_SHOWN)
                    .map(|difference| difference.field.as_str())
                    .collect();
                write!(
                    f,
                    "{patient_id}: the read model at version {version} is not what the events say: {}",
                    fields.join(", ")
                )?;
                match differences.len().saturating_sub(FIELDS_SHOWN) {
                    0 => Ok(()),
                    more => write!(f, ", {more} more"),
                }
            }
            Finding::Misfiled {
                patient_id,
                version,
                attribute,
            } => write!(
                f,
                "{patient_id}: event {version} has a wrong {attribute}: sweeps do not find it"
            ),
            Finding::Foreign {
                patient_id,
                version,
                attribute,
            } => write!(
                f,
                "{patient_id}: event {version} has an attribute that no event has: {attribute}"
            ),
            Finding::Behind { patient_id, version } => {
                write!(f, "{patient_id}: event {version} should be applied, and is not")
            }
            Finding::NoEvents { patient_id } => {
                write!(f, "{patient_id}: in the read model, and without any event")
            }
            Finding::Unreadable { patient_id } => write!(f, "{patient_id}: the stored summary can't be read"),
            Finding::NotListed { patient_id } => write!(f, "{patient_id}: missing in the list of patients"),
        }
    }
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Which generation was compared.
    pub generation: Generation,
    /// How many patients have events.
    pub patients: u64,
    /// How many events they have.
    pub events: u64,
    /// How many check-ins queries see.
    pub checkins: u64,
    /// How many events are not applied yet, of patients who are not quarantined. That is lag, nothing wrong.
    pub lag: u64,
    /// Patients whose next event can't be applied, and its version.
    pub quarantined: BTreeMap<PatientId, StreamVersion>,
    /// How many findings there are.
    pub wrong: u64,
    /// The first [`MAX_FINDINGS`] of them.
    pub findings: Vec<Finding>,
}

/// Why there is no verdict. Run the command again.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read.
    #[error(transparent)]
    ReadModel(#[from] ReadModelUnavailable),
    /// The read model can't be read as it is stored.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// There is no read model yet.
    #[error("nothing was projected yet")]
    NothingProjected,
    /// There is no such generation, or it was given up.
    #[error("there is no generation {0}, or it was given up")]
    NoSuchGeneration(Generation),
}

/// Compares a generation with the events; it only reads.
#[derive(Debug, Clone, Copy)]
pub struct Verify<'a, T> {
    /// What to read.
    pub tables: &'a T,
    /// The generation.
    pub generation: Generation,
    /// Into how many parts the event table is divided; all of them are read at once.
    pub segments: u16,
    /// How many patients of each are compared at once.
    pub concurrency: usize,
    /// The broken links that are known, and no finding.
    pub accepted: &'a Accepted,
    /// The time: an event that was recorded long before should be applied.
    pub now: Timestamp,
}

/// What counts as a finding.
#[derive(Debug, Clone, Copy)]
struct Bar {
    /// What was recorded before should be applied.
    overdue: Timestamp,
    /// Whether it is only about what a generation would show: then neither a broken chain counts of which nothing is
    /// applied, nor what is wrong with the event table's index.
    shown_only: bool,
}

impl Verified {
    pub(crate) fn nothing(generation: Generation) -> Verified {
        Verified {
            generation,
            patients: 0,
            events: 0,
            checkins: 0,
            lag: 0,
            quarantined: BTreeMap::new(),
            wrong: 0,
            findings: Vec::new(),
        }
    }

    fn find(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(crate) fn plus(mut self, other: Verified) -> Verified {
        self.patients += other.patients;
        self.events += other.events;
        self.checkins += other.checkins;
        self.lag += other.lag;
        self.quarantined.extend(other.quarantined);
        self.wrong += other.wrong;
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
        self
    }
}

impl<T: Tables> Verify<'_, T> {
    /// Compares all patients. `on_events` is told how many events were compared since it was last called.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub async fn all(&self, on_events: &(impl Fn(u64) + Sync)) -> Result<Verified, VerifyError> {
        let bar = self.bar().await?;
        let segment = |segment| self.segment(segment, bar, on_events);
        let parts = all_segments(self.segments, segment).await?;
        let mut verified = Verified::nothing(self.generation);
        let mut known = BTreeSet::new();
        for (part, patients) in parts {
            verified = verified.plus(part);
            known.extend(patients);
        }
        self.compare_listing(known, &mut verified).await?;
        Ok(verified)
    }

    /// Compares one patient.
    ///
    /// # Errors
    /// [`VerifyError`]
    pub async fn patient(&self, patient: &PatientId) -> Result<Verified, VerifyError> {
        let bar = self.bar().await?;
        let mut entries: Vec<StoredEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(StreamVersion::EMPTY, |entry| entry.version);
            let later = self.tables.log().read(patient, after, EVENTS).await?;
            if later.is_empty() {
                break;
            }
            entries.extend(later);
        }
        let stream = WholeStream {
            patient: patient.clone(),
            entries,
        };
        let empty = stream.entries.is_empty();
        let mut verified = self.streams(vec![stream], bar).await?;
        if empty {
            verified.patients = 0;
            let states = self.states(std::slice::from_ref(patient)).await?;
            if states.into_iter().any(|state| state != Ok(None)) {
                let patient_id = patient.clone();
                verified.findings.clear();
                verified.wrong = 0;
                verified.find(Finding::NoEvents { patient_id });
            }
        }
        Ok(verified)
    }

    async fn segment(
        &self,
        segment: Segment,
        bar: Bar,
        on_events: &(impl Fn(u64) + Sync),
    ) -> Result<(Verified, BTreeSet<PatientId>), VerifyError> {
        let mut walk = Walk::new(self.tables.log(), segment, None);
        let mut verified = Verified::nothing(self.generation);
        let mut known = BTreeSet::new();
        while let Some(found) = walk.next().await? {
            known.extend(found.streams.iter().map(|stream| stream.patient.clone()));
            let part = self.streams(found.streams, bar).await?;
            on_events(part.events);
            verified = verified.plus(part);
        }
        Ok((verified, known))
    }

    /// Compares the patients of these streams, for a generation that is to be promoted.
    pub(crate) async fn before_promotion(&self, streams: Vec<WholeStream>) -> Result<Verified, VerifyError> {
        let bar = Bar {
            overdue: self.now.plus_millis(-OVERDUE_MILLIS),
            shown_only: true,
        };
        self.streams(streams, bar).await
    }

    /// The reconciler finds whatever was recorded before its last sweep began; where it has not run, time alone has to do.
    async fn bar(&self) -> Result<Bar, ReadModelUnavailable> {
        let freshness = self.tables.read_model().freshness(self.generation).await?;
        let swept = freshness
            .sweep
            .map(|sweep| sweep.swept_to.plus_millis(-SWEPT_MILLIS));
        let overdue = self.now.plus_millis(-OVERDUE_MILLIS);
        Ok(Bar {
            overdue: swept.map_or(overdue, |swept| swept.max(overdue)),
            shown_only: false,
        })
    }

    async fn streams(&self, streams: Vec<WholeStream>, bar: Bar) -> Result<Verified, VerifyError> {
        let patients: Vec<PatientId> = streams.iter().map(|stream| stream.patient.clone()).collect();
        // The events were read before, so whoever is behind them really is.
        let states = self.states(&patients).await?;
        let compared: Vec<Result<Verified, VerifyError>> = stream::iter(streams.into_iter().zip(states))
            .map(|(stream, state)| self.compare(stream, state, bar))
            .buffer_unordered(self.concurrency.max(1))
            .collect()
            .await;
        compared.into_iter().try_fold(
            Verified::nothing(self.generation),
            |sum, part| Ok(sum.plus(part?)),
        )
    }

    async fn states(&self, patients: &[PatientId]) -> Result<Vec<StoredState>, ReadModelUnavailable> {
        let read_model = self.tables.read_model();
        read_model
            .states(self.generation, patients, Consistency::Strong)
            .await
    }

    async fn compare(
        &self,
        stream: WholeStream,
        state: StoredState,
        bar: Bar,
    ) -> Result<Verified, VerifyError> {
        let WholeStream { patient, entries } = stream;
        let mut verified = Verified {
            patients: 1,
            events: u64::try_from(entries.len()).unwrap_or(u64::MAX),
            ..Verified::nothing(self.generation)
        };
        let state = state.unwrap_or_else(|_| {
            let patient_id = patient.clone();
            verified.find(Finding::Unreadable { patient_id });
            None
        });
        let state = state.unwrap_or_default();
        let broken = self.broken_link(&patient, &entries);
        let head = entries.last().map_or(StreamVersion::EMPTY, |entry| entry.version);
        for entry in &entries {
            if let (Some(attribute), false) = (entry.misfiled, bar.shown_only) {
                verified.find(Finding::Misfiled {
                    patient_id: patient.clone(),
                    version: entry.version,
                    attribute,
                });
            }
            if let (Some(attribute), false) = (&entry.foreign, bar.shown_only) {
                verified.find(Finding::Foreign {
                    patient_id: patient.clone(),
                    version: entry.version,
                    attribute: attribute.clone(),
                });
            }
        }
        let mut entries: Vec<StreamEntry> = entries.into_iter().map(StoredEntry::decode).collect();
        // The patient may have moved on since.
        while let Some(last) = entries.last().map(|entry| entry.version)
            && last < state.applied
        {
            let later = self.tables.log().read(&patient, last, EVENTS).await?;
            if later.is_empty() {
                break;
            }
            entries.extend(later.into_iter().map(StoredEntry::decode));
        }
        if let Some(BrokenLink { version, how }) = broken {
            let applied = version <= state.applied;
            if applied || !bar.shown_only {
                verified.find(Finding::BrokenLink {
                    patient_id: patient.clone(),
                    version,
                    how: how.code(),
                    applied,
                });
            }
        }
        match &state.quarantine {
            Some(mark) => drop(verified.quarantined.insert(patient.clone(), mark.version)),
            None => verified.lag = state.applied.behind(head),
        }
        if verified.lag > 0
            && let Some(version) = overdue(&entries, state.applied, bar.overdue)
        {
            let patient_id = patient.clone();
            verified.find(Finding::Behind { patient_id, version });
        }
        // Nothing is left out: the log was read to its end, consistently, after the state.
        let end = entries.last().map_or(StreamVersion::EMPTY, |entry| entry.version);
        if end < state.applied && !self.accepted.less.contains(&patient) {
            verified.find(Finding::Removed {
                patient_id: patient.clone(),
                version: end.next(),
            });
        }
        let expected = fold(entries, &state);
        let found = account(self.tables.audit(), self.generation, &patient, state).await?;
        verified.checkins = u64::try_from(found.rows.len()).unwrap_or(u64::MAX);
        let differences = found.differences(&expected);
        if !differences.is_empty() {
            verified.find(Finding::Differs {
                patient_id: patient,
                version: found.state.applied,
                differences,
            });
        }
        Ok(verified)
    }

    /// The first broken link that is not known. Behind one that is, the chain is followed on: what happens to a stream
    /// after somebody has accepted it is found.
    fn broken_link(&self, patient: &PatientId, entries: &[StoredEntry]) -> Option<BrokenLink> {
        let mut chain = HashChain::GENESIS;
        for entry in entries {
            chain.follow(entry);
            let known = |link: &BrokenLink| {
                self.accepted.broken_links.contains(&KnownBreak {
                    patient_id: patient.clone(),
                    version: link.version,
                })
            };
            match chain.broken() {
                Some(link) if known(&link) => chain.go_on_behind(entry),
                Some(link) => return Some(link),
                None => {}
            }
        }
        None
    }

    /// Compares the list of patients with those who have events.
    async fn compare_listing(
        &self,
        known: BTreeSet<PatientId>,
        verified: &mut Verified,
    ) -> Result<(), VerifyError> {
        let mut unlisted = known.clone();
        for look in 0..LOOKS {
            for shard in ListingShard::all() {
                let mut after: Option<PatientId> = None;
                loop {
                    let read_model = self.tables.read_model();
                    let page = read_model
                        .ids(self.generation, shard, after.as_ref(), PAGE)
                        .await?;
                    for patient in &page.items {
                        unlisted.remove(patient);
                        if look == 0 && !known.contains(patient) {
                            self.find_unknown(patient, verified).await?;
                        }
                    }
                    after = page.items.last().cloned();
                    if !page.more || after.is_none() {
                        break;
                    }
                }
            }
            // Whoever has no summary yet is no news.
            let patients: Vec<PatientId> = std::mem::take(&mut unlisted).into_iter().collect();
            for chunk in patients.chunks(PAGE.into()) {
                let states = self.states(chunk).await?;
                let missing = chunk
                    .iter()
                    .zip(states)
                    .filter(|(_, state)| matches!(state, Ok(Some(_))));
                unlisted.extend(missing.map(|(patient, _)| patient.clone()));
            }
            if unlisted.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        for patient_id in unlisted {
            verified.find(Finding::NotListed { patient_id });
        }
        Ok(())
    }

    /// A listed patient who was not there when the events were scanned: registered since, or none of ours.
    async fn find_unknown(&self, patient: &PatientId, verified: &mut Verified) -> Result<(), VerifyError> {
        if self.tables.log().head(patient).await? == StreamVersion::EMPTY {
            let patient_id = patient.clone();
            verified.find(Finding::NoEvents { patient_id });
        }
        Ok(())
    }
}

/// The first event after `applied`, if it was recorded before this time.
pub(crate) fn overdue(
    entries: &[StreamEntry],
    applied: StreamVersion,
    before: Timestamp,
) -> Option<StreamVersion> {
    let next = entries.iter().find(|entry| entry.version > applied)?;
    // When one that can't be decoded was recorded is not known; it should have been met, and its patient marked.
    let event = next.event.as_ref().ok();
    let recorded_at = event.map_or(Timestamp::EARLIEST, |event| event.recorded_at);
    (recorded_at < before).then_some(next.version)
}

/// What queries should see of a patient whose summary is `found`: the fold of the events up to its applied version, or
/// as far as they can be applied.
pub(crate) fn fold(entries: Vec<StreamEntry>, found: &PatientState) -> Account {
    let mut account = Account::default();
    for entry in entries {
        if account.state.applied >= found.applied {
            break;
        }
        let Ok(event) = entry.event else { break };
        match account.state.apply(&event) {
            Ok(Applied::CheckedIn(row)) => drop(account.rows.insert(row.version, row)),
            Ok(Applied::Registered | Applied::Already) => {}
            Err(_) => break,
        }
    }
    // A mark is right where the next event could not be applied once, even if it could by now: redrive finds out.
    let follows = |version| version == account.state.applied.next();
    account.state.quarantine = found.quarantine.clone().filter(|mark| follows(mark.version));
    account
}
