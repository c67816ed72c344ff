//! A simulated world: the tables, the calls that are under way, and what goes wrong with them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use domain::Generation;

use crate::history::History;
use crate::plan::{Fault, Number, Plan};
use crate::planted::Bug;
use crate::rng::Rng;
use crate::tables::{KINDS_OF_POISON, PoisonAt, Tables, Write, Written};
use crate::violation::Violation;

/// Names a task; never used again.
pub(crate) type TaskId = usize;

/// A call that waits for its turn.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: u32,
    pub(crate) task: TaskId,
    /// Not before this step.
    pub(crate) not_before: u32,
    pub(crate) waker: Waker,
}

/// A write that takes effect later than its caller thinks.
#[derive(Debug)]
pub(crate) struct Late {
    /// Not before this step, unless nothing else happens any more.
    pub(crate) not_before: u32,
    /// Nor before the control item has been put so often.
    changes: usize,
    pub(crate) write: Write,
}

impl Late {
    pub(crate) fn is_due(&self, world: &World) -> bool {
        self.not_before <= world.step && self.changes <= world.tables.control.len()
    }
}

/// What happens to a call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Proceeds,
    CrashesBefore,
    CrashesAfter,
    LosesReply,
    IsRefused,
    IsThrottled,
    TakesEffectLater,
}

/// A call had no effect, or the caller does not learn of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a simulated fault")]
pub(crate) struct Failed;

/// Everything there is, apart from the tasks.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) step: u32,
    pub(crate) tables: Tables,
    pub(crate) violation: Option<Violation>,
    /// What happened so far, if anybody wants to know.
    history: Option<History>,

    pub(crate) calls: Vec<Call>,
    next_call: u32,
    /// How long the next call waits at least, in steps.
    pub(crate) wait: u32,
    /// The call whose turn it is.
    pub(crate) granted: Option<u32>,
    /// The task whose turn it is, and how it is called.
    pub(crate) current: TaskId,
    pub(crate) name: String,
    /// Whether the task whose turn it is has crashed.
    pub(crate) crashed: bool,
    /// How many faults the task whose turn it is met.
    pub(crate) faults_met: u32,

    /// Whether the projector is of older software than replays.
    pub(crate) older_projector: bool,

    /// Whether anything goes wrong any more.
    pub(crate) faults_on: bool,
    faults_left: u8,
    /// Until this step, stream records are lost.
    pub(crate) lossy_until: u32,
    /// Writes that take effect later than their callers think.
    pub(crate) late: Vec<Late>,
    /// Which generations the readers have read, and who did.
    pub(crate) touched: Vec<(TaskId, Generation)>,
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan, recorded: bool, planted: Option<Bug>) -> World {
        let mut rng = Rng::new(seed);
        let poison = (plan.number(Number::Poison) > 0).then(|| {
            let version = 1 + rng.below(4);
            PoisonAt {
                patient: rng.below(usize::from(plan.number(Number::Patients))),
                version: u64::try_from(version).unwrap_or(1),
                // A registration in place of the first event would be none of the wrong ones.
                kind: rng.below(if version == 1 {
                    KINDS_OF_POISON - 1
                } else {
                    KINDS_OF_POISON
                }),
            }
        });
        World {
            tables: Tables {
                poison,
                planted,
                ..Tables::default()
            },
            plan,
            rng,
            step: 0,
            violation: None,
            history: recorded.then(History::default),
            calls: Vec::new(),
            next_call: 0,
            wait: 0,
            granted: None,
            current: 0,
            name: String::new(),
            crashed: false,
            faults_met: 0,
            older_projector: plan.number(Number::NewerReplays) > 0,
            faults_on: true,
            faults_left: plan.number(Number::FaultBudget),
            lossy_until: 0,
            late: Vec::new(),
            touched: Vec::new(),
        }
    }

    pub(crate) fn planted(&self, bug: Bug) -> bool {
        cfg!(feature = "planted-bugs") && self.tables.planted == Some(bug)
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.history.is_some()
    }

    /// Adds a line to the history, which is made only if somebody wants it.
    pub(crate) fn note(&mut self, line: impl FnOnce(&World) -> String) {
        if self.history.is_some() {
            let line = line(self);
            let history = self.history.get_or_insert_default();
            history.add(self.step, &self.name, line);
        }
    }

    pub(crate) fn take_history(&mut self) -> Vec<String> {
        self.history.take().unwrap_or_default().into_lines()
    }

    /// Remembers the first broken promise.
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.note(|_| format!("*** {violation}"));
        self.violation.get_or_insert(violation);
    }

    /// Whether this goes wrong now, at a rate per mille of the chances.
    pub(crate) fn strikes(&mut self, fault: Fault, per_mille: u16) -> bool {
        let strikes =
            self.faults_on && self.faults_left > 0 && self.plan.has(fault) && self.rng.chance(per_mille);
        if strikes {
            self.faults_left -= 1;
        }
        strikes
    }

    /// What happens to the call whose turn it is.
    pub(crate) fn fate(&mut self) -> Fate {
        const FATES: [(Fault, Fate); 6] = [
            (Fault::CrashBefore, Fate::CrashesBefore),
            (Fault::CrashAfter, Fate::CrashesAfter),
            (Fault::LostReply, Fate::LosesReply),
            (Fault::Refusal, Fate::IsRefused),
            (Fault::Throttle, Fate::IsThrottled),
            (Fault::LateEffect, Fate::TakesEffectLater),
        ];
        for (fault, fate) in FATES {
            if self.strikes(fault, 60) {
                self.faults_met += 1;
                return fate;
            }
        }
        Fate::Proceeds
    }

    /// Registers a call of the task whose turn it is.
    pub(crate) fn begin_call(&mut self, waker: Waker) -> u32 {
        let id = self.next_call;
        self.next_call += 1;
        let mut wait = std::mem::take(&mut self.wait);
        if self.strikes(Fault::SlowCall, 40) {
            wait = wait.max(self.rng.within(10, 120).into());
        }
        let not_before = self.step + wait;
        self.calls.push(Call {
            id,
            task: self.current,
            not_before,
            waker,
        });
        id
    }

    pub(crate) fn end_call(&mut self, id: u32) {
        self.calls.retain(|call| call.id != id);
    }

    /// Has a write take effect some time: mostly soon, and sometimes when much else is over. What is put in the place of
    /// the control item may come when there have been a promotion and two roll backs.
    pub(crate) fn defer(&mut self, write: Write) {
        let (mut not_before, mut changes) = (self.step, 0);
        if matches!(write, Write::Control { .. }) && self.rng.chance(800) {
            let four = self.rng.chance(700);
            changes = self.tables.control.len() + if four { 4 } else { self.rng.below(6) };
        } else if self.rng.chance(300) {
            not_before += u32::from(self.rng.within(0, 250));
        }
        self.late.push(Late {
            not_before,
            changes,
            write,
        });
    }

    /// Notes that a reader read this generation.
    pub(crate) fn touch(&mut self, generation: Generation) {
        if !self.touched.contains(&(self.current, generation)) {
            self.touched.push((self.current, generation));
        }
    }

    /// Lets a write take effect now.
    pub(crate) fn apply(&mut self, write: &Write) -> Written {
        let lag = usize::from(self.plan.number(Number::Lag));
        let lag = u32::try_from(self.rng.below(lag + 1)).unwrap_or(0);
        match self.tables.apply(write, self.step, self.step + lag) {
            Ok(written) => written,
            Err(violation) => {
                self.violate(violation);
                Written::Done
            }
        }
    }

    /// Lets some of these writes take effect now, some later, and some never; what became of the first.
    pub(crate) fn apply_some(&mut self, writes: &[Write]) -> Vec<Option<Written>> {
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            let now = self.rng.chance(500);
            written.push(now.then(|| self.apply(write)));
            if !now && self.rng.chance(200) {
                self.defer(write.clone());
            }
        }
        written
    }

    /// The place in a list of values, each with the step from which on it was there, of one that a read may find
    /// which is not consistent.
    pub(crate) fn stale(&mut self, values: usize, since: impl Fn(&World, usize) -> Option<u32>) -> usize {
        let lag = u32::from(self.plan.number(Number::Lag));
        let horizon = self.step.saturating_sub(lag);
        // The value of the horizon, or any later one.
        let oldest = (0..values)
            .rposition(|place| since(self, place).is_some_and(|since| since <= horizon))
            .unwrap_or(0);
        oldest + self.rng.below(values.saturating_sub(oldest))
    }
}

/// Nothing panics while it is locked; if something did, the schedule fails anyway.
pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
