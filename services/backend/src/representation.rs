//! The bodies of answers. Their fields are the API's contract.

use domain::{CheckinId, CheckinRow, Generation, PatientId, PatientName, StreamVersion, Timestamp};
use read_model::{PatientSummary, Progress};
use serde::Serialize;

/// The JSON of a body, or of part of a cursor.
pub(crate) fn json(value: &impl Serialize) -> String {
    // Only a map with keys that aren't text, or a number that is not finite, could fail; there is neither.
    serde_json::to_string(value).unwrap_or_default()
}

/// `GET /patients`
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PatientList {
    pub(crate) patients: Vec<PatientResource>,
    pub(crate) next_cursor: Option<String>,
}

/// `GET /patients/{id}`, and one of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PatientResource {
    id: PatientId,
    name: PatientName,
    checkin_count: u64,
    last_checkin_at: Option<Timestamp>,
    version: StreamVersion,
    /// While the patient is quarantined, since when: then everything here is as of `version`, and later events
    /// wait. Why, and at which event, is for operators only.
    quarantined_since: Option<Timestamp>,
}

/// `GET /patients/{id}/checkins`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckinList<'a> {
    pub(crate) patient_id: &'a PatientId,
    /// As that of the patient, whatever version the pages of the walk are as of.
    pub(crate) quarantined_since: Option<Timestamp>,
    pub(crate) checkins: Vec<CheckinResource>,
    pub(crate) next_cursor: Option<String>,
}

/// One of a list of check-ins.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckinResource {
    id: CheckinId,
    occurred_at: Timestamp,
    version: StreamVersion,
}

/// `GET /health`: that the read model can be read, and how far it has come.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    status: &'static str,
    /// The active one; `null` before anything was projected, as are the two below.
    generation: Option<Generation>,
    /// When the last events were applied.
    last_applied_at: Option<Timestamp>,
    /// How long after their recording that was.
    lag_millis: Option<i64>,
}

impl From<PatientSummary> for PatientResource {
    fn from(summary: PatientSummary) -> PatientResource {
        PatientResource {
            id: summary.id,
            name: summary.patient.name,
            checkin_count: summary.patient.checkin_count,
            last_checkin_at: summary.patient.last_checkin_at,
            version: summary.version,
            quarantined_since: summary.quarantined_since,
        }
    }
}

impl From<CheckinRow> for CheckinResource {
    fn from(row: CheckinRow) -> CheckinResource {
        CheckinResource {
            id: row.checkin_id,
            occurred_at: row.occurred_at,
            version: row.version,
        }
    }
}

impl Health {
    pub(crate) fn new(generation: Option<Generation>, progress: Option<&Progress>) -> Health {
        Health {
            status: "ok",
            generation,
            last_applied_at: progress.map(|progress| progress.applied_at),
            // Two machines' clocks: the difference may come out negative.
            lag_millis: progress
                .map(|progress| progress.applied_at.millis_since(progress.recorded_at).max(0)),
        }
    }
}
