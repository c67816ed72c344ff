//! The time in a story, which passes only when the story says so.

use std::cell::Cell;

use domain::Timestamp;

thread_local! {
    // A story runs on one thread, and a service's clock is a plain function.
    static MINUTE: Cell<i64> = const { Cell::new(0) };
}

/// So many minutes after the story began.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
}

/// It is this minute now.
pub(crate) fn set(minute: i64) {
    MINUTE.set(minute);
}

/// The clock of every service in the story.
pub(crate) fn now() -> Timestamp {
    at(MINUTE.get())
}
