//! The simulator is tested with deliberate mistakes: it finds each of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "functions that tests share are tests too; seeds and counts are shown"
)]

use simulator::{Bug, first_failure, run_with};

/// Within how many schedules a mistake has to be found.
const SCHEDULES: u64 = 10_000;

#[track_caller]
fn check(bug: Bug, promises: &[&str]) {
    let failure = first_failure(0..SCHEDULES, |seed, plan| run_with(bug, seed, plan, false));
    let Some(failure) = failure else {
        panic!("{bug} is not found within {SCHEDULES} schedules");
    };
    println!("{bug}: seed {}, {}", failure.seed, failure.violation);
    assert!(
        promises.contains(&failure.violation.promise),
        "{bug}: {}",
        failure.violation
    );
}

#[test]
fn mistakes_of_the_producer_are_found() {
    check(Bug::EventWithoutCondition, &["I1"]);
    check(Bug::RandomEventId, &["I1"]);
}

#[test]
fn mistakes_of_the_projection_are_found() {
    check(Bug::StateWithoutCondition, &["I2", "I3"]);
    check(Bug::RowsAfterState, &["I2", "I10"]);
    check(Bug::CountAddedTwice, &["I2"]);
    check(Bug::OldEventsRead, &["I5", "I6"]);
    check(Bug::GapIgnored, &["I2", "I9"]);
}

#[test]
fn mistakes_of_the_projector_are_found() {
    check(Bug::SwallowedFailure, &["I9", "I6"]);
    check(Bug::WrongSequenceNumber, &["I9", "I6"]);
    check(Bug::PoisonFailsTheBatch, &["I7"]);
}

#[test]
fn mistakes_about_poison_are_found() {
    check(Bug::MarkBeforeMessage, &["I6"]);
    check(Bug::LostMessage, &["I6"]);
}

#[test]
fn mistakes_of_readers_are_found() {
    check(Bug::ReaderIgnoresApplied, &["I10"]);
    check(Bug::RowsReadBeforeSummary, &["I10"]);
    check(Bug::GenerationsMixed, &["I8"]);
    check(Bug::CursorNotPinned, &["I10"]);
    check(Bug::PageRepeatsLast, &["I10"]);
}

#[test]
fn mistakes_of_the_replay_are_found() {
    check(Bug::PromotedUnbuilt, &["I8"]);
}

#[test]
fn mistakes_of_the_reconciler_are_found() {
    check(Bug::SweepWithoutOverlap, &["I5"]);
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
