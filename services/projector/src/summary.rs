//! What operators are told of a batch.

use domain::CorrelationId;
use runtime::Report;
use runtime::metrics::Metric;
use serde_json::json;

/// What a batch came to in the active generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Events that were applied.
    pub applied: u64,
    /// Patients for whom events had to be read from the event table.
    pub catch_ups: u64,
    /// Patients who were quarantined just now.
    pub quarantined: u64,
    /// Records of events that somebody modified or removed.
    pub violations: u64,
    /// Patients that could not be advanced, and records that name none and could not be reported: they come again.
    pub failed: u64,
    /// How long after its recording the newest event was applied, in milliseconds; `None` if none was.
    pub lag_millis: Option<u64>,
    /// The occasion of the batch's events, if it is one.
    pub correlation_id: Option<CorrelationId>,
}

impl Summary {
    /// What to report.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut metrics = vec![
            Metric::count("EventsApplied", self.applied),
            Metric::count("CatchUps", self.catch_ups),
            Metric::count("PatientsQuarantined", self.quarantined),
            Metric::count("IntegrityViolations", self.violations),
            Metric::count("PatientsFailed", self.failed),
        ];
        metrics.extend(self.lag_millis.map(|lag| Metric::millis("ProjectionLag", lag)));
        let mut annotations = vec![
            ("events_applied", json!(self.applied)),
            ("catch_ups", json!(self.catch_ups)),
            ("quarantined", json!(self.quarantined)),
            ("failed", json!(self.failed)),
        ];
        annotations.extend(self.correlation_id.map(|id| ("correlation_id", json!(id))));
        Report { metrics, annotations }
    }
}
