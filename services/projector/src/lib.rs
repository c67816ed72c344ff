//! The projector: consumes the stream of the event table and keeps the read model up to date.
//!
//! Deliberately absent: any way to append events (Cargo would not link it) and any trust in the stream's
//! order or completeness: a stream record is a hint, the event table is the truth.

mod batch;
mod projector;
mod record;
mod summary;

use event_log::EventTable;
use lambda_runtime::{LambdaEvent, service_fn};
use projection::{ProjectionTable, SOFTWARE, SqsQuarantineQueue};
use runtime::clients::AwsEnvironment;
use runtime::config::environment;
use runtime::{BoxError, Invocation, ProjectionConfig, Reporter, clock, telemetry};

pub use batch::{Batch, NoSequenceNumber};
pub use projector::{Handled, Projector};
pub use record::{Change, StreamBatch, StreamRecord};
pub use summary::Summary;

/// Runs the service on the Lambda Runtime API, configured by its environment ([`ProjectionConfig`]).
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), BoxError> {
    telemetry::init(&environment)?;
    let config = ProjectionConfig::from_lookup(&environment)?;
    let aws = AwsEnvironment::from_lookup(&environment)?;
    let dynamodb = aws.dynamodb();
    let projector = &Projector {
        log: EventTable::new(dynamodb.clone(), config.event_table),
        store: ProjectionTable::new(dynamodb, config.read_model_table),
        queue: SqsQuarantineQueue::new(aws.sqs(), config.quarantine_queue_url),
        concurrency: config.concurrency,
        software: SOFTWARE,
        clock: clock::system_clock,
    };
    let reporter = &Reporter::from_lookup("projector", clock::system_clock, &environment);
    let handle = |event: LambdaEvent<_>| async move {
        let began = reporter.begin();
        let handled = projector.handle(event.payload).await?;
        let invocation = Invocation {
            request_id: &event.context.request_id,
            trace: event.context.xray_trace_id.as_deref(),
        };
        reporter.report(invocation, began, handled.summary.report());
        Ok::<_, BoxError>(handled.response)
    };
    lambda_runtime::run(service_fn(handle)).await
}
