//! Appending check-ins without the producer.

use domain::{CheckinId, CorrelationId, Event, EventDraft, EventId, PatientCheckedIn, PatientId, Timestamp};
use event_store::{Appended, EventStore, ExpectedVersion, append};

use crate::system::System;

pub(crate) fn now() -> Timestamp {
    runtime::clock::system_clock()
}

/// Appends a check-in to a patient's stream. Each `number` makes another one.
pub(crate) async fn check_in(events: &EventStore, patient: &PatientId, number: usize) {
    let number = number.to_string();
    let occasion = CorrelationId::derive("test", &[]);
    let at = now();
    let draft = EventDraft {
        event_id: EventId::derive("test", &[&number]),
        occurred_at: at,
        correlation_id: occasion,
        causation_id: occasion,
        event: Event::PatientCheckedIn(PatientCheckedIn {
            checkin_id: CheckinId::derive(&[&number]),
        }),
    };
    let appended = append(events, patient, &draft, ExpectedVersion::NotEmpty, at)
        .await
        .unwrap();
    assert!(matches!(appended, Appended::New { .. }));
}

/// As [`check_in`], once.
pub(crate) fn append_check_in(system: &System, patient: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let events = EventStore::new(embedded::client(&system.dynamodb), embedded::EVENT_TABLE);
    runtime.block_on(check_in(&events, &patient.parse().unwrap(), 0));
}
