//! The projector: consumes the stream of the event table and keeps the read model up to date.
//!
//! Deliberately absent: any way to append events (Cargo would not link it) and any trust in the stream's
//! order or completeness: a stream record is a hint, the event table is the truth.

mod batch;
mod projector;

use event_log::EventTable;
use lambda_runtime::{LambdaEvent, service_fn};
use projection::{ProjectionTable, SqsQuarantineQueue};
use runtime::clients::AwsEnvironment;
use runtime::config::environment;
use runtime::{BoxError, ProjectionConfig, clock, telemetry};

pub use batch::{Batch, NoSequenceNumber};
pub use projector::Projector;

/// Runs the service on the Lambda Runtime API, configured by its environment ([`ProjectionConfig`]).
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), BoxError> {
    telemetry::init(&environment)?;
    let config = ProjectionConfig::from_lookup(&environment)?;
    let aws = AwsEnvironment::from_lookup(&environment)?;
    let projector = Projector {
        log: EventTable::new(aws.dynamodb(), config.event_table),
        store: ProjectionTable::new(aws.dynamodb(), config.read_model_table),
        queue: SqsQuarantineQueue::new(aws.sqs(), config.quarantine_queue_url),
        concurrency: config.concurrency,
        clock: clock::system_clock,
    };
    let projector = &projector;
    let handle =
        |event: LambdaEvent<_>| async { projector.handle(event.payload).await.map_err(BoxError::from) };
    lambda_runtime::run(service_fn(handle)).await
}
