//! Trying again what could not be applied.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Generation, StreamVersion, Timestamp};
use projection::QuarantineNotice;
use replay::{EventStatus, StillQuarantined, status};
use testbed::{CountedPages, World, at};

use crate::connected::{Connected, LIVE, Mailbox, deliver, projector, world};

fn version(number: &str) -> AttributeValue {
    AttributeValue::N(number.to_owned())
}

/// Spoils an event of each of these patients, and delivers only their last records, so that the poison is found.
async fn poisoned(patients: &[(&str, u64)]) -> World {
    let world = world().await;
    for (patient, event) in patients {
        world.edit(patient, *event, "schema_version", version("99")).await;
    }
    let records: Vec<serde_json::Value> = ["p-1", "p-2", "p-3", "p-4"]
        .iter()
        .filter_map(|patient| {
            world.stream(None).into_iter().rfind(|record| {
                record["dynamodb"]["Keys"]["patient_id"]["S"] == *patient && record["eventName"] == "INSERT"
            })
        })
        .collect();
    let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();
    projector(&world).handle(event).await.unwrap();
    for (patient, event) in patients {
        let state = world.assert_is_fold(LIVE, patient).await;
        assert_eq!(state.quarantine.unwrap().version.get(), *event);
    }
    world
}

/// The commands, and a queue with what the projector put there.
fn connected(world: &World) -> Connected<'_> {
    let tables = Connected::new(world);
    for notice in world.queue.notices.lock().unwrap().iter() {
        tables.quarantined.put(notice);
    }
    tables
}

#[tokio::test]
async fn repaired_events_are_applied_and_their_messages_removed() {
    let world = poisoned(&[("p-1", 3), ("p-3", 9), ("p-4", 2)]).await;
    let tables = connected(&world);
    assert_eq!(tables.quarantined.len(), 3);
    for (patient, event) in [("p-1", 3), ("p-3", 9)] {
        world.edit(patient, event, "schema_version", version("1")).await;
    }
    let redriven = tables.redrive().all().await.unwrap();
    assert_eq!((redriven.tried, redriven.events), (3, 6 + 23));
    let still = StillQuarantined {
        version: StreamVersion::new(2),
        reason: "unknown_schema_version".to_owned(),
    };
    assert_eq!(redriven.quarantined, [("p-4".parse().unwrap(), still)].into());
    assert_eq!((redriven.settled, redriven.unsettled), (2, 1));
    assert_eq!((tables.quarantined.len(), tables.quarantined.visible()), (1, 1));
    for patient in ["p-1", "p-2", "p-3"] {
        world.assert_complete(LIVE, patient).await;
    }
    // Once more: only who is still quarantined is tried.
    let again = tables.redrive().all().await.unwrap();
    assert_eq!(
        (again.tried, again.events, again.settled, again.unsettled),
        (1, 0, 0, 1)
    );
}

#[tokio::test]
async fn whose_poison_was_removed_is_named_until_a_rebuild() {
    let world = poisoned(&[("p-4", 2)]).await;
    world.remove("p-4", 2).await;
    let tables = connected(&world);
    let redriven = tables.redrive().all().await.unwrap();
    let still = StillQuarantined {
        version: StreamVersion::new(2),
        reason: "unknown_schema_version".to_owned(),
    };
    assert_eq!(redriven.quarantined, [("p-4".parse().unwrap(), still)].into());
    assert_eq!((redriven.tried, redriven.events, redriven.unsettled), (1, 0, 1));
    let one = tables.redrive().patient(&"p-4".parse().unwrap()).await.unwrap();
    assert_eq!(one.quarantined, redriven.quarantined);
}

#[tokio::test]
async fn status_counts_what_waits_behind_a_quarantine_for_itself() {
    let world = poisoned(&[("p-3", 9), ("p-4", 2)]).await;
    world.check_in("p-1", 900).await;
    let events = status(&Connected::new(&world), at(1_000)).await.unwrap().events;
    let expected = EventStatus {
        total: 43,
        lag: 1,
        patients_behind: 1,
        waiting: 23 + 1,
        patients_waiting: 2,
    };
    assert_eq!(events, expected);
}

#[tokio::test]
async fn redrive_of_one_patient_moves_nobody_else() {
    let world = poisoned(&[("p-1", 3), ("p-3", 9)]).await;
    for (patient, event) in [("p-1", 3), ("p-3", 9)] {
        world.edit(patient, event, "schema_version", version("1")).await;
    }
    let before = world.state(LIVE, "p-1").await;
    let tables = connected(&world);
    let redriven = tables.redrive().patient(&"p-3".parse().unwrap()).await.unwrap();
    assert_eq!((redriven.tried, redriven.events), (1, 23));
    world.assert_complete(LIVE, "p-3").await;
    assert_eq!(world.state(LIVE, "p-1").await, before);
    let unknown = tables.redrive().patient(&"p-9".parse().unwrap()).await.unwrap();
    assert_eq!(unknown.events, 0);
    assert_eq!(world.state(LIVE, "p-9").await, Default::default());
}

#[tokio::test]
async fn redrive_goes_on_next_to_live_traffic() {
    let world = poisoned(&[("p-3", 9)]).await;
    world.edit("p-3", 9, "schema_version", version("1")).await;
    let tables = connected(&world);
    let live = async {
        let mut position = None;
        for minute in 100..120 {
            world.check_in("p-3", minute).await;
            deliver(&world, &mut position).await;
        }
    };
    let redrive = async {
        for _ in 0..3 {
            tables.redrive().all().await.unwrap();
        }
    };
    tokio::join!(live, redrive);
    world.assert_complete(LIVE, "p-3").await;
}

#[tokio::test]
async fn messages_about_forgotten_generations_are_settled_and_others_stay() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    let quarantine = domain::Quarantine {
        version: StreamVersion::new(99),
        reason: domain::QuarantineReason::missing(),
        since: at(0),
    };
    for generation in [LIVE, Generation::new(7)] {
        tables.quarantined.put(&QuarantineNotice::Event {
            generation,
            patient_id: "p-1".parse().unwrap(),
            quarantine: quarantine.clone(),
        });
    }
    tables.quarantined.put(&QuarantineNotice::Record {
        sequence_number: "1".to_owned(),
        reason: "invalid_key",
    });
    let redriven = tables.redrive().all().await.unwrap();
    assert_eq!((redriven.settled, redriven.unsettled), (1, 2));
    assert_eq!(tables.quarantined.len(), 2);
}

#[tokio::test]
async fn messages_that_come_again_before_all_were_seen_keep_nobody_from_being_settled() {
    let world = world().await;
    deliver(&world, &mut None).await;
    // Four are received in the time after which the first come again.
    let mut tables = Connected::new(&world);
    tables.quarantined = Mailbox::forgetting_after(2);
    let notice = |generation, version| QuarantineNotice::Event {
        generation,
        patient_id: "p-1".parse().unwrap(),
        quarantine: domain::Quarantine {
            version: StreamVersion::new(version),
            reason: domain::QuarantineReason::missing(),
            since: at(0),
        },
    };
    for version in 0..40 {
        tables.quarantined.put(&notice(LIVE, 99 + version));
    }
    tables.quarantined.put(&notice(Generation::new(7), 1));
    let redriven = tables.redrive().all().await.unwrap();
    assert_eq!((redriven.settled, redriven.unsettled), (1, 40));
    assert_eq!(tables.quarantined.visible(), 40, "the next run sees them");
    let often = tables.quarantined.received();
    assert!(often.iter().all(|often| *often <= 2), "{often:?}");
    let again = tables.redrive().all().await.unwrap();
    assert_eq!((again.settled, again.unsettled), (0, 40));
}

#[tokio::test]
async fn patients_of_batches_that_were_given_up_are_reconciled() {
    let world = world().await;
    deliver(&world, &mut None).await;
    // Their records are in batches that were given up.
    world.check_in("p-1", 500).await;
    world.check_in("p-2", 600).await;
    let tables = Connected::new(&world);
    let given_up = |at: Timestamp| {
        serde_json::json!({
            "requestContext": { "condition": "RetryAttemptsExhausted" },
            "DDBStreamBatchInfo": { "approximateArrivalOfFirstRecord": at, "batchSize": 1 },
        })
    };
    for minute in [600, 500] {
        tables.given_up.put(&given_up(at(minute)));
    }
    tables.given_up.put(&"something else");
    let redriven = tables.redrive().all().await.unwrap();
    assert_eq!((redriven.batches, redriven.events), (2, 2));
    assert_eq!((tables.given_up.len(), tables.given_up.visible()), (1, 1));
    world.assert_complete(LIVE, "p-1").await;
    world.assert_complete(LIVE, "p-2").await;
}

#[tokio::test]
async fn all_batches_that_were_given_up_take_one_sweep() {
    let world = world().await;
    deliver(&world, &mut None).await;
    world.check_in("p-1", 500).await;
    let shards = domain::EventShard::all().count();
    let log = CountedPages::new(world.log.clone(), shards);
    let tables = Connected::new(&world).reading(log);
    for minute in 500..530 {
        tables.given_up.put(&serde_json::json!({
            "DDBStreamBatchInfo": { "approximateArrivalOfFirstRecord": at(minute) },
        }));
    }
    let redriven = tables.redrive().all().await.unwrap();
    assert_eq!((redriven.batches, redriven.events), (30, 1));
    assert_eq!(tables.given_up.len(), 0);
}
