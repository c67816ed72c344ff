//! What DynamoDB leaves unprocessed of a batch is asked for again.
//!
//! The embedded DynamoDB processes every batch whole. So a proxy stands before it that passes on only the first
//! few entries of a batch, and answers as DynamoDB does when it is short of capacity.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "functions that tests share are tests too"
)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use domain::{CheckinId, CheckinRow, Generation, PatientId, PatientState, StreamVersion, Timestamp};
use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};
use projection::{PatientRow, ProjectionStore as _, ProjectionTable};
use read_model::{Consistency, ReadModelStore as _, ReadModelTable, RowRange};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const GENERATION: Generation = Generation::FIRST;
const BATCH: usize = 5;
const ALL: usize = usize::MAX;

/// How many entries of the batch with this number, from 0 on, are processed.
type Capacity = fn(usize) -> usize;

/// A DynamoDB that is short of capacity.
struct Throttled {
    url: String,
    seen: Arc<Seen>,
    server: JoinHandle<()>,
}

struct Seen {
    /// The real one: `127.0.0.1:PORT`.
    upstream: String,
    capacity: Capacity,
    /// The batches so far, as they were asked for.
    batches: Mutex<Vec<Value>>,
}

impl Throttled {
    async fn before(dynamodb: &EmbeddedDynamoDb, capacity: Capacity) -> Throttled {
        let url = dynamodb.endpoint_url();
        let seen = Arc::new(Seen {
            upstream: url.strip_prefix("http://").unwrap().to_owned(),
            capacity,
            batches: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Throttled { url, seen, server }
    }

    fn client(&self) -> aws_sdk_dynamodb::Client {
        embedded::client(&self.url)
    }

    /// How many entries each batch had, in the order in which they were asked for.
    fn sizes(&self) -> Vec<usize> {
        let batches = self.seen.batches.lock().unwrap();
        batches.iter().map(|batch| entries(batch).len()).collect()
    }

    /// Each batch has to be the rest of the one before, as it was, without what was processed.
    #[track_caller]
    fn check_only_the_rest_is_asked_for_again(&self) {
        let batches = self.seen.batches.lock().unwrap();
        for (number, pair) in batches.windows(2).enumerate() {
            let processed = (self.seen.capacity)(number);
            assert_eq!(pair[1], split(&pair[0], processed).1, "after batch {number}");
        }
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> String {
    let target = headers["x-amz-target"].to_str().unwrap();
    let left = match target {
        "DynamoDB_20120810.BatchWriteItem" => "UnprocessedItems",
        "DynamoDB_20120810.BatchGetItem" => "UnprocessedKeys",
        _ => return forward(&seen.upstream, target, &body).await,
    };
    let request: Value = serde_json::from_slice(&body).unwrap();
    let wanted = &request["RequestItems"][READ_MODEL_TABLE];
    let number = {
        let mut batches = seen.batches.lock().unwrap();
        batches.push(wanted.clone());
        batches.len() - 1
    };
    let (part, rest) = split(wanted, (seen.capacity)(number));
    // DynamoDB takes no empty batch.
    let mut answer: Value = if entries(&part).is_empty() {
        json!({ "Responses": {} })
    } else {
        let body = json!({"RequestItems": by_table(part)}).to_string();
        serde_json::from_str(&forward(&seen.upstream, target, body.as_bytes()).await).unwrap()
    };
    answer[left] = if entries(&rest).is_empty() {
        json!({})
    } else {
        by_table(rest)
    };
    answer.to_string()
}

fn by_table(batch: Value) -> Value {
    Value::Object(Map::from_iter([(READ_MODEL_TABLE.to_owned(), batch)]))
}

/// The entries of a batch: what to write, or the keys of what to get.
fn entries(batch: &Value) -> &Vec<Value> {
    batch.get("Keys").unwrap_or(batch).as_array().unwrap()
}

/// The first `count` entries, and the others; whatever else there is in the batch, both keep.
fn split(batch: &Value, count: usize) -> (Value, Value) {
    let entries = entries(batch);
    let (part, rest) = entries.split_at(count.min(entries.len()));
    let with = |entries: &[Value]| {
        if batch.is_array() {
            return json!(entries);
        }
        let mut batch = batch.clone();
        batch["Keys"] = json!(entries);
        batch
    };
    (with(part), with(rest))
}

/// The body of the answer from `upstream`.
async fn forward(upstream: &str, target: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(upstream).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {upstream}\r\nconnection: close\r\ncontent-length: {length}\r\n\
         content-type: application/x-amz-json-1.0\r\nx-amz-target: {target}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=local/20261124/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=host, Signature=0\r\nx-amz-date: 20261124T120000Z\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

fn patients() -> Vec<PatientId> {
    (1..=BATCH)
        .map(|number| format!("p-{number}").parse().unwrap())
        .collect()
}

fn row(patient: &PatientId) -> CheckinRow {
    CheckinRow {
        checkin_id: CheckinId::derive(&["test", patient.as_str()]),
        occurred_at: Timestamp::from_unix_millis(1_764_000_000_000).unwrap(),
        version: StreamVersion::new(2),
    }
}

fn state(applied: usize) -> PatientState {
    PatientState {
        applied: StreamVersion::new(u64::try_from(applied).unwrap()),
        ..PatientState::default()
    }
}

/// Puts [`BATCH`] rows. `sizes` are those of the batches that it takes; `None` if it has to fail.
async fn check_put_rows(capacity: Capacity, sizes: Option<&[usize]>) {
    let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
    let throttled = Throttled::before(&dynamodb, capacity).await;
    let table = ProjectionTable::new(throttled.client(), READ_MODEL_TABLE);
    let rows: Vec<PatientRow> = patients()
        .into_iter()
        .map(|patient_id| PatientRow {
            row: row(&patient_id),
            patient_id,
        })
        .collect();

    let result = table.put_rows(GENERATION, &rows).await;

    assert_eq!(result.is_ok(), sizes.is_some());
    check_batches(&throttled, sizes);
    let reader = ReadModelTable::new(dynamodb.client(), READ_MODEL_TABLE);
    for PatientRow { patient_id, row } in rows {
        let found = reader
            .rows(GENERATION, &patient_id, RowRange::default(), 10)
            .await
            .unwrap();
        let wanted = if result.is_ok() { vec![row] } else { Vec::new() };
        assert_eq!(found.items, wanted, "{patient_id}");
    }
}

/// Reads [`BATCH`] states. `sizes` as above.
async fn check_states(capacity: Capacity, sizes: Option<&[usize]>) {
    let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
    let writer = ProjectionTable::new(dynamodb.client(), READ_MODEL_TABLE);
    let mut there = Vec::new();
    for (index, patient) in patients().iter().enumerate() {
        let state = state(index + 1);
        writer
            .put_state(GENERATION, patient, StreamVersion::EMPTY, &state)
            .await
            .unwrap();
        there.push(Ok(Some(state)));
    }
    let throttled = Throttled::before(&dynamodb, capacity).await;
    let table = ReadModelTable::new(throttled.client(), READ_MODEL_TABLE);

    let result = table.states(GENERATION, &patients(), Consistency::Strong).await;

    check_batches(&throttled, sizes);
    assert_eq!(result.ok(), sizes.map(|_| there));
    // What is asked for again is still asked for consistently.
    let batches = throttled.seen.batches.lock().unwrap();
    assert!(batches.iter().all(|batch| batch["ConsistentRead"] == true));
}

#[track_caller]
fn check_batches(throttled: &Throttled, sizes: Option<&[usize]>) {
    throttled.check_only_the_rest_is_asked_for_again();
    let asked = throttled.sizes();
    match sizes {
        Some(sizes) => assert_eq!(asked, sizes),
        None => assert!(asked.len() > 1, "asked only once"),
    }
}

#[tokio::test]
async fn a_batch_that_is_processed_whole_is_sent_once() {
    check_put_rows(|_| ALL, Some(&[5])).await;
    check_states(|_| ALL, Some(&[5])).await;
}

#[tokio::test]
async fn rows_left_unprocessed_are_put_again() {
    let second_whole: Capacity = |batch| if batch == 0 { 2 } else { ALL };
    check_put_rows(second_whole, Some(&[5, 3])).await;
    check_put_rows(|batch| batch.min(2), Some(&[5, 5, 4, 2])).await;
}

#[tokio::test]
async fn keys_left_unprocessed_are_asked_for_again() {
    let second_whole: Capacity = |batch| if batch == 0 { 2 } else { ALL };
    check_states(second_whole, Some(&[5, 3])).await;
    check_states(|batch| batch.min(2), Some(&[5, 5, 4, 2])).await;
}

#[tokio::test]
async fn rows_that_stay_unprocessed_are_a_failure() {
    check_put_rows(|_| 0, None).await;
}

#[tokio::test]
async fn keys_that_stay_unprocessed_are_a_failure() {
    check_states(|_| 0, None).await;
}
