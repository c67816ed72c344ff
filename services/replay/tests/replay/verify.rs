//! Whether a generation is what the events say.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{PatientId, StreamVersion};
use embedded::READ_MODEL_TABLE;
use projection::{PatientRow, ProjectionStore, Sweep, SweepStore};
use replay::{Finding, Verified, Verify};
use testbed::{World, at};

use crate::connected::{Connected, LIVE, accepting, deliver, world};

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
async fn attribute_that_no_event_has_is_named() {
    let world = delivered().await;
    world
        .edit("p-3", 9, "note", AttributeValue::S("hello".to_owned()))
        .await;
    let found = findings(&world).await;
    assert_eq!(found, ["p-3: event 9 has an attribute that no event has: note"]);
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
            "p-4: event 2 was applied, and is missing",
            "p-4: the read model at version 2 is not what the events say: version, history, checkinCount, lastCheckinAt, checkins[2]"
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
async fn check_in_that_is_there_twice_is_found() {
    let world = delivered().await;
    let query = world.client.query().table_name(READ_MODEL_TABLE);
    let rows = query
        .key_condition_expression("pk = :pk AND begins_with(sk, :row)")
        .expression_attribute_values(":pk", AttributeValue::S("g1#patient#p-1".to_owned()))
        .expression_attribute_values(":row", AttributeValue::S("checkin#".to_owned()))
        .send()
        .await
        .unwrap();
    let mut row = rows.items.unwrap().remove(1);
    let twice = row["sk"]
        .as_s()
        .unwrap()
        .replace("#000000000003", "#000000000007");
    row.insert("sk".to_owned(), AttributeValue::S(twice));
    let put = world.client.put_item().table_name(READ_MODEL_TABLE);
    put.set_item(Some(row)).send().await.unwrap();
    let put = world.client.put_item().table_name(READ_MODEL_TABLE);
    put.item("pk", AttributeValue::S("g1#patient#p-4".to_owned()))
        .item("sk", AttributeValue::S("checkin#nonsense".to_owned()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        findings(&world).await,
        [
            concat!(
                "p-1: the read model at version 8 is not what the events say: ",
                "checkins[7].id, checkins[7].occurredAt, checkins[7].key"
            ),
            "p-4: the read model at version 2 is not what the events say: checkins[0].key"
        ]
    );
}

#[tokio::test]
async fn keys_by_which_an_index_finds_a_summary_are_compared() {
    let world = delivered().await;
    let text = |text: &str| Some(AttributeValue::S(text.to_owned()));
    world.edit_summary(LIVE, "p-1", "recent_key", text("-#p-1")).await;
    let found = findings(&world).await;
    let expected = "p-1: the read model at version 8 is not what the events say: recent_key";
    assert_eq!(found, [expected]);
    world.edit_summary(LIVE, "p-2", "shard", text("g1#99")).await;
    let one = of_patient(&world, "p-2").await;
    let expected = "p-2: the read model at version 1 is not what the events say: shard";
    assert_eq!(one.findings[0].to_string(), expected);
}

#[tokio::test]
async fn keys_by_which_the_index_finds_an_event_are_compared() {
    let world = delivered().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    world.edit("p-3", 9, "shard", text("99")).await;
    world
        .edit(
            "p-1",
            2,
            "recorded_key",
            text("2020-01-01T00:00:00.000Z#p-1#000000000002"),
        )
        .await;
    assert_eq!(
        findings(&world).await,
        [
            "p-1: event 2 has a wrong recorded_key: sweeps do not find it",
            "p-3: event 9 has a wrong shard: sweeps do not find it"
        ]
    );
}

#[tokio::test]
async fn patient_who_vanished_is_found_once_the_reconciler_has_looked() {
    let world = delivered().await;
    // The newest events; nobody would call that overdue.
    world.check_in("p-1", 995).await;
    world.patient_at("p-7", 995).await;
    let sweep = |minute| Sweep::clean(at(minute));
    world.store().put_sweep(LIVE, &sweep(996)).await.unwrap();
    assert_eq!(
        findings(&world).await,
        [""; 0],
        "the sweep may not have seen them"
    );
    world.store().put_sweep(LIVE, &sweep(998)).await.unwrap();
    assert_eq!(
        findings(&world).await,
        [
            "p-1: event 9 should be applied, and is not",
            "p-7: event 1 should be applied, and is not"
        ]
    );
}

#[tokio::test]
async fn chain_that_is_known_to_be_broken_is_no_finding_once_it_is_accepted() {
    let world = delivered().await;
    let other = AttributeValue::S("0".repeat(64));
    world.edit("p-3", 9, "previous_hash", other).await;
    let tables = Connected::new(&world);
    let accepted = accepting(&["p-3@9"]);
    let verify = Verify {
        accepted: &accepted,
        ..tables.verify(LIVE)
    };
    assert_eq!(verify.all(&|_| ()).await.unwrap().findings, []);
    // Whatever else is wrong with the patient is one.
    world
        .edit_summary(
            LIVE,
            "p-3",
            "checkin_count",
            Some(AttributeValue::N("3".to_owned())),
        )
        .await;
    assert_eq!(verify.all(&|_| ()).await.unwrap().wrong, 1);
}

#[tokio::test]
async fn what_happens_to_a_stream_behind_a_broken_link_that_was_accepted_is_found() {
    let world = delivered().await;
    world
        .edit("p-3", 9, "occurred_at", AttributeValue::S(at(-1).to_string()))
        .await;
    let tables = Connected::new(&world);
    let broken = async |links: &[&str]| {
        let accepted = accepting(links);
        let verify = Verify {
            accepted: &accepted,
            ..tables.verify(LIVE)
        };
        let findings = verify.all(&|_| ()).await.unwrap().findings;
        let found = findings.iter().map(ToString::to_string);
        found
            .filter(|found| found.contains("hash chain"))
            .collect::<Vec<_>>()
    };
    assert_eq!(broken(&["p-3@9"]).await, [""; 0]);
    // Another link, or somebody else's, is not the one that is broken.
    for other in ["p-3@8", "p-3@10", "p-1@9"] {
        let found = broken(&[other]).await;
        assert_eq!(found, ["p-3: the hash chain is broken at event 9: edited"]);
    }
    world.remove("p-3", 20).await;
    let found = broken(&["p-3@9"]).await;
    assert_eq!(found, ["p-3: the hash chain is broken at event 21: missing"]);
    let other = AttributeValue::S("0".repeat(64));
    world.edit("p-3", 25, "previous_hash", other).await;
    let found = broken(&["p-3@9", "p-3@21"]).await;
    assert_eq!(found, ["p-3: the hash chain is broken at event 25: detached"]);
    // One whose envelope can't be read has no hash that the next could continue.
    world
        .edit("p-3", 30, "event_id", AttributeValue::S("nonsense".to_owned()))
        .await;
    let found = broken(&["p-3@9", "p-3@21", "p-3@25"]).await;
    assert_eq!(found, ["p-3: the hash chain is broken at event 30: unreadable"]);
    let found = broken(&["p-3@9", "p-3@21", "p-3@25", "p-3@30"]).await;
    assert_eq!(found, [""; 0]);
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
    assert_eq!(verified.wrong, 2, "{verified:?}");
    assert_eq!(verified.findings[1], Finding::NotListed { patient_id });
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
