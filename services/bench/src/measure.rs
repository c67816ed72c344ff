//! What is measured, program by program.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cost::NotCounted;
use crate::function::{Function, FunctionError, Program, Taken};
use crate::tls::TlsError;
use crate::world::{
    BatchShape, Connection, Site, queried_path, query_event, query_event_of, request_event, stream_event,
};

/// A program could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeasureError {
    /// It failed.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// What it cost is not known.
    #[error(transparent)]
    NotCounted(#[from] NotCounted),
    /// Its trust store could not be written.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It was to be started no times.
    #[error("nothing was measured")]
    Nothing,
}

/// How often things are done until a number is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Cold starts, of which the median counts.
    pub(crate) cold_starts: usize,
    /// Warm invocations before any is counted: just-in-time compilers get their chance.
    pub(crate) warm_up: usize,
    /// Warm invocations that are counted.
    pub(crate) warm: usize,
    /// Batches of 100 records that are counted.
    pub(crate) batches: usize,
    /// How often a contender works.
    pub(crate) contests: usize,
}

impl Effort {
    /// For numbers to publish.
    pub(crate) const FULL: Effort = Effort {
        cold_starts: 11,
        warm_up: 300,
        warm: 300,
        batches: 50,
        contests: 3,
    };
    /// For a first look, or a machine that is busy.
    pub(crate) const QUICK: Effort = Effort {
        cold_starts: 3,
        warm_up: 30,
        warm: 30,
        batches: 2,
        contests: 1,
    };

    /// How many batches of a shape are counted: fewer of the large ones, which vary less.
    fn batches_of(self, shape: BatchShape) -> usize {
        (self.batches * 100 / shape.records().max(1)).max(1)
    }
}

/// What a query costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryCost {
    /// From `exec` to the request for the first invocation.
    pub(crate) init: Taken,
    /// From `exec` to the first answer, with the first connection to DynamoDB.
    pub(crate) cold: Taken,
    /// One of many invocations.
    pub(crate) warm: Taken,
    /// The most memory that the process ever had, in bytes.
    pub(crate) peak_memory: u64,
    /// The body of the answer.
    pub(crate) body: String,
}

/// What batches of one shape cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchCost {
    /// Their shape.
    pub(crate) shape: BatchShape,
    /// One of them.
    pub(crate) taken: Taken,
}

/// What a projector costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProjectorCost {
    /// By shape.
    pub(crate) batches: Vec<BatchCost>,
    /// The most memory that the process ever had, in bytes.
    pub(crate) peak_memory: u64,
}

impl BatchShape {
    /// How many stream records.
    #[must_use]
    pub(crate) const fn records(self) -> usize {
        self.patients * self.check_ins
    }
}

impl BatchCost {
    /// Events a second, on the clock.
    #[must_use]
    pub(crate) fn rate(&self) -> f64 {
        let records = u32::try_from(self.shape.records()).unwrap_or(u32::MAX);
        f64::from(records) / self.taken.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// CPU time for 100 stream records.
    #[must_use]
    pub(crate) fn cpu_per_100(&self) -> Duration {
        let records = u32::try_from(self.shape.records()).unwrap_or(u32::MAX).max(1);
        self.taken.cpu * 100 / records
    }
}

/// Measures a program that answers queries.
///
/// # Errors
/// [`MeasureError`]
pub(crate) async fn query(site: &Site, program: &Program, effort: Effort) -> Result<QueryCost, MeasureError> {
    let event = query_event();
    let environment = site.environment(program, Connection::Tls)?;
    let mut inits = Vec::new();
    let mut colds = Vec::new();
    let mut last = None;
    for _ in 0..effort.cold_starts {
        let (mut function, init) = Function::start(program, &environment, site.folder()).await?;
        let (answer, first) = function.invoke(event.clone()).await?;
        inits.push(init);
        colds.push(Taken {
            cpu: init.cpu + first.cpu,
            wall: init.wall + first.wall,
        });
        if let Some((before, _)) = last.replace((function, answer)) {
            before.end().await;
        }
    }
    let Some((mut function, answer)) = last else {
        return Err(MeasureError::Nothing);
    };
    for _ in 0..effort.warm_up {
        function.invoke(event.clone()).await?;
    }
    let mut warm = Vec::with_capacity(effort.warm);
    for _ in 0..effort.warm {
        warm.push(function.invoke(event.clone()).await?.1);
    }
    let peak_memory = function.cost()?.peak_memory;
    function.end().await;
    Ok(QueryCost {
        init: median(&inits),
        cold: median(&colds),
        warm: Taken {
            // Garbage is collected now and then only, and belongs to all.
            cpu: mean(warm.iter().map(|taken| taken.cpu)),
            wall: median(&warm).wall,
        },
        peak_memory,
        body: body(&answer),
    })
}

/// What one kind of request costs, warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestCost {
    /// The request.
    pub(crate) what: &'static str,
    /// One of many invocations.
    pub(crate) cpu: Duration,
}

/// Measures requests that differ by what they take, so that the differences tell what that is.
///
/// # Errors
/// [`MeasureError`]
pub(crate) async fn requests(
    site: &Site,
    backend: &Program,
    effort: Effort,
) -> Result<Vec<RequestCost>, MeasureError> {
    let environment = site.environment(backend, Connection::Tls)?;
    let (mut function, _) = Function::start(backend, &environment, site.folder()).await?;
    let patient = queried_path();
    let check_ins = format!("{patient}/checkins");
    let mut costs = Vec::new();
    for (what, path, query) in [
        ("an unknown path: no call", "/nowhere", None),
        ("a patient: 3 calls", patient.as_str(), None),
        ("one check-in: 4 calls", &check_ins, Some(("limit", "1"))),
        ("50 check-ins: 4 calls", &check_ins, None),
    ] {
        let event = request_event(path, query);
        for _ in 0..effort.warm_up {
            function.invoke(event.clone()).await?;
        }
        let mut taken = Vec::with_capacity(effort.warm);
        for _ in 0..effort.warm {
            taken.push(function.invoke(event.clone()).await?.1.cpu);
        }
        costs.push(RequestCost {
            what,
            cpu: mean(taken.into_iter()),
        });
    }
    function.end().await;
    Ok(costs)
}

/// What a start costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartCost {
    /// From `exec` to the request for the first invocation.
    pub(crate) init: Taken,
    /// The most memory that the process had until then, in bytes.
    pub(crate) memory: u64,
}

/// Measures how a program starts.
///
/// # Errors
/// [`MeasureError`]
pub(crate) async fn start(site: &Site, program: &Program, effort: Effort) -> Result<StartCost, MeasureError> {
    let environment = site.environment(program, Connection::Tls)?;
    let mut inits = Vec::new();
    let mut memory = 0;
    for _ in 0..effort.cold_starts {
        let (function, init) = Function::start(program, &environment, site.folder()).await?;
        inits.push(init);
        memory = function.cost()?.peak_memory.max(memory);
        function.end().await;
    }
    Ok(StartCost {
        init: median(&inits),
        memory,
    })
}

/// Measures a projector with batches of these shapes.
///
/// # Errors
/// [`MeasureError`]
pub(crate) async fn projector(
    site: &Site,
    program: &Program,
    connection: Connection,
    shapes: &[BatchShape],
    effort: Effort,
) -> Result<ProjectorCost, MeasureError> {
    let environment = site.environment(program, connection)?;
    let (mut function, _) = Function::start(program, &environment, site.folder()).await?;
    let prefix = format!("{}-{connection:?}", program.name.replace(' ', "-"));
    let mut batches = Vec::new();
    for &shape in shapes {
        let mut taken = Vec::new();
        // The first one is for warming up.
        for time in 0..=effort.batches_of(shape) {
            let name = format!("{prefix}-{}-{}-{time}", shape.patients, shape.check_ins);
            let batch = site.batch(&name, shape);
            acknowledged(function.invoke(batch.registrations).await?.0.as_ref());
            let (answer, one) = function.invoke(batch.check_ins).await?;
            acknowledged(&answer);
            if time > 0 {
                taken.push(one);
            }
            site.is_applied(&batch.patients, shape.check_ins).await;
        }
        batches.push(BatchCost {
            shape,
            taken: Taken {
                cpu: mean(taken.iter().map(|taken| taken.cpu)),
                wall: median(&taken).wall,
            },
        });
    }
    let peak_memory = function.cost()?.peak_memory;
    function.end().await;
    Ok(ProjectorCost { batches, peak_memory })
}

/// How long after an append begins its check-in is in an answer, for each of so many: appended, read from the stream, projected and
/// queried, one after the other and without a pause, by the programs as they are deployed. On AWS the stream adds to that.
///
/// # Errors
/// [`MeasureError`]
pub(crate) async fn append_to_readable(
    site: &Site,
    projector: &Program,
    backend: &Program,
    times: usize,
) -> Result<Vec<Duration>, MeasureError> {
    let (mut projects, _) = Function::start(
        projector,
        &site.environment(projector, Connection::Tls)?,
        site.folder(),
    )
    .await?;
    let (mut answers, _) = Function::start(
        backend,
        &site.environment(backend, Connection::Tls)?,
        site.folder(),
    )
    .await?;
    let patient = "p-readable";
    let query = query_event_of(patient);
    let mut position = site.world.last_sequence_number();
    let mut taken = Vec::with_capacity(times);
    for minute in 0..=times {
        let began = Instant::now();
        if minute == 0 {
            site.world.register(patient).await;
        } else {
            site.world
                .check_in(patient, i64::try_from(minute).unwrap_or(i64::MAX))
                .await;
        }
        let records = site.world.stream(position.as_deref());
        let last = records
            .last()
            .and_then(|last| last.pointer("/dynamodb/SequenceNumber"));
        position = last.and_then(Value::as_str).map(str::to_owned);
        acknowledged(projects.invoke(stream_event(&records)).await?.0.as_ref());
        let (answer, _) = answers.invoke(query.clone()).await?;
        let version = format!("\"version\":{}", minute + 1);
        // The registration is no check-in, and warms up.
        if minute > 0 {
            assert!(body(&answer).contains(&version), "not readable: {version}");
            taken.push(began.elapsed());
        }
    }
    projects.end().await;
    answers.end().await;
    taken.sort();
    Ok(taken)
}

/// # Panics
/// A batch that was not applied whole says nothing about what applying costs.
pub(crate) fn acknowledged(answer: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let failures = answer.get("batchItemFailures").and_then(Value::as_array);
    assert!(failures.is_some_and(Vec::is_empty), "a batch failed: {answer}");
}

/// # Panics
/// An answer that is none says nothing about what answering costs.
pub(crate) fn succeeded(answer: &[u8]) {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let status = answer.get("statusCode").and_then(Value::as_u64);
    assert_eq!(status, Some(200), "{answer}");
}

fn body(answer: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let body = answer.get("body").and_then(Value::as_str);
    body.unwrap_or_default().to_owned()
}

/// The median of each.
fn median(taken: &[Taken]) -> Taken {
    Taken {
        cpu: middle(taken.iter().map(|taken| taken.cpu)),
        wall: middle(taken.iter().map(|taken| taken.wall)),
    }
}

fn middle(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn mean(times: impl ExactSizeIterator<Item = Duration>) -> Duration {
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    times.sum::<Duration>() / count
}
