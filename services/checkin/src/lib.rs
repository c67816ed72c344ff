//! The producer: registers the roster, and checks patients in on each tick.
//!
//! All that it does is idempotent: a tick that is delivered twice, or retried after a lost answer, repeats nothing.

mod config;
mod fhir;
mod handler;
mod request;
mod roster;
mod tick;

use std::path::Path;

use event_store::EventStore;
use lambda_runtime::{LambdaEvent, service_fn};
use runtime::clients::AwsEnvironment;
use runtime::clock::system_clock;
use runtime::config::{ConfigError, environment};
use runtime::{Invocation, Reporter, telemetry};

pub use config::Config;
pub use handler::{Checkin, CheckinError, Handled, Summary};
pub use request::{InvalidRequest, Request};
pub use roster::{EntryProblem, Place, Roster, RosterEntry, RosterError, WrongEntry};
pub use tick::Tick;

/// Runs the service on the Lambda Runtime API, configured by its environment.
///
/// # Errors
/// Whatever keeps the service from starting or going on; `main` shows it.
pub async fn run() -> Result<(), runtime::BoxError> {
    telemetry::init(&environment)?;
    let config = Config::from_lookup(&environment)?;
    let roster = config.roster_file.as_deref().map_or_else(built_in, read)?;
    let client = AwsEnvironment::from_lookup(&environment)?.dynamodb();
    let log = EventStore::new(client, config.event_table);
    let checkin = &Checkin::new(log, roster, config.checkins_per_tick, system_clock);
    let reporter = &Reporter::from_lookup("checkin", system_clock, &environment);
    lambda_runtime::run(service_fn(|event: LambdaEvent<_>| async move {
        let began = reporter.begin();
        let request_id = event.context.request_id.as_str();
        let done = checkin.handle(event.payload, request_id).await;
        if let Ok(handled) | Err(CheckinError::Incomplete { handled, .. }) = &done {
            let trace = event.context.xray_trace_id.as_deref();
            reporter.report(Invocation { request_id, trace }, began, handled.report());
        }
        done
    }))
    .await
}

fn built_in() -> Result<Roster, ConfigError> {
    Roster::built_in().map_err(|error| ConfigError::Invalid {
        name: config::ROSTER_FILE,
        reason: error.to_string(),
    })
}

fn read(file: &Path) -> Result<Roster, ConfigError> {
    let invalid = |reason: String| ConfigError::Invalid {
        name: config::ROSTER_FILE,
        reason: format!("{}: {reason}", file.display()),
    };
    let text = std::fs::read_to_string(file).map_err(|error| invalid(error.to_string()))?;
    Roster::parse(&text).map_err(|error| invalid(error.to_string()))
}
