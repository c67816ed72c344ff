//! Appending to the event table, the source of truth. Only the producer links this crate.
//!
//! [`append()`] is the whole algorithm: read the stream's tail, then one conditional write of the next version. It
//! reaches the table through [`AppendLog`], which [`EventStore`] implements with DynamoDB.
//!
//! Deliberately absent: any way to change or delete an event. What was appended is a fact.

mod append;
mod append_log;
mod event_store;
mod expected_version;

pub use append::{AppendError, Appended, Link, append};
pub use append_log::{AppendLog, InsertError, TailEntry};
pub use event_store::EventStore;
pub use expected_version::ExpectedVersion;
