//! What happens in a story, but for the faults: it follows from the story's seed.

use std::num::NonZeroU16;

use crate::dice::Dice;

/// What happens, and in which small world.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    /// How many patients the roster has.
    pub(crate) patients: usize,
    /// How many of them each tick checks in.
    pub(crate) checkins_per_tick: NonZeroU16,
    /// What happens, in order.
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Somebody has the roster registered.
    Register,
    /// The schedule fires, for this minute. It can do so twice for the same one.
    Tick(i64),
    /// A newer release of the producer checks this patient in, in a form that this release can't decode.
    Poison(usize),
    /// The stream delivers what was recorded since it last did, as these dice say.
    Deliver(u64),
    /// The reconciler's schedule fires.
    Reconcile,
    /// The event source mapping gives up what was recorded since the stream last delivered.
    GiveUp,
    /// An operator does something.
    Operate(Command),
    /// Somebody looks at the list of patients and at their check-ins.
    Query,
}

/// What an operator does, with `replay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Rebuilds the read model, and promotes what was built.
    Rebuild,
    /// Rebuilds the read model, to see what that would change.
    DryRun,
    /// Promotes what a dry run has built.
    Promote,
    /// Goes back to the generation before.
    RollBack,
    /// Removes every generation but the active one.
    Prune,
    /// Tries again whatever could not be applied.
    Redrive,
}

impl Story {
    /// The story of this seed. Every second one has poison, every third a rebuild, every fourth queries, and every
    /// fifth a sweep on the way. Every twelfth ends with everything else that an operator can do.
    pub(crate) fn of(seed: u64) -> Story {
        let mut dice = Dice::new(seed);
        let patients = 2 + dice.below(2);
        let checkins_per_tick = if dice.chance(50) {
            NonZeroU16::MIN
        } else {
            NonZeroU16::new(2).unwrap()
        };
        let mut steps = Vec::new();
        let mut minute = 0;
        for _ in 0..2 + dice.below(3) {
            // Twenty minutes are more than the overlap of two sweeps.
            minute += if dice.chance(25) { 20 } else { 2 };
            steps.push(Step::Tick(minute));
            if dice.chance(70) {
                steps.push(Step::Deliver(dice.seed()));
            }
        }
        let again = Step::Tick(minute - 2 * i64::try_from(dice.below(2)).unwrap());
        let extras = [
            (3, again),
            (2, Step::Poison(dice.below(patients))),
            (3, Step::Operate(Command::Rebuild)),
            (4, Step::Query),
            (5, Step::Reconcile),
        ];
        for (every, step) in extras {
            if seed.is_multiple_of(every) {
                steps.insert(1 + dice.below(steps.len()), step);
            }
        }
        // A tick that comes before it registers whom it checks in.
        steps.insert(dice.below(2), Step::Register);
        if seed % 12 == 7 {
            steps.extend([
                Step::Poison(0),
                Step::Deliver(dice.seed()),
                Step::Operate(Command::DryRun),
                Step::Tick(minute + 2),
                Step::Operate(Command::Promote),
                Step::Tick(minute + 4),
                Step::Deliver(dice.seed()),
                Step::Operate(Command::RollBack),
                Step::Tick(minute + 6),
                Step::GiveUp,
                // What waits on the queue is about the poison, in a generation that is gone, and in the one that is not.
                Step::Operate(Command::Prune),
                Step::Operate(Command::Redrive),
            ]);
        }
        Story {
            patients,
            checkins_per_tick,
            steps,
        }
    }
}
