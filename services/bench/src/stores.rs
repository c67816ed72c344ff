//! What is measured of storing, projecting and replaying, contender by contender. Each gets an empty DynamoDB of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use testbed::World;

use crate::capacity::CapacityMeter;
use crate::contender::{Contender, ContenderError, Work};
use crate::world::BatchShape;

/// So many patients, and check-ins of each: streams as short as they are at first.
const SHORT: BatchShape = BatchShape::new(100, 10);
/// As long as they become: what loads a whole stream for an append gets slower.
const LONG: BatchShape = BatchShape::new(10, 200);
/// Enough for the replay's eight segments to be even.
pub(crate) const REPLAYED: BatchShape = BatchShape::new(1_000, 20);
/// What capacity units are counted of.
const COUNTED: BatchShape = BatchShape::new(10, 2);

/// Something could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoresError {
    /// A contender failed.
    #[error(transparent)]
    Contender(#[from] ContenderError),
    /// The replay failed, and said why on stderr.
    #[error("the replay failed: {0}")]
    Replay(String),
    /// It was to be measured no times.
    #[error("nothing was measured")]
    Nothing,
    /// The replay could not be started, or there is no port.
    #[error("the replay cannot be started, or there is no port")]
    NotStarted(#[from] std::io::Error),
    /// What it printed is not what a replay prints.
    #[error("the replay's answer is not understood")]
    Answer(#[from] serde_json::Error),
}

/// What storing and projecting costs, this way and that.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    /// Appending to short streams, by this system first.
    pub(crate) appends: Vec<Contest>,
    /// The same to long ones.
    pub(crate) long_appends: Vec<Contest>,
    /// Applying with one transaction for each event.
    pub(crate) transactions: Option<Contest>,
    /// A replay.
    pub(crate) replay: Replay,
}

/// What a contender came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Contest {
    /// What it is called.
    pub(crate) name: &'static str,
    /// The run that is neither the quickest nor the slowest.
    pub(crate) work: Work,
    /// Write units of an event, with every index.
    pub(crate) write_units: f64,
}

/// What a replay took, and what there was to beat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay {
    /// How many events.
    pub(crate) events: u32,
    /// How long it took to apply them.
    pub(crate) applying: Duration,
    /// How long all of it took, with its verification and promotion.
    pub(crate) all: Duration,
    /// As many rows, put with nothing but BatchWriteItem.
    pub(crate) ceiling: Work,
}

impl Replay {
    /// Events a second while it applied them.
    #[must_use]
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.events) / self.applying.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// What a rebuild says about itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Rebuilt {
    /// How many events.
    pub(crate) events: u32,
    seconds: f64,
    passes: Passes,
}

#[derive(Debug, Deserialize)]
struct Passes {
    apply: f64,
}

/// Measures everything here, each so many `times`: `own` is this program, `replay` the tool, and `others` the peers, if they
/// are measured too.
///
/// # Errors
/// [`StoresError`]
pub(crate) async fn measure(
    own: &Path,
    replay: &Path,
    others: Option<&Path>,
    times: usize,
) -> Result<Stores, StoresError> {
    let mut ways = vec![("this system", own, "append")];
    if let Some(others) = others {
        ways.extend([
            ("event-store-adapter-rs", others, "event-store-adapter"),
            ("cqrs-es with dynamo-es", others, "cqrs-es"),
            ("the same with a view", others, "cqrs-es-with-view"),
        ]);
    }
    let mut appends = Vec::new();
    let mut long_appends = Vec::new();
    for (name, executable, way) in ways {
        let contender = |shape| contender(name, executable, way, shape);
        let write_units = counted(&contender(COUNTED)).await?;
        for (shape, results) in [(SHORT, &mut appends), (LONG, &mut long_appends)] {
            results.push(Contest {
                name,
                work: middle(&contender(shape), times).await?,
                write_units,
            });
        }
    }
    let mut transactions = None;
    if let Some(others) = others {
        let contender = |shape| contender("a transaction per event", others, "transactions", shape);
        transactions = Some(Contest {
            name: "a transaction per event",
            work: middle(&contender(SHORT), times).await?,
            write_units: counted(&contender(COUNTED)).await?,
        });
    }
    let ceiling = middle(&contender("BatchWriteItem", own, "fill", REPLAYED), times).await?;
    let mut replays = Vec::new();
    for _ in 0..times {
        let world = World::new().await;
        replays.push(rebuild(replay, &world, &world.endpoint_url(), REPLAYED).await?);
    }
    replays.sort_by(|one, other| one.passes.apply.total_cmp(&other.passes.apply));
    // There is one, as it was done once at least.
    let Some(rebuilt) = replays.get(replays.len() / 2) else {
        return Err(StoresError::Nothing);
    };
    Ok(Stores {
        appends,
        long_appends,
        transactions,
        replay: Replay {
            events: rebuilt.events,
            applying: Duration::from_secs_f64(rebuilt.passes.apply),
            all: Duration::from_secs_f64(rebuilt.seconds),
            ceiling,
        },
    })
}

fn contender(name: &'static str, executable: &Path, way: &str, shape: BatchShape) -> Contender {
    let amounts = [shape.patients.to_string(), shape.check_ins.to_string()];
    Contender {
        name,
        executable: executable.to_owned(),
        arguments: [way.to_owned()].into_iter().chain(amounts).collect(),
    }
}

/// What every contender is told beside.
const ENVIRONMENT: [(&str, &str); 1] = [("READ_MODEL_TABLE", embedded::READ_MODEL_TABLE)];

/// Its work on an empty DynamoDB of its own: of so many times, the one that is neither the quickest nor the slowest.
async fn middle(contender: &Contender, times: usize) -> Result<Work, StoresError> {
    let mut works = Vec::new();
    for _ in 0..times {
        let world = World::new().await;
        let endpoint_url = world.endpoint_url();
        works.push(contender.work(&endpoint_url, &ENVIRONMENT, || ()).await?);
    }
    works.sort_by_key(|work| work.taken.wall);
    let work = works.get(works.len() / 2).copied();
    work.ok_or(StoresError::Nothing)
}

/// What an event consumes, in write units.
async fn counted(contender: &Contender) -> Result<f64, StoresError> {
    let world = World::new().await;
    let endpoint_url = world.endpoint_url();
    let meter = CapacityMeter::before(endpoint_url.trim_start_matches("http://")).await?;
    let prepared = || drop(meter.take());
    let work = contender
        .work(&meter.endpoint_url(), &ENVIRONMENT, prepared)
        .await?;
    Ok(meter.take().write_units() / f64::from(work.events.max(1)))
}
/// Fills the event table with so many patients and check-ins of each, and rebuilds the read model from them by way of
/// this address.
///
/// # Errors
/// [`StoresError`]
pub(crate) async fn rebuild(
    replay: &Path,
    world: &World,
    endpoint_url: &str,
    shape: BatchShape,
) -> Result<Rebuilt, StoresError> {
    let patients: Vec<String> = (0..shape.patients)
        .map(|number| format!("p-{number:05}"))
        .collect();
    let check_ins = i64::try_from(shape.check_ins).unwrap_or(i64::MAX);
    world.put_streams(&patients, check_ins).await;
    let output = tokio::process::Command::new(replay)
        .args(["--json", "--endpoint-url", endpoint_url, "rebuild"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(StoresError::Replay(said));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
