//! The real program with real child processes, over HTTP, as whoever runs it sees it.

mod check;
mod crashes;
mod http;
mod pipeline;
mod poison;
mod start_and_end;
mod system;
