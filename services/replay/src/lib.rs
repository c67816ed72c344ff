//! The operator's tool for the read model: rebuild it from the events while the system runs, and look at it.
//!
//! Deliberately absent: any way to append, change or remove an event.

mod cli;
mod connection;
mod rebuild;
mod report;
mod status;

pub use cli::{Cli, run};
pub use rebuild::{Rebuild, RebuildError, Rebuilt};
pub use status::{EventStatus, GenerationStatus, Status, StatusError, status};
