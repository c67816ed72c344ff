//! What a request leaves in the log.
//!
//! A test binary of its own, with one test: which log lines are wanted is a matter of the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io;
use std::sync::{Arc, Mutex};

use backend::Backend;
use domain::{Generation, Patient, PatientId, PatientState, StreamVersion, Timestamp};
use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};
use read_model::item::{CONTROL, PK, SK, SummaryItem};
use read_model::{Control, CursorKey, ReadModelTable};
use serde::Serialize;
use serde_dynamo::{AttributeValue, Item};
use serde_json::{Value, json};

/// A name that may not get into the log, nor may the ids of patients.
const CANARY: &str = "Canary";
const ID: &str = "p-4711";
/// What the client calls the request, if it does, and what the gateway does.
const SENT: &str = "11111111-2222-3333-4444-555555555555";
const REQUEST_ID: &str = "0f9e8d7c-6b5a-4f3e-9d2c-1b0a99887766";

#[tokio::test]
async fn a_request_is_one_line_in_the_log_that_names_no_patient() {
    let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
    let put = async |item: Item| {
        let put = dynamodb.client().put_item().table_name(READ_MODEL_TABLE);
        put.set_item(Some(item.into())).send().await.unwrap();
    };
    put(control()).await;
    put(patient(ID)).await;
    // A patient whose summary can't be decoded: the name is where a number should be.
    let mut broken = patient("p-4712");
    broken.insert("checkin_count".to_owned(), AttributeValue::S(CANARY.to_owned()));
    put(broken).await;
    let table = ReadModelTable::new(dynamodb.client(), READ_MODEL_TABLE);
    let backend = Backend::new(table, || Timestamp::EARLIEST, None);

    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(log.clone()).finish());
    let asked = [
        ("GET", "/patients/p-4711", "/patients/{id}", 200, SENT),
        (
            "GET",
            "/patients/p-4711/checkins",
            "/patients/{id}/checkins",
            200,
            SENT,
        ),
        ("GET", "/health", "/health", 200, CANARY),
        ("GET", "/patients/Canary%20p-4711", "/patients/{id}", 404, ID),
        ("GET", "/p-4711/Canary", "none", 404, SENT),
        ("POST", "/patients/p-4711", "/patients/{id}", 405, SENT),
        (CANARY, "/patients", "/patients", 405, SENT),
        ("GET", "/patients", "/patients", 200, SENT),
        ("GET", "/patients/p-4712", "/patients/{id}", 503, SENT),
    ];
    for (method, path, _, status, correlation_id) in asked {
        let mut event: Value = serde_json::from_str(include_str!("api/events/get_patients.json")).unwrap();
        event["httpMethod"] = json!(method);
        event["path"] = json!(path);
        event["multiValueHeaders"]["X-Correlation-Id"] = json!([correlation_id]);
        event["multiValueQueryStringParameters"] = json!(null);
        event["queryStringParameters"] = json!(null);
        let request = serde_json::from_value(event).unwrap();
        assert_eq!(backend.handle(&request).await.status_code, status, "{path}");
    }
    drop(guard);

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains(CANARY) && !text.contains("p-471"), "{text}");
    let (lines, others): (Vec<Value>, Vec<Value>) = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .partition(|line| line["method"].is_string());
    // The list goes without the broken one, and says so here.
    let spans = others[0]["spans"].clone();
    let others: Vec<&Value> = others.iter().map(|line| &line["message"]).collect();
    assert_eq!(
        others,
        ["a patient is not listed: the stored summary is malformed"]
    );
    assert_eq!(spans[0]["correlation_id"], SENT);
    assert_eq!(lines.len(), asked.len(), "{text}");
    for (line, (method, _, route, status, correlation_id)) in lines.iter().zip(asked) {
        assert_eq!(line["method"], if method == CANARY { "other" } else { method });
        assert_eq!(line["route"], route);
        assert_eq!(line["status"], status);
        assert_eq!(line["request_id"], REQUEST_ID);
        // In the span, so that every line about the request has it.
        let known = if correlation_id == SENT { SENT } else { REQUEST_ID };
        assert_eq!(line["spans"][0]["correlation_id"], known);
        // What the client is not told is here.
        let error = line["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains("malformed"), status == 503, "{line}");
    }
}

fn control() -> Item {
    let control = Control {
        active: Generation::FIRST,
        active_since: None,
        building: None,
        building_since: None,
        building_software: None,
        brings_back: false,
        previous: None,
        latest: Generation::FIRST,
        changes: 0,
        cursor_key: CursorKey::new([7; 32]),
    };
    let mut item = item(control);
    for key in [PK, SK] {
        item.insert(key.to_owned(), AttributeValue::S(CONTROL.to_owned()));
    }
    item
}

fn patient(id: &str) -> Item {
    let id: PatientId = id.parse().unwrap();
    let state = PatientState {
        applied: StreamVersion::FIRST,
        history: None,
        patient: Some(Patient {
            name: CANARY.parse().unwrap(),
            registered_at: Timestamp::from_unix_millis(0).unwrap(),
            checkin_count: 0,
            last_checkin_at: None,
        }),
        quarantine: None,
    };
    item(SummaryItem::new(Generation::FIRST, &id, &state))
}

fn item(content: impl Serialize) -> Item {
    serde_dynamo::to_item(content).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
