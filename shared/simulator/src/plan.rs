//! What a simulated world consists of, and what can go wrong in it.

use std::fmt;
use std::str::FromStr;

use crate::rng::Rng;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A worker ends before a call takes effect.
    CrashBefore,
    /// A worker ends after a call took effect, before it learns of it.
    CrashAfter,
    /// A call takes effect and is answered by an error.
    LostReply,
    /// A conditional write takes effect and is answered by a refusal: the SDK has repeated a call whose reply was lost.
    Refusal,
    /// A call is answered by an error and has no effect.
    Throttle,
    /// A call is answered by an error and takes effect later, perhaps after it was repeated.
    LateEffect,
    /// What is put in the place of the control item is answered by an error and takes effect later, perhaps when other
    /// generations have come and gone.
    LateControl,
    /// A call waits for long, while all the others go on.
    SlowCall,
    /// A stream record is delivered again, or a batch that was acknowledged is.
    Duplicate,
    /// Stream records are in another order than the events.
    Reorder,
    /// For a while, stream records are lost.
    Drop,
    /// Stream records expire before they are read.
    Expiry,
    /// The event source mapping begins at the end of the stream, some time after the first events.
    Latest,
    /// A batch that failed a few times is given up.
    GiveUp,
    /// A stream record has a key that this system does not write.
    ForeignRecord,
    /// Somebody modifies an event, and the stream says so.
    ModifiedEvent,
    /// The clocks of workers differ.
    ClockSkew,
}

impl Fault {
    /// All of them, with their names.
    const ALL: [(&'static str, Fault); 17] = [
        ("crash-before", Fault::CrashBefore),
        ("crash-after", Fault::CrashAfter),
        ("lost-reply", Fault::LostReply),
        ("refusal", Fault::Refusal),
        ("throttle", Fault::Throttle),
        ("late-effect", Fault::LateEffect),
        ("late-control", Fault::LateControl),
        ("slow-call", Fault::SlowCall),
        ("duplicate", Fault::Duplicate),
        ("reorder", Fault::Reorder),
        ("drop", Fault::Drop),
        ("expiry", Fault::Expiry),
        ("latest", Fault::Latest),
        ("give-up", Fault::GiveUp),
        ("foreign-record", Fault::ForeignRecord),
        ("modified-event", Fault::ModifiedEvent),
        ("clock-skew", Fault::ClockSkew),
    ];

    const fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// What a world consists of, and what can go wrong in it. Its text form, `patients=1,ticks=2,faults=drop+throttle`,
/// repeats a schedule together with the seed; it names the patients, and what is more than the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    numbers: Numbers,
    faults: u32,
}

/// A number in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// Known patients.
    Patients,
    /// Firings of the schedule.
    Ticks,
    /// Deliveries of firings beyond the first of each.
    Repeats,
    /// Patients checked in by each firing.
    PerTick,
    /// Events that can't be decoded, at most one for a patient.
    Poison,
    /// Shards of the stream.
    Shards,
    /// Event source mappings; two are as one that is polled twice.
    Mappings,
    /// Records in a batch, at most.
    Batch,
    /// Calls that a worker has under way at once.
    Concurrency,
    /// Requests of readers; a walk through pages is one.
    Readers,
    /// Replays.
    Rebuilds,
    /// Times that somebody rolls back.
    RollBacks,
    /// Times that somebody prunes.
    Prunes,
    /// Reconciliations and redrives while everything else goes on.
    Reconciles,
    /// Whether replays are of newer software than the projector at first, which folds otherwise.
    NewerReplays,
    /// Times of half an hour in which nothing is appended.
    Calms,
    /// How long, in steps, a copy may be behind.
    Lag,
    /// How many faults at most.
    FaultBudget,
}

type Numbers = [u8; 18];

/// The numbers, with names, least and most.
const NUMBERS: [(&str, u8, u8); 18] = [
    ("patients", 1, 3),
    ("ticks", 1, 4),
    ("repeats", 0, 2),
    ("per-tick", 1, 2),
    ("poison", 0, 1),
    ("shards", 1, 2),
    ("mappings", 1, 2),
    ("batch", 1, 4),
    ("concurrency", 1, 3),
    ("readers", 0, 3),
    ("rebuilds", 0, 2),
    ("roll-backs", 0, 3),
    ("prunes", 0, 1),
    ("reconciles", 0, 2),
    ("newer-replays", 0, 1),
    ("calms", 0, 1),
    ("lag", 0, 60),
    ("fault-budget", 0, 12),
];

/// A text is not a plan. Correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a plan: {part}")]
pub struct InvalidPlan {
    part: String,
}

impl Plan {
    /// The plan that belongs to a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Plan {
        let mut rng = Rng::new(!seed);
        // Small worlds for the most part: they are quick, and most mistakes need little to show.
        let mut numbers =
            NUMBERS.map(|(_, least, most)| rng.within(least, most).min(rng.within(least, most)));
        set(&mut numbers, Number::Readers, rng.within(0, 3));
        set(&mut numbers, Number::Reconciles, rng.within(0, 2));
        set(&mut numbers, Number::Lag, rng.within(0, 60));
        set(&mut numbers, Number::Poison, u8::from(rng.chance(350)));
        // What is costly, and rare in real life, is not in every world.
        if rng.chance(600) {
            set(&mut numbers, Number::Rebuilds, 0);
            set(&mut numbers, Number::RollBacks, 0);
            set(&mut numbers, Number::Prunes, 0);
            set(&mut numbers, Number::NewerReplays, 0);
        }
        // A few kinds of faults at a time: when everything goes wrong, nothing interesting gets done.
        let share = [0, 150, 350, 700].get(rng.below(4)).copied().unwrap_or_default();
        let faults = Fault::ALL
            .iter()
            .filter(|_| rng.chance(share))
            .fold(0, |faults, (_, fault)| faults | fault.bit());
        Plan { numbers, faults }
    }

    /// What the text form of a plan consists of.
    #[must_use]
    pub fn explained() -> String {
        let numbers = NUMBERS.map(|(name, least, most)| format!("{name} {least} to {most}"));
        let faults = Fault::ALL.map(|(name, _)| name);
        format!(
            "Numbers, separated by commas, where one that is missing is the least: {}. Then what can go wrong, \
             faults={}.",
            numbers.join(", "),
            faults.join("+")
        )
    }

    /// Whether this can go wrong.
    #[must_use]
    pub const fn has(&self, fault: Fault) -> bool {
        self.faults & fault.bit() != 0
    }

    pub(crate) fn number(&self, number: Number) -> u8 {
        self.numbers.get(number as usize).copied().unwrap_or_default()
    }

    /// Every plan that is a bit smaller than this one.
    pub(crate) fn smaller(self) -> impl Iterator<Item = Plan> {
        let fewer_faults = Fault::ALL
            .into_iter()
            .filter(move |(_, fault)| self.has(*fault))
            .map(move |(_, fault)| Plan {
                faults: self.faults & !fault.bit(),
                ..self
            });
        let at_least = NUMBERS
            .iter()
            .enumerate()
            .filter_map(move |(index, (_, least, _))| {
                let mut numbers = self.numbers;
                let number = numbers.get_mut(index)?;
                (*number > *least).then(|| *number = *least)?;
                Some(Plan { numbers, ..self })
            });
        let one_less = NUMBERS
            .iter()
            .enumerate()
            .filter_map(move |(index, (_, least, _))| {
                let mut numbers = self.numbers;
                let number = numbers.get_mut(index)?;
                (*number > least + 1).then(|| *number -= 1)?;
                Some(Plan { numbers, ..self })
            });
        at_least.chain(fewer_faults).chain(one_less)
    }
}

fn set(numbers: &mut Numbers, number: Number, value: u8) {
    if let Some(place) = numbers.get_mut(number as usize) {
        *place = value;
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patients = self.number(Number::Patients);
        write!(f, "patients={patients}")?;
        for ((name, least, _), value) in NUMBERS.iter().zip(self.numbers).skip(1) {
            if value > *least {
                write!(f, ",{name}={value}")?;
            }
        }
        let faults: Vec<&str> = Fault::ALL
            .iter()
            .filter(|(_, fault)| self.has(*fault))
            .map(|(name, _)| *name)
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        write!(f, ",faults={}", faults.join("+"))
    }
}

impl FromStr for Plan {
    type Err = InvalidPlan;

    /// Reads the text form; numbers that are not in it are the least.
    fn from_str(text: &str) -> Result<Plan, InvalidPlan> {
        let invalid = |part: &str| InvalidPlan {
            part: part.to_owned(),
        };
        let mut plan = Plan {
            numbers: NUMBERS.map(|(_, least, _)| least),
            faults: 0,
        };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| invalid(part))?;
            if name == "faults" {
                for name in value.split('+').filter(|name| !name.is_empty()) {
                    let (_, fault) = Fault::ALL
                        .iter()
                        .find(|(known, _)| *known == name)
                        .ok_or_else(|| invalid(name))?;
                    plan.faults |= fault.bit();
                }
                continue;
            }
            let (place, (_, least, most)) = plan
                .numbers
                .iter_mut()
                .zip(NUMBERS)
                .find(|(_, (known, _, _))| *known == name)
                .ok_or_else(|| invalid(part))?;
            *place = value
                .parse()
                .ok()
                .filter(|value| (least..=most).contains(value))
                .ok_or_else(|| invalid(part))?;
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_read_back() {
        for seed in 0..1_000 {
            let plan = Plan::of_seed(seed);
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
        for text in ["patients", "patients=0", "patients=x", "people=1", "faults=fire"] {
            assert!(text.parse::<Plan>().is_err(), "{text}");
        }
    }

    #[test]
    fn shrinking_ends() {
        let mut plan = Plan::of_seed(7);
        let mut steps = 0;
        while let Some(smaller) = plan.smaller().last() {
            plan = smaller;
            steps += 1;
        }
        assert!(steps < 200);
        assert_eq!(Ok(plan), "".parse());
    }
}
