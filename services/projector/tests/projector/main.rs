//! The projector on real stream records, the embedded DynamoDB and the real SDK.

#![allow(
    clippy::unwrap_used,
    reason = "what a test builds on is there, or the test fails"
)]

mod budgets;
mod fixture;

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use aws_lambda_events::dynamodb::EventRecord;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Generation, PatientState, StreamVersion};
use projection::{
    Advance, CatchUp, Hints, Outcome, QuarantineNotice, Retry, SOFTWARE, begin_building, promote,
};
use read_model::ReadModelStore;

use fixture::{NoLog, Probe, batch, failed, projector, projector_on, whole_stream};
use testbed::{World, at};

const LIVE: Generation = Generation::FIRST;

/// Three patients with ten, five and no check-ins, appended in turns.
async fn three_patients() -> World {
    let world = World::new().await;
    for patient in ["p-1", "p-2", "p-3"] {
        world.register(patient).await;
    }
    for minute in 1..=10 {
        world.check_in("p-1", minute).await;
        if minute % 2 == 0 {
            world.check_in("p-2", minute).await;
        }
    }
    world
}

/// Delivers the batches one after the other, and expects that all is applied.
async fn check(world: &World, batches: impl IntoIterator<Item = Vec<EventRecord>>) {
    let projector = projector(world);
    for records in batches {
        let handled = projector.handle(batch(records)).await.unwrap();
        assert_eq!(failed(&handled), None);
    }
    for patient in ["p-1", "p-2", "p-3"] {
        world.assert_complete(LIVE, patient).await;
    }
    assert_eq!(world.queue.notices.lock().unwrap().len(), 0);
}

/// A permutation that depends on `seed` alone.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let other = usize::try_from(state % u64::try_from(last + 1).unwrap()).unwrap();
        items.swap(last, other);
    }
}

#[tokio::test]
async fn a_batch_is_applied() {
    let world = three_patients().await;
    check(&world, [whole_stream(&world)]).await;
    let state = world.state(LIVE, "p-1").await;
    let patient = state.patient.unwrap();
    assert_eq!(
        (patient.checkin_count, patient.last_checkin_at),
        (10, Some(at(10)))
    );
}

#[tokio::test]
async fn one_record_at_a_time_comes_to_the_same() {
    let world = three_patients().await;
    check(
        &world,
        whole_stream(&world).into_iter().map(|record| vec![record]),
    )
    .await;
}

#[tokio::test]
async fn a_redelivered_batch_changes_nothing() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let (first, second) = (stream[..8].to_vec(), stream[4..].to_vec());
    check(&world, [first.clone(), second.clone(), first, second, stream]).await;
}

#[tokio::test]
async fn duplicates_within_a_batch_count_once() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    check(&world, [[stream.clone(), stream].concat()]).await;
}

#[tokio::test]
async fn reordered_records_come_to_the_same() {
    for seed in 0..8 {
        let world = three_patients().await;
        let mut stream = whole_stream(&world);
        shuffle(&mut stream, seed);
        check(&world, stream.chunks(3).map(<[EventRecord]>::to_vec)).await;
    }
}

#[tokio::test]
async fn a_gap_is_filled_from_the_event_table() {
    let world = three_patients().await;
    let mut stream = whole_stream(&world);
    let all = stream.len();
    // Every second record is lost, but not those that end a stream: without one of them nobody knows that there is
    // more, until a reconcile finds it.
    let mut heads = HashSet::new();
    let mut number = 0;
    stream.reverse();
    stream.retain(|record| {
        number += 1;
        heads.insert(format!("{:?}", record.change.keys.get("patient_id"))) || number % 2 == 0
    });
    stream.reverse();
    assert!(stream.len() < all * 2 / 3, "{} of {all}", stream.len());
    check(&world, stream.chunks(4).map(<[EventRecord]>::to_vec)).await;
}

#[tokio::test]
async fn the_last_record_alone_brings_the_whole_stream() {
    let world = World::new().await;
    // More than one catch-up reads at once.
    world.patient("p-1", 600).await;
    let last = whole_stream(&world).pop().unwrap();
    let handled = projector(&world).handle(batch([last])).await.unwrap();
    assert_eq!(failed(&handled), None);
    world.assert_complete(LIVE, "p-1").await;
}

#[tokio::test]
async fn racing_projectors_come_to_the_fold() {
    for seed in 0..4 {
        let world = World::new().await;
        world.patient("p-1", 40).await;
        let (mut one, mut other) = (whole_stream(&world), whole_stream(&world));
        shuffle(&mut one, seed);
        shuffle(&mut other, seed + 100);
        let world = &world;
        let run = |stream: Vec<EventRecord>| async move {
            let projector = projector(world);
            for records in stream.chunks(2) {
                let handled = projector.handle(batch(records.to_vec())).await.unwrap();
                assert_eq!(failed(&handled), None);
            }
        };
        tokio::join!(run(one), run(other));
        world.assert_complete(LIVE, "p-1").await;
    }
}

#[tokio::test]
async fn a_check_in_recorded_late_is_sorted_by_when_it_occurred() {
    let world = World::new().await;
    world.register("p-1").await;
    world.check_in("p-1", 9).await;
    world.check_in("p-1", 5).await;
    projector(&world)
        .handle(batch(whole_stream(&world)))
        .await
        .unwrap();
    world.assert_complete(LIVE, "p-1").await;
    let versions: Vec<u64> = world
        .visible(LIVE, "p-1")
        .await
        .iter()
        .map(|row| row.version.get())
        .collect();
    assert_eq!(versions, [3, 2]);
}

#[tokio::test]
async fn a_transient_failure_names_the_first_record_of_the_patients_that_failed() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let faulty = Probe {
        no_rows: HashSet::from(["p-2".parse().unwrap()]),
        ..Probe::new(&world)
    };
    // One row a chunk shares its fate with the other patients', so p-1 is put alone first.
    let without_p2: Vec<_> = stream
        .iter()
        .filter(|r| !format!("{:?}", r.change.keys).contains("p-2"))
        .cloned()
        .collect();
    let projector = projector_on(&world, world.log.clone(), &faulty);
    assert_eq!(failed(&projector.handle(batch(without_p2)).await.unwrap()), None);
    let handled = projector.handle(batch(stream.clone())).await.unwrap();
    // Record 1 (of 0..) is p-2's registration: the first record of the patient that failed.
    assert_eq!(failed(&handled), stream[1].change.sequence_number.as_deref());
    world.assert_complete(LIVE, "p-1").await;
    assert_eq!(world.state(LIVE, "p-2").await.applied, StreamVersion::EMPTY);
    check(&world, [stream[1..].to_vec()]).await;
}

#[tokio::test]
async fn a_patient_whom_others_advance_again_and_again_fails_for_now() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let contended = Probe {
        conflicts: HashSet::from(["p-2".parse().unwrap()]),
        ..Probe::new(&world)
    };
    let projector = projector_on(&world, world.log.clone(), &contended);
    let handled = projector.handle(batch(stream.clone())).await.unwrap();
    assert_eq!(failed(&handled), stream[1].change.sequence_number.as_deref());
    world.assert_complete(LIVE, "p-1").await;
    assert_eq!(world.state(LIVE, "p-2").await.applied, StreamVersion::EMPTY);
}

#[tokio::test]
async fn rows_without_a_state_are_invisible() {
    let world = World::new().await;
    world.patient("p-1", 5).await;
    // The worker dies after the rows, before the state.
    let rows = |upto: usize| whole_stream(&world)[..upto].to_vec();
    projector(&world).handle(batch(rows(3))).await.unwrap();
    let before = world.visible(LIVE, "p-1").await;
    let state = world.state(LIVE, "p-1").await;
    projector(&world).handle(batch(rows(6))).await.unwrap();
    let store = world.store();
    projection::ProjectionStore::put_state(
        &store,
        LIVE,
        &"p-1".parse().unwrap(),
        StreamVersion::new(6),
        &state,
    )
    .await
    .unwrap();
    assert_eq!(world.visible(LIVE, "p-1").await, before);
    projector(&world)
        .handle(batch(whole_stream(&world)))
        .await
        .unwrap();
    world.assert_complete(LIVE, "p-1").await;
}

#[tokio::test]
async fn a_lost_acknowledgement_is_harmless() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let faulty = Probe {
        no_answer: HashSet::from(["p-1".parse().unwrap()]),
        ..Probe::new(&world)
    };
    let projector = projector_on(&world, world.log.clone(), &faulty);
    let handled = projector.handle(batch(stream.clone())).await.unwrap();
    assert_eq!(failed(&handled), stream[0].change.sequence_number.as_deref());
    check(&world, [stream]).await;
}

#[tokio::test]
async fn an_unreadable_event_table_fails_only_those_with_a_gap() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let projector = projector_on(&world, NoLog, world.store());
    // p-1's registration is missing.
    let handled = projector.handle(batch(stream[1..].to_vec())).await.unwrap();
    assert_eq!(failed(&handled), stream[3].change.sequence_number.as_deref());
    world.assert_complete(LIVE, "p-2").await;
    world.assert_complete(LIVE, "p-3").await;
}

/// Delivers a stream in which p-1's event at `version` was made poison by `edit`, and expects p-1 quarantined
/// there with `reason`, one notice without patient data, and the others complete.
async fn check_poison(world: &World, version: u64, reason: &str) {
    let projector = projector(world);
    for records in whole_stream(world).chunks(5) {
        let inserts = records
            .iter()
            .filter(|record| record.event_name == "INSERT")
            .cloned();
        let handled = projector.handle(batch(inserts)).await.unwrap();
        assert_eq!(failed(&handled), None);
    }
    let state = world.assert_is_fold(LIVE, "p-1").await;
    let quarantine = state.quarantine.unwrap();
    assert_eq!(state.applied, StreamVersion::new(version - 1));
    assert_eq!(
        (quarantine.version.get(), quarantine.reason.code()),
        (version, reason)
    );
    assert_eq!(quarantine.since, at(1_000));
    let notices = world.queue.notices.lock().unwrap().clone();
    let patient_id = "p-1".parse().unwrap();
    assert_eq!(
        notices,
        [QuarantineNotice::Event {
            generation: LIVE,
            patient_id,
            quarantine
        }]
    );
    assert!(!serde_json::to_string(&notices).unwrap().contains("Canary"));
    for patient in ["p-2", "p-3"] {
        world.assert_complete(LIVE, patient).await;
    }
}

#[tokio::test]
async fn poison_event_of_one_patient_leaves_the_others_flowing() {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let broken = AttributeValue::M([("checkin_id".to_owned(), text("Canary"))].into());
    for (attribute, value, reason) in [
        ("data", broken, "invalid_data"),
        ("event_type", text("PatientVanished"), "unknown_type"),
        (
            "schema_version",
            AttributeValue::N("99".to_owned()),
            "unknown_schema_version",
        ),
        ("occurred_at", text("yesterday"), "invalid_envelope"),
        ("event_type", text("PatientRegistered"), "invalid_data"),
    ] {
        let world = three_patients().await;
        world.edit("p-1", 4, attribute, value).await;
        // The stream has the images from before the edit: only what is in the table is poison, so lose them.
        let poisoned = |record: &EventRecord| format!("{:?}", record.change.keys).contains("\"4\"");
        let stream: Vec<_> = whole_stream(&world)
            .into_iter()
            .filter(|record| !poisoned(record))
            .collect();
        let projector = projector(&world);
        for records in stream.chunks(5) {
            assert_eq!(
                failed(&projector.handle(batch(records.to_vec())).await.unwrap()),
                None
            );
        }
        assert_eq!(world.queue.notices.lock().unwrap().len(), 1, "{reason}");
        assert_eq!(
            world.state(LIVE, "p-1").await.quarantine.unwrap().reason.code(),
            reason
        );
        assert_eq!(world.state(LIVE, "p-1").await.applied, StreamVersion::new(3));
        for patient in ["p-2", "p-3"] {
            world.assert_complete(LIVE, patient).await;
        }
    }
}

#[tokio::test]
async fn a_broken_event_in_the_table_is_quarantined_from_its_own_record() {
    let world = three_patients().await;
    world
        .put_raw(&[
            ("patient_id", AttributeValue::S("p-1".to_owned())),
            ("version", AttributeValue::N("12".to_owned())),
            ("event_type", AttributeValue::S("PatientCheckedIn".to_owned())),
            ("data", AttributeValue::S("Canary".to_owned())),
        ])
        .await;
    world.check_in("p-1", 20).await;
    check_poison(&world, 12, "invalid_envelope").await;
}

#[tokio::test]
async fn an_event_that_contradicts_the_others_is_quarantined() {
    let world = World::new().await;
    for patient in ["p-2", "p-3"] {
        world.patient(patient, 1).await;
    }
    // A check-in before the registration.
    world.check_in("p-1", 1).await;
    world.register("p-1").await;
    check_poison(&world, 1, "not_registered").await;
}

#[tokio::test]
async fn a_removed_event_is_missed() {
    let world = three_patients().await;
    world.remove("p-1", 5).await;
    let p1_5 = |record: &EventRecord| format!("{:?}", record.change.keys).contains("\"5\"");
    let stream: Vec<_> = whole_stream(&world)
        .into_iter()
        .filter(|r| !p1_5(r) || r.event_name == "REMOVE")
        .collect();
    let handled = projector(&world).handle(batch(stream)).await.unwrap();
    assert_eq!(failed(&handled), None);
    let state = world.assert_is_fold(LIVE, "p-1").await;
    assert_eq!(state.applied, StreamVersion::new(4));
    assert_eq!(state.quarantine.unwrap().reason.code(), "missing_event");
}

#[tokio::test]
async fn what_is_behind_a_missing_event_does_not_say_why() {
    let world = three_patients().await;
    world.remove("p-1", 5).await;
    world
        .edit("p-1", 6, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let of_p1 = |record: &EventRecord| format!("{:?}", record.change.keys).contains("p-1");
    let last = whole_stream(&world)
        .into_iter()
        .rfind(|record| record.event_name == "INSERT" && of_p1(record));
    projector(&world).handle(batch(last)).await.unwrap();
    let state = world.state(LIVE, "p-1").await;
    assert_eq!(state.applied, StreamVersion::new(4));
    assert_eq!(state.quarantine.unwrap().reason.code(), "missing_event");
}

#[tokio::test]
async fn a_patient_is_not_marked_while_the_queue_cannot_be_told() {
    let world = three_patients().await;
    world
        .put_raw(&[
            ("patient_id", AttributeValue::S("p-1".to_owned())),
            ("version", AttributeValue::N("12".to_owned())),
        ])
        .await;
    world.queue.failures.store(1, std::sync::atomic::Ordering::SeqCst);
    let stream = whole_stream(&world);
    let handled = projector(&world).handle(batch(stream.clone())).await.unwrap();
    assert_eq!(failed(&handled), stream[0].change.sequence_number.as_deref());
    assert_eq!(world.state(LIVE, "p-1").await.quarantine, None);
    check_poison(&world, 12, "invalid_envelope").await;
}

#[tokio::test]
async fn redelivered_poison_is_reported_once() {
    let world = three_patients().await;
    world
        .put_raw(&[
            ("patient_id", AttributeValue::S("p-1".to_owned())),
            ("version", AttributeValue::N("12".to_owned())),
        ])
        .await;
    check_poison(&world, 12, "invalid_envelope").await;
    check_poison(&world, 12, "invalid_envelope").await;
}

/// What comes of trying p-1 once more.
async fn redrive(world: &World) -> Outcome {
    let (store, queue) = (world.store(), &world.queue);
    let advance = Advance {
        log: &world.log,
        store: &store,
        queue: &queue,
        generation: LIVE,
        catch_up: CatchUp::FromEventTable,
        retry: Retry::Quarantined,
        concurrency: 4,
        now: at(2_000),
    };
    let mut hints = Hints::default();
    hints.add_head("p-1".parse().unwrap(), StreamVersion::new(11));
    advance.run(&hints).await.into_values().next().unwrap()
}

#[tokio::test]
async fn a_redrive_applies_what_was_waiting_once_the_event_can_be_applied() {
    let world = three_patients().await;
    world
        .edit("p-1", 4, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let last = whole_stream(&world)
        .into_iter()
        .rfind(|record| record.event_name == "INSERT" && format!("{:?}", record.change.keys).contains("p-1"));
    projector(&world).handle(batch(last)).await.unwrap();
    assert!(world.state(LIVE, "p-1").await.quarantine.is_some());
    assert!(matches!(
        redrive(&world).await,
        Outcome::Quarantined { newly: false, .. }
    ));
    assert_eq!(
        world.state(LIVE, "p-1").await.quarantine.unwrap().since,
        at(1_000)
    );
    world
        .edit("p-1", 4, "schema_version", AttributeValue::N("1".to_owned()))
        .await;
    assert!(matches!(redrive(&world).await, Outcome::Reached { .. }));
    world.assert_complete(LIVE, "p-1").await;
    assert_eq!(world.queue.notices.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_mark_whose_reason_changes_is_reported_again() {
    let world = three_patients().await;
    world.remove("p-1", 5).await;
    let last = whole_stream(&world)
        .into_iter()
        .rfind(|record| record.event_name == "INSERT" && format!("{:?}", record.change.keys).contains("p-1"));
    projector(&world).handle(batch(last)).await.unwrap();
    world
        .put_raw(&[
            ("patient_id", AttributeValue::S("p-1".to_owned())),
            ("version", AttributeValue::N("5".to_owned())),
        ])
        .await;
    assert!(matches!(
        redrive(&world).await,
        Outcome::Quarantined { newly: true, .. }
    ));
    let mark = world.state(LIVE, "p-1").await.quarantine.unwrap();
    assert_eq!((mark.reason.code(), mark.since), ("invalid_envelope", at(2_000)));
    assert_eq!(world.queue.notices.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_malformed_summary_is_made_anew_and_delays_nobody() {
    let number = |number: &str| Some(AttributeValue::N(number.to_owned()));
    for (attribute, value) in [
        ("applied", None),
        ("checkin_count", number("-1")),
        ("patient_id", Some(AttributeValue::S("p_1".to_owned()))),
        ("quarantine", number("1")),
    ] {
        let world = three_patients().await;
        let before = whole_stream(&world);
        check(&world, [before.clone()]).await;
        world.edit_summary(LIVE, "p-1", attribute, value).await;
        for patient in ["p-1", "p-2", "p-3"] {
            world.check_in(patient, 20).await;
        }
        let new = whole_stream(&world)[before.len()..].to_vec();
        assert_eq!(new.len(), 3);
        check(&world, [new]).await;
    }
}

#[tokio::test]
async fn a_malformed_summary_is_made_anew_once_by_racing_projectors() {
    let world = World::new().await;
    // More than one catch-up reads at once, so that each of them puts the state more than once.
    world.patient("p-1", 600).await;
    let last = whole_stream(&world).pop().unwrap();
    let deliver = || async {
        let handled = projector(&world).handle(batch([last.clone()])).await.unwrap();
        assert_eq!(failed(&handled), None);
    };
    deliver().await;
    world.edit_summary(LIVE, "p-1", "applied", None).await;
    tokio::join!(deliver(), deliver(), deliver());
    world.assert_complete(LIVE, "p-1").await;
}

#[tokio::test]
async fn changed_events_are_never_applied() {
    let world = three_patients().await;
    world
        .edit("p-1", 11, "occurred_at", AttributeValue::S(at(99).to_string()))
        .await;
    world.remove("p-2", 6).await;
    let (inserts, changes): (Vec<_>, Vec<_>) = whole_stream(&world)
        .into_iter()
        .partition(|record| record.event_name == "INSERT");
    assert_eq!(changes.len(), 2);
    // Of the two events, only that they were changed has been heard so far.
    let (changed, others): (Vec<_>, Vec<_>) = inserts.into_iter().partition(|record| {
        changes
            .iter()
            .any(|change| change.change.keys == record.change.keys)
    });
    let projector = projector(&world);
    let applied = async |records: Vec<EventRecord>| {
        let handled = projector.handle(batch(records)).await.unwrap();
        assert_eq!(failed(&handled), None);
        for patient in ["p-1", "p-2"] {
            assert_eq!(world.state(LIVE, patient).await.quarantine, None);
        }
        let state = world.state(LIVE, "p-1").await;
        let last = state.patient.unwrap().last_checkin_at;
        let other = world.state(LIVE, "p-2").await.applied;
        (handled.summary, (state.applied.get(), last, other.get()))
    };
    let (_, before) = applied(others).await;
    assert_eq!(before, (10, Some(at(9)), 5));

    let (summary, after) = applied(changes).await;
    assert_eq!((summary.applied, summary.violations), (0, 2));
    assert_eq!(after, before);

    let (summary, after) = applied(changed).await;
    assert_eq!((summary.applied, summary.violations), (2, 0));
    assert_eq!(after, (11, Some(at(10)), 6));
}

#[tokio::test]
async fn a_record_without_a_usable_key_is_reported() {
    let world = World::new().await;
    for (patient, version) in [("p_1", "1"), ("p-1", "0"), ("p-1", "-1"), ("p-1", "1.5")] {
        world
            .put_raw(&[
                ("patient_id", AttributeValue::S(patient.to_owned())),
                ("version", AttributeValue::N(version.to_owned())),
            ])
            .await;
    }
    let stream = whole_stream(&world);
    let handled = projector(&world).handle(batch(stream.clone())).await.unwrap();
    assert_eq!(failed(&handled), None);
    let expected: Vec<_> = stream
        .iter()
        .map(|record| QuarantineNotice::Record {
            sequence_number: record.change.sequence_number.clone().unwrap(),
            reason: "invalid_key",
        })
        .collect();
    assert_eq!(*world.queue.notices.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_record_without_a_sequence_number_fails_the_batch() {
    for number in [None, Some(String::new())] {
        let world = three_patients().await;
        let mut stream = whole_stream(&world);
        stream[2].change.sequence_number = number;
        projector(&world).handle(batch(stream)).await.unwrap_err();
    }
}

/// Delivers ten records of each of so many patients at once. `expected` calls read states, put rows, put states together,
/// and put one alone.
async fn check_calls(patients: usize, only_alone: bool, expected: [usize; 4]) {
    let world = World::new().await;
    let records = (0..patients).flat_map(|patient| world.images(&format!("p-{patient}"), 9));
    let records: Vec<_> = serde_json::from_value(records.collect()).unwrap();
    assert_eq!(records.len(), 10 * patients);
    let probe = Probe {
        only_alone,
        ..Probe::new(&world)
    };
    let handled = projector_on(&world, NoLog, &probe)
        .handle(batch(records))
        .await
        .unwrap();
    assert_eq!(failed(&handled), None);
    let calls = [
        probe.state_reads,
        probe.row_puts,
        probe.batch_puts,
        probe.state_puts,
    ];
    assert_eq!(calls.map(AtomicUsize::into_inner), expected);
    assert_eq!(probe.most_under_way.into_inner(), 4);
    let last = format!("p-{}", patients - 1);
    let patient = world.state(LIVE, &last).await.patient.unwrap();
    assert_eq!(patient.checkin_count, 9);
    assert_eq!(world.visible(LIVE, &last).await.len(), 9);
}

#[tokio::test]
async fn ten_thousand_records_take_few_calls() {
    // 100 patients a read, 25 rows a write, 25 patients a write.
    check_calls(1_000, false, [10, 360, 40, 0]).await;
}

#[tokio::test]
async fn what_is_not_put_together_is_put_alone_a_few_at_a_time() {
    check_calls(100, true, [1, 36, 4, 100]).await;
}

#[tokio::test]
async fn an_empty_batch_is_no_failure() {
    let world = World::new().await;
    assert_eq!(failed(&projector(&world).handle(batch([])).await.unwrap()), None);
}

#[tokio::test]
async fn a_building_generation_gets_what_continues_it_and_leaves_gaps() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    check(&world, [stream.clone()]).await;
    let building = begin_building(&world.store(), SOFTWARE, at(0))
        .await
        .unwrap()
        .generation;
    assert_eq!(building, Generation::new(2));
    world.check_in("p-1", 50).await;
    world.patient("p-4", 2).await;
    world.patient("p-5", 3).await;
    let mut new = whole_stream(&world)[stream.len()..].to_vec();
    // The last but one of p-5 is lost.
    let lost = new.len() - 2;
    drop(new.remove(lost));
    let probe = Probe::new(&world);
    let handled = projector_on(&world, world.log.clone(), &probe)
        .handle(batch(new))
        .await;
    assert_eq!(failed(&handled.unwrap()), None);
    for patient in ["p-1", "p-4", "p-5"] {
        world.assert_complete(LIVE, patient).await;
    }
    world.assert_complete(building, "p-4").await;
    // Of p-1 nothing continues what is there, and that is no reason for a mark.
    assert_eq!(world.state(building, "p-1").await, PatientState::default());
    let reached = world.assert_is_fold(building, "p-5").await;
    assert_eq!(
        (reached.applied, reached.quarantine),
        (StreamVersion::new(2), None)
    );
    // One write a generation: in the live one the whole of p-5 came from the event table at once.
    let puts = [probe.batch_puts, probe.state_puts].map(AtomicUsize::into_inner);
    assert_eq!(puts, [2, 0]);
    promote(&world.store(), building, at(0)).await.unwrap();
    promote(&world.store(), building, at(0)).await.unwrap_err();
    assert_eq!(world.control().await.previous, Some(LIVE));
}

#[tokio::test]
async fn a_generation_that_other_software_is_building_is_left_alone() {
    let world = three_patients().await;
    let building = begin_building(&world.store(), "of another release", at(0)).await;
    let building = building.unwrap().generation;
    check(&world, [whole_stream(&world)]).await;
    for patient in ["p-1", "p-2", "p-3"] {
        assert_eq!(world.state(building, patient).await, PatientState::default());
    }
    let freshness = world.read_model.freshness(building).await.unwrap();
    assert_eq!(freshness.progress, None);
}

#[tokio::test]
async fn progress_tells_the_lag_and_the_software() {
    let world = three_patients().await;
    check(&world, [whole_stream(&world)]).await;
    let progress = world.read_model.freshness(LIVE).await.unwrap().progress.unwrap();
    assert_eq!((progress.recorded_at, progress.applied_at), (at(10), at(1_000)));
    assert_eq!(progress.software.as_deref(), Some(SOFTWARE));
}

#[tokio::test]
async fn the_first_generation_is_begun_once() {
    let world = World::new().await;
    let (one, other) = (world.store(), world.store());
    let (one, other) = tokio::join!(projection::current(&one), projection::current(&other));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(world.control().await.active, LIVE);
}

#[tokio::test]
async fn a_batch_is_reported_in_metrics_and_annotations() {
    let world = three_patients().await;
    let stream = whole_stream(&world);
    let events = u64::try_from(stream.len()).unwrap();
    let mut modified = stream[0].clone();
    modified.event_name = "MODIFY".to_owned();
    let records = stream.iter().cloned().chain([modified]);

    let first = projector(&world).handle(batch(records)).await.unwrap().summary;
    assert_eq!((first.applied, first.violations, first.failed), (events, 1, 0));
    // The testbed's clock tells the projector this time, and what each event is recorded at.
    let newest = stream.iter().filter_map(|record| {
        let item = record.change.new_image.clone();
        let event = event_log::item::stream_entry(item)?.event.ok()?;
        Some(event.recorded_at)
    });
    let lag = at(1_000).millis_since(newest.max().unwrap());
    assert_eq!(first.lag_millis, Some(u64::try_from(lag).unwrap()));

    let again = projector(&world).handle(batch(stream)).await.unwrap().summary;
    assert_eq!((again.applied, again.violations, again.lag_millis), (0, 0, None));

    let names = |report: &runtime::Report| -> Vec<_> {
        report
            .metrics
            .iter()
            .map(|metric| (metric.name, metric.value))
            .collect()
    };
    let metrics = names(&first.report());
    assert!(metrics.contains(&("EventsApplied", events)), "{metrics:?}");
    assert!(metrics.contains(&("IntegrityViolations", 1)), "{metrics:?}");
    // An alarm needs to see that there is none.
    let metrics = names(&again.report());
    assert!(metrics.contains(&("IntegrityViolations", 0)), "{metrics:?}");
    assert!(
        !metrics.iter().any(|(name, _)| *name == "ProjectionLag"),
        "{metrics:?}"
    );
}
