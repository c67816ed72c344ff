//! The producer: registers the roster, and checks patients in on each tick.
//!
//! All that it does is idempotent: a tick that is delivered twice, or retried after a lost answer, repeats nothing.

mod config;
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
use runtime::telemetry;

pub use config::Config;
pub use handler::{Checkin, CheckinError, Summary};
pub use request::{InvalidRequest, Request};
pub use roster::{EntryProblem, Roster, RosterEntry, RosterError};
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
    lambda_runtime::run(service_fn(|event: LambdaEvent<_>| async move {
        checkin.handle(event.payload, &event.context.request_id).await
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
