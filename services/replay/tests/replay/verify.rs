//! Whether a generation is what the events say.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{PatientId, StreamVersion};
use embedded::READ_MODEL_TABLE;
use projection::{PatientRow, ProjectionStore};
use replay::{Finding, Verified};
use testbed::{World, at};

use crate::connected::{Connected, LIVE, deliver, world};

/// Everything that is found, in words, with pages of any size; the same as of one patient alone.
async fn findings(world: &World) -> Vec<String> {
    let mut all: Vec<Vec<String>> = Vec::new();
    for page in [1, 3, 1_000] {
        let tables = Connected::new(world).with_pages_of(page);
        let verified = tables.verify(LIVE).all(&|_| ()).await.unwrap();
        assert_eq!(usize::try_from(verified.wrong).unwrap(), verified.findings.len());
        let mut found: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
        found.sort();
        all.push(found);
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    for finding in &all[0] {
        let (patient, _) = finding.split_once(':').unwrap();
        let one = of_patient(world, patient).await;
        assert!(
            one.findings.iter().any(|one| one.to_string() == *finding),
            "{one:?}"
        );
    }
    all.remove(0)
}

async fn of_patient(world: &World, patient: &str) -> Verified {
    let tables = Connected::new(world);
    tables
        .verify(LIVE)
        .patient(&patient.parse().unwrap())
        .await
        .unwrap()
}

async fn delivered() -> World {
    let world = world().await;
    deliver(&world, &mut None).await;
    world
}

#[tokio::test]
async fn live_generation_is_what_the_events_say() {
    let world = delivered().await;
    assert_eq!(findings(&world).await, [""; 0]);
    let verified = Connected::new(&world).verify(LIVE).all(&|_| ()).await.unwrap();
    assert_eq!(
        (
            verified.patients,
            verified.events,
            verified.checkins,
            verified.lag
        ),
        (4, 42, 38, 0)
    );
}

#[tokio::test]
async fn lag_is_nothing_wrong() {
    let world = delivered().await;
    world.check_in("p-1", 990).await;
    world.check_in("p-4", 991).await;
    assert_eq!(findings(&world).await, [""; 0]);
    let verified = Connected::new(&world).verify(LIVE).all(&|_| ()).await.unwrap();
    assert_eq!((verified.patients, verified.lag), (4, 2));
}

#[tokio::test]
async fn lag_that_no_reconcile_has_made_up_for_is_found() {
    let world = delivered().await;
    world.check_in("p-1", 50).await;
    world.register("p-5").await;
    assert_eq!(
        findings(&world).await,
        [
            "p-1: event 9 should be applied, and is not",
            "p-5: event 1 should be applied, and is not"
        ]
    );
}

#[tokio::test]
async fn edited_event_is_named() {
    let world = delivered().await;
    world
        .edit("p-3", 9, "occurred_at", AttributeValue::S(at(-1).to_string()))
        .await;
    assert_eq!(
        findings(&world).await,
        [
            "p-3: the hash chain is broken at event 9: edited",
            "p-3: the read model at version 31 is not what the events say: checkins[9].occurredAt"
        ]
    );
}

#[tokio::test]
async fn event_that_was_edited_along_with_its_hash_is_found_at_the_next() {
    let world = delivered().await;
    let other = AttributeValue::S("0".repeat(64));
    world.edit("p-3", 9, "previous_hash", other).await;
    let found = findings(&world).await;
    assert_eq!(found, ["p-3: the hash chain is broken at event 9: detached"]);
}

#[tokio::test]
async fn removed_event_is_missed() {
    let world = delivered().await;
    world.remove("p-3", 30).await;
    let found = findings(&world).await;
    assert_eq!(found[0], "p-3: the hash chain is broken at event 31: missing");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn last_event_that_was_removed_is_missed_by_the_read_model() {
    let world = delivered().await;
    world.remove("p-4", 2).await;
    assert_eq!(
        findings(&world).await,
        [
            "p-4: the read model at version 2 is not what the events say: version, checkinCount, lastCheckinAt, checkins[2]"
        ]
    );
}

#[tokio::test]
async fn wrong_summary_and_wrong_rows_are_found_field_by_field() {
    let world = delivered().await;
    let store = world.store();
    let mut state = world.state(LIVE, "p-1").await;
    state.patient.as_mut().unwrap().checkin_count = 9;
    let p_1: PatientId = "p-1".parse().unwrap();
    store.put_state(LIVE, &p_1, state.applied, &state).await.unwrap();
    let row = domain::CheckinRow {
        version: StreamVersion::new(1),
        ..world.visible(LIVE, "p-4").await.remove(0)
    };
    let patient_id = "p-4".parse().unwrap();
    store
        .put_rows(LIVE, &[PatientRow { patient_id, row }])
        .await
        .unwrap();
    assert_eq!(
        findings(&world).await,
        [
            "p-1: the read model at version 8 is not what the events say: checkinCount",
            "p-4: the read model at version 2 is not what the events say: checkins[1]"
        ]
    );
}

#[tokio::test]
async fn patient_without_events_is_found() {
    let world = delivered().await;
    let state = world.state(LIVE, "p-2").await;
    let ghost: PatientId = "p-0".parse().unwrap();
    let store = world.store();
    store
        .put_state(LIVE, &ghost, StreamVersion::EMPTY, &state)
        .await
        .unwrap();
    assert_eq!(
        findings(&world).await,
        ["p-0: in the read model, and without any event"]
    );
}

#[tokio::test]
async fn patient_who_is_not_listed_is_found() {
    let world = delivered().await;
    let update = world.client.update_item().table_name(READ_MODEL_TABLE);
    update
        .key("pk", AttributeValue::S("g1#patient#p-2".to_owned()))
        .key("sk", AttributeValue::S("summary".to_owned()))
        .update_expression("SET #shard = :nowhere")
        .expression_attribute_names("#shard", "shard")
        .expression_attribute_values(":nowhere", AttributeValue::S("g1#99".to_owned()))
        .send()
        .await
        .unwrap();
    let verified = Connected::new(&world).verify(LIVE).all(&|_| ()).await.unwrap();
    let patient_id = "p-2".parse().unwrap();
    assert_eq!(verified.findings, [Finding::NotListed { patient_id }]);
}

#[tokio::test]
async fn summary_that_cannot_be_read_is_found() {
    let world = delivered().await;
    let update = world.client.update_item().table_name(READ_MODEL_TABLE);
    update
        .key("pk", AttributeValue::S("g1#patient#p-2".to_owned()))
        .key("sk", AttributeValue::S("summary".to_owned()))
        .update_expression("SET applied = :many")
        .expression_attribute_values(":many", AttributeValue::S("many".to_owned()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        findings(&world).await,
        [
            "p-2: event 1 should be applied, and is not",
            "p-2: the stored summary can't be read"
        ]
    );
}

#[tokio::test]
async fn quarantined_patient_is_right_as_of_the_applied_version() {
    let world = world().await;
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let last = world.stream(None).into_iter().rfind(|record| {
        record["dynamodb"]["Keys"]["patient_id"]["S"] == "p-3" && record["eventName"] == "INSERT"
    });
    let event = serde_json::from_value(serde_json::json!({ "Records": [last] })).unwrap();
    crate::connected::projector(&world).handle(event).await.unwrap();
    let verified = of_patient(&world, "p-3").await;
    assert_eq!(
        verified.quarantined,
        [("p-3".parse().unwrap(), StreamVersion::new(9))].into()
    );
    // The event was edited, which is a finding of its own; what queries see is right.
    let found: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        ["p-3: the hash chain is broken at event 9: edited (not applied)"]
    );
}
