//! From a failure to the smallest one like it.

use std::fmt;

use crate::plan::Plan;
use crate::schedule::Outcome;
use crate::violation::Violation;

/// How many seeds are tried in a smaller world before it counts as sound. In another world a seed makes another
/// schedule, so the failure has to be met again.
const SEEDS_PER_PLAN: u64 = 300;

/// A schedule that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed of the schedule.
    pub seed: u64,
    /// The plan of its world.
    pub plan: Plan,
    /// What is broken.
    pub violation: Violation,
}

/// The first of these seeds whose schedule, as `run` runs it, breaks a promise.
pub fn first_failure(
    seeds: impl IntoIterator<Item = u64>,
    run: impl Fn(u64, Plan) -> Outcome,
) -> Option<Failure> {
    seeds.into_iter().find_map(|seed| {
        let plan = Plan::of_seed(seed);
        let violation = run(seed, plan).violation?;
        Some(Failure {
            seed,
            plan,
            violation,
        })
    })
}

impl Failure {
    /// The arguments with which the command line repeats it.
    #[must_use]
    pub fn arguments(&self) -> String {
        format!("--seed {} --plan {}", self.seed, self.plan)
    }

    /// The smallest failure of the same promise that is found on the way down.
    #[must_use]
    pub fn shrunk(self, run: impl Fn(u64, Plan) -> Outcome) -> Failure {
        let mut smallest = self;
        loop {
            let smaller = smallest.plan.smaller().find_map(|plan| {
                (0..SEEDS_PER_PLAN).find_map(|seed| {
                    let violation = run(seed, plan).violation?;
                    (violation.promise == smallest.violation.promise).then_some(Failure {
                        seed,
                        plan,
                        violation,
                    })
                })
            });
            match smaller {
                Some(smaller) => smallest = smaller,
                None => return smallest,
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        write!(f, "repeat it: cargo run -p simulator -- {}", self.arguments())
    }
}
