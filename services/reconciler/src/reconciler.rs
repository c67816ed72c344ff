//! What the reconciler does when its schedule fires.

use domain::Timestamp;
use event_log::EventLog;
use projection::{
    EarlierSweep, ProjectionStore, ProjectionUnavailable, QuarantineQueue, Reconcile, ReconcileError,
    Reconciled, Remaining, Retry, SWEEP_OVERLAP_MILLIS, Sweep, SweepStore, current,
};
use runtime::Report;
use runtime::clock::Clock;
use runtime::metrics::Metric;
use runtime::telemetry::chain;
use serde::{Deserialize, Deserializer, Serialize};

/// Repairs the active generation.
#[derive(Debug, Clone)]
pub struct Reconciler<L, S, Q> {
    /// The event table.
    pub log: L,
    /// The read model's table.
    pub store: S,
    /// Where events that can't be applied are reported.
    pub queue: Q,
    /// How many calls are under way at once, at most.
    pub concurrency: usize,
    /// The time.
    pub clock: Clock,
}

/// What the reconciler is asked for. A scheduled event, which has no field `full`, asks for the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Request {
    /// Whether to compare everything that was ever recorded, instead of what was recorded since the last time.
    #[serde(default)]
    pub full: bool,
    /// The tick of the schedule that it is for, if it is for one: what lies between two of them says when the next one
    /// is due. Anything else in its place is none, and no reason not to reconcile.
    #[serde(default, rename = "time", deserialize_with = "tick")]
    pub tick: Option<Timestamp>,
}

fn tick<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Time::deserialize(deserializer)? {
        Time::Text(time) => Timestamp::parse_rfc3339(&time).ok(),
        Time::Other(_) => None,
    })
}

/// What it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Patients that were compared; one of whom much was recorded may count more than once.
    pub patients: u64,
    /// Patients that lagged.
    pub behind: u64,
    /// Events that were applied to them.
    pub events: u64,
    /// Quarantined patients.
    pub quarantined: u64,
    /// How long ago the oldest event was recorded that was not applied yet, in milliseconds; 0 if there was none. It is
    /// how far the projection was behind what it should have done by itself, so what waits behind a quarantine does not
    /// count.
    pub lag_millis: u64,
}

impl Summary {
    /// What to report.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            metrics: vec![
                Metric::count("PatientsBehind", self.behind),
                Metric::count("EventsReconciled", self.events),
                Metric::count("PatientsQuarantined", self.quarantined),
                Metric::millis("ReconcileLag", self.lag_millis),
            ],
            annotations: vec![
                ("patients_behind", self.behind.into()),
                ("events_reconciled", self.events.into()),
                ("quarantined", self.quarantined.into()),
            ],
        }
    }
}

/// Why it did not finish. Invoke it again: it begins where this one came to, or at the oldest event that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The read model's table can't be reached.
    #[error(transparent)]
    Store(#[from] ProjectionUnavailable),
    /// The comparison could not be made.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// Some patients still lag; the log says which and why.
    #[error("{patients} patients could not be advanced")]
    Incomplete {
        /// How many.
        patients: usize,
        /// What was done all the same.
        summary: Summary,
    },
}

impl<L: EventLog, S: ProjectionStore + SweepStore, Q: QuarantineQueue> Reconciler<L, S, Q> {
    /// Compares what was recorded since the last time with what was applied, and repairs what lags.
    ///
    /// # Errors
    /// [`ReconcilerError`]; the next invocation begins no later than this one did.
    pub async fn handle(&self, request: Request) -> Result<Summary, ReconcilerError> {
        let began = (self.clock)();
        let generation = current(&self.store).await?.active;
        let last = self.store.last_sweep(generation).await?;
        let swept_to = last.as_ref().map(|last| last.swept_to);
        let begin_at = if request.full { None } else { swept_to };
        let from = begin_at.map_or(Timestamp::EARLIEST, |last| {
            last.plus_millis(-SWEEP_OVERLAP_MILLIS)
        });
        let reconcile = Reconcile {
            log: &self.log,
            store: &self.store,
            queue: &self.queue,
            generation,
            retry: Retry::No,
            concurrency: self.concurrency,
            now: began,
        };
        let mut reconciled = Reconciled::default();
        let mut remaining = Remaining::since(from);
        while !remaining.is_empty() {
            reconciled = reconciled.plus(reconcile.round(&mut remaining).await?);
            // An invocation that is cut short, since there is too much for one, leaves less for the next. Not later than it
            // began, though: what was recorded since may not have been in the index yet.
            let reached = remaining.reached().map(|reached| reached.min(began));
            if let Some(reached) = reached.filter(|reached| Some(*reached) > swept_to) {
                let mark = self.cut_short(last.as_ref(), reached, began, &reconciled);
                self.store.put_sweep(generation, &mark).await?;
            }
        }
        for (patient, error) in &reconciled.failed {
            tracing::warn!(
                patient_id = patient.as_str(),
                error = chain(error),
                "patient still lags"
            );
        }
        let count = |entries: usize| u64::try_from(entries).unwrap_or(u64::MAX);
        let summary = Summary {
            patients: reconciled.patients,
            behind: reconciled.behind,
            events: reconciled.events,
            quarantined: count(reconciled.quarantined.len()),
            lag_millis: lag_millis(began, &reconciled),
        };
        tracing::info!(
            generation = generation.get(),
            %from,
            patients = summary.patients,
            behind = summary.behind,
            repaired_events = summary.events,
            quarantined = summary.quarantined,
            lag_millis = summary.lag_millis,
            failed = reconciled.failed.len(),
            "reconciled"
        );
        // What was recorded before this sweep began has been compared.
        let mark = self.finished(last.as_ref(), request, began, &reconciled);
        self.store.put_sweep(generation, &mark).await?;
        if !reconciled.failed.is_empty() {
            return Err(ReconcilerError::Incomplete {
                patients: reconciled.failed.len(),
                summary,
            });
        }
        Ok(summary)
    }

    /// What is kept of a sweep that has finished.
    fn finished(
        &self,
        last: Option<&Sweep>,
        request: Request,
        began: Timestamp,
        reconciled: &Reconciled,
    ) -> Sweep {
        let last_tick = last.and_then(|last| last.tick);
        // A tick that is delivered twice, or too late, says nothing new.
        let between = request
            .tick
            .zip(last_tick)
            .and_then(|(tick, last)| u64::try_from(tick.millis_since(last)).ok())
            .filter(|between| *between > 0);
        Sweep {
            swept_to: compared_to(began, reconciled),
            lag_millis: lag_millis(began, reconciled),
            applied_at: self.applied_at(last, reconciled),
            before: last.map(|last| EarlierSweep {
                swept_to: last.swept_to,
                lag_millis: last.lag_millis,
            }),
            tick: request.tick.max(last_tick),
            period_millis: between.or(last.and_then(|last| last.period_millis)),
        }
    }

    /// What is kept of a sweep that has come to `reached`, in case it comes no further: the next one goes on with it,
    /// as a part of the same. It takes back nothing that was found before.
    fn cut_short(
        &self,
        last: Option<&Sweep>,
        reached: Timestamp,
        began: Timestamp,
        reconciled: &Reconciled,
    ) -> Sweep {
        let found = last.map_or(0, |last| last.lag_millis);
        Sweep {
            swept_to: compared_to(reached, reconciled),
            lag_millis: lag_millis(began, reconciled).max(found),
            applied_at: self.applied_at(last, reconciled),
            before: last.and_then(|last| last.before),
            tick: last.and_then(|last| last.tick),
            period_millis: last.and_then(|last| last.period_millis),
        }
    }

    fn applied_at(&self, last: Option<&Sweep>, reconciled: &Reconciled) -> Option<Timestamp> {
        let now = (reconciled.events > 0).then(|| (self.clock)());
        now.or(last.and_then(|last| last.applied_at))
    }
}

/// What was recorded before `reached` is applied, but for what failed: the next sweep begins there.
fn compared_to(reached: Timestamp, reconciled: &Reconciled) -> Timestamp {
    reconciled
        .oldest_failed
        .map_or(reached, |oldest| oldest.min(reached))
}

fn lag_millis(began: Timestamp, reconciled: &Reconciled) -> u64 {
    let waited = reconciled.oldest.map(|oldest| began.millis_since(oldest));
    waited
        .and_then(|waited| u64::try_from(waited).ok())
        .unwrap_or_default()
}
