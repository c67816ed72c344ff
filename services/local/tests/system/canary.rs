//! A name that may not get anywhere but into the two tables and the answers that are about patients. It goes through
//! every route and every failure that can be brought about from outside.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use embedded::{EVENT_TABLE, READ_MODEL_TABLE};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::system::{System, is_alive, local, never, wait_until};

/// In a form that fits into a name, an id, a path, a header, and a field of a log.
const CANARY: &str = "Canary-4711";

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The tables, for somebody with write access.
struct Tables {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Tables {
    fn of(system: &System) -> Tables {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Tables {
            client: embedded::client(&system.dynamodb),
            runtime: runtime.unwrap(),
        }
    }

    fn put(&self, table: &str, item: HashMap<String, AttributeValue>) {
        let put = self.client.put_item().table_name(table);
        self.runtime.block_on(put.set_item(Some(item)).send()).unwrap();
    }

    fn registration(&self, patient: &str) -> HashMap<String, AttributeValue> {
        let get = self.client.get_item().table_name(EVENT_TABLE);
        let get = get.key("patient_id", text(patient)).key("version", number(1));
        self.runtime.block_on(get.send()).unwrap().item.unwrap()
    }

    fn summary(&self, patient: &str) -> HashMap<String, AttributeValue> {
        let get = self.client.get_item().table_name(READ_MODEL_TABLE);
        let get = get
            .key("pk", text(&format!("g1#patient#{patient}")))
            .key("sk", text("summary"));
        self.runtime.block_on(get.send()).unwrap().item.unwrap()
    }

    fn drop(&self, table: &str) {
        let delete = self.client.delete_table().table_name(table);
        self.runtime.block_on(delete.send()).unwrap();
    }
}

fn queue_messages(system: &System, queue: &str) -> Vec<String> {
    let url = format!("{}/000000000000/{queue}", system.sqs);
    let request = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0 });
    let address = system.sqs.trim_start_matches("http://");
    let answer = http::post_json(address, "AmazonSQS.ReceiveMessage", &request.to_string());
    let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
    messages
        .iter()
        .map(|message| message["Body"].to_string())
        .collect()
}

/// The canary in every header that is read, and in some that are not.
fn headers() -> String {
    format!(
        "X-Correlation-Id: {CANARY}\r\nUser-Agent: {CANARY}\r\nIf-None-Match: \"{CANARY}\"\r\n\
         Authorization: {CANARY}\r\nX-Amzn-Trace-Id: {CANARY}\r\nContent-Type: {CANARY}\r\n\
         Origin: https://{CANARY}.example\r\nAccept-Encoding: {CANARY}\r\n"
    )
}

/// What has no business to name patients may not repeat the canary.
#[track_caller]
fn check(method: &str, path: &str, answer: &Answer) {
    let resource = path.split('?').next().unwrap();
    let is_of_patients = resource == "/patients" || resource.starts_with("/patients/");
    let is_about_patients = is_of_patients && answer.status == 200 && method == "GET";
    assert!(
        is_about_patients || !answer.body.contains(CANARY),
        "{method} {path}: {answer:?}"
    );
    // Headers get into the logs of whatever is in between, so no answer may have it there; not even as the correlation
    // id that the client itself has sent. That one is repeated only if it is a UUID, which has no place for a name.
    assert!(!answer.head.contains(CANARY), "{method} {path}: {answer:?}");
}

/// Where the page's own files are.
#[track_caller]
fn assets(system: &System) -> String {
    let page = system.get("/").body;
    let (_, rest) = page.split_once("\"assets/").unwrap();
    format!("/assets/{}", rest.split('/').next().unwrap())
}

/// Asks for everything, with the canary wherever a client can put it.
fn ask(system: &System) {
    let assets = assets(system);
    let paths = [
        "/patients".to_owned(),
        "/patients?sort=recent&limit=1".to_owned(),
        "/patients/p-1".to_owned(),
        "/patients/p-2/checkins?limit=1".to_owned(),
        "/patients/p-3".to_owned(),
        format!("/patients/{CANARY}"),
        format!("/patients/{CANARY}/checkins"),
        format!("/patients/{CANARY}%20Person"),
        format!("/{CANARY}"),
        format!("/patients/p-1/{CANARY}"),
        format!("/patients?limit={CANARY}"),
        format!("/patients?cursor={CANARY}"),
        format!("/patients?{CANARY}%20Person=1"),
        format!("/patients?{CANARY}=1"),
        format!("/patients/p-1?{CANARY}"),
        format!("/patients/p-1/checkins?limit=1&{CANARY}={CANARY}"),
        format!("/?{CANARY}={CANARY}"),
        format!("/patients/p-1/checkins?from={CANARY}&to={CANARY}"),
        format!("/patients/p-1?minVersion={CANARY}"),
        "/patients/p-1?minVersion=99999".to_owned(),
        "/health".to_owned(),
        format!("/health?{CANARY}%20Person"),
        format!("/health?{CANARY}"),
        format!("/openapi.json?{CANARY}=1"),
        "/openapi.json".to_owned(),
        format!("{assets}/app.js"),
        format!("{assets}/app.js?{CANARY}"),
        format!("{assets}/{CANARY}"),
        format!("/assets/{CANARY}/app.js"),
        "/pipeline".to_owned(),
        format!("/pipeline?{CANARY}={CANARY}"),
        format!("/pipeline/{CANARY}"),
        // What is no HTTP.
        format!("/{CANARY} {CANARY}"),
    ];
    for path in &paths {
        for method in ["GET", "HEAD", "OPTIONS", "POST", "DELETE", CANARY] {
            let body = if method == "POST" { CANARY } else { "" };
            let answer = http::request_with(&system.api, method, path, &headers(), body).unwrap();
            check(method, path, &answer);
        }
    }
}

/// Asks for what the gateway refuses before the function sees it.
fn ask_for_too_much(system: &System) {
    let path = format!("/patients/{CANARY}");
    // A body that is larger than what an invocation can take; and one that gets as large in JSON.
    let mut too_large = CANARY.repeat(http::TOO_LARGE.div_ceil(CANARY.len()));
    too_large.truncate(http::TOO_LARGE);
    let too_large_in_json = format!("{CANARY}{}", "\"".repeat(4 * 1024 * 1024));
    for body in [too_large, too_large_in_json] {
        let answer = http::request_with(&system.api, "POST", &path, &headers(), &body).unwrap();
        assert_eq!(answer.status, 413, "{answer:?}");
        check("POST", &path, &answer);
    }
}

/// Asks while the function is cut off, until the gateway has to answer in its place.
fn ask_in_vain(system: &System) {
    let path = format!("/patients/{CANARY}");
    wait_until("a request was cut off", || {
        wait_until("both backends are there", || {
            system.processes("backend").len() == 2
        });
        system.hold("backend");
        let request = http::send_with(&system.api, "GET", &path, &headers(), CANARY).unwrap();
        // However short this is: if it was too short, the request is answered by the next backend.
        assert!(!request.is_answered_within(Duration::from_millis(100)));
        let killed = system.processes("backend");
        system.signal("backend", Signal::KILL);
        wait_until("they have ended", || {
            !killed.iter().any(|process| is_alive(*process))
        });
        let answer = request.answer().unwrap();
        check("GET", &path, &answer);
        answer.status == 500
    });
}

#[test]
fn a_patients_name_is_in_no_log_no_error_no_metric_and_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().join("roster.json");
    let people: Vec<Value> = (1..=5)
        .map(|n| json!({ "id": format!("p-{n}"), "name": format!("{CANARY} {n}"), "ward": CANARY }))
        .collect();
    std::fs::write(&roster, json!(people).to_string()).unwrap();
    let data = folder.path().join("data");
    let arguments = [
        "--every",
        "50ms",
        "--reconcile-every",
        "300ms",
        "--checkins-per-tick",
        "2",
    ];
    let files = [
        "--roster",
        roster.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let mut system = System::start(&[&arguments[..], &files[..]].concat());
    assert!(
        system.get("/patients").body.contains(CANARY),
        "it is where it belongs"
    );
    ask(&system);

    // Events that can't be applied: of another type, of another form, and of nobody.
    let tables = Tables::of(&system);
    let mut foreign = tables.registration("p-1");
    foreign.insert("version".to_owned(), number(10_001));
    foreign.insert("event_type".to_owned(), text(CANARY));
    tables.put(EVENT_TABLE, foreign);
    let mut misshapen = tables.registration("p-2");
    let data_of = AttributeValue::M([("name".to_owned(), AttributeValue::L(vec![text(CANARY)]))].into());
    for (patient, attribute, value) in [
        ("x-1", "data", data_of.clone()),
        ("x-2", "event_type", text(CANARY)),
        ("x-3", "occurred_at", text(CANARY)),
        ("x-4", "schema_version", text(CANARY)),
        ("x-5", "recorded_at", text(CANARY)),
        ("x-6", "hash", text(CANARY)),
    ] {
        misshapen.insert("patient_id".to_owned(), text(patient));
        let mut event = misshapen.clone();
        event.insert(attribute.to_owned(), value);
        tables.put(EVENT_TABLE, event);
    }
    misshapen.insert("patient_id".to_owned(), text(&format!("{CANARY} Person")));
    tables.put(EVENT_TABLE, misshapen);
    wait_until("they are reported", || {
        queue_messages(&system, local::QUARANTINE_QUEUE).len() >= 6
    });
    ask(&system);

    // An event that somebody changes.
    let mut changed = tables.registration("p-4");
    changed.insert("data".to_owned(), data_of);
    tables.put(EVENT_TABLE, changed);
    wait_until("the change is reported", || {
        let log = system.log_of("projector");
        log.iter().any(|line| !line["integrity_violation"].is_null())
    });

    // Redelivery, to functions that are cut off in the middle.
    for function in ["projector", "backend", "reconciler", "checkin"] {
        system.signal(function, Signal::KILL);
    }
    wait_until("the API is back", || system.get("/health").status == 200);
    ask(&system);
    ask_for_too_much(&system);
    ask_in_vain(&system);

    // A read model that somebody edits: what can't be decoded is quoted nowhere.
    let mut edited = tables.summary("p-3");
    edited.insert("checkin_count".to_owned(), text(CANARY));
    edited.insert("applied".to_owned(), text(CANARY));
    tables.put(READ_MODEL_TABLE, edited);
    let row =
        ["pk", "sk", "checkin_id", "occurred_at", "version"].map(|name| (name.to_owned(), text(CANARY)));
    let mut row = HashMap::from(row);
    row.insert("pk".to_owned(), text("g1#patient#p-5"));
    row.insert(
        "sk".to_owned(),
        text(&format!("checkin#9999-12-31T00:00:00.000Z#{CANARY}")),
    );
    tables.put(READ_MODEL_TABLE, row);
    assert_eq!(system.get("/patients/p-5/checkins").status, 503);
    ask(&system);

    // Tables that can't be reached.
    tables.drop(READ_MODEL_TABLE);
    wait_until("the projection fails", || {
        let log = system.log_of("projector");
        log.iter()
            .any(|line| line["level"] == "ERROR" && line["message"] == "the control item cannot be read")
    });
    ask(&system);
    tables.drop(EVENT_TABLE);
    wait_until("the producer fails", || {
        let log = system.log_of("checkin");
        log.iter().any(|line| line["message"] == "not appended")
    });

    let mut told: Vec<(String, String)> = Vec::new();
    for queue in [local::QUARANTINE_QUEUE, local::STREAM_FAILURE_QUEUE] {
        told.push((queue.to_owned(), queue_messages(&system, queue).concat()));
    }
    told.push(("status line".to_owned(), system.status()));
    system.end(Signal::INT);
    for log in std::fs::read_dir(data.join("logs")).unwrap() {
        let log = log.unwrap().path();
        let text = std::fs::read_to_string(&log).unwrap();
        told.push((log.display().to_string(), text));
    }
    // Logs of all four functions and of local itself; with metrics among them.
    assert!(told.len() >= 8, "{}", told.len());
    assert!(told.iter().any(|(_, text)| text.contains("CloudWatchMetrics")));
    for (place, text) in told {
        let hit = text.lines().find(|line| line.contains(CANARY));
        assert_eq!(hit, None, "in {place}");
    }
}

/// An event type is a text that whoever can write events is free to choose. In a busy system, the event is soon no
/// longer among the last ones.
#[test]
fn a_pipeline_in_which_nothing_happens_does_not_repeat_an_event_type_that_nobody_knows() {
    let system = System::start(&["--every", never(), "--reconcile-every", never()]);
    let tables = Tables::of(&system);
    let mut foreign = tables.registration("p-001");
    foreign.insert("version".to_owned(), number(2));
    foreign.insert("event_type".to_owned(), text(CANARY));
    tables.put(EVENT_TABLE, foreign);
    let mut answer = system.get("/pipeline");
    wait_until("it is among the last ones", || {
        answer = system.get("/pipeline");
        answer.json()["events"][0]["version"] == 2
    });
    check("GET", "/pipeline", &answer);
    assert!(answer.json()["events"][0]["type"].is_null(), "{answer:?}");
}

#[test]
fn a_roster_that_is_wrong_is_refused_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().join("roster.json");
    let twice = json!({ "id": "p-1", "name": CANARY });
    let of_fhir =
        json!({ "resourceType": "Patient", "id": "p-1", "active": CANARY, "name": [{ "text": CANARY }] });
    for text in [
        json!([twice, twice]).to_string(),
        json!([{ "id": CANARY, "name": [CANARY] }])
            .to_string()
            .replace("Canary-4711\",", "Canary 4711\","),
        of_fhir.to_string(),
        format!("{{\"resourceType\":\"Patient\"}}\n{{\"{CANARY}\""),
    ] {
        std::fs::write(&roster, text).unwrap();
        let refused = local(&["--port", "0", "--roster", roster.to_str().unwrap()])
            .output()
            .unwrap();
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && errors.contains("of the roster"),
            "{errors}"
        );
        assert!(!errors.contains("Canary"), "{errors}");
    }
}
