//! docs/EVENTS.md shows events as they are stored.
#![allow(clippy::panic, reason = "functions that tests share are tests too")]

use domain::StoredEvent;
use event_log::item;
use serde_json::Value;

/// The example of this name in the document.
#[track_caller]
fn example(name: &str) -> Value {
    let document = include_str!("../../../docs/EVENTS.md");
    let json = document
        .split_once(&format!("<!-- example: {name} -->\n```json\n"))
        .and_then(|(_, rest)| rest.split_once("```"))
        .map(|(json, _)| json)
        .unwrap_or_else(|| panic!("an example {name} in docs/EVENTS.md"));
    serde_json::from_str(json).unwrap_or_else(|error| panic!("example {name}: {error}"))
}

#[test]
fn the_documented_event_is_what_is_stored() {
    let documented = example("PatientCheckedIn");
    let event: StoredEvent = serde_json::from_value(documented.clone()).unwrap();
    assert_eq!(event.computed_hash(), event.hash);
    let stored: Value = serde_dynamo::from_item(item::to_item(&event).unwrap()).unwrap();
    assert_eq!(stored, documented);
    assert!(event.decode().is_ok());
}
