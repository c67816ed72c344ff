//! Wiring only: the handler is a library function.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    runtime::exit("reconciler", reconciler::run().await)
}
