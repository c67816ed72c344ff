//! The event source mapping between the event table's stream and the projector, with the semantics of Lambda's.
//!
//! The rules are in [`backlog`] and [`response`], without input and output; here are the loop that reads, invokes
//! and remembers, and the message to the on-failure destination.
//!
//! Deliberately absent: filters and tumbling windows, which the deployment does not use, and a parallelization
//! factor above 1.

mod backlog;
mod checkpoints;
mod response;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::Timestamp;
use runtime::clock::Clock;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::backlog::{Backlog, Discarded, Next};
use self::response::Outcome;
use crate::function::{Invoke, InvokeError};
use crate::queues::Queues;
use crate::recent_events::RecentEvents;
use crate::runtime_api::MAX_PAYLOAD_BYTES;
use crate::stopping::Stopping;
use embedded::stream::{MAX_READ, SequenceNumber, Stream, StreamRecord};

pub(crate) use self::checkpoints::Checkpoints;

/// How often an idle mapping looks for new records. (Lambda does it four times a second.)
const POLL: Duration = Duration::from_millis(20);
/// How long it waits when the stream, the checkpoint or the destination can't be reached.
const UNAVAILABLE: Duration = Duration::from_secs(1);
/// How long a running invocation has to end once the mapping is to come to an end.
const GRACE: Duration = Duration::from_secs(2);

/// How records are delivered, by the names that they have in Lambda
/// (<https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How many records an invocation gets at most: 1 to 10,000.
    pub(crate) batch_size: usize,
    /// How long to wait for a batch to fill: up to 300 s. Zero delivers what there is.
    pub(crate) batching_window: Duration,
    /// Whether a batch is split in two after a function error.
    pub(crate) bisect_on_function_error: bool,
    /// How often a batch is retried before it is given up. `None`: for ever.
    pub(crate) maximum_retry_attempts: Option<u32>,
    /// How old a record may become before it is given up. `None`: any age.
    pub(crate) maximum_record_age: Option<Duration>,
}

impl Default for Settings {
    /// A thousand records at once, no window, splitting, and no limits: the records wait until the projector is well
    /// again.
    fn default() -> Settings {
        Settings {
            batch_size: 1_000,
            batching_window: Duration::ZERO,
            bisect_on_function_error: true,
            maximum_retry_attempts: None,
            maximum_record_age: None,
        }
    }
}

/// How far the mapping has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// When it last found that nothing was left to do.
    pub(crate) caught_up_at: Option<Instant>,
    /// When it last looked and did not see yet what it is busy with now; `None` if nothing is left to do.
    pending_since: Option<Instant>,
}

impl Progress {
    /// At most how old the oldest record is that is not done yet; zero if all are.
    pub(crate) fn lag(self, now: Instant) -> Duration {
        self.pending_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// What a mapping connects.
pub(crate) struct EventSourceMapping<F> {
    /// Where records come from.
    pub(crate) stream: Stream,
    /// The function that gets them.
    pub(crate) function: Arc<F>,
    /// Where it is kept how far it has come.
    pub(crate) checkpoints: Checkpoints,
    /// Where it tells what it had to give up…
    pub(crate) queues: Queues,
    /// …and the name of the queue for it.
    pub(crate) failure_queue: &'static str,
    /// Who is told what was read and what is done.
    pub(crate) recent: RecentEvents,
    /// How.
    pub(crate) settings: Settings,
    /// The time.
    pub(crate) clock: Clock,
}

impl<F: Invoke> EventSourceMapping<F> {
    /// Delivers records until it is told to stop. Starts after the last record that was done, or else at the
    /// oldest one (`TRIM_HORIZON`).
    pub(crate) async fn run(self, progress: watch::Sender<Progress>, mut stopping: Stopping) {
        let position = loop {
            match self.checkpoints.load(self.stream.arn()).await {
                Ok(position) => break position,
                Err(error) => {
                    tracing::warn!(error = %runtime::telemetry::chain(&error), "the mapping cannot start");
                    if timeout(UNAVAILABLE, stopping.wait()).await.is_ok() {
                        return;
                    }
                }
            }
        };
        let mut delivery = Delivery {
            mapping: self,
            backlog: Backlog::default(),
            read_to: position,
            seen_end_at: Instant::now(),
            progress,
        };
        while !stopping.is_set() {
            let pause = match delivery.step(&mut stopping).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(error = %runtime::telemetry::chain(&*error), "the mapping waits");
                    UNAVAILABLE
                }
            };
            if !pause.is_zero() && timeout(pause, stopping.wait()).await.is_ok() {
                return;
            }
        }
    }
}

/// A mapping at work.
struct Delivery<F> {
    mapping: EventSourceMapping<F>,
    backlog: Backlog,
    /// The last record that is in the backlog or done.
    read_to: Option<SequenceNumber>,
    /// When the stream was last read to its end.
    seen_end_at: Instant,
    progress: watch::Sender<Progress>,
}

impl<F: Invoke> Delivery<F> {
    /// Does the next thing there is to do; gives how long to wait until the one after.
    async fn step(&mut self, stopping: &mut Stopping) -> Result<Duration, runtime::BoxError> {
        let EventSourceMapping {
            function,
            settings,
            recent,
            clock,
            ..
        } = &self.mapping;
        let done = match self.backlog.next(settings, clock()) {
            Next::Read => return self.read(stopping).await,
            Next::Invoke { records, after } => {
                if timeout(after, stopping.wait()).await.is_ok() {
                    return Ok(Duration::ZERO);
                }
                let invocation = function.invoke(payload(records));
                let answer = tokio::select! {
                    answer = invocation => answer,
                    // Whatever it does after this is repeated after the next start.
                    () = async { stopping.wait().await; sleep(GRACE).await } => return Ok(Duration::ZERO),
                };
                let outcome = match answer {
                    Ok(response) => Outcome::of(&response, records),
                    Err(InvokeError::FunctionError { .. }) => Outcome::Failed,
                    Err(InvokeError::Stopping { .. }) => return Ok(UNAVAILABLE),
                };
                if outcome != Outcome::Succeeded {
                    tracing::warn!(?outcome, records = records.len(), "batch failed");
                }
                recent.done(outcome.done_of(records), clock());
                self.backlog.settle(outcome, settings)
            }
            Next::Discard(discarded) => {
                self.tell_destination(&discarded).await?;
                self.backlog.discarded(discarded)
            }
        };
        if let Some(done) = done {
            // If this fails the records are delivered again after the next start, which changes nothing.
            self.mapping
                .checkpoints
                .store(self.mapping.stream.arn(), &done)
                .await?;
        }
        Ok(Duration::ZERO)
    }

    /// Reads the next batch, waiting for it to fill as long as the window says.
    async fn read(&mut self, stopping: &mut Stopping) -> Result<Duration, runtime::BoxError> {
        let Settings {
            batch_size,
            batching_window,
            ..
        } = self.mapping.settings;
        let mut batch: Vec<StreamRecord> = Vec::new();
        let mut bytes = 0;
        let mut window_ends = None;
        loop {
            let read_at = Instant::now();
            let room = batch_size.saturating_sub(batch.len());
            let found = self.read_stream(room).await?;
            let at_end = found.len() < room.min(MAX_READ);
            if !found.is_empty() {
                window_ends.get_or_insert(read_at + batching_window);
                if batch.is_empty() {
                    let pending_since = Some(self.seen_end_at);
                    self.progress
                        .send_modify(|progress| progress.pending_since = pending_since);
                }
            } else if batch.is_empty() {
                self.progress.send_replace(Progress {
                    caught_up_at: Some(read_at),
                    pending_since: None,
                });
                self.seen_end_at = read_at;
                return Ok(POLL);
            }
            if at_end {
                self.seen_end_at = read_at;
            }
            let mut is_full = false;
            for record in found {
                bytes += record.json.len() + 1;
                if bytes > MAX_PAYLOAD_BYTES - 100 && !batch.is_empty() {
                    is_full = true;
                    break;
                }
                self.read_to = Some(record.sequence_number.clone());
                batch.push(record);
            }
            let window_is_over = window_ends.is_none_or(|end| Instant::now() >= end);
            if is_full || batch.len() >= batch_size || (window_is_over && at_end) {
                break;
            }
            if at_end && timeout(POLL, stopping.wait()).await.is_ok() {
                break;
            }
        }
        self.mapping.recent.read(&batch);
        self.backlog.add(batch);
        Ok(Duration::ZERO)
    }

    async fn read_stream(&self, limit: usize) -> Result<Vec<StreamRecord>, runtime::BoxError> {
        let (stream, after) = (self.mapping.stream.clone(), self.read_to.clone());
        Ok(tokio::task::spawn_blocking(move || stream.read(after.as_ref(), limit)).await??)
    }

    async fn tell_destination(&self, discarded: &Discarded) -> Result<(), runtime::BoxError> {
        let EventSourceMapping {
            queues,
            failure_queue,
            stream,
            ..
        } = &self.mapping;
        tracing::error!(
            condition = discarded.condition.name(),
            records = discarded.records,
            first = discarded.first.sequence_number.as_str(),
            "gave records up"
        );
        let now = (self.mapping.clock)();
        let message = failure_message(discarded, stream, now);
        queues
            .send(failure_queue, &message, None, Duration::ZERO, now)
            .await?;
        Ok(())
    }
}

/// The records as the function's event.
fn payload(records: &[StreamRecord]) -> Bytes {
    let mut payload = String::from(r#"{"Records":["#);
    for (position, record) in records.iter().enumerate() {
        if position > 0 {
            payload.push(',');
        }
        payload.push_str(&record.json);
    }
    payload.push_str("]}");
    payload.into()
}

/// What Lambda tells an on-failure destination: where the records are, but not what they say
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html>).
fn failure_message(discarded: &Discarded, stream: &Stream, now: Timestamp) -> String {
    json!({
        "requestContext": {
            "requestId": uuid::Uuid::new_v5(
                &uuid::Uuid::NAMESPACE_OID,
                discarded.first.sequence_number.as_str().as_bytes(),
            ),
            "functionArn": format!("arn:aws:lambda:{}:000000000000:function:projector", embedded::REGION),
            "condition": discarded.condition.name(),
            "approximateInvokeCount": discarded.invocations,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "version": "1.0",
        "timestamp": now,
        "DDBStreamBatchInfo": {
            "shardId": stream.shard_id(),
            "startSequenceNumber": discarded.first.sequence_number,
            "endSequenceNumber": discarded.last.sequence_number,
            "approximateArrivalOfFirstRecord": discarded.first.created_at,
            "approximateArrivalOfLastRecord": discarded.last.created_at,
            "batchSize": discarded.records,
            "streamArn": stream.arn(),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;
    use std::sync::Mutex;

    use aws_sdk_dynamodb::types::AttributeValue;
    use embedded::{EVENT_TABLE, EmbeddedDynamoDb};
    use runtime::clock::system_clock;
    use serde_json::Value;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::function::FunctionFailure;
    use crate::local_table::LocalTable;

    const QUEUE: &str = "failures";
    /// What a function answers that has done everything.
    const DONE: Option<&str> = Some("");

    /// A function without a process: it notes the versions in each batch, and answers as the test says (`None`: with
    /// a function error).
    struct Scripted {
        batches: Mutex<Vec<Vec<u32>>>,
        answer: fn(&[u32]) -> Option<&'static str>,
    }

    impl Invoke for Scripted {
        async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let records = event["Records"].as_array().unwrap();
            let versions: Vec<u32> = records
                .iter()
                .map(|record| {
                    record["dynamodb"]["NewImage"]["version"]["N"]
                        .as_str()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .collect();
            self.batches.lock().unwrap().push(versions.clone());
            match (self.answer)(&versions) {
                Some(answer) => Ok(Bytes::from_static(answer.as_bytes())),
                None => Err(InvokeError::FunctionError {
                    function: "scripted",
                    failure: FunctionFailure::Ended(ExitStatus::default()),
                }),
            }
        }
    }

    /// An event table, and whatever the mapping writes.
    struct World {
        dynamodb: EmbeddedDynamoDb,
        table: LocalTable,
        queues: Queues,
    }

    /// A mapping at work.
    struct Running {
        function: Arc<Scripted>,
        progress: watch::Receiver<Progress>,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    impl World {
        async fn new() -> World {
            let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
            let table = LocalTable::open(dynamodb.client()).await.unwrap();
            let queues = Queues::new(table.clone());
            queues.create(QUEUE).await.unwrap();
            World {
                dynamodb,
                table,
                queues,
            }
        }

        async fn append(&self, versions: std::ops::RangeInclusive<u32>) {
            for version in versions {
                self.dynamodb
                    .client()
                    .put_item()
                    .table_name(EVENT_TABLE)
                    .item("patient_id", AttributeValue::S("p-1".to_owned()))
                    .item("version", AttributeValue::N(version.to_string()))
                    .item("name", AttributeValue::S("Nobody".to_owned()))
                    .send()
                    .await
                    .unwrap();
            }
        }

        fn deliver(&self, settings: Settings, answer: fn(&[u32]) -> Option<&'static str>) -> Running {
            let function = Arc::new(Scripted {
                batches: Mutex::default(),
                answer,
            });
            let mapping = EventSourceMapping {
                stream: Stream::open(self.dynamodb.database()).unwrap(),
                function: function.clone(),
                checkpoints: Checkpoints::new(self.table.clone()),
                queues: self.queues.clone(),
                failure_queue: QUEUE,
                recent: RecentEvents::default(),
                settings,
                clock: system_clock,
            };
            let (report, progress) = watch::channel(Progress::default());
            let (stop, stopping) = watch::channel(false);
            let task = tokio::spawn(mapping.run(report, Stopping::new(stopping)));
            Running {
                function,
                progress,
                stop,
                task,
            }
        }
    }

    impl Running {
        /// Waits until all that was appended before is done; gives the batches that the function got.
        async fn batches_when_caught_up(mut self) -> Vec<Vec<u32>> {
            let now = Instant::now();
            let caught_up = self
                .progress
                .wait_for(|progress| progress.caught_up_at.is_some_and(|at| at > now));
            timeout(Duration::from_secs(30), caught_up)
                .await
                .expect("in time")
                .unwrap();
            self.stop().await
        }

        /// Waits until the function got so many batches.
        async fn until_batches(&self, count: usize) {
            let until = Instant::now() + Duration::from_secs(30);
            while self.function.batches.lock().unwrap().len() < count {
                assert!(Instant::now() < until, "in time");
                sleep(Duration::from_millis(5)).await;
            }
        }

        async fn stop(self) -> Vec<Vec<u32>> {
            self.stop.send(true).unwrap();
            self.task.await.unwrap();
            self.function.batches.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn records_are_delivered_in_order_and_not_again_after_a_restart() {
        let world = World::new().await;
        world.append(1..=3).await;
        let first = world.deliver(Settings::default(), |_| DONE);
        assert_eq!(first.batches_when_caught_up().await, [[1, 2, 3]]);

        world.append(4..=5).await;
        let second = world.deliver(Settings::default(), |_| DONE);
        assert_eq!(second.batches_when_caught_up().await, [[4, 5]]);
    }

    #[tokio::test]
    async fn what_was_not_done_is_delivered_again_after_a_restart() {
        let world = World::new().await;
        world.append(1..=2).await;
        let settings = Settings {
            batch_size: 1,
            ..Settings::default()
        };
        let failing = world.deliver(settings, |batch| if batch == [1] { DONE } else { None });
        failing.until_batches(2).await;
        failing.stop().await;

        let well = world.deliver(Settings::default(), |_| DONE);
        assert_eq!(well.batches_when_caught_up().await, [[2]]);
    }

    #[tokio::test]
    async fn batch_waits_until_it_is_full_or_the_window_is_over() {
        let world = World::new().await;
        world.append(1..=1).await;
        let day = Duration::from_secs(24 * 60 * 60);
        let settings = Settings {
            batch_size: 2,
            batching_window: day,
            ..Settings::default()
        };
        let running = world.deliver(settings, |_| DONE);
        world.append(2..=3).await;
        running.until_batches(1).await;
        assert_eq!(running.stop().await, [[1, 2]]);

        let settings = Settings {
            batching_window: Duration::from_millis(50),
            ..Settings::default()
        };
        let running = world.deliver(settings, |_| DONE);
        assert_eq!(running.batches_when_caught_up().await, [[3]]);
    }

    #[tokio::test]
    async fn records_that_are_given_up_are_told_to_the_queue_without_their_content() {
        let world = World::new().await;
        world.append(1..=3).await;
        let settings = Settings {
            maximum_retry_attempts: Some(0),
            ..Settings::default()
        };
        let running = world.deliver(settings, |batch| if batch.contains(&2) { None } else { DONE });
        let batches = running.batches_when_caught_up().await;
        assert_eq!(batches, [vec![1, 2, 3], vec![1], vec![2, 3], vec![2], vec![3]]);

        let messages = world
            .queues
            .receive(QUEUE, 10, Duration::ZERO, system_clock())
            .await
            .unwrap();
        let [message] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert!(
            !message.body.contains("Nobody") && !message.body.contains("p-1"),
            "{}",
            message.body
        );
        let told: Value = serde_json::from_str(&message.body).unwrap();
        let records = embedded::stream::records(world.dynamodb.database(), None, 3).unwrap();
        let number = &records[1]["dynamodb"]["SequenceNumber"];
        assert_eq!(told["requestContext"]["condition"], "RetryAttemptsExhausted");
        assert_eq!(told["requestContext"]["approximateInvokeCount"], 3);
        assert_eq!(told["DDBStreamBatchInfo"]["batchSize"], 1);
        assert_eq!(&told["DDBStreamBatchInfo"]["startSequenceNumber"], number);
        assert_eq!(&told["DDBStreamBatchInfo"]["endSequenceNumber"], number);
        assert_eq!(
            told["DDBStreamBatchInfo"]["streamArn"],
            records[1]["eventSourceARN"]
        );
    }
}
