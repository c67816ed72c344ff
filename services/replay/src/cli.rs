//! The command line.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::clock::system_clock;
use runtime::telemetry::chain;

use crate::connection::{Connection, Target};
use crate::rebuild::Rebuild;
use crate::{report, status};

/// Rebuilds the read model from the events, next to live traffic, and shows how far it has come.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the next generation from all events while live traffic goes on, then promote it.
    Rebuild {
        /// Into how many parts the event table is divided; all of them are read at once.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
        segments: u16,
        /// How many calls each of them has under way at once, at most.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
        concurrency: u8,
    },
    /// Show the generations, what they count, and what is not applied yet.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command. The exit code is 0 if it did what it says, 1 if not; why not is one line on stderr.
pub async fn run(cli: Cli) -> ExitCode {
    let connection = cli.target.connect().await;
    let done = match cli.command {
        Command::Rebuild {
            segments,
            concurrency,
        } => rebuild(&connection, segments, concurrency.into()).await,
        Command::Status { json } => show_status(&connection, json).await,
    };
    match done {
        Ok(text) => {
            // Nobody is left to tell when stdout is closed.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "replay: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn rebuild(connection: &Connection, segments: u16, concurrency: usize) -> Result<String, String> {
    let started = Instant::now();
    let rebuild = Rebuild {
        log: &connection.log,
        store: &connection.store,
        queue: &connection.queue,
        segments,
        concurrency,
        clock: system_clock,
    };
    // Off a terminal nothing is drawn.
    let bar = ProgressBar::new(connection.log.approximate_len().await.unwrap_or_default()).with_style(
        ProgressStyle::with_template(
            "{bar:30} {human_pos} of about {human_len} events  {per_sec}  {eta} left",
        )
        .map_err(|error| error.to_string())?,
    );
    bar.enable_steady_tick(Duration::from_millis(100));
    let on_events = |events| {
        bar.inc(events);
        bar.set_length(bar.position().max(bar.length().unwrap_or_default()));
    };
    let rebuilt = rebuild.run(&on_events).await;
    bar.finish_and_clear();
    let rebuilt = rebuilt.map_err(|error| chain(&error))?;
    Ok(report::rebuilt(&rebuilt, started.elapsed().as_secs_f64()))
}

async fn show_status(connection: &Connection, json: bool) -> Result<String, String> {
    let status = status::status(&connection.log, &connection.read_model, system_clock())
        .await
        .map_err(|error| chain(&error))?;
    if json {
        serde_json::to_string_pretty(&status).map_err(|error| error.to_string())
    } else {
        Ok(report::status(&status))
    }
}
