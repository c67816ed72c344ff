//! What an invocation tells operators beside its log lines: metrics, and annotations on its trace.

use domain::Timestamp;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::config::Lookup;
use crate::metrics::{self, Metric};
use crate::xray::XRay;

/// Which invocation of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invocation<'a> {
    /// Its request id.
    pub request_id: &'a str,
    /// The tracing header that came with it, if any.
    pub trace: Option<&'a str>,
}

/// What there is to tell of an invocation. Nothing of a patient but ids belongs in it, and in metrics not even those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Values to be added up or watched.
    pub metrics: Vec<Metric>,
    /// What its trace can be found by. A name is of letters, digits and underscores; a value is a text, a number or a
    /// boolean (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>).
    pub annotations: Vec<(&'static str, Value)>,
}

/// Tells what invocations of one service have to report.
#[derive(Debug)]
pub struct Reporter {
    service: &'static str,
    clock: Clock,
    xray: Option<XRay>,
}

impl Reporter {
    /// Tells it for `service`, where the environment says.
    #[must_use]
    pub fn from_lookup(service: &'static str, clock: Clock, lookup: Lookup<'_>) -> Reporter {
        Reporter {
            service,
            clock,
            xray: XRay::from_lookup(lookup),
        }
    }

    /// When an invocation begins.
    #[must_use]
    pub fn begin(&self) -> Timestamp {
        (self.clock)()
    }

    /// Tells what an invocation that began then has to report. What can't be told is lost.
    pub fn report(&self, invocation: Invocation<'_>, began: Timestamp, report: Report) {
        let now = (self.clock)();
        if !report.metrics.is_empty() {
            metrics::emit(self.service, now, &report.metrics);
        }
        if let (Some(xray), false) = (&self.xray, report.annotations.is_empty()) {
            let annotations: Map<String, Value> = report
                .annotations
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            xray.annotate(self.service, invocation, (began, now), &annotations);
        }
    }
}
