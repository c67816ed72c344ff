//! What an invocation tells operators beside its log lines: metrics, and annotations on its trace.

use domain::Timestamp;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::config::{Lookup, optional};
use crate::metrics::{self, Metric, Source};
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
    source: Source,
    clock: Clock,
    xray: Option<XRay>,
}

impl Reporter {
    /// Tells it for `service` of the deployment, and where, that the environment says. Without a name, as on one machine,
    /// the deployment is `local`.
    #[must_use]
    pub fn from_lookup(service: &'static str, clock: Clock, lookup: Lookup<'_>) -> Reporter {
        Reporter {
            source: Source {
                deployment: optional(lookup, "DEPLOYMENT").unwrap_or_else(|| "local".to_owned()),
                service,
            },
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
            metrics::emit(&self.source, now, &report.metrics);
        }
        if let (Some(xray), false) = (&self.xray, report.annotations.is_empty()) {
            let annotations: Map<String, Value> = report
                .annotations
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            xray.annotate(self.source.service, invocation, (began, now), &annotations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::system_clock;

    #[test]
    fn metrics_are_those_of_the_deployment_in_the_environment_or_else_of_this_machine() {
        let deployment = |name: Option<&str>| {
            let lookup = |asked: &str| name.filter(|_| asked == "DEPLOYMENT").map(str::to_owned);
            Reporter::from_lookup("checkin", system_clock, &lookup)
                .source
                .deployment
        };
        assert_eq!(deployment(Some("clinic")), "clinic");
        assert_eq!(deployment(None), "local");
    }
}
