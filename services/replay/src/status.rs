//! What generations there are, and how far they have come.

use std::collections::BTreeMap;

use domain::{EventShard, Generation, ListingShard, PatientId, StreamVersion, Timestamp};
use event_log::{EventLog, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::{ProjectionStore, ProjectionUnavailable};
use read_model::{ReadModelStore, ReadModelUnavailable};
use serde::Serialize;

use crate::builds::BuildStore;
use crate::lease::Lease;
use crate::tables::Tables;

/// Index entries that are read at once.
const PAGE: u16 = 500;
/// Calls under way at once.
const CONCURRENCY: usize = 16;
/// How far back to look for patients that no generation knows yet: a stream keeps its records for 24 hours
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>), so a projector that is
/// further behind has lost some, which a reconcile repairs.
const RETENTION_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// What generations there are, and how far they have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The active generation, the one that is being built and the previous one, as far as there are any; then those that
    /// `prune` would remove.
    pub generations: Vec<GenerationStatus>,
    /// Who is changing the read model at the moment; or was, if it ended without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_work: Option<Lease>,
    /// The events, compared with the active generation.
    pub events: EventStatus,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    /// Its number.
    pub generation: Generation,
    /// `active`, `building`, `verified` (built, and not promoted), `rolling-back` or `previous`; `to-prune` of one that
    /// nobody reads, builds or can roll back to.
    pub role: &'static str,
    /// Registered patients.
    pub patients: u64,
    /// Check-ins that readers see.
    pub checkins: u64,
    /// Events applied.
    pub applied: u64,
    /// Quarantined patients.
    pub quarantined: u64,
}

/// The events, compared with the active generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventStatus {
    /// Events of all patients that were looked at.
    pub total: u64,
    /// Events that are not applied, of patients who are not quarantined.
    pub lag: u64,
    /// Patients with such events.
    pub patients_behind: u64,
    /// Events that wait behind a quarantine, the one that can't be applied among them.
    pub waiting: u64,
    /// Patients with such events.
    pub patients_waiting: u64,
}

/// How far a patient has come in the active generation.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    applied: StreamVersion,
    quarantined: bool,
}

impl EventStatus {
    fn add(&mut self, head: StreamVersion, reached: Reached) {
        let missing = reached.applied.behind(head);
        let (events, patients) = if reached.quarantined {
            (&mut self.waiting, &mut self.patients_waiting)
        } else {
            (&mut self.lag, &mut self.patients_behind)
        };
        *events += missing;
        *patients += u64::from(missing > 0);
        self.total += head.get();
    }
}

/// Why there is no status. Retry.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read.
    #[error(transparent)]
    ReadModel(#[from] ReadModelUnavailable),
    /// The control item can't be read.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
}

/// Looks at every patient of every generation, and at the head of every stream.
///
/// # Errors
/// [`StatusError`]
pub async fn status(tables: &impl Tables, now: Timestamp) -> Result<Status, StatusError> {
    let (log, read_model) = (tables.log(), tables.read_model());
    let control = tables.projection().control().await?;
    let mut patients = BTreeMap::new();
    let mut generations = Vec::new();
    if let Some(control) = control {
        let building = match control.building {
            Some(_) if control.brings_back => "rolling-back",
            Some(building) if tables.builds().verification(building).await?.is_some() => "verified",
            Some(_) | None => "building",
        };
        let roles = [
            (Some(control.active), "active"),
            (control.building, building),
            (control.previous, "previous"),
        ];
        for (generation, role) in roles {
            let Some(generation) = generation else { continue };
            let (status, applied) = look_at(read_model, generation, role).await?;
            generations.push(status);
            if role == "active" {
                patients = applied;
            }
        }
        let kept = roles.map(|(generation, _)| generation);
        for generation in left(read_model, control.latest, &kept).await? {
            let (status, _) = look_at(read_model, generation, "to-prune").await?;
            generations.push(status);
        }
    }
    for shard in EventShard::all() {
        let mut next = None;
        loop {
            let page = log
                .recorded_since(shard, now.plus_millis(-RETENTION_MILLIS), next)
                .await?;
            for entry in page.entries {
                patients.entry(entry.patient_id).or_default();
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
    }
    let events = stream::iter(&patients)
        .map(|(patient, reached)| async move { log.head(patient).await.map(|head| (head, *reached)) })
        .buffer_unordered(CONCURRENCY)
        .try_fold(EventStatus::default(), |mut events, (head, reached)| async move {
            events.add(head, reached);
            Ok(events)
        })
        .await?;
    Ok(Status {
        generations,
        at_work: None,
        events,
    })
}

/// Those up to `latest`, but for `kept`, of which something is left.
async fn left(
    read_model: &impl ReadModelStore,
    latest: Generation,
    kept: &[Option<Generation>],
) -> Result<Vec<Generation>, ReadModelUnavailable> {
    let others = (1..=latest.get())
        .map(Generation::new)
        .filter(|generation| !kept.contains(&Some(*generation)));
    stream::iter(others)
        .map(|generation| async move {
            for shard in ListingShard::all() {
                if !read_model.ids(generation, shard, None, 1).await?.items.is_empty() {
                    return Ok(Some(generation));
                }
            }
            Ok(None)
        })
        .buffered(CONCURRENCY)
        .try_filter_map(|left| async move { Ok(left) })
        .try_collect()
        .await
}

async fn look_at(
    read_model: &impl ReadModelStore,
    generation: Generation,
    role: &'static str,
) -> Result<(GenerationStatus, BTreeMap<PatientId, Reached>), ReadModelUnavailable> {
    let mut status = GenerationStatus {
        generation,
        role,
        patients: 0,
        checkins: 0,
        applied: 0,
        quarantined: 0,
    };
    let mut patients = BTreeMap::new();
    for shard in ListingShard::all() {
        let mut after: Option<String> = None;
        loop {
            let page = read_model
                .recent(generation, shard, after.as_deref(), PAGE)
                .await?;
            after = page.items.last().map(|entry| entry.recent_key.clone());
            for entry in page.items {
                status.applied += entry.state.applied.get();
                status.quarantined += u64::from(entry.state.quarantine.is_some());
                if let Some(patient) = &entry.state.patient {
                    status.patients += 1;
                    status.checkins += patient.checkin_count;
                }
                let reached = Reached {
                    applied: entry.state.applied,
                    quarantined: entry.state.quarantine.is_some(),
                };
                patients.insert(entry.patient_id, reached);
            }
            if !page.more || after.is_none() {
                break;
            }
        }
    }
    Ok((status, patients))
}
