//! The producer, against the embedded DynamoDB.
#![allow(clippy::unwrap_used, reason = "functions that tests share are tests too")]

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use aws_sdk_dynamodb::types::AttributeValue;
use checkin::{Checkin, CheckinError, Roster, Summary};
use domain::{Event, PatientId, RecordedEvent, StoredEvent, StreamVersion, Timestamp};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb};
use event_log::{EventLog as _, EventTable, LogUnavailable};
use event_store::{AppendLog, EventStore, InsertError, TailEntry};
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use testbed::Meter;

const RULE: &str = "arn:aws:events:us-east-1:123456789012:rule/tick";

fn now() -> Timestamp {
    "2026-11-24T12:00:00.250Z".parse().unwrap()
}

fn later() -> Timestamp {
    "2026-11-25T12:00:00.000Z".parse().unwrap()
}

/// The scheduled event of this minute before [`now`].
fn tick(minutes_before: u8) -> Value {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": format!("2026-11-24T11:{:02}:00Z", 60 - minutes_before),
        "region": "us-east-1",
        "resources": [RULE],
        "detail": {}
    })
}

fn register_roster() -> Value {
    json!({"command": "register-roster"})
}

fn done(appended: usize, already: usize) -> Summary {
    Summary { appended, already }
}

/// An event table, and the producers of it.
struct System {
    dynamodb: EmbeddedDynamoDb,
    roster: Roster,
}

impl System {
    async fn start(roster: Roster) -> System {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        System { dynamodb, roster }
    }

    fn store(&self) -> EventStore {
        EventStore::new(self.dynamodb.client(), EVENT_TABLE)
    }

    fn checkin(&self, checkins_per_tick: u16) -> Checkin<EventStore> {
        self.checkin_at(checkins_per_tick, now)
    }

    fn checkin_at(&self, checkins_per_tick: u16, clock: fn() -> Timestamp) -> Checkin<EventStore> {
        let count = NonZeroU16::new(checkins_per_tick).unwrap();
        Checkin::new(self.store(), self.roster.clone(), count, clock)
    }

    /// Every stream of the roster that has events.
    async fn streams(&self) -> BTreeMap<PatientId, Vec<RecordedEvent>> {
        let table = EventTable::new(self.dynamodb.client(), EVENT_TABLE);
        let mut streams = BTreeMap::new();
        for entry in self.roster.entries() {
            let entries = table.read(&entry.id, StreamVersion::EMPTY, 1_000).await.unwrap();
            if !entries.is_empty() {
                let events = entries
                    .into_iter()
                    .map(|entry| entry.decode().event.unwrap())
                    .collect();
                streams.insert(entry.id.clone(), events);
            }
        }
        streams
    }

    async fn stored(&self) -> Vec<StoredEvent> {
        let answer = self
            .dynamodb
            .client()
            .scan()
            .table_name(EVENT_TABLE)
            .send()
            .await
            .unwrap();
        serde_dynamo::from_items(answer.items.unwrap()).unwrap()
    }
}

fn two_patients() -> Roster {
    Roster::parse(r#"[{"id":"p-001","name":"Ada Example"},{"id":"p-002","name":"Ben Sample"}]"#).unwrap()
}

#[tokio::test]
async fn registering_the_roster_twice_registers_everybody_once() {
    let system = System::start(Roster::built_in().unwrap()).await;
    let checkin = system.checkin(1);
    assert_eq!(
        checkin.handle(register_roster(), "a").await.unwrap().summary,
        done(50, 0)
    );
    assert_eq!(
        checkin.handle(register_roster(), "b").await.unwrap().summary,
        done(0, 50)
    );
    let streams = system.streams().await;
    assert_eq!(streams.len(), 50);
    for entry in system.roster.entries() {
        let [registered] = streams[&entry.id].as_slice() else {
            panic!("one event of {}", entry.id)
        };
        let Event::PatientRegistered(body) = &registered.event else {
            panic!("a registration of {}", entry.id)
        };
        assert_eq!(body.name, entry.name);
        assert_eq!(registered.occurred_at, now());
    }
}

#[tokio::test]
async fn registering_at_once_with_ticks_registers_everybody_once() {
    let system = System::start(two_patients()).await;
    let checkin = system.checkin(2);
    let requests = [register_roster(), tick(1), register_roster(), tick(2), tick(1)];
    let outcomes = futures::future::join_all(requests.map(|request| checkin.handle(request, "a"))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for (patient, events) in system.streams().await {
        let registrations = events
            .iter()
            .filter(|event| matches!(event.event, Event::PatientRegistered(_)))
            .count();
        assert!(
            matches!(events[0].event, Event::PatientRegistered(_)),
            "{patient}"
        );
        assert_eq!((registrations, events.len()), (1, 3), "{patient}");
    }
}

#[tokio::test]
async fn the_same_tick_five_times_at_once_is_one_check_in() {
    let system = System::start(Roster::built_in().unwrap()).await;
    let checkin = system.checkin(1);
    checkin.handle(register_roster(), "a").await.unwrap();
    let outcomes = futures::future::join_all((0..5).map(|_| checkin.handle(tick(1), "b"))).await;
    let outcomes: Vec<Summary> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().summary)
        .collect();
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == done(1, 0)).count(),
        1
    );
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == done(0, 1)).count(),
        4
    );
    assert_eq!(system.stored().await.len(), 51);
}

#[tokio::test]
async fn a_tick_repeated_a_day_later_repeats_nothing() {
    let system = System::start(two_patients()).await;
    let checkin = system.checkin(2);
    checkin.handle(register_roster(), "a").await.unwrap();
    for minutes_before in (1..=20).rev() {
        assert_eq!(
            checkin.handle(tick(minutes_before), "b").await.unwrap().summary,
            done(2, 0)
        );
    }
    let before = system.streams().await;
    let next_day = system.checkin_at(2, later);
    for minutes_before in [20, 7, 1] {
        assert_eq!(
            next_day.handle(tick(minutes_before), "c").await.unwrap().summary,
            done(0, 2)
        );
    }
    assert_eq!(system.streams().await, before);
}

#[tokio::test]
async fn a_tick_registers_whom_nobody_has_registered() {
    let system = System::start(two_patients()).await;
    let checkin = system.checkin(2);
    assert_eq!(checkin.handle(tick(1), "a").await.unwrap().summary, done(4, 0));
    assert_eq!(checkin.handle(tick(1), "a").await.unwrap().summary, done(0, 2));
    assert_eq!(
        checkin.handle(register_roster(), "b").await.unwrap().summary,
        done(0, 2)
    );
    for (patient, events) in system.streams().await {
        let types: Vec<&str> = events.iter().map(|event| event.event.event_type()).collect();
        assert_eq!(types, ["PatientRegistered", "PatientCheckedIn"], "{patient}");
        assert!(events[0].occurred_at <= events[1].occurred_at, "{patient}");
    }
}

#[tokio::test]
async fn a_tick_checks_in_no_more_patients_than_there_are() {
    let system = System::start(two_patients()).await;
    assert_eq!(
        system.checkin(1_000).handle(tick(1), "a").await.unwrap().summary,
        done(4, 0)
    );
}

#[tokio::test]
async fn the_events_of_one_tick_belong_together() {
    let system = System::start(two_patients()).await;
    system.checkin(2).handle(tick(1), "a").await.unwrap();
    let expected = checkin::Tick {
        rule: RULE.to_owned(),
        time: "2026-11-24T11:59:00.000Z".parse().unwrap(),
    };
    for event in system.stored().await {
        assert_eq!(event.correlation_id, expected.correlation_id());
        assert_eq!(event.causation_id, expected.correlation_id());
        assert_eq!(event.occurred_at, expected.time);
        assert_eq!(event.recorded_at, now());
    }
}

/// A store that is unavailable for one patient.
struct UnavailableFor(&'static str, EventStore);

impl AppendLog for UnavailableFor {
    async fn tail(
        &self,
        patient: &PatientId,
        before: Option<StreamVersion>,
        limit: u16,
    ) -> Result<Vec<TailEntry>, LogUnavailable> {
        if patient.as_str() == self.0 {
            return Err(LogUnavailable("throttled".into()));
        }
        self.1.tail(patient, before, limit).await
    }

    async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
        self.1.insert(event).await
    }
}

#[tokio::test]
async fn one_failure_fails_the_invocation_and_holds_nobody_up() {
    let system = System::start(Roster::built_in().unwrap()).await;
    let log = UnavailableFor("p-007", system.store());
    let failing = Checkin::new(log, system.roster.clone(), NonZeroU16::new(50).unwrap(), now);
    for request in [register_roster(), tick(1)] {
        let error = failing.handle(request, "a").await.unwrap_err();
        assert!(
            matches!(
                error,
                CheckinError::Incomplete {
                    failed: 1,
                    attempted: 50,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(Diagnostic::from(error).error_type, "incomplete");
    }
    assert_eq!(system.stored().await.len(), 98);
    // The retry does what is missing.
    assert_eq!(
        system.checkin(50).handle(tick(1), "b").await.unwrap().summary,
        done(2, 49)
    );
    assert_eq!(system.stored().await.len(), 100);
}

#[tokio::test]
async fn what_the_service_does_not_do_is_an_error() {
    let system = System::start(two_patients()).await;
    let mut future = tick(1);
    future["time"] = json!("2026-11-24T12:06:00Z");
    for (request, message) in [
        (
            json!({}),
            "invalid request: neither a scheduled event nor a command",
        ),
        (
            json!({"command": "forget"}),
            "invalid request: the only command is register-roster",
        ),
        (future, "invalid request: the scheduled event is of the future"),
    ] {
        let error = Diagnostic::from(system.checkin(1).handle(request, "a").await.unwrap_err());
        assert_eq!(error.error_type, "invalid_request");
        assert_eq!(error.error_message, message);
    }
    assert!(system.stored().await.is_empty());
}

#[tokio::test]
async fn a_patient_whose_last_event_is_broken_still_checks_in() {
    let system = System::start(two_patients()).await;
    let checkin = system.checkin(2);
    checkin.handle(tick(2), "a").await.unwrap();
    let client = system.dynamodb.client();
    client
        .update_item()
        .table_name(EVENT_TABLE)
        .key("patient_id", AttributeValue::S("p-001".to_owned()))
        .key("version", AttributeValue::N("2".to_owned()))
        .update_expression("SET #data = :broken REMOVE #hash")
        .expression_attribute_names("#data", "data")
        .expression_attribute_names("#hash", "hash")
        .expression_attribute_values(":broken", AttributeValue::S("broken".to_owned()))
        .send()
        .await
        .unwrap();
    assert_eq!(checkin.handle(tick(1), "b").await.unwrap().summary, done(2, 0));
}

/// What it costs to do this, and to do it once more; a tick checks so many patients in. A change that makes it dearer has to
/// change these numbers, and those in docs/PERFORMANCE.md.
async fn check_cost(system: &System, checkins_per_tick: u16, request: Value, expected: [&str; 2]) {
    let meter = Meter::default();
    let checkin = Checkin::new(
        EventStore::new(meter.on(&system.dynamodb.client()), EVENT_TABLE),
        system.roster.clone(),
        NonZeroU16::new(checkins_per_tick).unwrap(),
        now,
    );
    for expected in expected {
        checkin.handle(request.clone(), "a").await.unwrap();
        assert_eq!(meter.take().to_string(), expected);
    }
}

#[tokio::test]
async fn each_patient_costs_an_append_and_a_read_when_it_is_repeated() {
    // They are appended several at once, in any order, and each is of another stream: the sum is the same.
    let fifty = [
        concat!(
            r#"calls {"PutItem": 50, "Query": 50}, reads {"checkin-events": 50.0}, "#,
            r#"writes {"by_recorded_at": 50.0, "checkin-events": 50.0}"#
        ),
        r#"calls {"Query": 50}, reads {"checkin-events": 50.0}, writes {}"#,
    ];
    let one = [
        concat!(
            r#"calls {"PutItem": 1, "Query": 1}, reads {"checkin-events": 1.0}, "#,
            r#"writes {"by_recorded_at": 1.0, "checkin-events": 1.0}"#
        ),
        r#"calls {"Query": 1}, reads {"checkin-events": 1.0}, writes {}"#,
    ];
    let system = System::start(Roster::built_in().unwrap()).await;
    check_cost(&system, 1, register_roster(), fifty).await;
    check_cost(&system, 1, tick(2), one).await;
    check_cost(&system, 50, tick(1), fifty).await;
}

#[tokio::test]
async fn a_tick_that_finds_nobody_registered_costs_two_appends_and_a_read() {
    let expected = [
        concat!(
            r#"calls {"PutItem": 2, "Query": 3}, reads {"checkin-events": 3.0}, "#,
            r#"writes {"by_recorded_at": 2.0, "checkin-events": 2.0}"#
        ),
        r#"calls {"Query": 1}, reads {"checkin-events": 1.0}, writes {}"#,
    ];
    let system = System::start(two_patients()).await;
    check_cost(&system, 1, tick(1), expected).await;
}

#[test]
fn the_summary_holds_counts_only() {
    assert_eq!(
        serde_json::to_string(&done(1, 2)).unwrap(),
        r#"{"appended":1,"already":2}"#
    );
}
