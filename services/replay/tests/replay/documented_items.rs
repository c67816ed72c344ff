//! docs/EVENTS.md shows what a replay keeps.

use replay::{Checkpoint, Lease, Verification};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The item in the document is the whole of what is stored, but for its keys.
#[track_caller]
fn check<T: Serialize + DeserializeOwned>(name: &str) {
    let document = include_str!("../../../../docs/EVENTS.md");
    let example = document.split_once(&format!("<!-- example: {name} -->\n```json\n"));
    let (json, _) = example.unwrap().1.split_once("```").unwrap();
    let mut documented: Value = serde_json::from_str(json).unwrap();
    for key in ["pk", "sk"] {
        documented.as_object_mut().unwrap().remove(key).unwrap();
    }
    let item: T = serde_json::from_value(documented.clone()).unwrap();
    let mut stored = serde_json::to_value(&item).unwrap();
    if let Some(next) = stored.get_mut("next").and_then(Value::as_object_mut) {
        // Only a sweep's position has a time.
        assert_eq!(next.remove("recorded_at"), Some(Value::Null));
    }
    assert_eq!(stored, documented, "{name}");
}

#[test]
fn documented_items_are_what_is_stored() {
    check::<Checkpoint>("checkpoint");
    check::<Verification>("verification");
    check::<Lease>("lease");
}
