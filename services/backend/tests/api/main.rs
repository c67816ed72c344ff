//! The API as its clients see it, and as `openapi.json` describes it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "functions that tests share are tests too, and json! makes values"
)]

mod budgets;
mod contract;
mod document;
mod fixture;
mod headers;
mod health;
mod page;
mod requests;
mod schema;
mod walks;
