//! Answers queries over HTTP from the read model, and from nothing else.
//!
//! | request | answer |
//! |---|---|
//! | `GET /patients?limit&cursor&sort=id\|recent` | patients, page by page |
//! | `GET /patients/{id}?minVersion` | one of them |
//! | `GET /patients/{id}/checkins?limit&cursor&from&to&order=desc\|asc&minVersion` | a patient's check-ins, page by page |
//! | `GET /health` | that the read model can be read, and follows the events |
//! | `GET /` | a page for people; what it loads is at `/assets/` |
//! | `GET /openapi.json` | the contract, which `tests/contract` checks |
//!
//! HEAD is GET without the body, and OPTIONS says so.
//!
//! Deliberately absent: any way to write, and any way to reach the events. The crate links neither, and its role
//! on AWS may read one table.

mod config;
mod correlation;
mod cors;
mod cursor;
pub mod etag;
mod handler;
mod page;
mod parameters;
mod problem;
mod representation;
mod response;
mod route;

use std::convert::Infallible;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use lambda_runtime::{LambdaEvent, service_fn};
use read_model::ReadModelTable;
use runtime::clients::AwsEnvironment;
use runtime::config::environment;
use runtime::{BoxError, Invocation, Report, Reporter, clock, telemetry};

pub use config::Config;
pub use cors::{AllowOrigin, InvalidOrigin};
pub use handler::Backend;

/// Runs the service on the Lambda Runtime API, configured by its environment.
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), BoxError> {
    telemetry::init(&environment)?;
    let config = Config::from_lookup(&environment)?;
    let aws = AwsEnvironment::from_lookup(&environment)?;
    let read_model = ReadModelTable::new(aws.dynamodb(), config.read_model_table);
    let backend = &Backend::new(read_model, clock::system_clock, config.allow_origin);
    let reporter = &Reporter::from_lookup("backend", clock::system_clock, &environment);
    let service = service_fn(|event: LambdaEvent<ApiGatewayProxyRequest>| async move {
        let began = reporter.begin();
        let response = backend.handle(&event.payload).await;
        let invocation = Invocation {
            request_id: &event.context.request_id,
            trace: event.context.xray_trace_id.as_deref(),
        };
        reporter.report(invocation, began, report(&response));
        Ok::<_, Infallible>(response)
    });
    // Boxed, or the compiler gives up on how deep futures are nested in each other.
    Box::pin(lambda_runtime::run(service)).await
}

/// What there is to report of an answer. Deliberately absent: metrics, which API Gateway has.
fn report(response: &ApiGatewayProxyResponse) -> Report {
    let mut annotations = vec![("status", response.status_code.into())];
    let correlation_id = response.headers.get(correlation::X_CORRELATION_ID);
    annotations.extend(
        correlation_id
            .and_then(|id| id.to_str().ok())
            .map(|id| ("correlation_id", id.into())),
    );
    Report {
        metrics: Vec::new(),
        annotations,
    }
}
