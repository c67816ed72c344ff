//! What is measured of storing, projecting and replaying, contender by contender. Each gets an empty DynamoDB of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use testbed::World;

use crate::contender::{Contender, ContenderError, Work};
use crate::world::BatchShape;

/// So many patients, and check-ins of each, are appended, or applied one by one.
const PATIENTS: usize = 100;
const CHECK_INS: usize = 10;
/// So many are replayed: enough for the replay's eight segments to be even.
const REPLAYED_PATIENTS: usize = 1_000;
const REPLAYED_CHECK_INS: usize = 20;

/// Something could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoresError {
    /// A contender failed.
    #[error(transparent)]
    Contender(#[from] ContenderError),
    /// The replay failed, and said why on stderr.
    #[error("the replay failed: {0}")]
    Replay(String),
    /// The replay could not be started.
    #[error("the replay cannot be started")]
    NotStarted(#[from] std::io::Error),
    /// What it printed is not what a replay prints.
    #[error("the replay's answer is not understood")]
    Answer(#[from] serde_json::Error),
}

/// What storing and projecting costs, this way and that.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    /// Appending, by this system first.
    pub(crate) appends: Vec<(&'static str, Work)>,
    /// Applying with one transaction for each event.
    pub(crate) transactions: Option<Work>,
    /// A replay.
    pub(crate) replay: Replay,
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

/// Measures everything here: `own` is this program, `replay` the tool, and `others` the peers, if they are measured too.
///
/// # Errors
/// [`StoresError`]
pub(crate) async fn measure(
    own: PathBuf,
    replay: &Path,
    others: Option<PathBuf>,
) -> Result<Stores, StoresError> {
    let ours = contender("this system", &own, "append", PATIENTS, CHECK_INS);
    let mut appends = vec![(ours.name, on_its_own(&ours).await?)];
    let mut transactions = None;
    if let Some(others) = &others {
        for (name, way) in [
            ("event-store-adapter-rs", "event-store-adapter"),
            ("cqrs-es with dynamo-es", "cqrs-es"),
            ("the same with a view", "cqrs-es-with-view"),
        ] {
            let other = contender(name, others, way, PATIENTS, CHECK_INS);
            appends.push((name, on_its_own(&other).await?));
        }
        let one_by_one = contender(
            "a transaction per event",
            others,
            "transactions",
            PATIENTS,
            CHECK_INS,
        );
        transactions = Some(on_its_own(&one_by_one).await?);
    }
    let fill = contender(
        "BatchWriteItem",
        &own,
        "fill",
        REPLAYED_PATIENTS,
        REPLAYED_CHECK_INS,
    );
    let ceiling = on_its_own(&fill).await?;
    let replay = replay_of(replay, ceiling).await?;
    Ok(Stores {
        appends,
        transactions,
        replay,
    })
}

fn contender(
    name: &'static str,
    executable: &Path,
    way: &str,
    patients: usize,
    check_ins: usize,
) -> Contender {
    Contender {
        name,
        executable: executable.to_owned(),
        arguments: vec![way.to_owned(), patients.to_string(), check_ins.to_string()],
    }
}

async fn on_its_own(contender: &Contender) -> Result<Work, StoresError> {
    let world = World::new().await;
    let environment = [("READ_MODEL_TABLE", embedded::READ_MODEL_TABLE)];
    Ok(contender.work(&world.endpoint_url(), &environment).await?)
}

async fn replay_of(replay: &Path, ceiling: Work) -> Result<Replay, StoresError> {
    let world = World::new().await;
    let shape = BatchShape {
        patients: REPLAYED_PATIENTS,
        check_ins: REPLAYED_CHECK_INS,
    };
    let rebuilt = rebuild(replay, &world, &world.endpoint_url(), shape).await?;
    Ok(Replay {
        events: rebuilt.events,
        applying: Duration::from_secs_f64(rebuilt.passes.apply),
        all: Duration::from_secs_f64(rebuilt.seconds),
        ceiling,
    })
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
