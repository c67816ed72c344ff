//! Production's own handlers on the embedded DynamoDB, through the real SDK, with a proxy in between that makes every
//! single call of the SDK fail, in each of the ways in which a call can fail.
//!
//! A story, which follows from a seed, is run once without faults, to see which calls it has; and then as often as
//! there are calls, ways to fail, and ways to go on (the SDK calls again, or whoever invoked the service does). After
//! each of these schedules one reconcile has to bring everything into order.
//!
//! Readers look whenever a service returns, and must never see anything but the fold of a patient's events up to one
//! version. Since each call in turn is the one that ends a service's work early, they come to see what is stored
//! after each of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "functions that tests share are tests too; seeds and counts are shown"
)]

mod call;
mod converged;
mod dice;
mod proxy;
mod readers;
mod run;
mod schedule;
mod schedules;
mod story;
mod system;
mod tables;
mod time;
mod truth;
mod violation;

use crate::call::Call;
use crate::proxy::{Fault, Way};
use crate::schedule::Schedule;
use crate::schedules::{of_story, on_tables, sample};
use crate::system::Retries;

/// Every schedule of these seeds.
fn schedules_of(seeds: &[u64]) -> Vec<Schedule> {
    let schedules: Vec<Schedule> = seeds.iter().copied().flat_map(of_story).collect();
    let calls = schedules.len() / (2 * Way::ALL.len());
    println!("seeds {seeds:?}: {calls} calls, {} schedules", schedules.len());
    schedules
}

#[test]
fn faults_of_calls_of_every_kind_do_no_lasting_harm() {
    // Short stories with poison, queries and a sweep; and one with a rebuild, which is long.
    let mut schedules = sample(&schedules_of(&[4, 10, 11]), 14);
    schedules.extend(sample(&schedules_of(&[18]), 3));
    // And one with whatever else an operator does, which is longer.
    schedules.extend(sample(&schedules_of(&[7]), 2));
    println!("{}", schedules::run(&schedules));
}

#[test]
#[ignore = "takes minutes: cargo test --release -p simulator --test embedded -- --ignored --nocapture"]
fn no_fault_of_any_call_does_lasting_harm() {
    let schedules = schedules_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    println!("{}", schedules::run(&schedules));
}

/// Without the reconcile, the same checks complain about what the stream lost.
#[test]
fn a_lost_record_is_found_to_be_missing() {
    let schedule = Schedule {
        reconciled: false,
        ..Schedule::without_fault(11)
    };
    check_found(&schedule, "p-1 is at version");
}

/// The last call of this kind is acknowledged, and does nothing, as if a service swallowed its failure.
fn check_swallowed(seed: u64, kind: (&str, &str), key: &str, complaint: &str) {
    let calls = on_tables(async |tables| Schedule::without_fault(seed).run(tables).await).calls;
    let is_such = |call: &Call| call.kind() == kind && call.key.starts_with(key);
    let call = calls.into_iter().rfind(is_such);
    let schedule = Schedule {
        fault: Some(Fault {
            call: call.unwrap(),
            way: Way::Swallowed,
        }),
        retries: Retries::On,
        ..Schedule::without_fault(seed)
    };
    check_found(&schedule, complaint);
}

fn check_found(schedule: &Schedule, complaint: &str) {
    let outcome = on_tables(async |tables| schedule.run(tables).await);
    let violation = outcome.result.unwrap_err().to_string();
    assert!(violation.contains(complaint), "{schedule}: {violation}");
}

#[test]
fn a_swallowed_failure_is_found() {
    let check = |kind, key, complaint| check_swallowed(8, kind, key, complaint);
    check(("PutItem", "checkin-events"), "", "check-ins are missing");
    check(("BatchWriteItem", "checkin-read-model"), "", "are listed");
    check(("PutItem", "checkin-read-model"), "g1#patient#", "is not applied");
    check(("SendMessage", "quarantine-queue"), "", "nobody was told");
}
