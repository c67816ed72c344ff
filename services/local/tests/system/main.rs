//! The real program with real child processes, over HTTP, as whoever runs it sees it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "functions that tests share are tests too"
)]

mod append;
mod canary;
mod check;
mod crashes;
mod health;
mod http;
mod load;
mod pipeline;
mod poison;
mod repair;
mod start_and_end;
mod system;
mod tampering;
mod the_front;
mod watching;
