//! Rebuilding on the embedded DynamoDB, next to live traffic.

#![allow(
    clippy::unwrap_used,
    reason = "what a test builds on is there, or the test fails"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Generation, PatientId, PatientState, StreamVersion};
use event_log::EventTable;
use projection::{
    PatientRow, ProjectionStore, ProjectionTable, ProjectionUnavailable, PutControlError, PutStateError,
};
use projector::Projector;
use read_model::{Control, Progress};
use replay::{Rebuild, RebuildError, Rebuilt, status};
use testbed::{Queue, World, at};

const LIVE: Generation = Generation::FIRST;
const NEXT: Generation = Generation::new(2);

async fn world() -> World {
    let world = World::new().await;
    for (patient, check_ins) in [("p-1", 7), ("p-2", 0), ("p-3", 30), ("p-4", 1)] {
        world.patient(patient, check_ins).await;
    }
    world
}

fn projector(world: &World) -> Projector<EventTable, ProjectionTable, &Queue> {
    let (log, store) = (world.log.clone(), world.store());
    Projector {
        log,
        store,
        queue: &world.queue,
        concurrency: 4,
        clock: || at(1_000),
    }
}

/// Delivers what the stream has after `position`, as the event source mapping does, and moves on.
async fn deliver(world: &World, position: &mut Option<String>) {
    let records = world.stream(position.as_deref());
    let Some(last) = records.last() else { return };
    let last = last
        .pointer("/dynamodb/SequenceNumber")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned();
    let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();
    let response = projector(world).handle(event).await.unwrap();
    assert!(response.batch_item_failures.is_empty());
    *position = Some(last);
}

/// A rebuild with pages of `page` events.
async fn rebuild(world: &World, page: u16) -> Result<(Rebuilt, u64), RebuildError> {
    let (log, store) = (world.log.clone().with_page_limit(page), world.store());
    let read = AtomicU64::new(0);
    let rebuild = Rebuild {
        log: &log,
        store: &store,
        queue: &&world.queue,
        segments: 3,
        concurrency: 4,
        clock: || at(1_000),
    };
    let rebuilt = rebuild
        .run(&|events| _ = read.fetch_add(events, Ordering::SeqCst))
        .await?;
    Ok((rebuilt, read.into_inner()))
}

#[tokio::test]
async fn a_rebuilt_generation_equals_the_live_one_and_takes_its_place() {
    for page in [1, 2, 7, 1_000] {
        let world = world().await;
        deliver(&world, &mut None).await;
        let (rebuilt, read) = rebuild(&world, page).await.unwrap();
        assert_eq!(
            (rebuilt.generation, rebuilt.patients, rebuilt.events, read),
            (NEXT, 4, 42, 42)
        );
        for patient in ["p-1", "p-2", "p-3", "p-4"] {
            world.assert_complete(NEXT, patient).await;
            assert_eq!(world.state(NEXT, patient).await, world.state(LIVE, patient).await);
            assert_eq!(
                world.visible(NEXT, patient).await,
                world.visible(LIVE, patient).await
            );
        }
        let control = world.control().await;
        assert_eq!(
            (control.active, control.building, control.previous),
            (NEXT, None, Some(LIVE))
        );
    }
}

#[tokio::test]
async fn a_read_model_that_lost_everything_is_rebuilt_from_the_events() {
    let world = world().await;
    rebuild(&world, 5).await.unwrap();
    for patient in ["p-1", "p-2", "p-3", "p-4"] {
        world.assert_complete(NEXT, patient).await;
    }
}

#[tokio::test]
async fn live_traffic_goes_on_while_rebuilding() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let done = AtomicBool::new(false);
    let live = async {
        let mut minute = 100;
        while !done.load(Ordering::SeqCst) {
            minute += 1;
            world.check_in("p-1", minute).await;
            world.check_in("p-3", minute).await;
            world.register(&format!("n-{minute}")).await;
            deliver(&world, &mut position).await;
        }
        deliver(&world, &mut position).await;
        minute
    };
    let build = async {
        let rebuilt = rebuild(&world, 2).await;
        done.store(true, Ordering::SeqCst);
        rebuilt.unwrap()
    };
    let (minute, _) = tokio::join!(live, build);
    assert!(minute > 105, "the rebuild was over before there was any traffic");
    assert_eq!(world.control().await.active, NEXT);
    for patient in ["p-1", "p-2", "p-3", "p-4"] {
        world.assert_complete(NEXT, patient).await;
    }
    for minute in 101..=minute {
        world.assert_complete(NEXT, &format!("n-{minute}")).await;
    }
}

#[tokio::test]
async fn events_that_overtook_each_other_meanwhile_are_found_after_the_promotion() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let store = BeforePromotion {
        inner: world.store(),
        world: &world,
    };
    let rebuild = Rebuild {
        log: &world.log,
        store: &store,
        queue: &&world.queue,
        segments: 3,
        concurrency: 4,
        clock: || at(1_000),
    };
    rebuild.run(&|_| ()).await.unwrap();
    world.assert_complete(NEXT, "p-2").await;
    assert_eq!(world.state(NEXT, "p-2").await.applied, StreamVersion::new(3));
}

/// The read model's table; just before the promotion, and after the comparison, two events of p-2 are recorded and
/// their records overtake each other.
struct BeforePromotion<'w> {
    inner: ProjectionTable,
    world: &'w World,
}

impl ProjectionStore for BeforePromotion<'_> {
    async fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> Result<(), PutControlError> {
        if control.previous.is_some() {
            let before = self.world.stream(None).len();
            self.world.check_in("p-2", 990).await;
            self.world.check_in("p-2", 991).await;
            for record in self.world.stream(None).iter().skip(before).rev() {
                let event = serde_json::from_value(serde_json::json!({ "Records": [record] })).unwrap();
                projector(self.world).handle(event).await.unwrap();
            }
            assert_eq!(self.world.state(LIVE, "p-2").await.applied, StreamVersion::new(3));
            assert_eq!(
                self.world.state(NEXT, "p-2").await.applied,
                StreamVersion::new(2),
                "it was left out"
            );
        }
        self.inner.put_control(expected, control).await
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ProjectionUnavailable> {
        self.inner.states(generation, patients).await
    }

    async fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> Result<(), ProjectionUnavailable> {
        self.inner.put_rows(generation, rows).await
    }

    async fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> Result<(), PutStateError> {
        self.inner.put_state(generation, patient, expected, state).await
    }

    async fn control(&self) -> Result<Option<Control>, ProjectionUnavailable> {
        self.inner.control().await
    }

    async fn put_progress(
        &self,
        generation: Generation,
        progress: &Progress,
    ) -> Result<(), ProjectionUnavailable> {
        self.inner.put_progress(generation, progress).await
    }
}

#[tokio::test]
async fn a_build_that_was_cut_short_is_gone_on_with() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let store = world.store();
    assert_eq!(projection::begin_building(&store).await.unwrap(), NEXT);
    let (rebuilt, _) = rebuild(&world, 4).await.unwrap();
    assert_eq!(rebuilt.generation, NEXT);
    let (rebuilt, _) = rebuild(&world, 4).await.unwrap();
    assert_eq!(rebuilt.generation, Generation::new(3));
}

#[tokio::test]
async fn a_generation_that_would_show_less_is_not_promoted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let error = rebuild(&world, 1_000).await.unwrap_err();
    assert!(error.to_string().contains("p-3 (event 9)"), "{error}");
    assert_eq!(world.control().await.active, LIVE);
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("1".to_owned()))
        .await;
    assert_eq!(world.control().await.building, None, "it was given up");
    let (rebuilt, _) = rebuild(&world, 1_000).await.unwrap();
    assert_eq!(rebuilt.generation, Generation::new(3));
    world.assert_complete(rebuilt.generation, "p-3").await;
}

#[tokio::test]
async fn a_patient_who_was_quarantined_before_stays_so() {
    let world = world().await;
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    // Only the last record arrives, so the poison is found in the table.
    let last = world.stream(None).into_iter().rfind(|record| {
        record.pointer("/dynamodb/Keys/patient_id/S").unwrap() == "p-3" && record["eventName"] == "INSERT"
    });
    let event = serde_json::from_value(serde_json::json!({ "Records": [last] })).unwrap();
    projector(&world).handle(event).await.unwrap();
    let (rebuilt, _) = rebuild(&world, 1_000).await.unwrap();
    assert_eq!(
        rebuilt.quarantined,
        [("p-3".parse().unwrap(), StreamVersion::new(9))].into()
    );
    let state = world.assert_is_fold(NEXT, "p-3").await;
    assert_eq!(state.applied, StreamVersion::new(8));
}

#[tokio::test]
async fn status_counts_what_there_is_and_what_is_behind() {
    let world = world().await;
    let before = status(&world.log, &world.read_model, at(10)).await.unwrap();
    assert_eq!(before.generations, []);
    assert_eq!(
        (
            before.events.total,
            before.events.lag,
            before.events.patients_behind
        ),
        (42, 42, 4)
    );
    deliver(&world, &mut None).await;
    world.check_in("p-1", 50).await;
    world.check_in("p-1", 51).await;
    projection::begin_building(&world.store()).await.unwrap();
    let status = status(&world.log, &world.read_model, at(60)).await.unwrap();
    let roles: Vec<_> = status
        .generations
        .iter()
        .map(|line| {
            (
                line.role,
                line.generation,
                line.patients,
                line.checkins,
                line.applied,
            )
        })
        .collect();
    assert_eq!(roles, [("active", LIVE, 4, 38, 42), ("building", NEXT, 0, 0, 0)]);
    assert_eq!(
        (
            status.events.total,
            status.events.lag,
            status.events.patients_behind
        ),
        (44, 2, 1)
    );
}

#[tokio::test]
async fn an_item_that_was_put_by_hand_stops_neither_the_rebuild_nor_the_status() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    for (patient, version) in [("p_9", "1"), ("p-9", "-3"), ("p-9", "2")] {
        let shard = domain::EventShard::of(&"p-1".parse().unwrap()).to_string();
        let item = [
            ("patient_id", text(patient)),
            ("version", AttributeValue::N(version.to_owned())),
            ("shard", text(&shard)),
            ("recorded_key", text("zzz")),
        ];
        world.put_raw(&item).await;
    }
    for page in [1, 1_000] {
        let (rebuilt, _) = rebuild(&world, page).await.unwrap();
        world.assert_complete(rebuilt.generation, "p-1").await;
        let missing = ("p-9".parse().unwrap(), StreamVersion::new(1));
        assert_eq!(rebuilt.quarantined, [missing].into());
    }
    let status = status(&world.log.clone().with_page_limit(1), &world.read_model, at(60))
        .await
        .unwrap();
    assert_eq!(status.events.lag, 2);
}
