//! What calls to DynamoDB consume, whoever makes them: an endpoint before the embedded one that has each call say so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What some calls consumed.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Consumed {
    /// How many calls there were.
    pub(crate) calls: u32,
    /// How many of them failed: what these consumed is not known.
    pub(crate) failed: u32,
    /// Read units of each table and index, by its name.
    pub(crate) reads: BTreeMap<String, f64>,
    /// Write units of each table and index, by its name.
    pub(crate) writes: BTreeMap<String, f64>,
}

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct CapacityMeter {
    address: SocketAddr,
    consumed: Arc<Mutex<Consumed>>,
    server: JoinHandle<()>,
}

impl CapacityMeter {
    /// Starts one that passes everything on to `to`, an address with a port.
    ///
    /// # Errors
    /// There is no port.
    pub(crate) async fn before(to: &str) -> std::io::Result<CapacityMeter> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let consumed = Arc::<Mutex<Consumed>>::default();
        let way = Way {
            to: to.into(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            consumed: consumed.clone(),
        };
        let routes = Router::new()
            .fallback(pass_on)
            .layer(DefaultBodyLimit::disable())
            .with_state(way);
        let server = tokio::spawn(async move {
            // It only ends with the task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(CapacityMeter {
            address,
            consumed,
            server,
        })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was consumed since this was asked last.
    #[must_use]
    pub(crate) fn take(&self) -> Consumed {
        std::mem::take(&mut self.consumed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for CapacityMeter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Way {
    to: Arc<str>,
    client: Client<HttpConnector, Body>,
    consumed: Arc<Mutex<Consumed>>,
}

/// What an operation consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Nothing,
}

impl Kind {
    /// Of an operation that a program here calls; what else there is would go uncounted.
    fn of(operation: &str) -> Option<Kind> {
        match operation {
            "GetItem" | "BatchGetItem" | "Query" | "Scan" => Some(Kind::Read),
            "PutItem" | "BatchWriteItem" | "BatchExecuteStatement" | "TransactWriteItems" => {
                Some(Kind::Write)
            }
            "CreateTable" | "DescribeTable" => Some(Kind::Nothing),
            _ => None,
        }
    }
}

/// `ConsumedCapacity` of one table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Capacity {
    table_name: String,
    capacity_units: f64,
    table: Units,
    #[serde(default)]
    global_secondary_indexes: BTreeMap<String, Units>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Units {
    capacity_units: f64,
}

impl Capacity {
    /// Whether all of it is of the table or of an index. (A statement that was refused is not.)
    fn adds_up(&self) -> bool {
        let indexes = self.global_secondary_indexes.values();
        let told = indexes.fold(self.table.capacity_units, |sum, units| sum + units.capacity_units);
        (told - self.capacity_units).abs() < 0.01
    }
}

impl Consumed {
    /// All read units.
    #[must_use]
    pub(crate) fn read_units(&self) -> f64 {
        sum(&self.reads)
    }

    /// All write units.
    #[must_use]
    pub(crate) fn write_units(&self) -> f64 {
        sum(&self.writes)
    }

    /// Adds a call that says what it consumed, in each table.
    fn add(&mut self, kind: Kind, capacities: Vec<Capacity>) {
        self.calls += 1;
        let units = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
            Kind::Nothing => return,
        };
        for capacity in capacities {
            let table = (capacity.table_name, capacity.table);
            for (name, spent) in capacity.global_secondary_indexes.into_iter().chain([table]) {
                if spent.capacity_units > 0.0 {
                    *units.entry(name).or_default() += spent.capacity_units;
                }
            }
        }
    }
}

/// (The standard library's sum of nothing is -0.)
fn sum(units: &BTreeMap<String, f64>) -> f64 {
    units.values().fold(0.0, |sum, units| sum + units)
}

/// Has the call say what it consumes, and keeps that. What can't be counted is refused: whoever called fails, and nothing looks
/// cheaper than it is.
async fn pass_on(State(way): State<Way>, request: Request) -> Response {
    let operation = operation(request.headers());
    let Some(kind) = Kind::of(&operation) else {
        return refused(&format!("{operation} is not counted"));
    };
    match metered(&way, kind, &operation, request).await {
        Ok(answer) => answer,
        Err(error) => refused(&error),
    }
}

async fn metered(way: &Way, kind: Kind, operation: &str, request: Request) -> Result<Response, String> {
    let (mut head, body) = request.into_parts();
    let mut body = whole(body).await?;
    if kind != Kind::Nothing {
        let mut input: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if let Some(input) = input.as_object_mut() {
            input.insert("ReturnConsumedCapacity".to_owned(), "INDEXES".into());
        }
        body = input.to_string().into();
    }
    head.uri = format!("http://{}/", way.to)
        .parse()
        .map_err(|error| format!("no address: {error}"))?;
    // Both are of the request as it came.
    head.headers.remove(header::HOST);
    head.headers.remove(header::CONTENT_LENGTH);
    let answer = way
        .client
        .request(Request::from_parts(head, Body::from(body)))
        .await
        .map_err(|error| error.to_string())?;
    let (head, body) = answer.into_parts();
    let body = whole(Body::new(body)).await?;
    let capacities = match kind {
        Kind::Read | Kind::Write if head.status == StatusCode::OK => capacities(&body)
            .filter(|capacities| !capacities.is_empty() && capacities.iter().all(Capacity::adds_up))
            .ok_or_else(|| format!("{operation} does not say what it consumed"))?,
        Kind::Read | Kind::Write | Kind::Nothing => Vec::new(),
    };
    let mut consumed = way.consumed.lock().unwrap_or_else(PoisonError::into_inner);
    consumed.failed += u32::from(head.status != StatusCode::OK);
    consumed.add(kind, capacities);
    drop(consumed);
    Ok(Response::from_parts(head, Body::from(body)))
}

async fn whole(body: Body) -> Result<Bytes, String> {
    to_bytes(body, usize::MAX)
        .await
        .map_err(|error| error.to_string())
}

/// The name without the version of the API: `DynamoDB_20120810.GetItem`.
fn operation(headers: &HeaderMap) -> String {
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok());
    let name = target.and_then(|target| target.rsplit('.').next());
    name.unwrap_or("a call without a name").to_owned()
}

/// Of an answer: of one table, or of each.
fn capacities(answer: &[u8]) -> Option<Vec<Capacity>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let capacity = answer.get("ConsumedCapacity")?.clone();
    if capacity.is_array() {
        return serde_json::from_value(capacity).ok();
    }
    Some(vec![serde_json::from_value(capacity).ok()?])
}

fn refused(why: &str) -> Response {
    // Not one of those that the SDK repeats.
    (StatusCode::BAD_REQUEST, format!("the benchmark: {why}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: Option<&[(&str, f64)]>) {
        let found = capacities(answer.as_bytes()).map(|capacities| {
            let mut consumed = Consumed::default();
            consumed.add(Kind::Write, capacities);
            consumed.writes
        });
        let expected = expected.map(|all| {
            all.iter()
                .map(|(name, units)| ((*name).to_owned(), *units))
                .collect()
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn every_table_and_every_index_counts() {
        check(
            r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.0,"Table":{"CapacityUnits":1.0}}}"#,
            Some(&[("t", 1.0)]),
        );
        check(
            r#"{"ConsumedCapacity":[
                {"TableName":"t","CapacityUnits":3.0,"Table":{"CapacityUnits":1.0},
                 "GlobalSecondaryIndexes":{"i":{"CapacityUnits":2.0},"j":{"CapacityUnits":0.0}}},
                {"TableName":"u","CapacityUnits":1.5,"Table":{"CapacityUnits":1.5}}]}"#,
            Some(&[("i", 2.0), ("t", 1.0), ("u", 1.5)]),
        );
    }

    #[test]
    fn an_answer_that_does_not_say_is_not_taken_for_a_cheap_one() {
        check("{}", None);
        check(
            r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1.0}}"#,
            None,
        );
    }

    #[test]
    fn what_is_of_no_table_is_noticed() {
        let answer =
            r#"{"ConsumedCapacity":{"TableName":"t","CapacityUnits":2.0,"Table":{"CapacityUnits":1.0}}}"#;
        assert!(!capacities(answer.as_bytes()).unwrap()[0].adds_up());
    }

    #[test]
    fn what_is_not_known_is_not_counted_as_nothing() {
        assert_eq!(Kind::of("UpdateItem"), None);
        assert_eq!(Kind::of("Query"), Some(Kind::Read));
    }
}
