//! A fixed number of schedules in every test run. The large number:
//! `cargo run --profile deploy -p simulator -- --schedules 5000000`.

#![allow(clippy::print_stdout, reason = "seeds and counts are shown")]

use simulator::{Plan, first_failure, run};

/// How many schedules a test run takes.
const SCHEDULES: u64 = 4_000;

#[test]
fn every_promise_is_kept_in_every_schedule() {
    let failure = first_failure(0..SCHEDULES, |seed, plan| run(seed, plan, false));
    if let Some(failure) = failure {
        let failure = failure.shrunk(|seed, plan| run(seed, plan, false));
        let history = run(failure.seed, failure.plan, true).history.join("\n");
        panic!("{history}\n{failure}");
    }
    println!("seeds 0 to {}: all promises are kept", SCHEDULES - 1);
}

#[test]
fn a_schedule_follows_from_its_seed_and_plan() {
    for seed in 0..50 {
        let plan = Plan::of_seed(seed);
        let first = run(seed, plan, true);
        assert!(!first.history.is_empty());
        assert_eq!(run(seed, plan, true), first, "seed {seed}");
        assert_eq!(run(seed, plan, false).steps, first.steps, "seed {seed}");
    }
}
