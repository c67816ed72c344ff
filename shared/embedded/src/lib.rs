//! An embedded DynamoDB with Streams, on loopback, with the tables of this system.
//!
//! `local` runs on it, and so do the tests: the real SDK against a real HTTP endpoint, no Docker, no JVM.
//! It is never linked into a service that is deployed.

pub mod stream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Name of the event table. (Names of 11 characters or more: a stream's id is valid only then.)
pub const EVENT_TABLE: &str = "checkin-events";
/// Name of the read model's table.
pub const READ_MODEL_TABLE: &str = "checkin-read-model";
/// The region that the embedded DynamoDB claims to be in.
pub const REGION: &str = "us-east-1";
/// Credentials that it accepts, as it does any others.
pub const CREDENTIALS: (&str, &str) = ("local", "local");

/// The tables, in the form of the AWS CLI's `--cli-input-json`.
const TABLES: [&str; 2] = [
    include_str!("../tables/events.json"),
    include_str!("../tables/read_model.json"),
];

/// How much a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A killed process; after a power failure the last writes may be missing.
    Kept,
    /// Nothing: the folder is temporary.
    Temporary,
}

/// Why the embedded DynamoDB did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The folder can't be written. Choose another.
    #[error("cannot write in {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files in the folder are not a database that this version can use, or are in use.
    #[error("cannot open the database in {}: {reason}", folder.display())]
    Database {
        /// The folder.
        folder: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The port on loopback can't be had. Choose another, or 0.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port that was asked for; 0 means any.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The database's file could not be read. Try again.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the database: {0}")]
pub struct Unreadable(String);

/// A running embedded DynamoDB. Dropping it stops the endpoint.
pub struct EmbeddedDynamoDb {
    database: Database,
    counter: EventCounter,
    address: SocketAddr,
    server: JoinHandle<()>,
    _temporary: Option<tempfile::TempDir>,
}

impl EmbeddedDynamoDb {
    /// Starts on a port that the system chooses, with the data in `folder`, and creates the tables that
    /// are not there yet.
    ///
    /// # Errors
    /// [`EmbeddedError`]: show it to whoever chose the folder.
    pub async fn start(folder: &Path, durability: Durability) -> Result<EmbeddedDynamoDb, EmbeddedError> {
        EmbeddedDynamoDb::start_on(0, folder, durability).await
    }

    /// Like [`EmbeddedDynamoDb::start`], on this port of loopback; 0 lets the system choose.
    ///
    /// # Errors
    /// [`EmbeddedError`]: show it to whoever chose the port and the folder.
    pub async fn start_on(
        port: u16,
        folder: &Path,
        durability: Durability,
    ) -> Result<EmbeddedDynamoDb, EmbeddedError> {
        std::fs::create_dir_all(folder).map_err(|source| EmbeddedError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let cannot_listen = |source| EmbeddedError::Listen { port, source };
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (database, counter) = open(folder, durability)?;
        let server = tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        Ok(EmbeddedDynamoDb {
            database,
            counter,
            address,
            server,
            _temporary: None,
        })
    }

    /// Starts with the data in a temporary folder that is removed with the value.
    ///
    /// # Errors
    /// [`EmbeddedError`] as for [`EmbeddedDynamoDb::start`].
    pub async fn temporary() -> Result<EmbeddedDynamoDb, EmbeddedError> {
        let folder = tempfile::tempdir().map_err(|source| EmbeddedError::Folder {
            folder: std::env::temp_dir(),
            source,
        })?;
        let mut started = EmbeddedDynamoDb::start(folder.path(), Durability::Temporary).await?;
        started._temporary = Some(folder);
        Ok(started)
    }

    /// Where the endpoint listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of the endpoint.
    #[must_use]
    pub fn client(&self) -> aws_sdk_dynamodb::Client {
        client(&self.endpoint_url())
    }

    /// The database behind the endpoint, for what has to be in the same process: reading the stream.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A count of the events, for showing it every second: it costs what was written since the last time.
    #[must_use]
    pub fn event_counter(&self) -> EventCounter {
        self.counter.clone()
    }
}

/// Counts what was ever done to the event table, by its stream: the embedded DynamoDB never drops a stream record.
/// It reads on a connection of its own, so no writer waits for it.
#[derive(Debug, Clone)]
pub struct EventCounter(Arc<Mutex<Counted>>);

/// What was ever done to the event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// How many events were appended.
    pub appended: u64,
    /// How often an event was modified or removed, which this system never does.
    pub changed: u64,
}

#[derive(Debug)]
struct Counted {
    connection: rusqlite::Connection,
    to: i64,
    counts: EventCounts,
}

impl EventCounter {
    /// How many there are now.
    ///
    /// # Errors
    /// [`Unreadable`]: the numbers will be there the next time.
    pub fn count(&self) -> Result<EventCounts, Unreadable> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (appended, changed, last): (u64, u64, Option<i64>) = counted
            .connection
            .query_row(
                "SELECT COUNT(*) FILTER (WHERE event_name = 'INSERT'),
                        COUNT(*) FILTER (WHERE event_name <> 'INSERT'), MAX(id)
                 FROM _stream_records WHERE id > ?1 AND table_name = ?2",
                (counted.to, EVENT_TABLE),
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .map_err(|error| Unreadable(error.to_string()))?;
        counted.counts.appended += appended;
        counted.counts.changed += changed;
        counted.to = last.unwrap_or(counted.to);
        Ok(counted.counts)
    }
}

impl Drop for EmbeddedDynamoDb {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A client of an embedded DynamoDB at `endpoint_url`.
#[must_use]
pub fn client(endpoint_url: &str) -> aws_sdk_dynamodb::Client {
    let (key, secret) = CREDENTIALS;
    aws_sdk_dynamodb::Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new(key, secret, None, None, "embedded"))
            .retry_config(RetryConfig::standard())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint_url)
            .build(),
    )
}

fn open(folder: &Path, durability: Durability) -> Result<(Database, EventCounter), EmbeddedError> {
    let failed = |reason: String| EmbeddedError::Database {
        folder: folder.to_owned(),
        reason,
    };
    let file = folder.join("dynamodb.sqlite");
    let path = file
        .to_str()
        .ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
    let database = Database::new(path).map_err(|e| failed(e.to_string()))?;
    // Named after what they are for; what they do is set SQLite's `synchronous`: OFF, or NORMAL, which in WAL
    // mode loses nothing when the process is killed.
    match durability {
        Durability::Temporary => database.enable_bulk_loading(),
        Durability::Kept => database.disable_bulk_loading(),
    }
    .map_err(|e| failed(e.to_string()))?;
    let existing = database.table_stats().map_err(|e| failed(e.to_string()))?;
    for definition in TABLES {
        let request: serde_json::Value =
            serde_json::from_str(definition).map_err(|e| failed(e.to_string()))?;
        if existing
            .iter()
            .any(|table| request.get("TableName") == Some(&table.table_name.as_str().into()))
        {
            continue;
        }
        let request = serde_json::from_value(request).map_err(|e| failed(e.to_string()))?;
        database
            .create_table(request)
            .map_err(|e| failed(e.to_string()))?;
    }
    let connection = rusqlite::Connection::open(path).map_err(|e| failed(e.to_string()))?;
    index_stream_records(&connection).map_err(|e| failed(e.to_string()))?;
    let counter = EventCounter(Arc::new(Mutex::new(Counted {
        connection,
        to: 0,
        counts: EventCounts::default(),
    })));
    Ok((database, counter))
}

/// Without this index every write to a table with a stream looks through all its stream records for the
/// highest sequence number, so that writing slows down as the stream grows.
fn index_stream_records(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE INDEX IF NOT EXISTS by_sequence_number
         ON _stream_records (table_name, CAST(sequence_number AS INTEGER))",
    )
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    async fn put(dynamodb: &EmbeddedDynamoDb, version: u32) {
        dynamodb
            .client()
            .put_item()
            .table_name(EVENT_TABLE)
            .item("patient_id", AttributeValue::S("p-1".to_owned()))
            .item("version", AttributeValue::N(version.to_string()))
            .send()
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn every_event_and_every_change_is_counted_once_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let dynamodb = EmbeddedDynamoDb::start(folder.path(), Durability::Kept)
            .await
            .unwrap();
        let counter = dynamodb.event_counter();
        let check = |counter: &EventCounter, appended, changed| {
            assert_eq!(counter.count().unwrap(), EventCounts { appended, changed });
        };
        check(&counter, 0, 0);
        put(&dynamodb, 1).await;
        put(&dynamodb, 2).await;
        check(&counter, 2, 0);
        put(&dynamodb, 2).await;
        put(&dynamodb, 3).await;
        check(&counter, 3, 1);
        drop(dynamodb);

        let dynamodb = EmbeddedDynamoDb::start(folder.path(), Durability::Kept)
            .await
            .unwrap();
        put(&dynamodb, 4).await;
        check(&dynamodb.event_counter(), 4, 1);
    }

    #[tokio::test]
    async fn port_that_is_taken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = EmbeddedDynamoDb::start_on(port, folder.path(), Durability::Temporary).await;
        let message = refused.err().unwrap().to_string();
        assert_eq!(message, format!("cannot listen on 127.0.0.1:{port}"));
    }
}
