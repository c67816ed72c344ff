//! What can happen to a patient.
//!
//! These names and shapes are a storage format. Renaming a variant or a field, or giving one another meaning,
//! breaks stored data: add a schema version and an upcaster (`upcast.rs`) instead. Golden files of every
//! shape ever written are in `tests/golden`; files are only ever added there.

use serde::{Deserialize, Serialize};

use crate::{CheckinId, PatientName};

/// The body of an event as it is stored: JSON of one schema version.
pub type EventData = serde_json::Map<String, serde_json::Value>;

/// Something that happened to a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The patient became known. Always a stream's first event, and only the first.
    PatientRegistered(PatientRegistered),
    /// The patient checked in. When is the event's `occurred_at`.
    PatientCheckedIn(PatientCheckedIn),
}

/// Body of [`Event::PatientRegistered`], schema version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientRegistered {
    /// The patient's name.
    pub name: PatientName,
}

/// Body of [`Event::PatientCheckedIn`], schema version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatientCheckedIn {
    /// Which check-in.
    pub checkin_id: CheckinId,
}

impl Event {
    /// The stored name of this type of event.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Event::PatientRegistered(_) => "PatientRegistered",
            Event::PatientCheckedIn(_) => "PatientCheckedIn",
        }
    }

    /// The schema version in which this type of event is written today.
    #[must_use]
    pub const fn schema_version(&self) -> u32 {
        match self {
            Event::PatientRegistered(_) | Event::PatientCheckedIn(_) => 1,
        }
    }

    /// The body as it is stored today.
    #[must_use]
    pub fn to_data(&self) -> EventData {
        let (field, value) = match self {
            Event::PatientRegistered(body) => ("name", body.name.as_str().to_owned()),
            Event::PatientCheckedIn(body) => ("checkin_id", body.checkin_id.to_string()),
        };
        EventData::from_iter([(field.to_owned(), serde_json::Value::String(value))])
    }
}
