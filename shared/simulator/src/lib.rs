//! Every interleaving and every fault, by a seed.
//!
//! Production's own algorithms (append, the projector, advance, rebuild, promote, the queries) run on simulated
//! tables, in tasks that a seeded scheduler polls one at a time. Each call of a store is a step: before it takes
//! effect any other task may come first, and it may fail in each of the ways that a call can fail. After every
//! write, and for every answer of a reader, the promises of docs/ARCHITECTURE.md are checked; the reference that
//! they are checked against is written anew.
//!
//! Deliberately absent: I/O, threads, a runtime, real time. A schedule follows from its seed and its plan alone.

mod history;
mod people;
mod plan;
#[cfg_attr(
    not(feature = "planted-bugs"),
    allow(dead_code, unreachable_pub, reason = "only then can anybody name a mistake")
)]
mod planted;
mod readers;
mod replay_stores;
mod rng;
mod schedule;
mod shrink;
mod stores;
mod stream;
mod tables;
mod time;
mod truth;
mod violation;
mod workers;
mod world;

pub use history::LEGEND;
pub use plan::{Fault, InvalidPlan, Plan};
#[cfg(feature = "planted-bugs")]
pub use planted::Bug;
pub use schedule::Outcome;
pub use shrink::{Failure, first_failure};
pub use violation::Violation;

/// Runs the schedule of `seed` in the world of `plan`, recorded or not.
#[must_use]
pub fn run(seed: u64, plan: Plan, recorded: bool) -> Outcome {
    schedule::run(seed, plan, recorded, None)
}

/// As [`run`], with a deliberate mistake.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn run_with(bug: Bug, seed: u64, plan: Plan, recorded: bool) -> Outcome {
    schedule::run(seed, plan, recorded, Some(bug))
}
