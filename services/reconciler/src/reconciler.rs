//! What the reconciler does when its schedule fires.

use domain::Timestamp;
use event_log::EventLog;
use projection::{
    ProjectionStore, ProjectionUnavailable, QuarantineQueue, Reconcile, ReconcileError, Retry,
    SWEEP_OVERLAP_MILLIS, Sweep, SweepStore, current,
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

/// Why it did not finish. Invoke it again: it begins where the last one that finished did.
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
        let swept_to = if request.full {
            None
        } else {
            self.store.swept_to(generation).await?
        };
        let from = swept_to.map_or(Timestamp::EARLIEST, |last| {
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
        let reconciled = reconcile.since(from).await?;
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
            lag_millis: reconciled.oldest.map_or(0, |oldest| {
                u64::try_from(began.millis_since(oldest)).unwrap_or_default()
            }),
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
        if !reconciled.failed.is_empty() {
            return Err(ReconcilerError::Incomplete {
                patients: reconciled.failed.len(),
                summary,
            });
        }
        // What was recorded before this sweep began has been compared.
        let sweep = Sweep {
            swept_to: began,
            lag_millis: summary.lag_millis,
        };
        self.store.put_sweep(generation, &sweep).await?;
        Ok(summary)
    }
}
