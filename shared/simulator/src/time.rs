//! The time in a simulated world, which passes only when the schedule says so.

use std::cell::Cell;

use domain::Timestamp;

/// When every world begins, in milliseconds since 1970.
const BEGINNING: i64 = 1_764_000_000_000;

thread_local! {
    static PASSED: Cell<i64> = const { Cell::new(0) };
    static SKEW: Cell<i64> = const { Cell::new(0) };
}

/// The time `millis` after the beginning.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::EARLIEST.plus_millis(BEGINNING.saturating_add(millis))
}

/// A [`runtime clock`](projector::Projector::clock) for the worlds of this thread.
pub(crate) fn clock() -> Timestamp {
    at(PASSED.get().saturating_add(SKEW.get()))
}

/// Begins anew.
pub(crate) fn begin() {
    PASSED.set(0);
    SKEW.set(0);
}

/// Lets time pass.
pub(crate) fn pass(millis: i64) {
    PASSED.set(PASSED.get().saturating_add(millis));
}

/// How far the clock of the worker whose turn it is differs.
pub(crate) fn set_skew(millis: i64) {
    SKEW.set(millis);
}
