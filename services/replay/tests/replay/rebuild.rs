//! Building the next generation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Generation, PatientId, PatientState, StreamVersion};
use projection::{
    PatientRow, ProjectionStore, ProjectionTable, ProjectionUnavailable, PutControlError, PutStateError,
    StateChange, SweepStore,
};
use projector::Projector;
use read_model::{Control, Progress, Sweep};
use replay::{
    BuildStore, Compare, Pass, Promote, PromoteCommandError, Rebuild, RebuildError, Rebuilt, Seen, Tables,
    Verification, Verify, status,
};
use testbed::{World, at};

use crate::connected::{
    Connected, LIVE, NEXT, TODAYS, accepting, accepting_less, deliver, now, projector, world,
};

/// A rebuild with pages of `page` events.
async fn rebuild(world: &World, page: u16) -> Result<(Rebuilt, u64), RebuildError> {
    let tables = Connected::new(world).with_pages_of(page);
    let read = AtomicU64::new(0);
    let on_events = |pass, seen: Seen| {
        if pass == Pass::Apply {
            read.fetch_add(seen.events, Ordering::SeqCst);
        }
    };
    let rebuilt = tables.rebuild().run(&on_events).await?;
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
    let tables = Connected::new(&world).with_projection(store);
    tables.rebuild().run(&|_, _| ()).await.unwrap();
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

    async fn put_states(
        &self,
        generation: Generation,
        changes: &[StateChange<'_>],
    ) -> Result<Vec<bool>, ProjectionUnavailable> {
        self.inner.put_states(generation, changes).await
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

impl SweepStore for BeforePromotion<'_> {
    async fn last_sweep(&self, generation: Generation) -> Result<Option<Sweep>, ProjectionUnavailable> {
        self.inner.last_sweep(generation).await
    }

    async fn put_sweep(&self, generation: Generation, sweep: &Sweep) -> Result<(), ProjectionUnavailable> {
        self.inner.put_sweep(generation, sweep).await
    }
}

#[tokio::test]
async fn a_build_that_was_cut_short_is_gone_on_with() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let building = projection::begin_building(&world.store(), TODAYS, at(0)).await;
    assert_eq!(building.unwrap().generation, NEXT);
    let (rebuilt, _) = rebuild(&world, 4).await.unwrap();
    assert_eq!(rebuilt.generation, NEXT);
    let (rebuilt, _) = rebuild(&world, 4).await.unwrap();
    assert_eq!(rebuilt.generation, Generation::new(3));
}

#[tokio::test]
async fn what_other_software_has_begun_is_not_gone_on_with() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world).with_pages_of(1);
    let (applied, _) = read_until(&tables, 42 + 10).await;
    assert_eq!(applied, 42);
    let tomorrows = Rebuild {
        software: "tomorrow's",
        any_projector: true,
        ..tables.rebuild()
    };
    let rebuilt = tomorrows.run(&|_, _| ()).await.unwrap();
    assert_eq!((rebuilt.generation, rebuilt.resumed), (Generation::new(3), 0));
    world.assert_complete(rebuilt.generation, "p-3").await;
}

#[tokio::test]
async fn a_dry_run_of_other_software_goes_on_beside_the_projector_which_leaves_it_alone() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world);
    let dry_run = Rebuild {
        software: "tomorrow's",
        ..tables.dry_run()
    };
    let rebuilt = dry_run.run(&|_, _| ()).await.unwrap();
    world.check_in("p-1", 990).await;
    world.register("p-9").await;
    deliver(&world, &mut position).await;
    assert_eq!(world.state(LIVE, "p-1").await.applied, StreamVersion::new(9));
    assert_eq!(
        world.state(NEXT, "p-1").await.applied,
        StreamVersion::new(8),
        "it is none of its business"
    );
    assert_eq!(world.state(NEXT, "p-9").await, PatientState::default());
    // The comparison brings along what the projector has left.
    assert_eq!(changes(&world, rebuilt.generation).await, []);
}

#[tokio::test]
async fn what_other_software_has_built_is_not_promoted_before_the_projector_is_of_it() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world);
    let rebuild = Rebuild {
        software: "tomorrow's",
        ..tables.rebuild()
    };
    let promote = Promote {
        software: "tomorrow's",
        ..tables.promote()
    };
    let error = rebuild.run(&|_, _| ()).await.unwrap_err().to_string();
    assert!(error.contains("deploy the projector"), "{error}");
    let error = promote.run(&|_, _| ()).await.unwrap_err().to_string();
    assert!(error.contains("deploy the projector"), "{error}");
    let control = world.control().await;
    assert_eq!(
        (control.active, control.building),
        (LIVE, Some(NEXT)),
        "it stays as it is"
    );
    // Nor by software that would apply what is still missing by its own rules.
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    assert!(
        matches!(error, PromoteCommandError::OtherSoftware { generation: NEXT }),
        "{error}"
    );
    let deployed = Projector {
        software: "tomorrow's",
        ..projector(&world)
    };
    world.check_in("p-1", 990).await;
    let records = world.stream(position.as_deref());
    let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();
    deployed.handle(event).await.unwrap();
    world.assert_complete(NEXT, "p-1").await;
    assert_eq!(promote.run(&|_, _| ()).await.unwrap().generation, NEXT);
}

#[tokio::test]
async fn what_other_software_has_built_is_promoted_at_once_if_it_is_to_be() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    let rebuild = Rebuild {
        software: "tomorrow's",
        any_projector: true,
        ..tables.rebuild()
    };
    rebuild.run(&|_, _| ()).await.unwrap();
    assert_eq!(world.control().await.active, NEXT);
}

#[tokio::test]
async fn what_was_accepted_when_a_build_was_cut_short_is_not_accepted_by_the_next_run() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let earlier = AttributeValue::S(at(-9).to_string());
    world.edit("p-3", 9, "occurred_at", earlier).await;
    let tables = Connected::new(&world);
    let accepted = accepting(&["p-3@9"]);
    // Cut short after everything was verified, and before it was promoted.
    let rebuild = Rebuild {
        accepted: &accepted,
        ..tables.dry_run()
    };
    rebuild.run(&|_, _| ()).await.unwrap();
    let builds = tables.builds();
    let verification = builds.verification(NEXT).await.unwrap().unwrap();
    assert_eq!(verification.accepted, ["p-3@9".to_owned()].into());
    let plain = Verification {
        dry_run: false,
        ..verification
    };
    builds.put_verification(NEXT, &plain).await.unwrap();
    let error = tables.rebuild().run(&|_, _| ()).await.unwrap_err();
    assert!(
        matches!(error, RebuildError::Wrong { given_up: true, .. }),
        "{error}"
    );
    assert_eq!(world.control().await.active, LIVE);
}

#[tokio::test]
async fn what_was_verified_while_more_was_accepted_is_verified_again() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let earlier = AttributeValue::S(at(-9).to_string());
    world.edit("p-3", 9, "occurred_at", earlier).await;
    let tables = Connected::new(&world).with_pages_of(1);
    let accepted = accepting(&["p-3@9"]);
    let rebuild = Rebuild {
        accepted: &accepted,
        ..tables.rebuild()
    };
    // All is applied, and all but the end verified.
    let verified = AtomicU64::new(0);
    let enough = tokio::sync::Notify::new();
    let on_events = |pass, seen: Seen| {
        let sum = verified.fetch_add(
            if pass == Pass::Verify { seen.events } else { 0 },
            Ordering::SeqCst,
        );
        if pass == Pass::Verify && sum + seen.events == 42 {
            enough.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = enough.notified() => {}
        rebuilt = rebuild.run(&on_events) => panic!("{rebuilt:?}"),
    }
    let again = tables.rebuild().run(&|_, _| ()).await;
    assert!(matches!(again, Err(RebuildError::Wrong { .. })), "{again:?}");
    assert_eq!(world.control().await.active, LIVE);
}

#[tokio::test]
async fn generation_that_was_verified_by_an_earlier_run_is_verified_again() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    let builds = tables.builds();
    let verification = builds.verification(NEXT).await.unwrap().unwrap();
    let plain = Verification {
        dry_run: false,
        ..verification
    };
    builds.put_verification(NEXT, &plain).await.unwrap();
    world
        .edit_summary(
            NEXT,
            "p-3",
            "checkin_count",
            Some(AttributeValue::N("3".to_owned())),
        )
        .await;
    let error = tables.rebuild().run(&|_, _| ()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("g2 failed its verification, and was given up"),
        "{error}"
    );
    assert!(error.to_string().contains("p-3: "), "{error}");
}

#[tokio::test]
async fn patient_whose_event_is_lost_for_ever_is_shown_up_to_there_once_that_is_accepted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    world.remove("p-3", 9).await;
    let tables = Connected::new(&world);
    let error = tables.rebuild().run(&|_, _| ()).await.unwrap_err().to_string();
    for part in ["p-3 (up to event 8)", "and was given up", "--accept-less PATIENT"] {
        assert!(error.contains(part), "{error}");
    }
    let accepted = accepting_less("p-3");
    let rebuild = Rebuild {
        accepted: &accepted,
        ..tables.rebuild()
    };
    let rebuilt = rebuild.run(&|_, _| ()).await.unwrap();
    assert_eq!(world.control().await.active, rebuilt.generation);
    let state = world.state(rebuilt.generation, "p-3").await;
    assert_eq!(state.applied, StreamVersion::new(8));
    let accepted = accepting(&["p-3@10"]);
    let verify = Verify {
        accepted: &accepted,
        ..tables.verify(rebuilt.generation)
    };
    assert_eq!(verify.all(&|_| ()).await.unwrap().findings, []);
}

#[tokio::test]
async fn a_dry_run_compares_at_the_same_version_whatever_live_traffic_does() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world);
    let rebuilt = tables.dry_run().run(&|_, _| ()).await.unwrap();
    // The building generation leaves a gap, and the active one lags behind it.
    for minute in [990, 991] {
        world.check_in("p-1", minute).await;
        world.check_in("p-2", minute).await;
    }
    world.register("p-9").await;
    let records = world.stream(position.as_deref());
    let of = |patient: &str| -> Vec<serde_json::Value> {
        let records = records.iter();
        let records = records.filter(|record| record["dynamodb"]["Keys"]["patient_id"]["S"] == patient);
        records.rev().cloned().collect()
    };
    for record in of("p-1") {
        let event = serde_json::from_value(serde_json::json!({ "Records": [record] })).unwrap();
        projector(&world).handle(event).await.unwrap();
    }
    assert_eq!(world.state(LIVE, "p-1").await.applied, StreamVersion::new(10));
    assert_eq!(
        world.state(NEXT, "p-1").await.applied,
        StreamVersion::new(9),
        "it was left out"
    );
    let p_2: PatientId = "p-2".parse().unwrap();
    let ahead = projection::Reconcile {
        log: &world.log,
        store: &world.store(),
        queue: &&world.queue,
        generation: NEXT,
        retry: projection::Retry::No,
        concurrency: 1,
        now: now(),
    };
    ahead.to_heads(&[p_2]).await.unwrap();
    assert_eq!(changes(&world, rebuilt.generation).await, []);
}

#[tokio::test]
async fn a_dry_run_says_of_whom_less_would_be_shown() {
    let world = world().await;
    deliver(&world, &mut None).await;
    world.remove("p-3", 31).await;
    let tables = Connected::new(&world);
    let rebuilt = tables.dry_run().run(&|_, _| ()).await.unwrap();
    let compare = Compare {
        tables: &tables,
        active: LIVE,
        built: rebuilt.generation,
        concurrency: 4,
        clock: now,
    };
    let mut less = Vec::new();
    let named = |change: replay::Change| less.push((change.patient_id.to_string(), change.shows_less));
    compare.run(named).await.unwrap();
    assert_eq!(less, [("p-3".to_owned(), true)]);
}

#[tokio::test]
async fn a_generation_that_would_show_less_is_not_promoted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let error = rebuild(&world, 1_000).await.unwrap_err();
    assert!(error.to_string().contains("p-3 (up to event 8)"), "{error}");
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
    let before = status(&Connected::new(&world), at(10)).await.unwrap();
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
    projection::begin_building(&world.store(), TODAYS, at(60))
        .await
        .unwrap();
    let status = status(&Connected::new(&world), at(60)).await.unwrap();
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
    let tables = Connected::new(&world).with_pages_of(1);
    let status = status(&tables, at(60)).await.unwrap();
    assert_eq!((status.events.lag, status.events.waiting), (0, 2));
}

/// How many events a run reads in each pass, if it is cut short once it has read so many in all.
async fn read_until(tables: &Connected<'_>, limit: u64) -> (u64, u64) {
    let (applied, verified) = (AtomicU64::new(0), AtomicU64::new(0));
    let enough = tokio::sync::Notify::new();
    let on_events = |pass, seen: Seen| {
        let (counter, other) = match pass {
            Pass::Apply => (&applied, &verified),
            Pass::Verify => (&verified, &applied),
            Pass::Audit | Pass::Reconcile | Pass::Compare | Pass::ReconcileAgain => return,
        };
        let read = counter.fetch_add(seen.events, Ordering::SeqCst) + seen.events;
        if read + other.load(Ordering::SeqCst) >= limit {
            enough.notify_one();
        }
    };
    let rebuild = tables.rebuild();
    tokio::select! {
        biased;
        () = enough.notified() => {}
        rebuilt = rebuild.run(&on_events) => drop(rebuilt.unwrap()),
    }
    (applied.into_inner(), verified.into_inner())
}

#[tokio::test]
async fn a_build_that_is_cut_short_again_and_again_reads_each_event_once() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world).with_pages_of(1);
    // What earlier runs have read is told to a progress bar at once, so each run gets further.
    let mut reads = Vec::new();
    for limit in [10, 30, 45, 60, 80] {
        reads.push(read_until(&tables, limit).await);
        assert_eq!(world.control().await.active, LIVE);
    }
    assert!(reads.is_sorted(), "{reads:?}");
    assert_eq!(
        reads[1].1, 0,
        "nothing is verified before all is applied: {reads:?}"
    );
    assert_eq!(reads[3].0, 42, "{reads:?}");
    assert!(reads[4].1 > 20, "{reads:?}");
    let (rebuilt, _) = rebuild(&world, 1).await.unwrap();
    assert_eq!(
        (rebuilt.generation, rebuilt.patients, rebuilt.events),
        (NEXT, 4, 42)
    );
    for patient in ["p-1", "p-2", "p-3", "p-4"] {
        world.assert_complete(NEXT, patient).await;
    }
}

#[tokio::test]
async fn events_appended_to_a_verified_stream_while_nobody_built_are_in_the_generation() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world).with_pages_of(1);
    // All is applied, and about half of it verified.
    read_until(&tables, 42 + 20).await;
    for patient in ["p-1", "p-2", "p-3", "p-4"] {
        world.check_in(patient, 1_001).await;
    }
    deliver(&world, &mut position).await;
    rebuild(&world, 1).await.unwrap();
    for patient in ["p-1", "p-2", "p-3", "p-4"] {
        world.assert_complete(NEXT, patient).await;
    }
}

#[tokio::test]
async fn what_a_dry_run_finished_is_not_gone_on_with() {
    let world = world().await;
    let tables = Connected::new(&world);
    let first = tables.dry_run().run(&|_, _| ()).await.unwrap();
    let second = tables.dry_run().run(&|_, _| ()).await.unwrap();
    let rebuilt = tables.rebuild().run(&|_, _| ()).await.unwrap();
    let generations = [first, second, rebuilt].map(|run| (run.generation.get(), run.resumed));
    assert_eq!(generations, [(2, 0), (3, 0), (4, 0)]);
    assert_eq!(world.control().await.active.get(), 4);
}

#[tokio::test]
async fn any_number_of_findings_that_are_no_reason_refuses_nothing() {
    let world = World::new().await;
    let patients: Vec<String> = (0..replay::MAX_FINDINGS + 20)
        .map(|number| format!("q-{number}"))
        .collect();
    world.put_streams(&patients, 1).await;
    for patient in &patients {
        world
            .edit(patient, 2, "event_id", AttributeValue::Bool(true))
            .await;
    }
    let (rebuilt, _) = rebuild(&world, 1_000).await.unwrap();
    assert_eq!(rebuilt.quarantined.len(), patients.len());
}

#[tokio::test]
async fn build_that_was_cut_short_goes_on_with_its_own_number_of_segments() {
    let world = world().await;
    let tables = Connected::new(&world).with_pages_of(1);
    let (applied, _) = read_until(&tables, 30).await;
    let rebuild = Rebuild {
        segments: 5,
        ..tables.rebuild()
    };
    let rebuilt = rebuild.run(&|_, _| ()).await.unwrap();
    assert_eq!((rebuilt.generation, rebuilt.events), (NEXT, 42));
    assert_eq!((rebuilt.segments, rebuilt.resumed), (3, applied));
    world.assert_complete(NEXT, "p-3").await;
    // The next build is another one.
    let rebuilt = rebuild.run(&|_, _| ()).await.unwrap();
    assert_eq!((rebuilt.segments, rebuilt.resumed), (5, 0));
}

/// What a dry run says of each patient who would look different.
async fn dry_run(world: &World) -> Vec<(String, Vec<String>)> {
    let tables = Connected::new(world);
    let rebuilt = tables.dry_run().run(&|_, _| ()).await.unwrap();
    assert_eq!(world.control().await.active, LIVE);
    changes(world, rebuilt.generation).await
}

async fn changes(world: &World, built: Generation) -> Vec<(String, Vec<String>)> {
    let tables = Connected::new(world);
    let compare = Compare {
        tables: &tables,
        active: LIVE,
        built,
        concurrency: 4,
        clock: now,
    };
    let mut changes = Vec::new();
    let named = |change: replay::Change| {
        let fields = change.differences.into_iter();
        let fields = fields.map(|difference| difference.field);
        changes.push((change.patient_id.to_string(), fields.collect()));
    };
    compare.run(named).await.unwrap();
    changes.sort();
    changes
}

#[tokio::test]
async fn a_dry_run_shows_exactly_the_fields_that_would_change() {
    let world = world().await;
    deliver(&world, &mut None).await;
    assert_eq!(dry_run(&world).await, []);
    // As an older projection would have written them, that knew less of names and times.
    let store = world.store();
    let mut state = world.state(LIVE, "p-1").await;
    state.patient.as_mut().unwrap().name = "Canary".parse().unwrap();
    let p_1: PatientId = "p-1".parse().unwrap();
    store.put_state(LIVE, &p_1, state.applied, &state).await.unwrap();
    let mut row = world.visible(LIVE, "p-4").await.remove(0);
    row.checkin_id = domain::CheckinId::derive(&["another"]);
    let patient_id = "p-4".parse().unwrap();
    store
        .put_rows(LIVE, &[PatientRow { patient_id, row }])
        .await
        .unwrap();
    assert_eq!(
        dry_run(&world).await,
        [
            ("p-1".to_owned(), vec!["name".to_owned()]),
            ("p-4".to_owned(), vec!["checkins[2].id".to_owned()]),
        ]
    );
}

#[tokio::test]
async fn a_dry_run_shows_patients_that_only_one_generation_has() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let store = world.store();
    let ghost: PatientId = "p-0".parse().unwrap();
    let state = world.state(LIVE, "p-2").await;
    store
        .put_state(LIVE, &ghost, StreamVersion::EMPTY, &state)
        .await
        .unwrap();
    let changes = dry_run(&world).await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].0, "p-0");
    assert!(changes[0].1.contains(&"name".to_owned()), "{changes:?}");
}

#[tokio::test]
async fn patients_whose_events_are_elsewhere_are_not_lost() {
    let world = world().await;
    deliver(&world, &mut None).await;
    // As if the command worked on the event table of another system.
    let other = World::new().await;
    let elsewhere = Connected::new(&world).reading(other.log.clone());
    let error = elsewhere.rebuild().run(&|_, _| ()).await.unwrap_err();
    assert!(error.to_string().contains("p-3 (up to event 0)"), "{error}");
    assert_eq!(world.control().await.active, LIVE);
}

#[tokio::test]
async fn an_edited_event_that_would_be_shown_refuses_the_generation_until_it_is_accepted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let earlier = AttributeValue::S(at(-9).to_string());
    world.edit("p-3", 9, "occurred_at", earlier).await;
    let error = rebuild(&world, 1_000).await.unwrap_err();
    let expected = "p-3: the hash chain is broken at event 9: edited";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(world.control().await.active, LIVE);
    assert_eq!(world.control().await.building, None, "it was given up");
    let tables = Connected::new(&world);
    let accepted = accepting(&["p-3@9"]);
    let rebuild = Rebuild {
        accepted: &accepted,
        ..tables.rebuild()
    };
    let rebuilt = rebuild.run(&|_, _| ()).await.unwrap();
    assert_eq!(world.control().await.active, rebuilt.generation);
}
