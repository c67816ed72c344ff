//! docs/EVENTS.md shows what is put on the quarantine queue.

#![allow(clippy::unwrap_used, reason = "functions that tests share are tests too")]

use domain::{Generation, Quarantine, StreamVersion, Undecodable};
use projection::QuarantineNotice;
use serde_json::Value;

/// The message in the document is the whole of what is put there.
#[track_caller]
fn check(name: &str, notice: &QuarantineNotice) {
    let document = include_str!("../../../docs/EVENTS.md");
    let example = document.split_once(&format!("<!-- example: {name} -->\n```json\n"));
    let (json, _) = example.unwrap().1.split_once("```").unwrap();
    let documented: Value = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_value(notice).unwrap(), documented, "{name}");
}

#[test]
fn documented_messages_are_what_is_put_on_the_queue() {
    check(
        "event message",
        &QuarantineNotice::Event {
            generation: Generation::FIRST,
            patient_id: "p-001".parse().unwrap(),
            quarantine: Quarantine {
                version: StreamVersion::new(3),
                reason: Undecodable::InvalidData.into(),
                since: "2026-11-24T09:34:01.000Z".parse().unwrap(),
            },
        },
    );
    check(
        "record message",
        &QuarantineNotice::Record {
            sequence_number: "4421584500000000017450439091".to_owned(),
            reason: "invalid_key",
        },
    );
}
