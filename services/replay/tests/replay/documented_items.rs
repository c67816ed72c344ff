//! docs/EVENTS.md shows what a replay keeps.

use replay::{Begun, Checkpoint, Lease, Verification};
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
    let stored = serde_json::to_value(&item).unwrap();
    assert_eq!(stored, documented, "{name}");
}

#[test]
fn documented_items_are_what_is_stored() {
    check::<Begun>("begun");
    check::<Checkpoint>("checkpoint");
    check::<Verification>("verification");
    check::<Lease>("lease");
}
