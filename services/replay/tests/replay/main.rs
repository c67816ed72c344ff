//! The commands on the embedded DynamoDB, next to live traffic.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a test builds on is there, or the test fails"
)]

mod budgets;
mod connected;
mod documented_items;
mod generations;
mod rebuild;
mod redrive;
mod tail;
mod verify;
