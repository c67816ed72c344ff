//! Promoting, rolling back and pruning.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{Generation, StreamVersion};
use embedded::READ_MODEL_TABLE;
use projection::{ProjectionStore, PutControlError, Sweep, SweepStore};
use read_model::Control;
use read_model::item::generation_of;
use replay::{
    Accepted, Promote, PromoteCommandError, PromotionError, Prune, PruneError, RollBack, RollBackError,
};
use testbed::{World, at};

use crate::connected::{Connected, LIVE, NEXT, TODAYS, accepting, accepting_less, deliver, now, world};

const PATIENTS: [&str; 4] = ["p-1", "p-2", "p-3", "p-4"];

/// How many items each generation has.
async fn items(world: &World) -> Vec<(Generation, usize)> {
    let scan = world.client.scan().table_name(READ_MODEL_TABLE);
    let items = scan.send().await.unwrap().items.unwrap();
    let mut count = std::collections::BTreeMap::new();
    for item in items {
        if let Some(generation) = generation_of(item["pk"].as_s().unwrap()) {
            *count.entry(generation).or_default() += 1;
        }
    }
    count.into_iter().collect()
}

#[tokio::test]
async fn what_a_dry_run_built_can_be_promoted_once() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    // Live traffic goes on in both generations.
    world.check_in("p-2", 70).await;
    deliver(&world, &mut position).await;
    let promoted = tables.promote().run(&|_, _| ()).await.unwrap();
    assert_eq!((promoted.generation, promoted.previous), (NEXT, LIVE));
    for patient in PATIENTS {
        world.assert_complete(NEXT, patient).await;
    }
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    assert!(matches!(error, PromoteCommandError::NothingBuilt), "{error}");
}

#[tokio::test]
async fn generation_that_is_not_verified_is_not_promoted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    projection::begin_building(&world.store(), TODAYS, now())
        .await
        .unwrap();
    let error = Connected::new(&world)
        .promote()
        .run(&|_, _| ())
        .await
        .unwrap_err();
    assert!(
        matches!(error, PromoteCommandError::NotVerified { generation: NEXT }),
        "{error}"
    );
    assert_eq!(world.control().await.active, LIVE);
}

#[tokio::test]
async fn an_event_of_which_the_new_generation_never_heard_is_in_it_once_it_is_promoted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    // Its record is lost.
    world.check_in("p-2", 999).await;
    tables.promote().run(&|_, _| ()).await.unwrap();
    world.assert_complete(NEXT, "p-2").await;
}

#[tokio::test]
async fn what_happened_to_a_generation_since_it_was_verified_is_found_before_it_is_promoted() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    let count = |count: &str| Some(AttributeValue::N(count.to_owned()));
    world.edit_summary(NEXT, "p-3", "checkin_count", count("3")).await;
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    let PromoteCommandError::Wrong { wrong: 1, .. } = error else {
        panic!("{error}");
    };
    let control = world.control().await;
    assert_eq!(
        (control.active, control.building),
        (LIVE, Some(NEXT)),
        "it stays as it is"
    );
    world
        .edit_summary(NEXT, "p-3", "checkin_count", count("30"))
        .await;
    tables.promote().run(&|_, _| ()).await.unwrap();
}

#[tokio::test]
async fn generation_that_contradicts_itself_is_not_brought_back() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.rebuild().run(&|_, _| ()).await.unwrap();
    let delete = world.client.delete_item().table_name(READ_MODEL_TABLE);
    let row = world.visible(LIVE, "p-3").await.remove(4);
    let sk = read_model::item::row_sk(row.occurred_at, row.version);
    delete
        .key("pk", AttributeValue::S("g1#patient#p-3".to_owned()))
        .key("sk", AttributeValue::S(sk))
        .send()
        .await
        .unwrap();
    let error = tables.roll_back().run().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("g1 does not agree with itself, and was given up: p-3"),
        "{error}"
    );
    let control = world.control().await;
    assert_eq!(
        (control.active, control.building, control.previous),
        (NEXT, None, Some(LIVE))
    );
    assert!(error.to_string().contains("--accept-unsound PATIENT"), "{error}");
    let accepted = Accepted {
        unsound: ["p-3".parse().unwrap()].into(),
        ..Accepted::default()
    };
    let accepts = RollBack {
        accepted: &accepted,
        ..tables.roll_back()
    };
    assert_eq!(accepts.run().await.unwrap().generation, LIVE);
}

#[tokio::test]
async fn promotion_that_would_show_less_is_refused_until_it_is_accepted() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    // The active generation is the only one that has it, and it is gone from the event table.
    world.check_in("p-2", 70).await;
    let only_live = world.stream(position.as_deref());
    let control = world.control().await;
    projection::abandon(&world.store(), NEXT).await.unwrap();
    let event = serde_json::from_value(serde_json::json!({ "Records": only_live })).unwrap();
    crate::connected::projector(&world).handle(event).await.unwrap();
    let gone = projection::current(&world.store()).await.unwrap();
    world.store().put_control(Some(&gone), &control).await.unwrap();
    world.remove("p-2", 2).await;
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    let PromoteCommandError::Promotion(PromotionError::WouldLoseData { lost, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(
        lost.behind,
        [("p-2".parse().unwrap(), StreamVersion::new(1))].into()
    );
    let control = world.control().await;
    assert_eq!(
        (control.active, control.building),
        (LIVE, Some(NEXT)),
        "it stays as it is"
    );
    // That the chain is known to be broken is another matter.
    let broken = accepting(&["p-2@2"]);
    let accepts = Promote {
        accepted: &broken,
        ..tables.promote()
    };
    assert!(accepts.run(&|_, _| ()).await.is_err());
    let accepted = accepting_less("p-2");
    let accepts = Promote {
        accepted: &accepted,
        ..tables.promote()
    };
    assert_eq!(accepts.run(&|_, _| ()).await.unwrap().generation, NEXT);
}

#[tokio::test]
async fn promotion_that_would_show_other_events_is_refused_until_it_is_accepted() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    // Somebody removes the last event after it was seen, and the system goes on in its place: every hash fits.
    world.remove("p-4", 2).await;
    world.check_in("p-4", 70).await;
    world.check_in("p-4", 71).await;
    deliver(&world, &mut position).await;
    assert_eq!(world.state(LIVE, "p-4").await.applied, StreamVersion::new(3));
    let tables = Connected::new(&world);
    let verified = tables.verify(LIVE).all(&|_| ()).await.unwrap();
    let found: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "p-4: the read model at version 3 is not what the events say: history, checkins[2].id, checkins[2].occurredAt"
        ]
    );
    let error = tables.rebuild().run(&|_, _| ()).await.unwrap_err();
    let told = "generation g2 would show other events of p-4 than are shown now, and was given up;";
    assert!(error.to_string().contains(told), "{error}");
    // The producer goes on while a generation waits to be promoted, so the two are at different versions.
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    world.check_in("p-4", 72).await;
    let ahead = projection::Reconcile {
        log: &world.log,
        store: &world.store(),
        queue: &&world.queue,
        generation: world.control().await.building.unwrap(),
        retry: projection::Retry::No,
        concurrency: 1,
        now: now(),
    };
    ahead.to_heads(&["p-4".parse().unwrap()]).await.unwrap();
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    let PromoteCommandError::Promotion(PromotionError::WouldLoseData { lost, .. }) = error else {
        panic!("{error}");
    };
    let p_4 = ["p-4".parse().unwrap()].into();
    assert_eq!((&lost.replaced, lost.behind.len()), (&p_4, 0));
    let accepted = accepting_less("p-4");
    let accepts = Promote {
        accepted: &accepted,
        ..tables.promote()
    };
    accepts.run(&|_, _| ()).await.unwrap();
    world.assert_complete(world.control().await.active, "p-4").await;
}

#[tokio::test]
async fn roll_back_brings_the_previous_generation_up_to_date_first() {
    let world = world().await;
    let mut position = None;
    deliver(&world, &mut position).await;
    world.store().put_sweep(LIVE, &Sweep::clean(now())).await.unwrap();
    let tables = Connected::new(&world);
    tables.rebuild().run(&|_, _| ()).await.unwrap();
    world.check_in("p-2", 1_001).await;
    world.register("p-5").await;
    deliver(&world, &mut position).await;
    assert_eq!(world.state(LIVE, "p-2").await.applied, StreamVersion::new(1));
    let rolled_back = tables.roll_back().run().await.unwrap();
    assert_eq!((rolled_back.generation, rolled_back.previous), (LIVE, NEXT));
    let control = world.control().await;
    assert_eq!(
        (control.active, control.building, control.previous),
        (LIVE, None, Some(NEXT))
    );
    for patient in PATIENTS.into_iter().chain(["p-5"]) {
        world.assert_complete(LIVE, patient).await;
    }
    // Once more would be a step forward, so it has to be named.
    let error = tables.roll_back().run().await.unwrap_err();
    assert!(error.to_string().contains("name it with --to"), "{error}");
    let forward = RollBack {
        to: Some(NEXT),
        ..tables.roll_back()
    };
    let rolled_back = forward.run().await.unwrap();
    assert_eq!((rolled_back.generation, rolled_back.previous), (NEXT, LIVE));
    // The next build has a number of its own.
    let rebuilt = tables.rebuild().run(&|_, _| ()).await.unwrap();
    assert_eq!(rebuilt.generation, Generation::new(3));
}

#[tokio::test]
async fn roll_back_without_a_sweep_compares_all_of_history() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.rebuild().run(&|_, _| ()).await.unwrap();
    world.check_in("p-2", 31).await;
    tables.roll_back().run().await.unwrap();
    world.assert_complete(LIVE, "p-2").await;
}

#[tokio::test]
async fn only_one_generation_is_built_or_brought_back_at_a_time() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    let error = tables.roll_back().run().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no generation to roll back to");
    tables.rebuild().run(&|_, _| ()).await.unwrap();
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    let error = tables.roll_back().run().await.unwrap_err();
    assert!(matches!(error, RollBackError::Begin(_)), "{error}");
    projection::abandon(&world.store(), Generation::new(3))
        .await
        .unwrap();
    let not_there = RollBack {
        to: Some(NEXT),
        ..tables.roll_back()
    };
    let error = not_there.run().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "g2 is not the generation that was active before"
    );
    projection::begin_rolling_back(&world.store(), None, now())
        .await
        .unwrap();
    let error = tables.rebuild().run(&|_, _| ()).await.unwrap_err();
    let ways_out = "g1 is being brought back: `replay rollback` goes on with that, `replay prune --building` gives it up";
    assert!(error.to_string().contains(ways_out), "{error}");
    let error = tables.promote().run(&|_, _| ()).await.unwrap_err();
    for way_out in [
        "g1 is being brought back",
        "`replay rollback`",
        "`replay prune --building`",
    ] {
        assert!(error.to_string().contains(way_out), "{error}");
    }
    // It is the previous one again once it is given up.
    projection::abandon(&world.store(), LIVE).await.unwrap();
    assert_eq!(world.control().await.previous, Some(LIVE));
}

#[tokio::test]
async fn prune_removes_what_nobody_needs() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world).with_pages_of(5);
    for _ in 0..2 {
        tables.rebuild().run(&|_, _| ()).await.unwrap();
    }
    // One that was given up, and is not in the control item any more.
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    projection::abandon(&world.store(), Generation::new(4))
        .await
        .unwrap();
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    let roles = async || {
        let status = replay::status(&tables, at(60)).await.unwrap();
        let lines = status.generations.into_iter();
        lines
            .map(|line| (line.generation.get(), line.role))
            .collect::<Vec<_>>()
    };
    let stays = [(3, "active"), (5, "verified"), (2, "previous")];
    assert_eq!(
        roles().await,
        [&stays[..], &[(1, "to-prune"), (4, "to-prune")]].concat()
    );
    let pruned = tables.prune().run(&|_| ()).await.unwrap();
    assert_eq!(roles().await, stays);
    let kept = [3, 2, 5].map(Generation::new);
    assert_eq!(pruned.kept, kept);
    assert!(pruned.items >= 84, "{pruned:?}");
    let left: Vec<Generation> = items(&world).await.into_iter().map(|(left, _)| left).collect();
    assert_eq!(left, [2, 3, 5].map(Generation::new));
    for generation in kept {
        for patient in PATIENTS {
            world.assert_complete(generation, patient).await;
        }
    }
    let pruned = tables.prune().run(&|_| ()).await.unwrap();
    assert_eq!(pruned.items, 0);
    let all = Prune {
        previous: true,
        building: true,
        ..tables.prune()
    };
    assert_eq!(all.run(&|_| ()).await.unwrap().kept, [Generation::new(3)]);
    let left: Vec<Generation> = items(&world).await.into_iter().map(|(left, _)| left).collect();
    assert_eq!(left, [Generation::new(3)]);
    let error = tables.roll_back().run().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no generation to roll back to");
}

#[tokio::test]
async fn generation_that_was_forgotten_is_not_brought_back_by_a_build_that_begins_meanwhile() {
    let world = world().await;
    deliver(&world, &mut None).await;
    Connected::new(&world).rebuild().run(&|_, _| ()).await.unwrap();
    // A build has read the control item, and has not put it yet.
    let read = world.control().await;
    let begun = Control {
        building: Some(Generation::new(3)),
        latest: Generation::new(3),
        ..read.clone()
    };
    projection::forget_previous(&world.store(), &read).await.unwrap();
    let put = world.store().put_control(Some(&read), &begun).await;
    assert!(matches!(put, Err(PutControlError::Conflict)), "{put:?}");
    assert_eq!(world.control().await.previous, None);
    // Nor the other way round.
    let now = world.control().await;
    let put = world.store().put_control(Some(&now), &begun).await;
    assert!(put.is_ok(), "{put:?}");
    let put = world.store().put_control(Some(&now), &now).await;
    assert!(matches!(put, Err(PutControlError::Conflict)), "{put:?}");
}

#[tokio::test]
async fn promotion_that_takes_effect_after_two_roll_backs_changes_nothing() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.dry_run().run(&|_, _| ()).await.unwrap();
    // A promotion has read the control item, and what it puts comes late.
    let read = world.control().await;
    let late = Control {
        active: NEXT,
        active_since: Some(now()),
        building: None,
        building_since: None,
        previous: Some(LIVE),
        changes: read.changes + 1,
        ..read.clone()
    };
    tables.promote().run(&|_, _| ()).await.unwrap();
    tables.roll_back().run().await.unwrap();
    world.check_in("p-1", 990).await;
    projection::begin_rolling_back(&world.store(), Some(NEXT), now())
        .await
        .unwrap();
    // All generations are as they were, and the one that would be promoted lacks an event.
    let begun = world.control().await;
    let generations =
        |control: &Control| (control.active, control.building, control.previous, control.latest);
    assert_eq!(generations(&begun), generations(&read));
    let put = world.store().put_control(Some(&read), &late).await;
    assert!(matches!(put, Err(PutControlError::Conflict)), "{put:?}");
    assert_eq!(world.control().await, begun);
}

#[tokio::test]
async fn nothing_is_removed_that_a_request_may_be_reading() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let tables = Connected::new(&world);
    tables.rebuild().run(&|_, _| ()).await.unwrap();
    let at_once = Prune {
        previous: true,
        clock: now,
        ..tables.prune()
    };
    let error = at_once.run(&|_| ()).await.unwrap_err();
    assert!(
        matches!(
            error,
            PruneError::TooSoon {
                active: NEXT,
                seconds: 61
            }
        ),
        "{error}"
    );
    assert_eq!(world.control().await.previous, Some(LIVE));
    world.assert_complete(LIVE, "p-3").await;
}

#[tokio::test]
async fn prune_leaves_items_alone_that_belong_to_no_generation() {
    let world = world().await;
    deliver(&world, &mut None).await;
    let other = world.client.put_item().table_name(READ_MODEL_TABLE);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    other
        .item("pk", text("g0x#note"))
        .item("sk", text("note"))
        .send()
        .await
        .unwrap();
    let tables = Connected::new(&world);
    assert_eq!(tables.prune().run(&|_| ()).await.unwrap().items, 0);
    world.assert_complete(LIVE, "p-3").await;
}
