//! Wiring only: what is measured, and how, is in the library.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    runtime::exit("bench", bench::run(&bench::Options::parse()))
}
