//! The reconciler on the embedded DynamoDB.

#![allow(
    clippy::unwrap_used,
    reason = "what a test builds on is there, or the test fails"
)]

use std::sync::atomic::Ordering::SeqCst;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{EventShard, Generation, StreamVersion};
use event_log::{EventLog, EventTable};
use projection::{ProjectionTable, SweepStore};
use read_model::ReadModelStore;
use reconciler::{Reconciler, Request, Summary};
use testbed::{CountedPages, Meter, Queue, World, at};

const LIVE: Generation = Generation::FIRST;

const NOW: runtime::clock::Clock = || at(100);

/// Asks for everything.
const FULL: Request = Request {
    full: true,
    tick: None,
};

fn reconciler(world: &World) -> Reconciler<EventTable, ProjectionTable, &Queue> {
    let (log, store) = (world.log.clone().with_page_limit(2), world.store());
    Reconciler {
        log,
        store,
        queue: &world.queue,
        concurrency: 4,
        clock: NOW,
    }
}

/// One whose invocation ends when it has read a page of each shard, and 14 more of the only one that has any: of a patient
/// with an event each minute, those up to minute 29.
fn cut_short_at_29(
    world: &World,
    clock: runtime::clock::Clock,
) -> Reconciler<CountedPages, ProjectionTable, &Queue> {
    let pages = EventShard::all().count() + 14;
    Reconciler {
        log: CountedPages::new(world.log.clone().with_page_limit(2), pages),
        store: world.store(),
        queue: &world.queue,
        concurrency: 4,
        clock,
    }
}

async fn reconcile(world: &World) -> Summary {
    reconciler(world).handle(Request::default()).await.unwrap()
}

#[tokio::test]
async fn patients_of_whom_every_record_was_lost_are_found() {
    let world = World::new().await;
    world.patient("p-1", 7).await;
    world.patient("p-2", 0).await;
    let summary = reconcile(&world).await;
    assert_eq!((summary.events, summary.quarantined), (9, 0));
    world.assert_complete(LIVE, "p-1").await;
    world.assert_complete(LIVE, "p-2").await;
    let again = reconcile(&world).await;
    assert_eq!((again.behind, again.events, again.lag_millis), (0, 0, 0));
}

#[tokio::test]
async fn the_cost_grows_with_what_was_recorded_since_the_last_time() {
    let world = World::new().await;
    for patient in ["p-1", "p-2", "p-3"] {
        world.patient(patient, 1).await;
    }
    reconcile(&world).await;
    world.check_in("p-2", 99).await;
    let summary = reconcile(&world).await;
    assert_eq!(
        summary,
        Summary {
            patients: 1,
            behind: 1,
            events: 1,
            quarantined: 0,
            lag_millis: 60_000
        }
    );
    let metrics = summary.report().metrics;
    let metrics: Vec<_> = metrics.iter().map(|metric| (metric.name, metric.value)).collect();
    let expected = [
        ("PatientsBehind", 1),
        ("EventsReconciled", 1),
        ("PatientsQuarantined", 0),
        ("ReconcileLag", 60_000),
    ];
    assert_eq!(metrics, expected);
    let full = reconciler(&world).handle(FULL).await.unwrap();
    assert!(full.patients >= 3, "{full:?}");
}

#[tokio::test]
async fn what_was_written_late_lies_within_the_overlap() {
    let world = World::new().await;
    world.patient("p-1", 1).await;
    reconcile(&world).await;
    // Recorded before that sweep began, and in the index after it, as late as can be: 15 minutes for the append, one for the
    // index, by a clock that is one behind.
    world.check_in("p-1", 100 - 17).await;
    assert_eq!(reconcile(&world).await.events, 1);
    world.assert_complete(LIVE, "p-1").await;
}

#[tokio::test]
async fn a_poison_event_that_nobody_was_told_of_is_quarantined_once() {
    let world = World::new().await;
    world.patient("p-1", 3).await;
    world
        .edit("p-1", 3, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    for _ in 0..2 {
        let summary = reconciler(&world).handle(FULL).await.unwrap();
        assert_eq!(summary.quarantined, 1);
    }
    let state = world.assert_is_fold(LIVE, "p-1").await;
    assert_eq!(state.applied, StreamVersion::new(2));
    assert_eq!(world.queue.notices.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_patient_whose_summary_is_malformed_lags_and_keeps_nobody_from_being_repaired() {
    let world = World::new().await;
    world.patient("p-1", 3).await;
    reconcile(&world).await;
    world.edit_summary(LIVE, "p-1", "applied", None).await;
    world.patient("p-2", 2).await;
    let summary = reconciler(&world).handle(FULL).await.unwrap();
    // All four of the one, as none of them counts as applied, and three of the other.
    assert_eq!((summary.behind, summary.events), (2, 7));
    for patient in ["p-1", "p-2"] {
        world.assert_complete(LIVE, patient).await;
    }
}

#[tokio::test]
async fn the_next_sweep_begins_at_the_oldest_event_that_could_not_be_applied() {
    let world = World::new().await;
    world.patient("p-1", 3).await;
    world.patient("p-2", 50).await;
    world
        .edit("p-1", 3, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    world.queue.failures.store(1, SeqCst);
    let error = reconciler(&world).handle(Request::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "1 patients could not be advanced");
    // Nobody else has to wait for it.
    world.assert_complete(LIVE, "p-2").await;
    let entries = world
        .log
        .read(&"p-1".parse().unwrap(), StreamVersion::EMPTY, 1)
        .await
        .unwrap();
    let first = entries.into_iter().next().unwrap().decode().event.unwrap();
    assert_eq!(
        world.store().swept_to(LIVE).await.unwrap(),
        Some(first.recorded_at)
    );
    assert_eq!(reconcile(&world).await.quarantined, 1);
    assert_eq!(world.store().swept_to(LIVE).await.unwrap(), Some(NOW()));
}

#[tokio::test]
async fn a_sweep_that_was_cut_short_is_gone_on_with() {
    let world = World::new().await;
    world.patient("p-1", 50).await;
    let cut_short = cut_short_at_29(&world, NOW);
    cut_short.handle(Request::default()).await.unwrap_err();
    assert_eq!(world.store().swept_to(LIVE).await.unwrap(), Some(at(29)));
    // Asked for everything, it begins at the beginning, and what was reached stays so.
    cut_short.log.asked.store(0, SeqCst);
    cut_short.log.most.store(EventShard::all().count(), SeqCst);
    cut_short.handle(FULL).await.unwrap_err();
    assert_eq!(world.store().swept_to(LIVE).await.unwrap(), Some(at(29)));

    reconcile(&world).await;
    world.assert_complete(LIVE, "p-1").await;
    assert_eq!(world.store().swept_to(LIVE).await.unwrap(), Some(NOW()));
}

#[tokio::test]
async fn a_sweep_that_was_cut_short_counts_for_nothing_that_was_recorded_after_it_began() {
    let world = World::new().await;
    world.patient("p-1", 50).await;
    let cut_short = cut_short_at_29(&world, || at(20));
    cut_short.handle(Request::default()).await.unwrap_err();
    assert_eq!(world.store().swept_to(LIVE).await.unwrap(), Some(at(20)));
}

#[tokio::test]
async fn what_the_projector_was_late_with_is_kept_for_whoever_asks_how_the_projection_is() {
    let world = World::new().await;
    let lag = async || {
        let sweep = world.read_model.freshness(LIVE).await.unwrap().sweep;
        sweep.unwrap().lag_millis
    };
    world.patient("p-1", 2).await;
    reconcile(&world).await;
    reconcile(&world).await;
    assert_eq!(lag().await, 0);
    world.check_in("p-1", 95).await;
    reconcile(&world).await;
    assert_eq!(lag().await, 5 * 60_000);
    // What is known to wait behind a quarantine is not late.
    world.patient("p-2", 3).await;
    world
        .edit("p-2", 3, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    reconciler(&world).handle(FULL).await.unwrap();
    world.check_in("p-2", 96).await;
    let summary = reconcile(&world).await;
    assert_eq!((summary.behind, summary.lag_millis), (1, 0));
    assert_eq!(lag().await, 0);
}

#[tokio::test]
async fn the_mark_of_a_sweep_tells_what_it_applied_and_what_the_one_before_came_to() {
    let world = World::new().await;
    let mark = async || world.read_model.freshness(LIVE).await.unwrap().sweep.unwrap();
    world.patient("p-1", 2).await;
    reconcile(&world).await;
    let first = mark().await;
    assert_eq!((first.applied_at, first.before), (Some(NOW()), None));

    world.check_in("p-1", 95).await;
    let later = |clock| Reconciler {
        clock,
        ..reconciler(&world)
    };
    later(|| at(101)).handle(Request::default()).await.unwrap();
    let second = mark().await;
    assert_eq!((second.swept_to, second.applied_at), (at(101), Some(at(101))));
    let before = second.before.unwrap();
    assert_eq!((before.swept_to, before.lag_millis), (NOW(), first.lag_millis));

    // One that applies nothing leaves when that was.
    later(|| at(102)).handle(Request::default()).await.unwrap();
    let third = mark().await;
    assert_eq!((third.lag_millis, third.applied_at), (0, Some(at(101))));
    assert_eq!(
        third.before.map(|before| before.lag_millis),
        Some(second.lag_millis)
    );
}

#[tokio::test]
async fn a_sweep_that_was_cut_short_takes_back_nothing_that_was_found_before() {
    let world = World::new().await;
    world.patient("p-1", 50).await;
    reconcile(&world).await;
    let first = world.read_model.freshness(LIVE).await.unwrap().sweep.unwrap();
    assert!(first.lag_millis > 0);
    // A page of each shard; what is looked at again is all there.
    let cut_short = Reconciler {
        log: CountedPages::new(
            world.log.clone().with_page_limit(2),
            EventShard::all().count() + 1,
        ),
        store: world.store(),
        queue: &world.queue,
        concurrency: 4,
        clock: || at(300),
    };
    for minute in 200..250 {
        world.check_in("p-1", minute).await;
    }
    cut_short.handle(Request::default()).await.unwrap_err();
    let mark = world.read_model.freshness(LIVE).await.unwrap().sweep.unwrap();
    assert!(mark.swept_to > first.swept_to, "{mark:?}");
    assert!(mark.lag_millis >= first.lag_millis, "{mark:?}");
    assert_eq!(mark.before, first.before);
}

#[tokio::test]
async fn the_time_between_two_ticks_is_kept_and_a_sweep_by_hand_does_not_change_it() {
    let world = World::new().await;
    let sweep = async |tick: Option<i64>| {
        let request = Request {
            full: false,
            tick: tick.map(at),
        };
        reconciler(&world).handle(request).await.unwrap();
        let mark = world.read_model.freshness(LIVE).await.unwrap().sweep.unwrap();
        mark.period_millis.map(|millis| millis / 60_000)
    };
    assert_eq!(sweep(None).await, None);
    assert_eq!(sweep(Some(60)).await, None);
    assert_eq!(sweep(Some(65)).await, Some(5));
    for again_late_or_by_hand in [Some(65), Some(60), None] {
        assert_eq!(sweep(again_late_or_by_hand).await, Some(5));
    }
    assert_eq!(sweep(Some(67)).await, Some(2));
}

#[tokio::test]
async fn a_sweep_costs_what_was_recorded_and_what_is_missing() {
    let meter = Meter::default();
    let world = World::new().await.metered(&meter);
    let patients: Vec<String> = (0..100).map(|number| format!("p-{number}")).collect();
    world.put_streams(&patients, 1).await;
    let sweep = async |clock: runtime::clock::Clock| {
        let reconciler = Reconciler {
            log: world.log.clone(),
            clock,
            ..reconciler(&world)
        };
        drop(meter.take());
        let summary = reconciler.handle(Request::default()).await.unwrap();
        (summary.events, meter.take().to_string())
    };
    // What a sweep at this time costs, when the last events of these patients got lost before. A change that makes it
    // dearer has to change these numbers, and those in docs/PERFORMANCE.md.
    let check = async |clock, lost: &[String], expected: &str| {
        for patient in lost {
            world.check_in(patient, 3).await;
        }
        let repaired = u64::try_from(lost.len()).unwrap();
        assert_eq!(sweep(clock).await, (repaired, expected.to_owned()));
    };
    sweep(|| at(2)).await;
    // All is applied: the index of 16 shards, and the summaries of those of each; the control item, the mark of the last
    // sweep and of this one.
    check(
        || at(3),
        &[],
        concat!(
            r#"calls {"BatchGetItem": 16, "GetItem": 2, "PutItem": 1, "Query": 16}, "#,
            r#"reads {"by_recorded_at": 8.0, "checkin-read-model": 102.0}, "#,
            r#"writes {"checkin-read-model": 1.0}"#
        ),
    )
    .await;
    // One is missing: its summary is read once more, its event read, and projected.
    check(
        || at(3),
        &patients[..1],
        concat!(
            r#"calls {"BatchGetItem": 17, "BatchWriteItem": 1, "#,
            r#""GetItem": 2, "PutItem": 2, "Query": 17}, "#,
            r#"reads {"by_recorded_at": 8.0, "checkin-events": 1.0, "checkin-read-model": 103.0}, "#,
            r#"writes {"by_recent": 2.0, "checkin-read-model": 3.0}"#
        ),
    )
    .await;
    // Ten are missing, in seven shards, each of which is repaired by itself.
    check(
        || at(3),
        &patients[1..11],
        concat!(
            r#"calls {"BatchExecuteStatement": 2, "BatchGetItem": 23, "#,
            r#""BatchWriteItem": 7, "GetItem": 2, "PutItem": 6, "Query": 26}, "#,
            r#"reads {"by_recorded_at": 8.0, "checkin-events": 10.0, "checkin-read-model": 112.0}, "#,
            r#"writes {"by_recent": 20.0, "checkin-read-model": 21.0}"#
        ),
    )
    .await;
    // Nothing was recorded for a day.
    let of_nothing = concat!(
        r#"calls {"GetItem": 2, "PutItem": 1, "Query": 16}, "#,
        r#"reads {"by_recorded_at": 8.0, "checkin-read-model": 2.0}, "#,
        r#"writes {"checkin-read-model": 1.0}"#
    );
    sweep(|| at(24 * 60)).await;
    check(|| at(24 * 60 + 5), &[], of_nothing).await;
}

#[test]
fn a_scheduled_event_asks_for_the_usual() {
    #[track_caller]
    fn check(event: serde_json::Value, full: bool, tick: Option<&str>) {
        let tick = tick.map(|tick| tick.parse().unwrap());
        let request: Request = serde_json::from_value(event).unwrap();
        assert_eq!(request, Request { full, tick });
    }
    let tick = Some("2026-11-24T09:30:00.000Z");
    check(
        serde_json::json!({ "detail-type": "Scheduled Event", "time": "2026-11-24T09:30:00Z" }),
        false,
        tick,
    );
    check(serde_json::json!({ "full": true }), true, None);
    check(serde_json::json!({}), false, None);
    for time in [
        serde_json::json!(null),
        serde_json::json!("noon"),
        serde_json::json!({ "a": [1] }),
        serde_json::json!(7),
    ] {
        check(serde_json::json!({ "time": time }), false, None);
    }
}
