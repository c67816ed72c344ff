//! What the `main` of every service needs, and nothing of what a service does: its configuration, its
//! telemetry, its AWS clients, and the only clock.

pub mod clients;
pub mod clock;
pub mod config;
pub mod telemetry;

/// Any error, for `main` only: nobody acts on its kind any more.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
