//! The one algorithm that moves a patient's read model forward, for live traffic, replay, redrive and reconcile.
//!
//! Per patient: read the state, which is at version a; fold the events a+1, a+2, … into it; put their rows; then
//! put the state on condition that it still is at a. Readers see only rows up to the state's applied version, so
//! that last write is what makes the whole step visible, at once, and a crash before it is invisible. Rows are
//! a function of their event, so writing them again is harmless. If the condition fails, another worker won, and
//! it begins again from what that worker wrote.
//!
//! Many patients are advanced together, in rounds, so that they share reads and batches of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{
    Applied, ApplyError, CheckinRow, Generation, PatientId, PatientState, Quarantine, QuarantineReason,
    RecordedEvent, StoredEntry, StreamEntry, StreamVersion, Timestamp, Undecodable,
};
use event_log::{EventLog, LogUnavailable};

use crate::at_once::all_at_once;
use crate::hints::{Hints, PatientHints};
use crate::quarantine_queue::{QuarantineNotice, QuarantineQueue, QueueUnavailable};
use crate::store::{
    MAX_ROWS_PER_PUT, MAX_STATES_PER_PUT, PatientRow, ProjectionStore, ProjectionUnavailable, PutStateError,
    StateChange,
};

/// Patients whose states are read by one call: what BatchGetItem takes.
const STATES_PER_READ: usize = 100;
/// Events that one catch-up reads before it writes: it bounds memory, and how much a crash repeats.
const CATCH_UP_EVENTS: u16 = 500;
/// How often a patient that others advance at the same time is tried again. Each conflict means that another
/// worker got through, so reaching this takes as many of them.
const MAX_CONFLICTS: u32 = 20;

/// What to do about events that are not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Read them from the event table.
    FromEventTable,
    /// Leave them out, with all that follows: the replay that builds this generation brings them.
    LeaveGaps,
}

/// What to do about a patient that is quarantined already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Let its events wait.
    No,
    /// Try the event that could not be applied once more: a redrive.
    Quarantined,
}

/// Moves patients of one generation forward.
#[derive(Debug, Clone, Copy)]
pub struct Advance<'a, L, S, Q> {
    /// The truth.
    pub log: &'a L,
    /// What is moved forward.
    pub store: &'a S,
    /// Who is told about events that can't be applied.
    pub queue: &'a Q,
    /// Of which generation.
    pub generation: Generation,
    /// What to do about events that are not at hand.
    pub catch_up: CatchUp,
    /// What to do about quarantined patients.
    pub retry: Retry,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time, for the mark on a quarantined patient.
    pub now: Timestamp,
}

/// What became of one patient.
#[derive(Debug)]
pub enum Outcome {
    /// The applied version went from `from` to `to`, by this worker or, if they are equal, by others before.
    Reached {
        /// The applied version before.
        from: StreamVersion,
        /// The applied version now.
        to: StreamVersion,
        /// Whether events had to be read from the event table.
        caught_up: bool,
    },
    /// Events are missing, and [`CatchUp::LeaveGaps`] said to leave it at that.
    GapLeft,
    /// The patient is quarantined; its later events wait. That is handled: do not retry.
    Quarantined {
        /// The event that can't be applied.
        at: StreamVersion,
        /// Why not.
        reason: QuarantineReason,
        /// Whether it was found out just now.
        newly: bool,
    },
    /// Not finished. Retry: what was done is not undone, and doing it again changes nothing.
    Failed(AdvanceError),
}

/// Why a patient was not advanced. In each case: retry later.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The event table can't be read.
    #[error(transparent)]
    Log(#[from] LogUnavailable),
    /// The read model can't be read or written.
    #[error(transparent)]
    Store(Arc<ProjectionUnavailable>),
    /// The queue can't be reached, so the patient was not quarantined.
    #[error(transparent)]
    Queue(#[from] QueueUnavailable),
    /// Other workers kept winning.
    #[error("other workers advanced the patient {MAX_CONFLICTS} times meanwhile")]
    Contended,
}

/// A patient that is not finished.
struct Work<'h> {
    patient: &'h PatientId,
    hints: &'h PatientHints,
    /// The applied version before the first round; `None` until it was read.
    from: Option<StreamVersion>,
    caught_up: bool,
    conflicts: u32,
}

/// What one round is going to do to one patient.
struct Step<'h> {
    work: Work<'h>,
    before: StreamVersion,
    fold: Fold,
}

/// What the events after a state come to.
struct Fold {
    after: PatientState,
    rows: Vec<CheckinRow>,
    /// Whether `after`, or the state before, has a mark.
    is_marked: bool,
    /// Whether `after` has a mark that the state before did not have.
    newly_quarantined: bool,
}

/// What a look at the state says.
enum Plan<'h> {
    Done(Work<'h>, Outcome),
    Step(Step<'h>),
}

impl<L: EventLog, S: ProjectionStore, Q: QuarantineQueue> Advance<'_, L, S, Q> {
    /// Moves every patient in `hints` to its hinted version or beyond, and says what became of each. A patient
    /// that fails, or that is quarantined, does not keep the others from moving.
    pub async fn run(&self, hints: &Hints) -> BTreeMap<PatientId, Outcome> {
        let mut outcomes = BTreeMap::new();
        let mut pending: Vec<Work<'_>> = hints
            .0
            .iter()
            .map(|(patient, hints)| Work {
                patient,
                hints,
                from: None,
                caught_up: false,
                conflicts: 0,
            })
            .collect();
        while !pending.is_empty() {
            let mut steps = Vec::new();
            for plan in self.plan(pending).await {
                match plan {
                    Plan::Done(work, outcome) => drop(outcomes.insert(work.patient.clone(), outcome)),
                    Plan::Step(step) => steps.push(step),
                }
            }
            let (steps, failed) = self.put_rows(steps).await;
            outcomes.extend(failed);
            pending = Vec::new();
            for result in self.put_states(steps).await {
                match result {
                    Ok(work) => pending.push(work),
                    Err((patient, outcome)) => drop(outcomes.insert(patient.clone(), outcome)),
                }
            }
        }
        outcomes
    }

    /// Reads the states, and the events that are missing, and folds.
    async fn plan<'h>(&self, pending: Vec<Work<'h>>) -> Vec<Plan<'h>> {
        let mut chunks = Vec::new();
        let mut rest = pending.into_iter().peekable();
        while rest.peek().is_some() {
            chunks.push(rest.by_ref().take(STATES_PER_READ).collect::<Vec<Work<'_>>>());
        }
        let reads = chunks
            .into_iter()
            .map(|chunk| async move {
                let patients: Vec<PatientId> = chunk.iter().map(|work| work.patient.clone()).collect();
                let states = self.store.states(self.generation, &patients).await;
                (chunk, states)
            })
            .collect();
        let mut plans = Vec::new();
        let mut known = Vec::new();
        for (chunk, states) in all_at_once(self.concurrency, reads).await {
            match states {
                Ok(states) => known.extend(chunk.into_iter().zip(states)),
                Err(error) => {
                    let error = Arc::new(error);
                    let failed =
                        |work| Plan::Done(work, Outcome::Failed(AdvanceError::Store(Arc::clone(&error))));
                    plans.extend(chunk.into_iter().map(failed));
                }
            }
        }
        let looks = known
            .into_iter()
            .map(|(work, state)| self.plan_one(work, state.unwrap_or_default()))
            .collect();
        plans.extend(all_at_once(self.concurrency, looks).await);
        plans
    }

    async fn plan_one<'h>(&self, mut work: Work<'h>, state: PatientState) -> Plan<'h> {
        let applied = state.applied;
        let from = *work.from.get_or_insert(applied);
        if applied >= work.hints.target {
            let outcome = Outcome::Reached {
                from,
                to: applied,
                caught_up: work.caught_up,
            };
            return Plan::Done(work, outcome);
        }
        if let (Some(quarantine), Retry::No) = (&state.quarantine, self.retry) {
            let reason = quarantine.reason.clone();
            let outcome = Outcome::Quarantined {
                at: quarantine.version,
                reason,
                newly: false,
            };
            return Plan::Done(work, outcome);
        }
        let at_hand = work.hints.continuing(applied);
        let complete = at_hand
            .last()
            .is_some_and(|event| event.version >= work.hints.target);
        if complete || (self.catch_up == CatchUp::LeaveGaps && !at_hand.is_empty()) {
            let fold = Fold::of(state, at_hand.into_iter().map(Ok), self.now);
            return Plan::Step(Step {
                work,
                before: applied,
                fold,
            });
        }
        if self.catch_up == CatchUp::LeaveGaps {
            return Plan::Done(work, Outcome::GapLeft);
        }
        let entries: Vec<StreamEntry> = match self.log.read(work.patient, applied, CATCH_UP_EVENTS).await {
            Ok(entries) => entries.into_iter().map(StoredEntry::decode).collect(),
            Err(error) => return Plan::Done(work, Outcome::Failed(error.into())),
        };
        work.caught_up = true;
        let known = entries
            .iter()
            .map(|entry| entry.event.as_ref().map_err(|reason| (entry.version, *reason)));
        let fold = Fold::of(state, known, self.now);
        Plan::Step(Step {
            work,
            before: applied,
            fold,
        })
    }

    /// Puts the rows of all steps, and gives back those steps all of whose rows are there.
    async fn put_rows<'h>(&self, steps: Vec<Step<'h>>) -> (Vec<Step<'h>>, Vec<(PatientId, Outcome)>) {
        let rows: Vec<PatientRow> = steps.iter().flat_map(Step::rows).collect();
        let puts = rows
            .chunks(MAX_ROWS_PER_PUT)
            .map(|chunk| async move { (chunk, self.store.put_rows(self.generation, chunk).await) })
            .collect();
        let put = all_at_once(self.concurrency, puts).await;
        let failures: Vec<_> = put
            .into_iter()
            .filter_map(|(chunk, put)| Some((chunk, Arc::new(put.err()?))))
            .collect();
        let mut failed: BTreeMap<&PatientId, &Arc<ProjectionUnavailable>> = BTreeMap::new();
        for (chunk, error) in &failures {
            for row in *chunk {
                failed.insert(&row.patient_id, error);
            }
        }
        let mut complete = Vec::new();
        let mut outcomes = Vec::new();
        for step in steps {
            match failed.get(step.work.patient) {
                None => complete.push(step),
                Some(error) => {
                    let outcome = Outcome::Failed(AdvanceError::Store(Arc::clone(error)));
                    outcomes.push((step.work.patient.clone(), outcome));
                }
            }
        }
        (complete, outcomes)
    }

    /// Puts the states: together where that can be, and whichever was not put then, alone. `Ok` gives the patient back for
    /// another round.
    async fn put_states<'h>(&self, steps: Vec<Step<'h>>) -> Vec<Result<Work<'h>, (&'h PatientId, Outcome)>> {
        let (mut alone, plain): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.fold.is_marked);
        let mut rest = plain.into_iter().peekable();
        let mut puts = Vec::new();
        while rest.peek().is_some() {
            let chunk: Vec<_> = rest.by_ref().take(MAX_STATES_PER_PUT).collect();
            if chunk.len() == 1 {
                alone.extend(chunk);
            } else {
                puts.push(self.put_together(chunk));
            }
        }
        let mut results = Vec::new();
        for (step, is_put) in all_at_once(self.concurrency, puts).await.into_iter().flatten() {
            match is_put {
                Ok(true) => results.push(step.after(Ok(()))),
                Ok(false) => alone.push(step),
                Err(error) => {
                    let outcome = Outcome::Failed(AdvanceError::Store(error));
                    results.push(Err((step.work.patient, outcome)));
                }
            }
        }
        let puts = alone.into_iter().map(|step| self.put_alone(step)).collect();
        results.extend(all_at_once(self.concurrency, puts).await);
        results
    }

    /// Puts states by one call, and says of each whether it was put.
    async fn put_together<'h>(
        &self,
        steps: Vec<Step<'h>>,
    ) -> Vec<(Step<'h>, Result<bool, Arc<ProjectionUnavailable>>)> {
        let changes: Vec<StateChange<'_>> = steps
            .iter()
            .map(|step| StateChange {
                patient_id: step.work.patient,
                expected: step.before,
                state: &step.fold.after,
            })
            .collect();
        match self.store.put_states(self.generation, &changes).await {
            Ok(put) => steps.into_iter().zip(put.into_iter().map(Ok)).collect(),
            Err(error) => {
                let error = Arc::new(error);
                let failed = |step| (step, Err(Arc::clone(&error)));
                steps.into_iter().map(failed).collect()
            }
        }
    }

    /// Puts a state by a call of its own. A new mark is told of first.
    async fn put_alone<'h>(&self, step: Step<'h>) -> Result<Work<'h>, (&'h PatientId, Outcome)> {
        let Step { work, before, fold } = &step;
        if let (Some(quarantine), true) = (fold.after.quarantine.clone(), fold.newly_quarantined) {
            // The message comes before the mark: a crash in between repeats the message, the other way round
            // would lose it.
            let patient_id = work.patient.clone();
            let notice = QuarantineNotice::Event {
                generation: self.generation,
                patient_id,
                quarantine,
            };
            if let Err(error) = self.queue.put(&notice).await {
                return Err((work.patient, Outcome::Failed(error.into())));
            }
        }
        let put = self
            .store
            .put_state(self.generation, work.patient, *before, &fold.after)
            .await;
        step.after(put)
    }
}

impl<'h> Step<'h> {
    /// What there is to do after the state was put, or was not. `Ok` gives the patient back for another round.
    fn after(self, put: Result<(), PutStateError>) -> Result<Work<'h>, (&'h PatientId, Outcome)> {
        let Step {
            mut work,
            before,
            fold:
                Fold {
                    after,
                    newly_quarantined,
                    ..
                },
        } = self;
        match put {
            Ok(()) => {}
            Err(PutStateError::Conflict) if work.conflicts >= MAX_CONFLICTS => {
                return Err((work.patient, Outcome::Failed(AdvanceError::Contended)));
            }
            Err(PutStateError::Conflict) => {
                work.conflicts += 1;
                return Ok(work);
            }
            Err(PutStateError::Unavailable(error)) => {
                return Err((
                    work.patient,
                    Outcome::Failed(AdvanceError::Store(Arc::new(error))),
                ));
            }
        }
        if let Some(quarantine) = &after.quarantine {
            let (at, reason) = (quarantine.version, quarantine.reason.clone());
            let outcome = Outcome::Quarantined {
                at,
                reason,
                newly: newly_quarantined,
            };
            return Err((work.patient, outcome));
        }
        if after.applied >= work.hints.target {
            let from = work.from.unwrap_or(before);
            let outcome = Outcome::Reached {
                from,
                to: after.applied,
                caught_up: work.caught_up,
            };
            return Err((work.patient, outcome));
        }
        Ok(work)
    }
}

impl Step<'_> {
    fn rows(&self) -> impl Iterator<Item = PatientRow> {
        self.fold.rows.iter().map(|row| PatientRow {
            patient_id: self.work.patient.clone(),
            row: *row,
        })
    }
}

impl Fold {
    /// Folds `events`, which follow `before` in order, until the first that can't be applied. None at all means
    /// that the next event is missing, since this is called only when there is known to be one.
    fn of<'e>(
        before: PatientState,
        events: impl Iterator<Item = Result<&'e RecordedEvent, (StreamVersion, Undecodable)>>,
        now: Timestamp,
    ) -> Fold {
        let marked = before.quarantine.clone();
        let mut after = before;
        let mut rows = Vec::new();
        let mut poison = None;
        let mut any = false;
        for event in events {
            any = true;
            match event.map(|event| after.apply(event)) {
                Ok(Ok(Applied::CheckedIn(row))) => rows.push(row),
                Ok(Ok(Applied::Registered | Applied::Already)) => {}
                Ok(Err(ApplyError::Rejected(rejection))) => poison = Some(rejection.into()),
                Ok(Err(ApplyError::Gap { .. })) => poison = Some(QuarantineReason::missing()),
                Err((version, undecodable)) if version == after.applied.next() => {
                    poison = Some(undecodable.into());
                }
                Err(_) => poison = Some(QuarantineReason::missing()),
            }
            if poison.is_some() {
                break;
            }
        }
        if !any {
            poison = Some(QuarantineReason::missing());
        }
        let mut is_marked = marked.is_some();
        let mut newly_quarantined = false;
        if let Some(reason) = poison {
            is_marked = true;
            let version = after.applied.next();
            let same = marked.filter(|mark| mark.version == version && mark.reason == reason);
            newly_quarantined = same.is_none();
            after.quarantine = Some(same.unwrap_or(Quarantine {
                version,
                reason,
                since: now,
            }));
        }
        Fold {
            after,
            rows,
            is_marked,
            newly_quarantined,
        }
    }
}
