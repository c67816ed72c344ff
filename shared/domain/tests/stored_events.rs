//! The stored shapes: what is written today, and what was ever written.

#![allow(
    clippy::unwrap_used,
    reason = "what a test builds on is there, or the test fails"
)]

use std::fs;
use std::path::Path;

use domain::{
    CheckinId, CorrelationId, Event, EventDraft, EventHash, EventId, PatientCheckedIn, PatientId,
    PatientRegistered, StoredEvent, StreamVersion, Timestamp,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn patient() -> PatientId {
    "p-001".parse().unwrap()
}

/// The two events with which the golden files of schema version 1 were made.
fn stream() -> [StoredEvent; 2] {
    let tick = CorrelationId::derive("tick", &["rule", "2026-11-24T09:32:00.000Z"]);
    let registered = EventDraft {
        event_id: EventId::derive("registration", &["p-001"]),
        occurred_at: at("2026-11-24T09:30:00.000Z"),
        correlation_id: tick,
        causation_id: tick,
        event: Event::PatientRegistered(PatientRegistered {
            name: "Zoë \"Zed\" Ångström".parse().unwrap(),
        }),
    };
    let checked_in = EventDraft {
        event_id: EventId::derive("check-in", &["rule", "2026-11-24T09:32:00.000Z", "p-001"]),
        occurred_at: at("2026-11-24T09:32:00.000Z"),
        correlation_id: tick,
        causation_id: tick,
        event: Event::PatientCheckedIn(PatientCheckedIn {
            checkin_id: CheckinId::derive(&["a"]),
        }),
    };
    let recorded_at = at("2026-11-24T09:30:00.125Z");
    let first = registered.place(&patient(), StreamVersion::EMPTY, EventHash::GENESIS, recorded_at);
    let first = first.unwrap();
    let recorded_at = at("2026-11-24T09:32:00.250Z");
    let second = checked_in.place(&patient(), StreamVersion::FIRST, first.hash, recorded_at);
    [first, second.unwrap()]
}

/// A golden file as it is read, never written, by this version of the software.
fn golden(name: &str) -> StoredEvent {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn what_is_written_today_is_the_newest_golden_shape() {
    let [first, second] = stream();
    assert_eq!(first, golden("PatientRegistered.v1.json"));
    assert_eq!(second, golden("PatientCheckedIn.v1.json"));
}

#[test]
fn every_shape_ever_written_decodes_and_has_its_hash() {
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).unwrap() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["PatientCheckedIn.v1.json", "PatientRegistered.v1.json"],
        "files are only ever added"
    );
    for name in names {
        let stored = golden(&name);
        assert_eq!(stored.computed_hash(), stored.hash, "{name}");
        let version = stored.version;
        let decoded = stored
            .decode()
            .unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!(decoded.version, version, "{name}");
    }
}

#[test]
fn editing_any_part_of_an_event_breaks_its_hash() {
    #[track_caller]
    fn check(edit: impl FnOnce(&mut StoredEvent)) {
        let [_, mut event] = stream();
        edit(&mut event);
        assert_ne!(event.computed_hash(), event.hash);
    }
    check(|event| event.patient_id = "p-002".parse().unwrap());
    check(|event| event.version = event.version.next());
    check(|event| event.event_id = EventId::derive("other", &[]));
    check(|event| event.event_type = "PatientVanished".to_owned());
    check(|event| event.schema_version += 1);
    check(|event| event.occurred_at = event.occurred_at.plus_millis(1));
    check(|event| event.recorded_at = event.recorded_at.plus_millis(1));
    check(|event| event.correlation_id = CorrelationId::derive("other", &[]));
    check(|event| event.causation_id = CorrelationId::derive("other", &[]));
    check(|event| drop(event.data.insert("note".to_owned(), "hello".into())));
    check(|event| event.previous_hash = EventHash::GENESIS);
}

#[test]
fn a_hash_can_be_computed_without_this_code() {
    // In Python: hashlib.sha256(json.dumps(event_without_hash, sort_keys=True, separators=(",", ":"),
    // ensure_ascii=False).encode()).hexdigest(), which is RFC 8785 for the texts and whole numbers used here.
    let [first, _] = stream();
    assert_eq!(
        first.hash.to_string(),
        "c02356c128bf4f39559c5decc3b7dc1f7be81a63cb7d26de982ce73e83138b5f"
    );
}
