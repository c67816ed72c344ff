//! An SQS endpoint on loopback, for the AWS SDKs and the AWS CLI: SQS's JSON protocol over [`Queues`].
//!
//! Deliberately absent: authentication, queue settings, tags, and SQS's older query protocol, which clients of the
//! last years do not speak.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use md5::{Digest, Md5};
use runtime::clock::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::queues::{QueueError, Queues, ReceivedMessage, VISIBILITY_TIMEOUT};

/// The largest message, in bytes
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>).
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// How many messages one request can be about.
const MAX_BATCH: usize = 10;
/// How often a receiver that waits looks again.
const POLL: Duration = Duration::from_millis(50);

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct SqsEndpoint {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl SqsEndpoint {
    /// Starts on a port of loopback that the system chooses.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start(queues: Queues, clock: Clock) -> std::io::Result<SqsEndpoint> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let endpoint = Arc::new(Endpoint {
            queues,
            clock,
            address,
        });
        // Clients put the queue into the path or leave it out; the body names it in any case.
        let routes = Router::new().fallback(handle).with_state(endpoint);
        let server = tokio::spawn(async move {
            // It only ends with the task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(SqsEndpoint { address, server })
    }

    /// Where the endpoint listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a queue.
    #[must_use]
    pub(crate) fn queue_url(&self, queue: &str) -> String {
        queue_url(self.address, queue)
    }
}

impl Drop for SqsEndpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn queue_url(address: SocketAddr, queue: &str) -> String {
    format!("http://{address}/000000000000/{queue}")
}

struct Endpoint {
    queues: Queues,
    clock: Clock,
    address: SocketAddr,
}

/// Why a request was refused. The names are SQS's.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("The specified queue does not exist.")]
    NoSuchQueue,
    #[error("The input receipt handle is invalid.")]
    InvalidReceipt,
    #[error("The operation {0} is not available here.")]
    UnknownOperation(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("The queues cannot be reached.")]
    Unavailable,
}

impl Refusal {
    /// SQS's name of the error, the older name that some clients know it by, and the status.
    fn code(&self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Refusal::NoSuchQueue => (
                "QueueDoesNotExist",
                "AWS.SimpleQueueService.NonExistentQueue",
                StatusCode::BAD_REQUEST,
            ),
            Refusal::InvalidReceipt => (
                "ReceiptHandleIsInvalid",
                "ReceiptHandleIsInvalid",
                StatusCode::BAD_REQUEST,
            ),
            Refusal::UnknownOperation(_) => (
                "UnsupportedOperation",
                "AWS.SimpleQueueService.UnsupportedOperation",
                StatusCode::BAD_REQUEST,
            ),
            Refusal::InvalidParameter(_) => (
                "InvalidParameterValue",
                "InvalidParameterValue",
                StatusCode::BAD_REQUEST,
            ),
            Refusal::Unavailable => (
                "ServiceUnavailable",
                "ServiceUnavailable",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Refusal {
        match error {
            QueueError::NoSuchQueue { .. } => Refusal::NoSuchQueue,
            QueueError::InvalidReceipt => Refusal::InvalidReceipt,
            QueueError::Unavailable(error) => {
                tracing::error!(error = %runtime::telemetry::chain(&error), "queues");
                Refusal::Unavailable
            }
        }
    }
}

async fn handle(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .unwrap_or_default();
    let operation = target.strip_prefix("AmazonSQS.").unwrap_or(target);
    let (status, error_header, answer) = match endpoint.answer(operation, &body).await {
        Ok(answer) => (StatusCode::OK, None, answer),
        Err(refusal) => {
            let (name, older_name, status) = refusal.code();
            let answer =
                json!({ "__type": format!("com.amazonaws.sqs#{name}"), "message": refusal.to_string() });
            (
                status,
                Some(("x-amzn-query-error", format!("{older_name};Sender"))),
                answer,
            )
        }
    };
    let mut response = (
        status,
        [("content-type", "application/x-amz-json-1.0")],
        answer.to_string(),
    )
        .into_response();
    if let Some((name, value)) = error_header
        && let Ok(value) = value.parse()
    {
        response.headers_mut().insert(name, value);
    }
    response
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueName {
    queue_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NamePrefix {
    queue_name_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueUrl {
    queue_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Send {
    message_body: String,
    message_attributes: Option<Value>,
    #[serde(default)]
    delay_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u64>,
    #[serde(default)]
    wait_time_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receipt {
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Visibility {
    receipt_handle: String,
    visibility_timeout: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    entries: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryId {
    id: String,
}

impl Endpoint {
    async fn answer(&self, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
        match operation {
            "CreateQueue" => {
                let QueueName { queue_name } = parse(body)?;
                check_queue_name(&queue_name)?;
                self.queues.create(&queue_name).await?;
                Ok(json!({ "QueueUrl": queue_url(self.address, &queue_name) }))
            }
            "GetQueueUrl" => {
                let QueueName { queue_name } = parse(body)?;
                self.queues.check(&queue_name).await?;
                Ok(json!({ "QueueUrl": queue_url(self.address, &queue_name) }))
            }
            "ListQueues" => {
                let NamePrefix { queue_name_prefix } = parse(body)?;
                let prefix = queue_name_prefix.unwrap_or_default();
                let names = self.queues.names().await?;
                let urls: Vec<String> = names
                    .iter()
                    .filter(|name| name.starts_with(&prefix))
                    .map(|name| queue_url(self.address, name))
                    .collect();
                Ok(json!({ "QueueUrls": urls }))
            }
            "GetQueueAttributes" => {
                let queue = queue_of(body)?;
                let depth = self.queues.depth(&queue, (self.clock)()).await?;
                Ok(json!({ "Attributes": {
                    "QueueArn": format!("arn:aws:sqs:{}:000000000000:{queue}", embedded::REGION),
                    "ApproximateNumberOfMessages": depth.visible.to_string(),
                    "ApproximateNumberOfMessagesNotVisible": depth.in_flight.to_string(),
                    "ApproximateNumberOfMessagesDelayed": depth.delayed.to_string(),
                    "VisibilityTimeout": VISIBILITY_TIMEOUT.as_secs().to_string(),
                } }))
            }
            "SendMessage" | "DeleteMessage" | "ChangeMessageVisibility" => {
                self.one(operation, &queue_of(body)?, parse(body)?).await
            }
            "SendMessageBatch" | "DeleteMessageBatch" | "ChangeMessageVisibilityBatch" => {
                let operation = operation.trim_end_matches("Batch");
                self.for_each(operation, &queue_of(body)?, parse(body)?).await
            }
            "ReceiveMessage" => self.receive(&queue_of(body)?, parse(body)?).await,
            "PurgeQueue" => {
                self.queues.purge(&queue_of(body)?).await?;
                Ok(json!({}))
            }
            unknown => Err(Refusal::UnknownOperation(unknown.to_owned())),
        }
    }

    /// What can be asked for one message or for a batch of them.
    async fn one(&self, operation: &str, queue: &str, entry: Value) -> Result<Value, Refusal> {
        match operation {
            "SendMessage" => self.send(queue, parse_value(entry)?).await,
            "DeleteMessage" => self.delete(queue, parse_value(entry)?).await,
            "ChangeMessageVisibility" => self.change_visibility(queue, parse_value(entry)?).await,
            unknown => Err(Refusal::UnknownOperation(unknown.to_owned())),
        }
    }

    async fn send(&self, queue: &str, send: Send) -> Result<Value, Refusal> {
        if send.message_body.is_empty() || send.message_body.len() > MAX_MESSAGE_BYTES {
            return Err(Refusal::InvalidParameter(format!(
                "A message has 1 to {MAX_MESSAGE_BYTES} bytes."
            )));
        }
        let delay = Duration::from_secs(send.delay_seconds);
        let sent = self
            .queues
            .send(
                queue,
                &send.message_body,
                send.message_attributes,
                delay,
                (self.clock)(),
            )
            .await?;
        Ok(json!({ "MessageId": sent.id, "MD5OfMessageBody": md5_hex(&send.message_body) }))
    }

    async fn receive(&self, queue: &str, receive: Receive) -> Result<Value, Refusal> {
        let limit = receive.max_number_of_messages.unwrap_or(1);
        if !(1..=MAX_BATCH).contains(&limit) {
            return Err(Refusal::InvalidParameter(format!(
                "MaxNumberOfMessages is 1 to {MAX_BATCH}."
            )));
        }
        let visibility_timeout = receive
            .visibility_timeout
            .map_or(VISIBILITY_TIMEOUT, Duration::from_secs);
        let until = Instant::now() + Duration::from_secs(receive.wait_time_seconds.min(20));
        loop {
            let messages = self
                .queues
                .receive(queue, limit, visibility_timeout, (self.clock)())
                .await?;
            if messages.is_empty() && Instant::now() < until {
                sleep(POLL).await;
                continue;
            }
            let messages: Vec<Value> = messages.into_iter().map(message).collect();
            return Ok(if messages.is_empty() {
                json!({})
            } else {
                json!({ "Messages": messages })
            });
        }
    }

    async fn delete(&self, queue: &str, receipt: Receipt) -> Result<Value, Refusal> {
        self.queues.delete(queue, &receipt.receipt_handle).await?;
        Ok(json!({}))
    }

    async fn change_visibility(&self, queue: &str, change: Visibility) -> Result<Value, Refusal> {
        let visibility_timeout = Duration::from_secs(change.visibility_timeout);
        self.queues
            .change_visibility(queue, &change.receipt_handle, visibility_timeout, (self.clock)())
            .await?;
        Ok(json!({}))
    }

    /// Does one thing for each entry of a batch, and lists which were done and which were refused.
    async fn for_each(&self, operation: &str, queue: &str, batch: Batch) -> Result<Value, Refusal> {
        self.queues.check(queue).await?;
        let Batch { entries } = batch;
        if !(1..=MAX_BATCH).contains(&entries.len()) {
            return Err(Refusal::InvalidParameter(format!(
                "A batch has 1 to {MAX_BATCH} entries."
            )));
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let EntryId { id } = parse_value(entry.clone())?;
            match self.one(operation, queue, entry).await {
                Ok(Value::Object(mut done)) => {
                    done.insert("Id".to_owned(), id.into());
                    successful.push(done);
                }
                Ok(_) => {}
                Err(refusal) => {
                    let (name, _, status) = refusal.code();
                    let sender_fault = status.is_client_error();
                    failed.push(json!({
                        "Id": id, "Code": name, "Message": refusal.to_string(), "SenderFault": sender_fault,
                    }));
                }
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }
}

fn message(received: ReceivedMessage) -> Value {
    let mut message = json!({
        "MessageId": received.id,
        "ReceiptHandle": received.receipt_handle,
        "MD5OfBody": md5_hex(&received.body),
        "Body": received.body,
        "Attributes": {
            "SenderId": "local",
            "SentTimestamp": received.sent_at.unix_millis().to_string(),
            "ApproximateReceiveCount": received.receive_count.to_string(),
            "ApproximateFirstReceiveTimestamp": received.first_received_at.unix_millis().to_string(),
        },
    });
    if let (Some(attributes), Value::Object(message)) = (received.attributes, &mut message) {
        message.insert("MessageAttributes".to_owned(), attributes);
    }
    message
}

fn queue_of(body: &[u8]) -> Result<String, Refusal> {
    let QueueUrl { queue_url } = parse(body)?;
    // The port may be that of an earlier run; the name is what counts.
    let (_, name) = queue_url.rsplit_once('/').unwrap_or(("", &queue_url));
    Ok(name.to_owned())
}

fn check_queue_name(name: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=80).contains(&name.len()) && name.bytes().all(known) {
        Ok(())
    } else {
        Err(Refusal::InvalidParameter(
            "A queue name is 1 to 80 of A-Z a-z 0-9 - _".to_owned(),
        ))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::InvalidParameter(error.to_string()))
}

fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| Refusal::InvalidParameter(error.to_string()))
}

/// Clients compare it with what they sent.
fn md5_hex(text: &str) -> String {
    Md5::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::Client;
    use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
    use aws_sdk_sqs::types::{
        DeleteMessageBatchRequestEntry, MessageAttributeValue, QueueAttributeName,
        SendMessageBatchRequestEntry,
    };
    use embedded::EmbeddedDynamoDb;
    use runtime::clock::system_clock;

    use super::*;
    use crate::local_table::LocalTable;

    const QUEUE: &str = "checkin-test";

    struct World {
        _endpoint: SqsEndpoint,
        client: Client,
        url: String,
        dynamodb: EmbeddedDynamoDb,
    }

    impl World {
        async fn new() -> World {
            World::with(EmbeddedDynamoDb::temporary().await.unwrap()).await
        }

        async fn with(dynamodb: EmbeddedDynamoDb) -> World {
            let queues = Queues::new(LocalTable::open(dynamodb.client()).await.unwrap());
            let endpoint = SqsEndpoint::start(queues, system_clock).await.unwrap();
            let client = Client::from_conf(
                aws_sdk_sqs::Config::builder()
                    .behavior_version(BehaviorVersion::v2026_01_12())
                    .region(Region::new(embedded::REGION))
                    .credentials_provider(Credentials::new("local", "local", None, None, "test"))
                    .retry_config(RetryConfig::disabled())
                    .http_client(aws_smithy_http_client::Builder::new().build_http())
                    .endpoint_url(endpoint.endpoint_url())
                    .build(),
            );
            let created = client.create_queue().queue_name(QUEUE).send().await.unwrap();
            let url = created.queue_url.unwrap();
            assert_eq!(url, endpoint.queue_url(QUEUE));
            World {
                _endpoint: endpoint,
                client,
                url,
                dynamodb,
            }
        }

        async fn send(&self, body: &str) {
            let sent = self
                .client
                .send_message()
                .queue_url(&self.url)
                .message_body(body)
                .send()
                .await
                .unwrap();
            assert_eq!(sent.md5_of_message_body.unwrap(), md5_hex(body));
        }

        /// Receives up to ten messages, which stay invisible for so many seconds: bodies and receipt handles.
        async fn receive(&self, visibility_timeout: i32) -> Vec<(String, String)> {
            let received = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(10)
                .visibility_timeout(visibility_timeout)
                .send()
                .await
                .unwrap();
            received
                .messages
                .unwrap_or_default()
                .into_iter()
                .map(|message| (message.body.unwrap(), message.receipt_handle.unwrap()))
                .collect()
        }

        async fn bodies(&self, visibility_timeout: i32) -> Vec<String> {
            self.receive(visibility_timeout)
                .await
                .into_iter()
                .map(|(body, _)| body)
                .collect()
        }

        async fn delete(&self, receipt_handle: &str) {
            self.client
                .delete_message()
                .queue_url(&self.url)
                .receipt_handle(receipt_handle)
                .send()
                .await
                .unwrap();
        }

        async fn depth(&self) -> (String, String) {
            let attributes = self
                .client
                .get_queue_attributes()
                .queue_url(&self.url)
                .attribute_names(QueueAttributeName::All)
                .send()
                .await
                .unwrap()
                .attributes
                .unwrap();
            let number = |name| attributes.get(&name).unwrap().clone();
            (
                number(QueueAttributeName::ApproximateNumberOfMessages),
                number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            )
        }
    }

    #[tokio::test]
    async fn received_message_is_invisible_until_it_is_deleted_or_its_time_is_over() {
        let world = World::new().await;
        world.send("one").await;
        world.send("two").await;
        assert_eq!(world.bodies(0).await, ["one", "two"]);

        let received = world.receive(3600).await;
        assert_eq!(received.len(), 2);
        assert_eq!(world.depth().await, ("0".to_owned(), "2".to_owned()));
        assert_eq!(world.receive(0).await, []);

        world.delete(&received[0].1).await;
        world
            .client
            .change_message_visibility()
            .queue_url(&world.url)
            .receipt_handle(&received[1].1)
            .visibility_timeout(0)
            .send()
            .await
            .unwrap();
        assert_eq!(world.depth().await, ("1".to_owned(), "0".to_owned()));
        assert_eq!(world.bodies(0).await, ["two"]);
    }

    #[tokio::test]
    async fn message_that_somebody_else_received_since_is_not_deleted() {
        let world = World::new().await;
        world.send("one").await;
        let first = world.receive(0).await;
        let second = world.receive(0).await;
        assert_ne!(first, second);
        world.delete(&first[0].1).await;
        assert_eq!(world.bodies(0).await, ["one"]);
    }

    #[tokio::test]
    async fn batches_tell_what_was_done_of_them() {
        let world = World::new().await;
        let entry = |id: &str, body: &str| {
            SendMessageBatchRequestEntry::builder()
                .id(id)
                .message_body(body)
                .build()
                .unwrap()
        };
        let sent = world
            .client
            .send_message_batch()
            .queue_url(&world.url)
            .entries(entry("a", "one"))
            .entries(entry("b", ""))
            .entries(entry("c", "three"))
            .send()
            .await
            .unwrap();
        let ids: Vec<&str> = sent.successful().iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["a", "c"]);
        assert_eq!(
            (sent.failed()[0].id(), sent.failed()[0].sender_fault()),
            ("b", true)
        );

        let mut delete = world.client.delete_message_batch().queue_url(&world.url);
        for (number, (_, receipt_handle)) in world.receive(3600).await.into_iter().enumerate() {
            delete = delete.entries(
                DeleteMessageBatchRequestEntry::builder()
                    .id(number.to_string())
                    .receipt_handle(receipt_handle)
                    .build()
                    .unwrap(),
            );
        }
        let deleted = delete.send().await.unwrap();
        assert_eq!((deleted.successful().len(), deleted.failed().len()), (2, 0));
        assert_eq!(world.depth().await, ("0".to_owned(), "0".to_owned()));
    }

    #[tokio::test]
    async fn attributes_come_back_as_they_were_sent() {
        let world = World::new().await;
        let attribute = MessageAttributeValue::builder()
            .data_type("String")
            .string_value("invalid_data")
            .build()
            .unwrap();
        world
            .client
            .send_message()
            .queue_url(&world.url)
            .message_body("x")
            .message_attributes("reason", attribute.clone())
            .send()
            .await
            .unwrap();
        let received = world
            .client
            .receive_message()
            .queue_url(&world.url)
            .send()
            .await
            .unwrap();
        let attributes = received.messages()[0].message_attributes().unwrap();
        assert_eq!(attributes.get("reason"), Some(&attribute));
    }

    #[tokio::test]
    async fn waiting_receiver_gets_a_message_that_is_sent_meanwhile() {
        let world = World::new().await;
        let receive = world
            .client
            .receive_message()
            .queue_url(&world.url)
            .wait_time_seconds(20)
            .send();
        let (received, ()) = tokio::join!(receive, world.send("late"));
        assert_eq!(received.unwrap().messages()[0].body(), Some("late"));
    }

    #[tokio::test]
    async fn purged_queue_is_empty_and_still_there() {
        let world = World::new().await;
        world.send("one").await;
        world
            .client
            .purge_queue()
            .queue_url(&world.url)
            .send()
            .await
            .unwrap();
        assert_eq!(world.receive(0).await, []);
        let urls = world
            .client
            .list_queues()
            .queue_name_prefix("checkin")
            .send()
            .await
            .unwrap();
        assert_eq!(urls.queue_urls(), [world.url.as_str()]);
    }

    #[tokio::test]
    async fn messages_outlive_the_endpoint() {
        let world = World::new().await;
        world.send("one").await;
        let old_url = world.url.clone();
        let mut world = World::with(world.dynamodb).await;
        // Whoever knows the queue by its old address still finds it.
        world.url = old_url;
        assert_eq!(world.bodies(0).await, ["one"]);
    }

    #[tokio::test]
    async fn refusals_have_the_names_that_clients_know() {
        let world = World::new().await;
        let missing = world
            .client
            .get_queue_url()
            .queue_name("nothing")
            .send()
            .await
            .unwrap_err();
        assert!(missing.into_service_error().is_queue_does_not_exist());
        let missing = world
            .client
            .send_message()
            .queue_url("http://127.0.0.1/000000000000/nothing")
            .message_body("x")
            .send()
            .await
            .unwrap_err();
        assert!(missing.into_service_error().is_queue_does_not_exist());
        let invalid = world
            .client
            .delete_message()
            .queue_url(&world.url)
            .receipt_handle("x")
            .send()
            .await
            .unwrap_err();
        assert!(invalid.into_service_error().is_receipt_handle_is_invalid());
        let unknown = world
            .client
            .delete_queue()
            .queue_url(&world.url)
            .send()
            .await
            .unwrap_err();
        assert!(unknown.into_service_error().is_unsupported_operation());
        let eleven = world
            .client
            .receive_message()
            .queue_url(&world.url)
            .max_number_of_messages(11)
            .send()
            .await
            .unwrap_err();
        let code = eleven.into_service_error().meta().code().map(str::to_owned);
        assert_eq!(code.as_deref(), Some("InvalidParameterValue"));
    }
}
