//! Wiring only: what a command does is in the library.

use clap::Parser;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    replay::run(replay::Cli::parse()).await
}
