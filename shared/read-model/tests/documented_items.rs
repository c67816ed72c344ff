//! docs/EVENTS.md shows the read model as it is stored.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions that tests share are tests too"
)]

use domain::Generation;
use read_model::item::{
    CONTROL, Control, PROGRESS, Progress, RowItem, SWEEP, SummaryItem, Sweep, freshness_pk,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The example of this name in the document: the item, and its keys. The item must be the whole example.
#[track_caller]
fn example<T: Serialize + DeserializeOwned>(name: &str) -> (T, [String; 2]) {
    let document = include_str!("../../../docs/EVENTS.md");
    let json = document
        .split_once(&format!("<!-- example: {name} -->\n```json\n"))
        .and_then(|(_, rest)| rest.split_once("```"))
        .map(|(json, _)| json)
        .unwrap_or_else(|| panic!("an example {name} in docs/EVENTS.md"));
    let documented: Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("example {name}: {error}"));
    let item: T =
        serde_json::from_value(documented.clone()).unwrap_or_else(|error| panic!("example {name}: {error}"));
    let keys = ["pk", "sk"].map(|key| documented[key].as_str().unwrap_or_default().to_owned());
    let mut stored = serde_json::to_value(&item).unwrap_or_default();
    for (key, value) in ["pk", "sk"].into_iter().zip(&keys) {
        stored[key] = value.as_str().into();
    }
    assert_eq!(stored, documented, "{name}");
    (item, keys)
}

#[test]
fn the_documented_summary_is_what_is_stored() {
    let (summary, _) = example::<SummaryItem>("summary");
    let patient = summary.patient_id.clone();
    let again = SummaryItem::new(Generation::FIRST, &patient, &summary.clone().into_state());
    assert_eq!(again, summary);
}

#[test]
fn the_documented_check_in_is_what_is_stored() {
    let (row, _) = example::<RowItem>("check-in");
    let patient = "p-001".parse().unwrap();
    assert_eq!(
        RowItem::new(Generation::FIRST, &patient, &row.clone().into_row().unwrap()),
        row
    );
}

#[test]
fn the_documented_control_progress_and_sweep_are_what_is_stored() {
    let (control, keys) = example::<Control>("control");
    assert_eq!(control.building, Some(control.latest));
    assert_eq!(keys, [CONTROL, CONTROL]);
    let (_, keys) = example::<Progress>("progress");
    assert_eq!(keys, [freshness_pk(Generation::FIRST).as_str(), PROGRESS]);
    let (_, keys) = example::<Sweep>("sweep");
    assert_eq!(keys, [freshness_pk(Generation::FIRST).as_str(), SWEEP]);
    let (sweep, keys) = example::<Sweep>("later sweep");
    assert!(sweep.applied_at.is_some() && sweep.before.is_some() && sweep.period_millis.is_some());
    assert_eq!(keys, [freshness_pk(Generation::FIRST).as_str(), SWEEP]);
}
