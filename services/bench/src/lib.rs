//! Measures the services as they are deployed, and the same handlers written in the common ways, in one run on one
//! machine. docs/PERFORMANCE.md explains each number.
//!
//! CPU time and ratios come first: they can be repeated on a busy machine, times on the clock cannot.

mod capacity;
mod contender;
mod cost;
mod function;
mod machine;
mod measure;
mod own;
mod programs;
mod runtime_api;
mod stores;
mod summary;
mod table;
mod tls;
mod units;
mod world;

use std::time::Instant;

use clap::{Parser, ValueEnum};
use runtime::BoxError;
use runtime::config::environment;

use crate::measure::{Effort, ProjectorCost, QueryCost};
pub use crate::own::{Amount, Way};
use crate::programs::{Pair, Places};
use crate::summary::Summary;
use crate::world::{BatchShape, Connection, Site};

/// Measures the services and their peers.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "bench")]
pub struct Options {
    /// To contend with the programs of others, instead of measuring: for itself only
    #[command(subcommand)]
    pub way: Option<Way>,
    /// Measure the services only: then neither Node nor Python is needed, nor the network
    #[arg(long, conflicts_with = "peers")]
    pub without_peers: bool,
    /// Measure these peers only
    #[arg(long, value_delimiter = ',', default_value = "stock-rust,node,python")]
    pub peers: Vec<Peer>,
    /// Measure less often, and no large batches: for a first look
    #[arg(long)]
    pub quick: bool,
}

/// A common way to write the same handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Rust with every default
    StockRust,
    /// Node with the AWS SDK for JavaScript, bundled
    Node,
    /// Python with boto3
    Python,
}

/// What was measured of one pair of programs.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) query: QueryCost,
    pub(crate) projector: ProjectorCost,
}

/// The batches that every projector gets: dense, then sparse.
const BATCHES: [BatchShape; 2] = [BatchShape::new(10, 10), BatchShape::new(100, 1)];
/// Those that only a full run has.
const LARGER_BATCHES: [BatchShape; 2] = [BatchShape::new(100, 10), BatchShape::new(1_000, 1)];
/// That of which the rate is compared with other ways to project.
const RATED: BatchShape = BatchShape::new(100, 10);
/// Those that only ours gets: for the others they would take a minute, and say nothing new.
const LARGEST_BATCHES: [BatchShape; 2] = [BatchShape::new(1_000, 10), BatchShape::new(10_000, 1)];

/// Builds, measures, and prints what came of it.
///
/// # Errors
/// Whatever keeps a program from being built or measured; `main` shows it.
pub fn run(options: &Options) -> Result<(), BoxError> {
    if let Some(way) = options.way {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return executor.block_on(way.work());
    }
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    executor.block_on(measure_all(options))
}

async fn measure_all(options: &Options) -> Result<(), BoxError> {
    let places = Places::of_repository(&environment);
    let building = Instant::now();
    say("building the services, as they are deployed");
    let services = programs::services(&places)?;
    let mut pairs = vec![Pair {
        name: "this system",
        query: services.backend.clone(),
        projector: services.projector.clone(),
    }];
    if !options.without_peers {
        say("building the peers");
        for peer in &options.peers {
            pairs.push(match peer {
                Peer::StockRust => programs::stock_rust(&places)?,
                Peer::Node => programs::node(&places)?,
                Peer::Python => programs::python(&places)?,
            });
        }
    }
    let event_stores = if options.without_peers {
        None
    } else {
        Some(programs::event_stores(&places)?)
    };
    let effort = if options.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let built = building.elapsed();
    let began = Instant::now();
    let site = Site::new().await?;
    site.fill(&services.projector).await?;
    // All queries before any projector: a batch changes how fresh the answers say that they are.
    let mut queries: Vec<QueryCost> = Vec::new();
    for pair in &pairs {
        say(&format!("measuring queries: {}", pair.name));
        let query = measure::query(&site, &pair.query, effort).await?;
        if let Some(first) = queries.first() {
            assert_eq!(query.body, first.body, "{} answers something else", pair.name);
        }
        queries.push(query);
    }
    say("measuring what a request is made of");
    let requests = measure::requests(&site, &services.backend, effort).await?;
    let mut measured: Vec<Measured> = Vec::new();
    for (pair, query) in pairs.iter().zip(queries) {
        say(&format!("measuring batches: {}", pair.name));
        let mut batches = BATCHES.to_vec();
        if !options.quick {
            batches.extend(LARGER_BATCHES);
            if measured.is_empty() {
                batches.extend(LARGEST_BATCHES);
            }
        }
        let projector = measure::projector(&site, &pair.projector, Connection::Tls, &batches, effort).await?;
        measured.push(Measured {
            name: pair.name,
            query,
            projector,
        });
    }
    say("measuring how the functions start");
    let mut starts = Vec::new();
    for program in services.functions() {
        let size = std::fs::metadata(&program.executable)?.len();
        starts.push((program.name, size, measure::start(&site, program, effort).await?));
    }
    say("measuring the projection's rate");
    let rate = measure::projector(&site, &services.projector, Connection::Plain, &[RATED], effort).await?;
    say("measuring from append to readable");
    let readable =
        measure::append_to_readable(&site, &services.projector, &services.backend, effort.warm).await?;
    say("measuring appends, and a replay");
    let own = std::env::current_exe()?;
    let stores = stores::measure(&own, &services.replay, event_stores.as_deref(), effort.contests).await?;
    say("counting capacity units");
    let uses = units::count(&services).await?;
    let summary = Summary {
        measured: &measured,
        rate: &rate,
        readable: &readable,
        stores: &stores,
        uses: &uses,
        requests: &requests,
        starts: &starts,
        machine: machine::describe(&places, &pairs),
        built,
        took: began.elapsed(),
    };
    print(&summary.to_string());
    Ok(())
}

/// What is going on, for whoever waits.
#[allow(clippy::print_stderr, reason = "a command line tool")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[allow(clippy::print_stdout, reason = "a command line tool")]
fn print(text: &str) {
    print!("{text}");
}
