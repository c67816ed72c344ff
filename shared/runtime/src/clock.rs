//! The clock. Everything else takes time as an argument.

use domain::Timestamp;

/// Tells the time; a service has [`system_clock`], a test a function of its own.
pub type Clock = fn() -> Timestamp;

/// The time of this machine.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is where the time comes in")]
pub fn system_clock() -> Timestamp {
    // A clock beyond the year 9999 is as good as none.
    Timestamp::try_from(chrono::Utc::now()).unwrap_or(Timestamp::EARLIEST)
}
