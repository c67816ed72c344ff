//! Where the tables and the queues are.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials};
use aws_sdk_dynamodb::error::SdkError;
use event_log::EventTable;
use projection::{ProjectionTable, QuarantineNotice, QuarantineQueue, QueueUnavailable, SqsQuarantineQueue};
use read_model::ReadModelTable;

use crate::letters::SqsLetters;
use crate::replay_table::ReplayTable;
use crate::tables::Tables;

/// Which system to work on. Without `--endpoint-url`, the usual AWS variables and profile decide.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Where DynamoDB is, such as the address that `local` prints. On 127.0.0.1 no credentials are needed.
    #[arg(long, global = true, value_name = "URL", value_parser = endpoint)]
    endpoint_url: Option<String>,
    /// Where the queues are, such as the `sqs` address that `local` prints. Without it, and with --endpoint-url, no queue
    /// is known: a command that meets an event which can't be applied fails, and a redrive leaves the messages.
    #[arg(long, global = true, value_name = "URL", value_parser = endpoint)]
    sqs_endpoint_url: Option<String>,
    /// The deployment, whose name opens those of its tables and queues.
    #[arg(
        long,
        global = true,
        env = "DEPLOYMENT",
        default_value = "checkin",
        value_name = "NAME"
    )]
    deployment: String,
    /// The event table [default: DEPLOYMENT-events].
    #[arg(long, global = true, env = "EVENT_TABLE", value_name = "NAME")]
    event_table: Option<String>,
    /// The read model's table [default: DEPLOYMENT-read-model].
    #[arg(long, global = true, env = "READ_MODEL_TABLE", value_name = "NAME")]
    read_model_table: Option<String>,
}

/// There is nothing to work on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Nobody to connect as.
    #[error(
        "no AWS credentials were found: set AWS_PROFILE or the usual variables, or --endpoint-url for a `local` on this machine"
    )]
    NoCredentials,
    /// Whether there is such a queue is not known. Run the command again.
    #[error("the queue {name} could not be looked up")]
    Queue {
        /// Its name.
        name: String,
        /// What SQS said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An event can't be applied, and there is no queue to tell so.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what}, and nobody would learn of it: the quarantine queue is not known. --sqs-endpoint-url says where queues are, --deployment whose"
)]
struct NoQueue {
    what: String,
}

impl NoQueue {
    fn for_notice(notice: &QuarantineNotice) -> NoQueue {
        let what = match notice {
            QuarantineNotice::Event {
                patient_id,
                quarantine,
                ..
            } => format!(
                "event {} of {patient_id} can't be applied ({})",
                quarantine.version,
                quarantine.reason.code()
            ),
            QuarantineNotice::Record { reason, .. } => format!("a stream record can't be read ({reason})"),
        };
        NoQueue { what }
    }
}

/// The tables and the queues.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) log: EventTable,
    pub(crate) store: ProjectionTable,
    pub(crate) read_model: ReadModelTable,
    pub(crate) replay: ReplayTable,
    pub(crate) queue: Queue,
    quarantined: Option<SqsLetters>,
    given_up: Option<SqsLetters>,
}

/// The quarantine queue, if there is one to be told.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Option<SqsQuarantineQueue>);

impl QuarantineQueue for Queue {
    async fn put(&self, notice: &QuarantineNotice) -> Result<(), QueueUnavailable> {
        match &self.0 {
            Some(queue) => queue.put(notice).await,
            // Without a message nobody may be marked: the mark would be all that says so.
            None => Err(QueueUnavailable(Box::new(NoQueue::for_notice(notice)))),
        }
    }
}

impl Tables for Connection {
    type Log = EventTable;
    type Projection = ProjectionTable;
    type ReadModel = ReadModelTable;
    type Audit = ReplayTable;
    type Builds = ReplayTable;
    type Prunable = ReplayTable;
    type Queue = Queue;
    type Letters = SqsLetters;

    fn log(&self) -> &EventTable {
        &self.log
    }

    fn projection(&self) -> &ProjectionTable {
        &self.store
    }

    fn read_model(&self) -> &ReadModelTable {
        &self.read_model
    }

    fn audit(&self) -> &ReplayTable {
        &self.replay
    }

    fn builds(&self) -> &ReplayTable {
        &self.replay
    }

    fn prunable(&self) -> &ReplayTable {
        &self.replay
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn quarantined(&self) -> Option<&SqsLetters> {
        self.quarantined.as_ref()
    }

    fn given_up(&self) -> Option<&SqsLetters> {
        self.given_up.as_ref()
    }
}

impl Target {
    /// Connects, and finds the queues; nothing is sent to the tables yet.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub(crate) async fn connect(self) -> Result<Connection, ConnectError> {
        let is_here = self.endpoint_url.as_deref().is_some_and(is_loopback);
        let http_client = if is_here {
            runtime::clients::http_client()
        } else {
            runtime::clients::http_client_behind_proxy()
        };
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client)
            .retry_config(runtime::clients::retries())
            .timeout_config(runtime::clients::timeouts())
            .stalled_stream_protection(runtime::clients::stalled_streams());
        if is_here {
            let anyone = Credentials::new("local", "local", None, None, "loopback");
            loader = loader
                .credentials_provider(anyone)
                .region(Region::new("us-east-1"));
        }
        let config = loader.load().await;
        let provider = config.credentials_provider().ok_or(ConnectError::NoCredentials)?;
        provider
            .provide_credentials()
            .await
            .map_err(|_| ConnectError::NoCredentials)?;
        let sqs = self.sqs(&config);
        let named = |what: &str| format!("{}-{what}", self.deployment);
        let (quarantined, given_up) = futures::try_join!(
            queue_url(sqs.as_ref(), named("quarantine")),
            queue_url(sqs.as_ref(), named("stream-failures")),
        )?;
        let event_table = self.event_table.clone().unwrap_or_else(|| named("events"));
        let read_model_table = self
            .read_model_table
            .clone()
            .unwrap_or_else(|| named("read-model"));
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        dynamodb.set_endpoint_url(
            self.endpoint_url
                .or_else(|| config.endpoint_url().map(str::to_owned)),
        );
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let quarantined = sqs.clone().zip(quarantined);
        let given_up = sqs.zip(given_up);
        let letters = |(client, url)| SqsLetters::new(client, url);
        Ok(Connection {
            log: EventTable::new(dynamodb.clone(), event_table),
            store: ProjectionTable::new(dynamodb.clone(), read_model_table.clone()),
            read_model: ReadModelTable::new(dynamodb.clone(), read_model_table.clone()),
            replay: ReplayTable::new(dynamodb, read_model_table),
            queue: Queue(
                quarantined
                    .clone()
                    .map(|(client, url): (_, String)| SqsQuarantineQueue::new(client, url)),
            ),
            quarantined: quarantined.map(letters),
            given_up: given_up.map(letters),
        })
    }

    /// What asks for queues, if it is known where. Who works on a DynamoDB of their own does not want the queues of AWS.
    fn sqs(&self, config: &SdkConfig) -> Option<aws_sdk_sqs::Client> {
        let mut sqs = aws_sdk_sqs::config::Builder::from(config);
        match &self.sqs_endpoint_url {
            Some(url) => sqs.set_endpoint_url(Some(url.clone())),
            None if self.endpoint_url.is_some() => return None,
            None => &mut sqs,
        };
        Some(aws_sdk_sqs::Client::from_conf(sqs.build()))
    }
}

/// Where a queue is; `None` if there is none, or whoever asks may not know. What needs a queue says that it lacks it.
async fn queue_url(
    client: Option<&aws_sdk_sqs::Client>,
    name: String,
) -> Result<Option<String>, ConnectError> {
    let Some(client) = client else {
        return Ok(None);
    };
    match client.get_queue_url().queue_name(&name).send().await {
        Ok(found) => Ok(found.queue_url),
        Err(SdkError::ServiceError(_)) => Ok(None),
        Err(error) => Err(ConnectError::Queue {
            name,
            source: error.into(),
        }),
    }
}

/// An address of the form that an endpoint needs.
fn endpoint(text: &str) -> Result<String, &'static str> {
    let authority = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let authority = authority
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("it is not of the form http://127.0.0.1:8000");
    }
    Ok(text.to_owned())
}

fn is_loopback(url: &str) -> bool {
    let authority = url.split("://").nth(1).unwrap_or(url);
    let host = authority.split(['/', ':']).next().unwrap_or_default();
    host == "localhost"
        || host
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused() {
        for url in [
            "http://127.0.0.1:8000",
            "https://dynamodb.eu-central-1.amazonaws.com/",
        ] {
            assert_eq!(endpoint(url), Ok(url.to_owned()));
        }
        for url in [
            "",
            "nonsense",
            "127.0.0.1:8000",
            "http://",
            "http://127.0.0.1:PORT",
            "http://127.0.0.1:99999",
        ] {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_this_machine_needs_no_credentials() {
        for url in [
            "http://127.0.0.1:8000",
            "http://localhost:8000/",
            "http://127.0.0.1",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://dynamodb.eu-central-1.amazonaws.com",
            "http://127.0.0.1.example.com",
            "",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
