//! Where the tables and the queues are.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials};
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
    /// The event table.
    #[arg(
        long,
        global = true,
        env = "EVENT_TABLE",
        default_value = "checkin-events",
        value_name = "NAME"
    )]
    event_table: String,
    /// The read model's table.
    #[arg(
        long,
        global = true,
        env = "READ_MODEL_TABLE",
        default_value = "checkin-read-model",
        value_name = "NAME"
    )]
    read_model_table: String,
    /// The queue that is told about events which can't be applied. Without it a command that meets one fails.
    #[arg(long, global = true, env = "QUARANTINE_QUEUE_URL", value_name = "URL", value_parser = endpoint)]
    quarantine_queue_url: Option<String>,
    /// The queue that is told about batches of stream records which were given up. Only a redrive reads it.
    #[arg(long, global = true, env = "STREAM_FAILURES_QUEUE_URL", value_name = "URL", value_parser = endpoint)]
    stream_failures_queue_url: Option<String>,
}

/// There is nobody to connect as.
#[derive(Debug, thiserror::Error)]
#[error(
    "no AWS credentials were found: set AWS_PROFILE or the usual variables, or --endpoint-url for a `local` on this machine"
)]
pub(crate) struct NoCredentials;

/// An event can't be applied, and there is no queue to tell so.
#[derive(Debug, thiserror::Error)]
#[error("{what}, and nobody would learn of it: say with --quarantine-queue-url where its message goes")]
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
    /// Connects; nothing is sent to the tables yet.
    ///
    /// # Errors
    /// [`NoCredentials`]
    pub(crate) async fn connect(self) -> Result<Connection, NoCredentials> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(runtime::clients::http_client())
            .retry_config(runtime::clients::retries())
            .timeout_config(runtime::clients::timeouts());
        if self.endpoint_url.as_deref().is_some_and(is_loopback) {
            let anyone = Credentials::new("local", "local", None, None, "loopback");
            loader = loader
                .credentials_provider(anyone)
                .region(Region::new("us-east-1"));
        }
        let config = loader.load().await;
        let provider = config.credentials_provider().ok_or(NoCredentials)?;
        provider.provide_credentials().await.map_err(|_| NoCredentials)?;
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        if let Some(url) = self.endpoint_url {
            dynamodb = dynamodb.endpoint_url(url);
        }
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(dynamodb.build());
        let quarantine = self.quarantine_queue_url.map(|url| (sqs(&config, &url), url));
        let failures = self
            .stream_failures_queue_url
            .map(|url| (sqs(&config, &url), url));
        let letters = |(client, url): (aws_sdk_sqs::Client, String)| SqsLetters::new(client, url);
        Ok(Connection {
            log: EventTable::new(dynamodb.clone(), self.event_table),
            store: ProjectionTable::new(dynamodb.clone(), self.read_model_table.clone()),
            read_model: ReadModelTable::new(dynamodb.clone(), self.read_model_table.clone()),
            replay: ReplayTable::new(dynamodb, self.read_model_table),
            queue: Queue(
                quarantine
                    .clone()
                    .map(|(client, url)| SqsQuarantineQueue::new(client, url)),
            ),
            quarantined: quarantine.map(letters),
            given_up: failures.map(letters),
        })
    }
}

fn sqs(config: &SdkConfig, queue_url: &str) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::config::Builder::from(config)
        .endpoint_url(origin(queue_url))
        .build();
    aws_sdk_sqs::Client::from_conf(config)
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

/// Where a queue is: its URL without the path.
fn origin(url: &str) -> String {
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
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
    fn a_queue_is_where_its_url_says() {
        let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/checkin-quarantine";
        assert_eq!(origin(url), "https://sqs.eu-central-1.amazonaws.com");
        assert_eq!(
            origin("http://127.0.0.1:4566/000000000000/q"),
            "http://127.0.0.1:4566"
        );
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
