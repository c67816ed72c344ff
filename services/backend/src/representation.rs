//! The bodies of answers. Their fields are the API's contract.

use domain::{CheckinId, CheckinRow, Generation, PatientId, PatientName, StreamVersion, Timestamp};
use read_model::{Freshness, PatientSummary};
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
    /// While the read model is known to be behind: what was recorded from then on may be missing.
    stale_since: Option<Timestamp>,
}

/// `GET /patients/{id}/checkins`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckinList<'a> {
    pub(crate) patient_id: &'a PatientId,
    /// As that of the patient, whatever version the pages of the walk are as of.
    pub(crate) quarantined_since: Option<Timestamp>,
    /// As that of a patient.
    pub(crate) stale_since: Option<Timestamp>,
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

/// `GET /health`: that the read model can be read, and follows the events.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    #[serde(flatten)]
    projected: Projected,
}

/// How far the read model has come. Everything is `null` before anything was projected.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Projected {
    /// The active one.
    generation: Option<Generation>,
    /// When the projector last applied events.
    last_applied_at: Option<Timestamp>,
    /// How long after its recording the newest of them was applied.
    lag_millis: Option<i64>,
    /// What was recorded before has been compared, and is there; `null` before the first comparison.
    compared_to: Option<Timestamp>,
}

impl PatientResource {
    pub(crate) fn new(summary: PatientSummary, stale_since: Option<Timestamp>) -> PatientResource {
        PatientResource {
            id: summary.id,
            name: summary.patient.name,
            checkin_count: summary.patient.checkin_count,
            last_checkin_at: summary.patient.last_checkin_at,
            version: summary.version,
            quarantined_since: summary.quarantined_since,
            stale_since,
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
    pub(crate) const fn new(projected: Projected) -> Health {
        Health {
            status: "ok",
            projected,
        }
    }
}

impl Projected {
    pub(crate) fn new(generation: Generation, freshness: &Freshness) -> Projected {
        Projected {
            generation: Some(generation),
            last_applied_at: freshness.last_applied_at(),
            lag_millis: freshness.lag_millis(),
            compared_to: freshness.sweep.as_ref().map(|last| last.swept_to),
        }
    }
}
