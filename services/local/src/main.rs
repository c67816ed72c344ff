//! Wiring only: the system is a library.

use std::process::ExitCode;

use clap::Parser;
use local::{CommandLine, Role};

fn main() -> ExitCode {
    let CommandLine { options, role } = CommandLine::parse();
    let result = match role {
        None => executor(tokio::runtime::Builder::new_multi_thread())
            .and_then(|executor| executor.block_on(local::run(&options)).map_err(Into::into)),
        // As on Lambda.
        Some(Role::Service { service }) => executor(tokio::runtime::Builder::new_current_thread())
            .and_then(|executor| executor.block_on(local::run_service(service))),
    };
    runtime::exit("local", result)
}

fn executor(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, runtime::BoxError> {
    Ok(builder.enable_all().build()?)
}
