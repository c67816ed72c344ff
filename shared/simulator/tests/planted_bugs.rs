//! The simulator is tested with deliberate mistakes: it finds each of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "functions that tests share are tests too; seeds and counts are shown"
)]

use std::thread;

use simulator::{Bug, Plan, first_failure, run_with};

/// Within how many schedules a mistake has to be found.
const SCHEDULES: u64 = 10_000;

/// Which promises a mistake breaks: the first one that is found broken has to be among them.
fn broken_by(bug: Bug) -> &'static [&'static str] {
    match bug {
        // Of the producer.
        Bug::EventWithoutCondition
        | Bug::RandomEventId
        | Bug::LookBackOfOne
        | Bug::VersionBumpedOnConflict => &["I1"],
        // Of the projection.
        Bug::StateWithoutCondition => &["I2", "I3"],
        Bug::NewerStateAccepted => &["I5", "I6", "I7"],
        Bug::RefusedTakenForPut | Bug::OutcomesOutOfOrder => &["I9"],
        Bug::RowsAfterState => &["I2", "I8", "I10"],
        Bug::CountAddedTwice => &["I2"],
        Bug::OldEventsRead => &["I5", "I6"],
        Bug::GapIgnored => &["I2", "I9"],
        // Of the projector.
        Bug::SwallowedFailure | Bug::WrongSequenceNumber => &["I6", "I9"],
        Bug::ChangedEventApplied => &["I2", "I6"],
        Bug::PoisonFailsTheBatch => &["I7"],
        // About events that can't be applied.
        Bug::PoisonSkipped => &["I2"],
        Bug::MarkNeverLifted | Bug::MarkBeforeMessage | Bug::LostMessage => &["I6"],
        // Of readers.
        Bug::ReaderIgnoresApplied
        | Bug::RowsReadBeforeSummary
        | Bug::FirstPageTakenForAll
        | Bug::CursorNotPinned
        | Bug::PageRepeatsLast => &["I10"],
        Bug::GenerationsMixed => &["I8"],
        // Of the replay.
        Bug::PromotedUnbuilt
        | Bug::PromotedUnverified
        | Bug::ControlComparedInPart
        | Bug::BuildOfOthersApplied => &["I8"],
        // Of the reconciler.
        Bug::SweepWithoutOverlap | Bug::SweepNotPaged | Bug::SweptToItsEnd => &["I5", "I6"],
    }
}

/// The world of all schedules for a mistake that hardly shows in the worlds of the seeds.
fn world_for(bug: Bug) -> Option<Plan> {
    // A promotion takes effect after two roll backs, and after an event that the later one has to bring. Here it does in
    // one schedule of some 500.
    let plan = "patients=1,ticks=2,rebuilds=2,roll-backs=3,fault-budget=4,lag=20,faults=late-control";
    (bug == Bug::ControlComparedInPart).then(|| plan.parse().unwrap())
}

fn check(bug: Bug) {
    let world = world_for(bug);
    let run = |seed, plan| run_with(bug, seed, world.unwrap_or(plan), false);
    let Some(failure) = first_failure(0..SCHEDULES, run) else {
        panic!("{bug} is not found within {SCHEDULES} schedules");
    };
    println!("{bug}: seed {}, {}", failure.seed, failure.violation);
    assert!(
        broken_by(bug).contains(&failure.violation.promise),
        "{bug}: {}",
        failure.violation
    );
}

#[test]
fn every_mistake_is_found() {
    thread::scope(|scope| {
        for bugs in Bug::all().chunks(Bug::all().len().div_ceil(4)) {
            scope.spawn(|| bugs.iter().copied().for_each(check));
        }
    });
}

#[test]
fn a_failure_is_shrunk_to_a_short_history() {
    let run = |seed, plan| run_with(Bug::StateWithoutCondition, seed, plan, false);
    let failure = first_failure(0..SCHEDULES, run).unwrap();
    let shrunk = failure.clone().shrunk(run);
    let length = |failure: &simulator::Failure| {
        run_with(Bug::StateWithoutCondition, failure.seed, failure.plan, true)
            .history
            .len()
    };
    assert!(length(&shrunk) < length(&failure));
    assert!(shrunk.to_string().contains("--seed"), "{shrunk}");
    let again = run(shrunk.seed, shrunk.plan).violation;
    assert_eq!(again, Some(shrunk.violation));
}
