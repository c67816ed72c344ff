//! Metrics, one JSON object a line on stdout, from which CloudWatch makes metrics: its embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//! No call is made for them, and they are readable where there is no CloudWatch.
//!
//! Deliberately absent: dimensions other than the deployment and the service. A patient, or anything of one, is never one.

use std::io::Write as _;

use domain::Timestamp;
use serde_json::{Map, Value, json};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "PatientCheckins";

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// CloudWatch's name.
    const fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Milliseconds => "Milliseconds",
        }
    }
}

/// One value of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The metric's name, such as `PatientsBehind`.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// The value.
    pub value: u64,
}

impl Metric {
    /// So many of something.
    #[must_use]
    pub const fn count(name: &'static str, value: u64) -> Metric {
        Metric {
            name,
            unit: Unit::Count,
            value,
        }
    }

    /// A time span, in milliseconds.
    #[must_use]
    pub const fn millis(name: &'static str, value: u64) -> Metric {
        Metric {
            name,
            unit: Unit::Milliseconds,
            value,
        }
    }
}

/// Whose metrics they are: an account may hold several deployments, and none raises the alarms of another.
#[derive(Debug)]
pub(crate) struct Source {
    /// The deployment's name.
    pub(crate) deployment: String,
    /// The service's.
    pub(crate) service: &'static str,
}

/// Writes the values to stdout. If nobody reads that, they are lost, as logs would be.
pub(crate) fn emit(source: &Source, now: Timestamp, metrics: &[Metric]) {
    let _ = writeln!(std::io::stdout(), "{}", line(source, now, metrics));
}

fn line(source: &Source, now: Timestamp, metrics: &[Metric]) -> String {
    let described: Vec<Value> = metrics
        .iter()
        .map(|metric| json!({ "Name": metric.name, "Unit": metric.unit.name() }))
        .collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.unix_millis(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["Deployment", "Service"]],
                "Metrics": described,
            }],
        }),
    );
    line.insert("Deployment".to_owned(), source.deployment.as_str().into());
    line.insert("Service".to_owned(), source.service.into());
    for metric in metrics {
        line.insert(metric.name.to_owned(), metric.value.into());
    }
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_in_the_embedded_metric_format() {
        let now = Timestamp::from_unix_millis(1_764_000_000_123).unwrap();
        let metrics = [Metric::count("PatientsBehind", 3), Metric::millis("Lag", 1_500)];
        let source = Source {
            deployment: "clinic".to_owned(),
            service: "reconciler",
        };
        let found: Value = serde_json::from_str(&line(&source, now, &metrics)).unwrap();
        assert_eq!(
            found,
            json!({
                "_aws": {
                    "Timestamp": 1_764_000_000_123_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "PatientCheckins",
                        "Dimensions": [["Deployment", "Service"]],
                        "Metrics": [
                            { "Name": "PatientsBehind", "Unit": "Count" },
                            { "Name": "Lag", "Unit": "Milliseconds" },
                        ],
                    }],
                },
                "Deployment": "clinic",
                "Service": "reconciler",
                "PatientsBehind": 3,
                "Lag": 1_500,
            })
        );
    }
}
