//! What the reconciler does when its schedule fires.

use domain::{Generation, Timestamp};
use event_log::EventLog;
use projection::{
    ProjectionStore, ProjectionUnavailable, QuarantineQueue, Reconcile, ReconcileError, Reconciled,
    Remaining, Retry, SWEEP_OVERLAP_MILLIS, Sweep, SweepStore, current,
};
use runtime::Report;
use runtime::clock::Clock;
use runtime::metrics::Metric;
use runtime::telemetry::chain;
use serde::{Deserialize, Serialize};

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

/// What the reconciler is asked for. A scheduled event, which has no such field, asks for the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Request {
    /// Whether to compare everything that was ever recorded, instead of what was recorded since the last time.
    #[serde(default)]
    pub full: bool,
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
        let swept_to = self.store.swept_to(generation).await?;
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
                self.put_sweep(generation, reached, began, &reconciled).await?;
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
        self.put_sweep(generation, began, began, &reconciled).await?;
        if !reconciled.failed.is_empty() {
            return Err(ReconcilerError::Incomplete {
                patients: reconciled.failed.len(),
                summary,
            });
        }
        Ok(summary)
    }

    /// Notes that what was recorded before `reached` is applied, but for what failed: the next sweep begins there.
    async fn put_sweep(
        &self,
        generation: Generation,
        reached: Timestamp,
        began: Timestamp,
        reconciled: &Reconciled,
    ) -> Result<(), ProjectionUnavailable> {
        let sweep = Sweep {
            swept_to: reconciled
                .oldest_failed
                .map_or(reached, |oldest| oldest.min(reached)),
            lag_millis: lag_millis(began, reconciled),
        };
        self.store.put_sweep(generation, &sweep).await
    }
}

fn lag_millis(began: Timestamp, reconciled: &Reconciled) -> u64 {
    let waited = reconciled.oldest.map(|oldest| began.millis_since(oldest));
    waited
        .and_then(|waited| u64::try_from(waited).ok())
        .unwrap_or_default()
}
