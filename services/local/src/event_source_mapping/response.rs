//! What a function's response says about a batch, under `ReportBatchItemFailures`
//! (<https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>).

use serde::Deserialize;
use serde_json::Value;

use embedded::stream::StreamRecord;

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was done.
    Succeeded,
    /// What lies before this position in the batch was done.
    FailedFrom(usize),
    /// Nothing counts as done.
    Failed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: Option<String>,
}

impl Outcome {
    /// Reads the response to `batch`, with Lambda's leniency: a response without a list of failures is complete
    /// success. A list that cannot be read, or that names no record of the batch, fails the batch.
    pub(crate) fn of(response: &[u8], batch: &[StreamRecord]) -> Outcome {
        if response.is_empty() {
            return Outcome::Succeeded;
        }
        let Ok(response) = serde_json::from_slice::<Value>(response) else {
            return Outcome::Failed;
        };
        let failures = match response {
            Value::Null => return Outcome::Succeeded,
            Value::String(text) if text.is_empty() => return Outcome::Succeeded,
            Value::Object(mut response) => response.remove("batchItemFailures").unwrap_or_default(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Outcome::Failed,
        };
        let Ok(failures) = serde_json::from_value::<Option<Vec<Failure>>>(failures) else {
            return Outcome::Failed;
        };
        let mut lowest = None;
        for failure in failures.unwrap_or_default() {
            let position = failure.item_identifier.and_then(|number| {
                batch
                    .iter()
                    .position(|record| record.sequence_number.as_str() == number)
            });
            let Some(position) = position else {
                return Outcome::Failed;
            };
            lowest = Some(lowest.map_or(position, |lowest: usize| lowest.min(position)));
        }
        lowest.map_or(Outcome::Succeeded, Outcome::FailedFrom)
    }

    /// The part of the batch that was done.
    pub(crate) fn done_of(self, batch: &[StreamRecord]) -> &[StreamRecord] {
        match self {
            Outcome::Succeeded => batch,
            Outcome::FailedFrom(position) => batch.get(..position).unwrap_or_default(),
            Outcome::Failed => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;

    use super::*;
    use embedded::stream::SequenceNumber;

    #[track_caller]
    fn check(response: &str, expected: Outcome) {
        let batch: Vec<StreamRecord> = ["9", "10", "11"]
            .map(|number| StreamRecord {
                sequence_number: SequenceNumber::new(number),
                created_at: Timestamp::from_unix_millis(0).unwrap(),
                json: String::new(),
            })
            .into();
        let outcome = Outcome::of(response.as_bytes(), &batch);
        assert_eq!(outcome, expected, "{response}");
        let done = match expected {
            Outcome::Succeeded => 3,
            Outcome::FailedFrom(position) => position,
            Outcome::Failed => 0,
        };
        assert_eq!(outcome.done_of(&batch), &batch[..done]);
    }

    #[test]
    fn response_without_failures_is_complete_success() {
        for response in [
            "",
            "null",
            "\"\"",
            "{}",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"x":1}"#,
        ] {
            check(response, Outcome::Succeeded);
        }
    }

    #[test]
    fn lowest_reported_record_counts_in_stream_order() {
        check(
            r#"{"batchItemFailures":[{"itemIdentifier":"11"}]}"#,
            Outcome::FailedFrom(2),
        );
        check(
            r#"{"batchItemFailures":[{"itemIdentifier":"11"},{"itemIdentifier":"9"},{"itemIdentifier":"10"}]}"#,
            Outcome::FailedFrom(0),
        );
    }

    #[test]
    fn anything_else_fails_the_batch() {
        for response in [
            "{",
            "\"done\"",
            "7",
            "[]",
            r#"{"batchItemFailures":7}"#,
            r#"{"batchItemFailures":[7]}"#,
            r#"{"batchItemFailures":[{}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"12"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"9"},{"itemIdentifier":"12"}]}"#,
        ] {
            check(response, Outcome::Failed);
        }
    }
}
