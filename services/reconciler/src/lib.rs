//! The reconciler: finds patients whose read model lags behind their events, and repairs them.
//!
//! The stream can lose records, and only a later event of the same patient would reveal it. So on a schedule of its
//! own this service compares what was recorded since the last time with what was applied. Its cost grows with what
//! was recorded, not with history.

mod reconciler;

use event_log::EventTable;
use lambda_runtime::{LambdaEvent, service_fn};
use projection::{ProjectionTable, SqsQuarantineQueue};
use runtime::clients::AwsEnvironment;
use runtime::config::environment;
use runtime::{BoxError, Invocation, ProjectionConfig, Reporter, clock, telemetry};

pub use reconciler::{Reconciler, ReconcilerError, Request, Summary};

/// Runs the service on the Lambda Runtime API, configured by its environment ([`ProjectionConfig`]).
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), BoxError> {
    telemetry::init(&environment)?;
    let config = ProjectionConfig::from_lookup(&environment)?;
    let aws = AwsEnvironment::from_lookup(&environment)?;
    let dynamodb = aws.dynamodb();
    let reconciler = &Reconciler {
        log: EventTable::new(dynamodb.clone(), config.event_table),
        store: ProjectionTable::new(dynamodb, config.read_model_table),
        queue: SqsQuarantineQueue::new(aws.sqs(), config.quarantine_queue_url),
        concurrency: config.concurrency,
        clock: clock::system_clock,
    };
    let reporter = &Reporter::from_lookup("reconciler", clock::system_clock, &environment);
    let handle = |event: LambdaEvent<Request>| async move {
        let began = reporter.begin();
        let done = reconciler.handle(event.payload).await;
        if let Ok(summary) | Err(ReconcilerError::Incomplete { summary, .. }) = &done {
            let invocation = Invocation {
                request_id: &event.context.request_id,
                trace: event.context.xray_trace_id.as_deref(),
            };
            reporter.report(invocation, began, summary.report());
        }
        done.map_err(BoxError::from)
    };
    // Boxed, or the compiler gives up on how deep futures are nested in each other.
    Box::pin(lambda_runtime::run(service_fn(handle))).await
}
