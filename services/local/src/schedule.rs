//! The schedule: EventBridge's scheduled events, sent to a function at a fixed rate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::Timestamp;
use runtime::clock::Clock;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::function::{Invoke, InvokeError};
use crate::options::Period;
use crate::stopping::Stopping;

/// How often an event whose invocation failed is tried again, as Lambda does for asynchronous invocations, and
/// how long it waits before each time. (Lambda waits one and two minutes.)
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How many events may wait for the function; more are dropped, as Lambda drops events that grow too old.
const MAX_WAITING: usize = 1_000;

/// A rule of the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: &'static str,
    /// The time between two ticks.
    pub(crate) period: Period,
}

/// Sends an event to `function` on each tick of `rule` until it is told to stop.
///
/// Ticks are the multiples of the period, so a restart repeats none and shifts none. One that passes while this
/// machine sleeps is missed, as EventBridge would not catch up either.
pub(crate) async fn run(function: Arc<impl Invoke>, rule: Rule, clock: Clock, mut stopping: Stopping) {
    let mut events = JoinSet::new();
    let mut tick = next_tick(clock(), rule.period);
    loop {
        let until = u64::try_from(tick.millis_since(clock())).map_or(Duration::ZERO, Duration::from_millis);
        if timeout(until, stopping.wait()).await.is_ok() {
            return;
        }
        while events.try_join_next().is_some() {}
        if events.len() < MAX_WAITING {
            events.spawn(deliver(function.clone(), event(tick, rule)));
        } else {
            tracing::error!(%tick, "dropped: too many ticks are waiting");
        }
        tick = next_tick(tick.max(clock()), rule.period);
    }
}

async fn deliver(function: Arc<impl Invoke>, event: Bytes) {
    let mut retries = RETRIES.into_iter();
    loop {
        match function.invoke(event.clone()).await {
            Ok(_) | Err(InvokeError::Stopping { .. }) => return,
            Err(error @ InvokeError::FunctionError { .. }) => match retries.next() {
                Some(wait) => {
                    tracing::warn!(error = %runtime::telemetry::chain(&error), "tick failed, will be tried again");
                    sleep(wait).await;
                }
                None => {
                    tracing::error!(error = %runtime::telemetry::chain(&error), "tick dropped");
                    return;
                }
            },
        }
    }
}

/// The first tick after `now`.
fn next_tick(now: Timestamp, period: Period) -> Timestamp {
    let since_tick = now.unix_millis().rem_euclid(period.millis());
    now.plus_millis(period.millis() - since_tick)
}

/// The event of a tick
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html>).
fn event(tick: Timestamp, rule: Rule) -> Bytes {
    let mut time = tick.to_string();
    // EventBridge's times are in whole seconds; more often than that it does not tick.
    if rule.period.millis() % 1_000 == 0
        && let Some(seconds) = time.strip_suffix(".000Z")
    {
        time = format!("{seconds}Z");
    }
    json!({
        "version": "0",
        "id": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{}#{time}", rule.name).as_bytes()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": time,
        "region": embedded::REGION,
        "resources": [format!("arn:aws:events:{}:000000000000:rule/{}", embedded::REGION, rule.name)],
        "detail": {},
    })
    .to_string()
    .into()
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::function::FunctionFailure;

    /// Fails so many times before it succeeds.
    struct Failing {
        times: usize,
        invoked: AtomicUsize,
    }

    impl Invoke for Failing {
        async fn invoke(&self, _: Bytes) -> Result<Bytes, InvokeError> {
            if self.invoked.fetch_add(1, Ordering::SeqCst) >= self.times {
                return Ok(Bytes::new());
            }
            Err(InvokeError::FunctionError {
                function: "test",
                failure: FunctionFailure::Ended(ExitStatus::default()),
            })
        }
    }

    fn rule(period: &str) -> Rule {
        Rule {
            name: "checkin-tick",
            period: period.parse().unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_tick_is_tried_three_times() {
        for (times, expected) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
            let function = Arc::new(Failing {
                times,
                invoked: AtomicUsize::new(0),
            });
            deliver(function.clone(), Bytes::new()).await;
            assert_eq!(function.invoked.load(Ordering::SeqCst), expected);
        }
    }

    #[test]
    fn ticks_are_the_multiples_of_the_period() {
        #[track_caller]
        fn check(now: &str, period: &str, expected: &str) {
            let tick = next_tick(now.parse().unwrap(), period.parse().unwrap());
            assert_eq!(tick.to_string(), expected);
        }
        check("2026-11-24T09:30:00.001Z", "2s", "2026-11-24T09:30:02.000Z");
        check("2026-11-24T09:30:01.999Z", "2s", "2026-11-24T09:30:02.000Z");
        check("2026-11-24T09:30:02.000Z", "2s", "2026-11-24T09:30:04.000Z");
        check("2026-11-24T09:30:02.000Z", "2m", "2026-11-24T09:32:00.000Z");
        check("2026-11-24T09:30:02.450Z", "200ms", "2026-11-24T09:30:02.600Z");
    }

    #[test]
    fn event_has_the_time_of_its_tick() {
        #[track_caller]
        fn check(tick: &str, period: &str, expected: &str) {
            let event = event(tick.parse().unwrap(), rule(period));
            let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
            assert_eq!(event["time"], expected);
            assert_eq!(
                event["resources"][0],
                "arn:aws:events:us-east-1:000000000000:rule/checkin-tick"
            );
        }
        check("2026-11-24T09:30:02.000Z", "2s", "2026-11-24T09:30:02Z");
        check("2026-11-24T09:30:02.000Z", "200ms", "2026-11-24T09:30:02.000Z");
        check("2026-11-24T09:30:02.400Z", "200ms", "2026-11-24T09:30:02.400Z");
    }

    #[test]
    fn the_same_tick_is_the_same_event() {
        let (tick, period) = ("2026-11-24T09:30:02.000Z".parse().unwrap(), "2s");
        assert_eq!(event(tick, rule(period)), event(tick, rule(period)));
    }
}
