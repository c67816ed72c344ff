//! The way from an event to its view, for whoever wants to watch: `GET /pipeline`, which the page at `/` shows. On AWS
//! there is no such thing; every answer of the API here says by a link that there is one.

use std::sync::Arc;
use std::time::Duration;

use domain::{Generation, PatientId, StreamVersion, Timestamp};
use read_model::{Consistency, ReadModelStore, ReadModelUnavailable};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::recent_events::{RecentEvent, RecentEvents};
use crate::status::{NoStatus, Sources, Status, rest};

/// Numbers that are not older than this are shown again instead of counting anew.
const FRESH: Duration = Duration::from_millis(500);

/// How the system is set up: what does not change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct SetUp {
    /// The time between two ticks, in milliseconds.
    pub(crate) every_millis: i64,
    pub(crate) patients_per_tick: u32,
    /// URL of the embedded DynamoDB, which the replay has to be told.
    pub(crate) dynamodb: String,
}

/// What can be watched.
pub(crate) struct Pipeline {
    set_up: SetUp,
    sources: Arc<Sources>,
    recent: RecentEvents,
    counted: Mutex<Option<Counted>>,
}

/// Numbers, when they were counted, and how long that took.
#[derive(Debug, Clone, Copy)]
struct Counted {
    status: Status,
    at: Instant,
    took: Duration,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Watched<'a> {
    every_millis: i64,
    patients_per_tick: u32,
    dynamodb: &'a str,
    appended: u64,
    applied: u64,
    lag_millis: u64,
    quarantined: u64,
    changed: u64,
    generation: Generations,
    events: Vec<Event>,
}

/// Which builds of the read model there are.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Generations {
    active: Option<Generation>,
    /// `null` for the first one, which no replay has built.
    active_since: Option<Timestamp>,
    building: Option<Generation>,
    previous: Option<Generation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    /// `null` if this software knows no such type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    patient_id: PatientId,
    version: StreamVersion,
    recorded_at: Timestamp,
    /// How long after its recording it was in the view; `null` as long as it is not.
    applied_millis: Option<i64>,
}

impl Pipeline {
    pub(crate) fn new(set_up: SetUp, sources: Arc<Sources>, recent: RecentEvents) -> Pipeline {
        Pipeline {
            set_up,
            sources,
            recent,
            counted: Mutex::default(),
        }
    }

    /// How everything is at the moment, as JSON.
    ///
    /// # Errors
    /// [`NoStatus`]: there is nothing to show; the next request may find something.
    pub(crate) async fn watched(&self) -> Result<String, NoStatus> {
        let status = self.status().await?;
        let (generation, events) = self.events().await?;
        let SetUp {
            every_millis,
            patients_per_tick,
            dynamodb,
        } = &self.set_up;
        let watched = Watched {
            every_millis: *every_millis,
            patients_per_tick: *patients_per_tick,
            dynamodb,
            appended: status.events,
            applied: status.applied,
            lag_millis: u64::try_from(status.lag.as_millis()).unwrap_or(u64::MAX),
            quarantined: status.quarantined,
            changed: status.violations,
            generation,
            events,
        };
        serde_json::to_string(&watched).map_err(|error| NoStatus::EventTable(error.into()))
    }

    /// The numbers, counted anew if they are not fresh, and if counting does not take too much of the time.
    async fn status(&self) -> Result<Status, NoStatus> {
        // Whoever comes while somebody counts waits for the same numbers.
        let mut counted = self.counted.lock().await;
        if let Some(Counted { status, at, took }) = *counted
            && at.elapsed() < FRESH.max(rest(took))
        {
            return Ok(status);
        }
        let began = Instant::now();
        let status = self.sources.status().await?;
        *counted = Some(Counted {
            status,
            at: Instant::now(),
            took: began.elapsed(),
        });
        Ok(status)
    }

    /// The generations, and the last events as the active one has them.
    async fn events(&self) -> Result<(Generations, Vec<Event>), ReadModelUnavailable> {
        let read_model = &self.sources.read_model;
        let recent = self.recent.newest_first();
        let Some(control) = read_model.control().await? else {
            let events = recent.into_iter().map(|event| shown(event, StreamVersion::EMPTY));
            return Ok((Generations::default(), events.collect()));
        };
        let mut patients: Vec<PatientId> = recent.iter().map(|event| event.patient_id.clone()).collect();
        patients.sort_unstable();
        patients.dedup();
        let states = read_model
            .states(control.active, &patients, Consistency::Eventual)
            .await?;
        let applied = |of: &PatientId| {
            let place = patients.binary_search(of).ok()?;
            let state = states.get(place)?.as_ref().ok()?.as_ref()?;
            Some(state.applied)
        };
        let events = recent
            .into_iter()
            .map(|event| {
                let applied = applied(&event.patient_id).unwrap_or(StreamVersion::EMPTY);
                shown(event, applied)
            })
            .collect();
        let generations = Generations {
            active: Some(control.active),
            active_since: control.active_since,
            building: control.building,
            previous: control.previous,
        };
        Ok((generations, events))
    }
}

/// An event, as seen by a view that has come to this version of its patient.
fn shown(event: RecentEvent, applied: StreamVersion) -> Event {
    let is_applied = event.version <= applied;
    // Both times are of this machine's clock, but that may be set back.
    let applied_millis = event
        .done_at
        .filter(|_| is_applied)
        .map(|done_at| done_at.millis_since(event.recorded_at).max(0));
    Event {
        event_type: event.event_type,
        patient_id: event.patient_id,
        version: event.version,
        recorded_at: event.recorded_at,
        applied_millis,
    }
}
