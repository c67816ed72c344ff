//! What the `main` of every service needs, and nothing of what a service does: its configuration, its
//! telemetry, its AWS clients, and the only clock.

pub mod clients;
pub mod clock;
pub mod config;
pub mod metrics;
mod projection_config;
mod report;
pub mod telemetry;
mod xray;

use std::process::ExitCode;

pub use projection_config::ProjectionConfig;
pub use report::{Invocation, Report, Reporter};

/// Any error, for `main` only: nobody acts on its kind any more.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the process of a service or a tool called `name` ends. An error becomes one line on stderr, for whoever
/// started it, and exit code 1.
#[must_use]
pub fn exit(name: &str, result: Result<(), BoxError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "telemetry may be what did not start")]
            {
                eprintln!("{name}: {}", telemetry::chain(&*error));
            }
            ExitCode::FAILURE
        }
    }
}
