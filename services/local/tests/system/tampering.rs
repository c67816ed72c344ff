//! Who changes or removes an event is reported, and changes nothing that queries see.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use crate::append::append_check_in;
use crate::check::queries_see_exactly_the_events;
use crate::system::{System, never, wait_until};

const PATIENT: &str = "p-007";

fn key(version: u64) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("patient_id".to_owned(), AttributeValue::S(PATIENT.to_owned())),
        ("version".to_owned(), AttributeValue::N(version.to_string())),
    ])
}

/// Gives the patient another name in the first event, as somebody with write access could.
async fn rename(dynamodb: &aws_sdk_dynamodb::Client, name: &str) {
    let update = dynamodb
        .update_item()
        .table_name(embedded::EVENT_TABLE)
        .set_key(Some(key(1)))
        .update_expression("SET #data.#name = :name")
        .expression_attribute_names("#data", "data")
        .expression_attribute_names("#name", "name")
        .expression_attribute_values(":name", AttributeValue::S(name.to_owned()));
    update.send().await.unwrap();
}

async fn remove(dynamodb: &aws_sdk_dynamodb::Client, version: u64) {
    let delete = dynamodb.delete_item().table_name(embedded::EVENT_TABLE);
    delete.set_key(Some(key(version))).send().await.unwrap();
}

/// What the projector has logged of changed events.
fn violations(system: &System) -> Vec<Value> {
    let mut log = system.log_of("projector");
    log.retain(|line| !line["integrity_violation"].is_null());
    log
}

/// Waits until as many changes are reported, the last of them as this.
#[track_caller]
fn check_reported(system: &System, count: usize, expected: &Value) {
    wait_until("the change is reported", || violations(system).len() >= count);
    let reported = violations(system);
    assert_eq!(reported.len(), count, "{reported:?}");
    let last = &reported[count - 1];
    let found = ["level", "integrity_violation", "patient_id", "version"].map(|field| &last[field]);
    assert_eq!(json!(found), *expected);
}

#[test]
fn a_changed_event_is_reported_from_the_stream_and_queries_do_not_see_the_change() {
    let system = System::start(&["--every", never(), "--reconcile-every", never()]);
    append_check_in(&system, PATIENT);
    queries_see_exactly_the_events(&system);
    let seen =
        || ["", "/checkins"].map(|resource| system.get(&format!("/patients/{PATIENT}{resource}")).json());
    let before = seen();
    assert_eq!(before[0]["version"], 2);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dynamodb = embedded::client(&system.dynamodb);
    runtime.block_on(rename(&dynamodb, "Canary"));
    check_reported(&system, 1, &json!(["ERROR", "MODIFY", PATIENT, 1]));
    runtime.block_on(remove(&dynamodb, 2));
    check_reported(&system, 2, &json!(["ERROR", "REMOVE", PATIENT, 2]));
    wait_until("the status counts them", || {
        system.status().contains("  violations 2  ")
    });

    let log: Vec<String> = system.log_of("projector").iter().map(Value::to_string).collect();
    let log = log.join("\n");
    let name = before[0]["name"].as_str().unwrap();
    assert!(!log.contains("Canary") && !log.contains(name), "{log}");
    assert_eq!(seen(), before);
}
