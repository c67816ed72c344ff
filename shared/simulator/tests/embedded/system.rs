//! Production's own handlers, wired as their `run` wires them, but for a proxy before the tables and for the story's
//! time.

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use checkin::{Checkin, Roster};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb, READ_MODEL_TABLE};
use event_log::EventTable;
use event_store::EventStore;
use projection::{BeginError, ProjectionTable, SqsQuarantineQueue};
use projector::Projector;
use read_model::ReadModelTable;
use reconciler::Reconciler;
use replay::{
    Accepted, Promote, PromoteCommandError, Prune, Rebuild, Redrive, ReplayTable, RollBack, RollBackError,
    SqsLetters,
};

use crate::proxy::{GIVEN_UP, Proxy, QUARANTINE};
use crate::story::Command;
use crate::time;
use crate::violation::ensure;

/// How many calls each service has under way at once, at most.
const CONCURRENCY: usize = 4;

/// What the SDK does about a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Retries {
    /// Nothing: the service itself has to cope.
    Off,
    /// What it does in production, but without the pauses: it calls again.
    On,
}

impl fmt::Display for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Retries::Off => "off",
            Retries::On => "on",
        })
    }
}

/// The whole system.
pub(crate) struct System {
    pub(crate) proxy: Proxy,
    pub(crate) roster: Roster,
    pub(crate) checkin: Checkin<EventStore>,
    pub(crate) projector: Projector<EventTable, ProjectionTable, SqsQuarantineQueue>,
    pub(crate) reconciler: Reconciler<EventTable, ProjectionTable, SqsQuarantineQueue>,
    /// The read model, as the API reads it.
    pub(crate) read_model: ReadModelTable,
    replay_table: ReplayTable,
    quarantined: SqsLetters,
    given_up: SqsLetters,
    /// The read model, past the proxy.
    pub(crate) read_model_itself: ReadModelTable,
    /// The event table, past the proxy.
    pub(crate) event_store_itself: EventStore,
}

impl System {
    /// The system on this DynamoDB, behind this proxy.
    pub(crate) fn new(
        dynamodb: &EmbeddedDynamoDb,
        proxy: Proxy,
        patients: usize,
        checkins_per_tick: NonZeroU16,
        retries: Retries,
    ) -> System {
        let client = dynamodb_client(&proxy, retries);
        let log = EventTable::new(client.clone(), EVENT_TABLE);
        let store = ProjectionTable::new(client.clone(), READ_MODEL_TABLE);
        let sqs = sqs_client(&proxy, retries);
        let queue = SqsQuarantineQueue::new(sqs.clone(), proxy.queue_url(QUARANTINE));
        let events = EventStore::new(client.clone(), EVENT_TABLE);
        let roster = roster(patients);
        let itself = dynamodb.client();
        System {
            checkin: Checkin::new(events, roster.clone(), checkins_per_tick, time::now),
            projector: Projector {
                log: log.clone(),
                store: store.clone(),
                queue: queue.clone(),
                concurrency: CONCURRENCY,
                software: projection::SOFTWARE,
                clock: time::now,
            },
            reconciler: Reconciler {
                log,
                store,
                queue,
                concurrency: CONCURRENCY,
                clock: time::now,
            },
            read_model: ReadModelTable::new(client.clone(), READ_MODEL_TABLE),
            replay_table: ReplayTable::new(client, READ_MODEL_TABLE),
            quarantined: SqsLetters::new(sqs.clone(), proxy.queue_url(QUARANTINE)),
            given_up: SqsLetters::new(sqs, proxy.queue_url(GIVEN_UP)),
            read_model_itself: ReadModelTable::new(itself.clone(), READ_MODEL_TABLE),
            event_store_itself: EventStore::new(itself, EVENT_TABLE),
            roster,
            proxy,
        }
    }

    /// What a command of an operator does. One that is given `again` has perhaps done it already, and failed afterwards.
    pub(crate) async fn obey(&self, command: Command, again: bool) -> Result<(), BoxError> {
        let nothing = Accepted::default();
        match command {
            Command::Rebuild | Command::DryRun => {
                let rebuild = Rebuild {
                    tables: self,
                    segments: 2,
                    concurrency: CONCURRENCY,
                    accepted: &nothing,
                    software: projection::SOFTWARE,
                    promote: command == Command::Rebuild,
                    any_projector: false,
                    clock: time::now,
                };
                rebuild.run(&|_, _| ()).await?;
            }
            Command::Promote => {
                let promote = Promote {
                    tables: self,
                    segments: 2,
                    concurrency: CONCURRENCY,
                    accepted: &nothing,
                    software: projection::SOFTWARE,
                    any_projector: false,
                    clock: time::now,
                };
                match promote.run(&|_, _| ()).await {
                    Err(PromoteCommandError::NothingBuilt) if again => {}
                    promoted => drop(promoted?),
                }
            }
            Command::RollBack => {
                let roll_back = RollBack {
                    tables: self,
                    to: None,
                    accepted: &nothing,
                    concurrency: CONCURRENCY,
                    clock: time::now,
                };
                match roll_back.run().await {
                    Err(RollBackError::Begin(BeginError::Forward { .. })) if again => {}
                    rolled_back => drop(rolled_back?),
                }
            }
            Command::Prune => {
                let prune = Prune {
                    tables: self,
                    previous: true,
                    building: true,
                    segments: 2,
                    clock: time::now,
                };
                let kept = prune.run(&|_| ()).await?.kept;
                ensure(kept.len() == 1, || format!("{kept:?} are left"))?;
            }
            Command::Redrive => {
                self.proxy.let_messages_be_seen_again();
                let redrive = Redrive {
                    tables: self,
                    concurrency: CONCURRENCY,
                    clock: time::now,
                };
                let failed = redrive.all().await?.failed;
                ensure(failed.is_empty(), || format!("{failed:?}"))?;
            }
        }
        Ok(())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl replay::Tables for System {
    type Log = EventTable;
    type Projection = ProjectionTable;
    type ReadModel = ReadModelTable;
    type Audit = ReplayTable;
    type Builds = ReplayTable;
    type Prunable = ReplayTable;
    type Queue = SqsQuarantineQueue;
    type Letters = SqsLetters;

    fn log(&self) -> &EventTable {
        &self.projector.log
    }

    fn projection(&self) -> &ProjectionTable {
        &self.projector.store
    }

    fn read_model(&self) -> &ReadModelTable {
        &self.read_model
    }

    fn audit(&self) -> &ReplayTable {
        &self.replay_table
    }

    fn builds(&self) -> &ReplayTable {
        &self.replay_table
    }

    fn prunable(&self) -> &ReplayTable {
        &self.replay_table
    }

    fn queue(&self) -> &SqsQuarantineQueue {
        &self.projector.queue
    }

    fn quarantined(&self) -> Option<&SqsLetters> {
        Some(&self.quarantined)
    }

    fn given_up(&self) -> Option<&SqsLetters> {
        Some(&self.given_up)
    }
}

fn roster(patients: usize) -> Roster {
    let entries: Vec<_> = (1..=patients)
        .map(|number| serde_json::json!({ "id": format!("p-{number}"), "name": format!("Ada {number}") }))
        .collect();
    Roster::parse(&serde_json::Value::from(entries).to_string()).unwrap()
}

fn dynamodb_client(proxy: &Proxy, retries: Retries) -> aws_sdk_dynamodb::Client {
    let client = embedded::client(&proxy.endpoint_url());
    let config = client.config().to_builder().retry_config(retries.config());
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

fn sqs_client(proxy: &Proxy, retries: Retries) -> aws_sdk_sqs::Client {
    let (key, secret) = embedded::CREDENTIALS;
    aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_sqs::config::Region::new(embedded::REGION))
            .credentials_provider(aws_sdk_sqs::config::Credentials::new(
                key, secret, None, None, "test",
            ))
            .retry_config(retries.config())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(proxy.endpoint_url())
            .build(),
    )
}

impl Retries {
    fn config(self) -> RetryConfig {
        match self {
            Retries::Off => RetryConfig::disabled(),
            Retries::On => RetryConfig::standard()
                .with_max_attempts(4)
                .with_max_backoff(Duration::from_millis(1)),
        }
    }
}
