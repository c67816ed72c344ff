//! What to do next with the records that were read from the stream: the rules of an event source mapping,
//! without its input and output.
//!
//! The rules are Lambda's (<https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html>
//! and <https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html>):
//!
//! - Batches go one at a time and in order; while one fails, those behind it wait.
//! - After a function error the batch is split in two, if the mapping bisects and there are two records to part.
//!   Splitting is not an attempt.
//! - After a partial failure, what lies before the lowest reported record is done, and the rest is retried. It is
//!   an attempt only if nothing was done.
//! - A batch that used up its attempts goes to the on-failure destination as a whole; so do records that have
//!   become too old.

use std::collections::VecDeque;
use std::time::Duration;

use domain::Timestamp;

use super::Settings;
use super::response::Outcome;
use embedded::stream::{SequenceNumber, StreamRecord};

/// The wait before a retry doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Records in stream order, in the batches in which they are to be delivered.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    batches: VecDeque<Batch>,
}

#[derive(Debug)]
struct Batch {
    records: Vec<StreamRecord>,
    /// How often this batch failed as it is now.
    failed_attempts: u32,
    /// How often its records were delivered, in this batch or a larger one.
    invocations: u32,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// Everything is done: read more of the stream.
    Read,
    /// Wait this long, then invoke the function with these records, and tell [`Backlog::settle`].
    Invoke {
        records: &'a [StreamRecord],
        after: Duration,
    },
    /// Tell the on-failure destination, then [`Backlog::discarded`].
    Discard(Discarded),
}

/// Records that are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discarded {
    pub(crate) condition: Condition,
    pub(crate) invocations: u32,
    pub(crate) records: usize,
    pub(crate) first: RecordMark,
    pub(crate) last: RecordMark,
}

/// Which record, and when it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordMark {
    pub(crate) sequence_number: SequenceNumber,
    pub(crate) created_at: Timestamp,
}

/// Why records are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    RetryAttemptsExhausted,
    RecordAgeExceeded,
}

impl Condition {
    /// The name that Lambda gives it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Condition::RetryAttemptsExhausted => "RetryAttemptsExhausted",
            Condition::RecordAgeExceeded => "RecordAgeExceeded",
        }
    }
}

impl Backlog {
    /// Adds a batch that was read from the stream, behind all others.
    pub(crate) fn add(&mut self, records: Vec<StreamRecord>) {
        if !records.is_empty() {
            self.batches.push_back(Batch::new(records, 0));
        }
    }

    /// What to do at this moment.
    pub(crate) fn next(&self, settings: &Settings, now: Timestamp) -> Next<'_> {
        let Some(batch) = self.batches.front() else {
            return Next::Read;
        };
        let expired = batch
            .records
            .iter()
            .take_while(|record| is_expired(record, settings, now))
            .count();
        let (given_up, condition) = if expired > 0 {
            (expired, Condition::RecordAgeExceeded)
        } else if settings
            .maximum_retry_attempts
            .is_some_and(|retries| batch.failed_attempts > retries)
        {
            (batch.records.len(), Condition::RetryAttemptsExhausted)
        } else {
            return Next::Invoke {
                records: &batch.records,
                after: backoff(batch.failed_attempts),
            };
        };
        let records = batch.records.get(..given_up).unwrap_or_default();
        match (records.first(), records.last()) {
            (Some(first), Some(last)) => Next::Discard(Discarded {
                condition,
                invocations: batch.invocations,
                records: given_up,
                first: mark(first),
                last: mark(last),
            }),
            _ => Next::Read,
        }
    }

    /// Takes in what came of invoking the function with the first batch. Gives the last record that is now done
    /// together with all before it, if there is a new one.
    pub(crate) fn settle(&mut self, outcome: Outcome, settings: &Settings) -> Option<SequenceNumber> {
        let mut batch = self.batches.pop_front()?;
        batch.invocations += 1;
        let invocations = batch.invocations;
        match outcome {
            Outcome::Succeeded => batch.records.pop().map(|last| last.sequence_number),
            Outcome::FailedFrom(position) if position > 0 => {
                let rest = batch.records.split_off(position.min(batch.records.len()));
                self.put_first(Batch::new(rest, invocations));
                batch.records.pop().map(|last| last.sequence_number)
            }
            Outcome::Failed if settings.bisect_on_function_error && batch.records.len() > 1 => {
                let second = batch.records.split_off(batch.records.len() / 2);
                self.put_first(Batch::new(second, invocations));
                self.put_first(Batch::new(batch.records, invocations));
                None
            }
            Outcome::FailedFrom(_) | Outcome::Failed => {
                batch.failed_attempts += 1;
                self.put_first(batch);
                None
            }
        }
    }

    /// Gives up the records that [`Next::Discard`] was about: the destination has been told. Gives the last of
    /// them, with which the stream is done that far.
    pub(crate) fn discarded(&mut self, discarded: Discarded) -> Option<SequenceNumber> {
        let mut batch = self.batches.pop_front()?;
        batch.records.drain(..discarded.records.min(batch.records.len()));
        self.put_first(batch);
        Some(discarded.last.sequence_number)
    }

    fn put_first(&mut self, batch: Batch) {
        if !batch.records.is_empty() {
            self.batches.push_front(batch);
        }
    }
}

impl Batch {
    fn new(records: Vec<StreamRecord>, invocations: u32) -> Batch {
        Batch {
            records,
            failed_attempts: 0,
            invocations,
        }
    }
}

fn is_expired(record: &StreamRecord, settings: &Settings, now: Timestamp) -> bool {
    settings.maximum_record_age.is_some_and(|limit| {
        u128::try_from(now.millis_since(record.created_at)).is_ok_and(|age| age > limit.as_millis())
    })
}

fn mark(record: &StreamRecord) -> RecordMark {
    RecordMark {
        sequence_number: record.sequence_number.clone(),
        created_at: record.created_at,
    }
}

fn backoff(failed_attempts: u32) -> Duration {
    let (first, longest) = BACKOFF;
    match failed_attempts.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => longest.min(first.saturating_mul(2_u32.saturating_pow(doublings))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_764_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis).unwrap()
    }

    /// Drives a mapping until all records are settled, with a function that answers by `outcome`. Gives what
    /// happened, in order: the batches that the function was invoked with, `ok N` for a new checkpoint, and
    /// `gave up A..B` for discarded records.
    fn drive(settings: &Settings, records: usize, mut outcome: impl FnMut(&[u32]) -> Outcome) -> Vec<String> {
        let mut backlog = Backlog::default();
        backlog.add(
            (1..=records)
                .map(|number| StreamRecord {
                    sequence_number: SequenceNumber::new(number.to_string()),
                    created_at: at(NOW - 10_000 + i64::try_from(number).unwrap()),
                    json: "{}".to_owned(),
                })
                .collect(),
        );
        let mut history = Vec::new();
        for _ in 0..1_000 {
            let done = match backlog.next(settings, at(NOW)) {
                Next::Read => return history,
                Next::Invoke { records, .. } => {
                    let numbers: Vec<u32> = records
                        .iter()
                        .map(|record| record.sequence_number.as_str().parse().unwrap())
                        .collect();
                    history.push(format!("{numbers:?}"));
                    let outcome = outcome(&numbers);
                    backlog.settle(outcome, settings)
                }
                Next::Discard(discarded) => {
                    let (first, last) = (&discarded.first, &discarded.last);
                    history.push(format!(
                        "gave up {}..{} after {}: {}",
                        first.sequence_number.as_str(),
                        last.sequence_number.as_str(),
                        discarded.invocations,
                        discarded.condition.name()
                    ));
                    backlog.discarded(discarded)
                }
            };
            if let Some(done) = done {
                history.push(format!("ok {}", done.as_str()));
            }
        }
        panic!("it never ends: {history:?}");
    }

    fn settings(bisect: bool, retries: Option<u32>) -> Settings {
        Settings {
            bisect_on_function_error: bisect,
            maximum_retry_attempts: retries,
            ..Settings::default()
        }
    }

    /// A function that fails as a whole whenever record `poison` is in its batch.
    fn fails_on(poison: u32) -> impl FnMut(&[u32]) -> Outcome {
        move |batch| {
            if batch.contains(&poison) {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            }
        }
    }

    /// A function that reports record `poison` whenever it is in its batch.
    fn reports(poison: u32) -> impl FnMut(&[u32]) -> Outcome {
        move |batch| match batch.iter().position(|number| *number == poison) {
            Some(position) => Outcome::FailedFrom(position),
            None => Outcome::Succeeded,
        }
    }

    #[test]
    fn success_settles_the_whole_batch() {
        let history = drive(&settings(true, None), 3, |_| Outcome::Succeeded);
        assert_eq!(history, ["[1, 2, 3]", "ok 3"]);
    }

    #[test]
    fn function_error_isolates_the_poison_record_by_splitting() {
        let history = drive(&settings(true, Some(0)), 4, fails_on(3));
        assert_eq!(
            history,
            [
                "[1, 2, 3, 4]",
                "[1, 2]",
                "ok 2",
                "[3, 4]",
                "[3]",
                "gave up 3..3 after 3: RetryAttemptsExhausted",
                "ok 3",
                "[4]",
                "ok 4"
            ]
        );
    }

    #[test]
    fn splitting_is_not_an_attempt() {
        let history = drive(&settings(true, Some(1)), 2, fails_on(2));
        assert_eq!(
            history,
            [
                "[1, 2]",
                "[1]",
                "ok 1",
                "[2]",
                "[2]",
                "gave up 2..2 after 3: RetryAttemptsExhausted",
                "ok 2"
            ]
        );
    }

    #[test]
    fn without_splitting_the_batch_is_given_up_as_a_whole() {
        let history = drive(&settings(false, Some(1)), 3, fails_on(2));
        assert_eq!(
            history,
            [
                "[1, 2, 3]",
                "[1, 2, 3]",
                "gave up 1..3 after 2: RetryAttemptsExhausted",
                "ok 3"
            ]
        );
    }

    #[test]
    fn partial_failure_retries_from_the_lowest_reported_record() {
        let mut failures = 2;
        let history = drive(&settings(true, None), 4, |batch| {
            if batch.contains(&3) && failures > 0 {
                failures -= 1;
                return reports(3)(batch);
            }
            Outcome::Succeeded
        });
        assert_eq!(history, ["[1, 2, 3, 4]", "ok 2", "[3, 4]", "[3, 4]", "ok 4"]);
    }

    #[test]
    fn reported_first_record_uses_up_attempts_and_takes_the_rest_along() {
        let history = drive(&settings(true, Some(1)), 3, reports(2));
        assert_eq!(
            history,
            [
                "[1, 2, 3]",
                "ok 1",
                "[2, 3]",
                "[2, 3]",
                "gave up 2..3 after 3: RetryAttemptsExhausted",
                "ok 3"
            ]
        );
    }

    #[test]
    fn a_failing_batch_without_limits_is_retried_for_ever() {
        let mut calls = 0;
        let history = drive(&settings(true, None), 1, |_| {
            calls += 1;
            if calls < 200 {
                Outcome::Failed
            } else {
                Outcome::Succeeded
            }
        });
        assert_eq!(history.len(), 201);
    }

    #[test]
    fn records_that_are_too_old_are_given_up_without_another_attempt() {
        let settings = Settings {
            maximum_record_age: Some(Duration::from_millis(9_998)),
            ..settings(true, None)
        };
        let history = drive(&settings, 3, |_| Outcome::Succeeded);
        assert_eq!(
            history,
            [
                "gave up 1..1 after 0: RecordAgeExceeded",
                "ok 1",
                "[2, 3]",
                "ok 3"
            ]
        );
    }

    #[test]
    fn retries_wait_longer_each_time_and_never_too_long() {
        let waits: Vec<u128> = (0..10).map(|failures| backoff(failures).as_millis()).collect();
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]
        );
        assert_eq!(backoff(u32::MAX), BACKOFF.1);
    }
}
