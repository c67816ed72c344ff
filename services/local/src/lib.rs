//! The whole system on one machine, with one command.
//!
//! What AWS does around the functions is done here, in one process: DynamoDB with Streams ([`embedded`]), SQS
//! (`sqs_endpoint`), Lambda (`function`, `runtime_api`), the event source mapping (`event_source_mapping`),
//! EventBridge (`schedule`) and API Gateway (`gateway`). The functions are the real ones, each in a process of its
//! own, so that it can be killed as on AWS; `local` runs itself again in their roles ([`run_service`]).
//! What happens on the way from an event to its view can be watched
//! (`pipeline`). `system` puts it all together.

mod data_folder;
mod event_source_mapping;
mod function;
mod gateway;
mod local_table;
mod options;
mod pipeline;
mod queues;
mod recent_events;
mod request_ids;
mod runtime_api;
mod schedule;
mod sqs_endpoint;
mod status;
mod stopping;
mod system;

pub use data_folder::DataFolderError;
pub use options::{CommandLine, InvalidPeriod, Options, Period, Role, Service};
pub use system::{QUARANTINE_QUEUE, STREAM_FAILURE_QUEUE, SystemError, run};

/// Runs one function on the Lambda Runtime API, configured by the environment.
///
/// # Errors
/// Whatever keeps the function from starting or going on.
pub async fn run_service(service: Service) -> Result<(), runtime::BoxError> {
    match service {
        Service::Checkin => checkin::run().await,
        Service::Projector => projector::run().await,
        Service::Backend => backend::run().await,
        Service::Reconciler => reconciler::run().await,
    }
}
