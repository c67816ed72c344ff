//! The program itself, as an operator starts it, kills it, and starts it again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test builds on is there, or the test fails; what was measured is shown"
)]

mod commands;
mod kills;
mod program;
