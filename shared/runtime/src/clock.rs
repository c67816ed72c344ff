//! The clock. Everything else takes time as an argument.

use domain::Timestamp;

/// Tells the time; a service has [`system_clock`], a test a function of its own.
pub type Clock = fn() -> Timestamp;

/// The time of this machine.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is where the time comes in")]
pub fn system_clock() -> Timestamp {
    const EPOCH: i64 = 0;
    Timestamp::try_from(chrono::Utc::now())
        .or_else(|_| Timestamp::from_unix_millis(EPOCH))
        .unwrap_or_else(|_| unreachable!("1970 is between the years 0 and 9999"))
}
