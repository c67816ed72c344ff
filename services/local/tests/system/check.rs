//! Comparing what queries see with the event table.

use std::collections::{BTreeMap, BTreeSet};

use domain::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::system::{System, wait_until};

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Event {
    patient_id: String,
    pub(crate) version: u64,
    event_id: String,
    event_type: String,
    occurred_at: String,
    recorded_at: Timestamp,
    data: Value,
}

impl Event {
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) const fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }
}

/// The streams in the event table, by patient.
pub(crate) type Streams = BTreeMap<String, Vec<Event>>;

/// Reads the whole event table.
pub(crate) fn streams(system: &System) -> Streams {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let items = runtime.block_on(async {
        embedded::client(&system.dynamodb)
            .scan()
            .table_name(embedded::EVENT_TABLE)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send()
            .collect::<Result<Vec<_>, _>>()
            .await
            .unwrap()
    });
    let mut streams = Streams::new();
    for item in items {
        let event: Event = serde_dynamo::from_item(item).unwrap();
        streams.entry(event.patient_id.clone()).or_default().push(event);
    }
    streams
}

pub(crate) fn count(streams: &Streams) -> usize {
    streams.values().map(Vec::len).sum()
}

/// Reads the event table, waits until queries see all of it, and checks that they see it exactly: nothing lost,
/// nothing twice, everything in order. What is appended meanwhile is left out of the comparison.
#[track_caller]
pub(crate) fn queries_see_exactly_the_events(system: &System) -> Streams {
    let streams = streams(system);
    queries_see_exactly(system, &streams, &[]);
    streams
}

/// As [`queries_see_exactly_the_events`], for these streams. Of the `quarantined` patients, and of no others, queries
/// must say that they are.
#[track_caller]
pub(crate) fn queries_see_exactly(system: &System, streams: &Streams, quarantined: &[&str]) {
    let mut ids = BTreeSet::new();
    for (patient, events) in streams {
        let versions: Vec<u64> = events.iter().map(|event| event.version).collect();
        assert_eq!(
            versions,
            (1..=versions.len() as u64).collect::<Vec<_>>(),
            "versions of {patient}"
        );
        assert!(
            events.iter().all(|event| ids.insert(&event.event_id)),
            "an event id of {patient} appears twice"
        );

        let head = events.len() as u64;
        wait_until("all events are applied", || version(system, patient) >= head);
        let mut expected: Vec<Value> = events
            .iter()
            .filter(|event| event.event_type == "PatientCheckedIn")
            .map(|event| {
                json!({ "id": event.data["checkin_id"], "occurredAt": event.occurred_at, "version": event.version })
            })
            .collect();
        let order = |row: &Value| {
            (
                row["occurredAt"].as_str().unwrap().to_owned(),
                row["version"].as_u64(),
            )
        };
        expected.sort_by_key(order);
        expected.reverse();
        let mut found = system.checkins(patient);
        found.retain(|row| row["version"].as_u64().unwrap() <= head);
        assert_eq!(found, expected, "check-ins of {patient}");
    }
    summaries_are_right(system, streams, quarantined);
}

/// What queries tell of each patient is what its events say, up to the version that the answer names: others may be
/// appended meanwhile.
#[track_caller]
fn summaries_are_right(system: &System, streams: &Streams, quarantined: &[&str]) {
    let alone = streams
        .keys()
        .map(|patient| system.get(&format!("/patients/{patient}")).json());
    let alone: Vec<Value> = alone.collect();
    let listed = system.patients();
    // Read last: whatever was applied is there.
    let known = self::streams(system);
    for summary in alone.iter().chain(&listed) {
        let patient = summary["id"].as_str().unwrap();
        let version = usize::try_from(summary["version"].as_u64().unwrap()).unwrap();
        assert_eq!(
            summary["quarantinedSince"].is_string(),
            quarantined.contains(&patient),
            "{summary}"
        );
        let expected = expected_summary(patient, &known[patient][..version], &summary["quarantinedSince"]);
        assert_eq!(summary, &expected);
    }
    for (patient, events) in streams {
        // One that checks in meanwhile moves to the front of the listing, away from whoever reads on.
        if known[patient].len() == events.len() {
            let times = listed.iter().filter(|summary| summary["id"] == **patient).count();
            assert_eq!(times, 1, "{patient} in the listing");
        }
    }
}

fn expected_summary(patient: &str, events: &[Event], quarantined_since: &Value) -> Value {
    let checkins = || {
        events
            .iter()
            .filter(|event| event.event_type == "PatientCheckedIn")
    };
    json!({
        "id": patient,
        "name": events[0].data["name"],
        "checkinCount": checkins().count(),
        "lastCheckinAt": checkins().map(|event| &event.occurred_at).max(),
        "version": events.len(),
        "quarantinedSince": quarantined_since,
        "staleSince": null,
    })
}

fn version(system: &System, patient: &str) -> u64 {
    let answer = system.get(&format!("/patients/{patient}"));
    if answer.status == 200 {
        answer.json()["version"].as_u64().unwrap()
    } else {
        0
    }
}
