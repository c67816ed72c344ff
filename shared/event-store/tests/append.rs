//! Appending, against the embedded DynamoDB.
#![allow(clippy::unwrap_used, reason = "functions that tests share are tests too")]

use std::collections::HashMap;
use std::sync::Mutex;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    CheckinId, CorrelationId, Event, EventDraft, EventHash, EventId, MAX_EVENT_BYTES, PatientCheckedIn,
    PatientId, PatientRegistered, StoredEvent, StreamVersion, Timestamp,
};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb};
use event_store::{AppendError, AppendLog, Appended, EventStore, ExpectedVersion, InsertError, Link, append};
use testbed::Meter;

fn patient() -> PatientId {
    "p-001".parse().unwrap()
}

fn minute(number: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + number * 60_000).unwrap()
}

/// The fact that the patient checked in at this minute.
fn check_in(number: i64) -> EventDraft {
    let identity = number.to_string();
    EventDraft {
        event_id: EventId::derive("check-in", &[&identity]),
        occurred_at: minute(number),
        correlation_id: CorrelationId::derive("tick", &[&identity]),
        causation_id: CorrelationId::derive("tick", &[&identity]),
        event: Event::PatientCheckedIn(PatientCheckedIn {
            checkin_id: CheckinId::derive(&[&identity]),
        }),
    }
}

fn new(version: u64) -> Appended {
    Appended::New {
        version: StreamVersion::new(version),
        link: Link::Intact,
    }
}

fn already(version: u64) -> Appended {
    Appended::Already {
        version: StreamVersion::new(version),
    }
}

/// An event table with one stream in it.
struct Stream {
    dynamodb: EmbeddedDynamoDb,
    store: EventStore,
}

impl Stream {
    async fn start() -> Stream {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let store = EventStore::new(dynamodb.client(), EVENT_TABLE);
        Stream { dynamodb, store }
    }

    /// Appends the draft a second after it occurred.
    async fn append(&self, draft: &EventDraft, expected: ExpectedVersion) -> Result<Appended, AppendError> {
        self.append_at(draft, expected, draft.occurred_at.plus_millis(1_000))
            .await
    }

    async fn append_at(
        &self,
        draft: &EventDraft,
        expected: ExpectedVersion,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        append(&self.store, &patient(), draft, expected, now).await
    }

    /// The stream with `count` check-ins, at the minutes 1 to `count`.
    async fn of(count: i64) -> Stream {
        let stream = Stream::start().await;
        for number in 1..=count {
            stream
                .append(&check_in(number), ExpectedVersion::Any)
                .await
                .unwrap();
        }
        stream
    }

    async fn items(&self) -> Vec<HashMap<String, AttributeValue>> {
        let query = self.dynamodb.client().query().table_name(EVENT_TABLE);
        let answer = query
            .consistent_read(true)
            .key_condition_expression("patient_id = :patient")
            .expression_attribute_values(":patient", AttributeValue::S(patient().to_string()))
            .send()
            .await
            .unwrap();
        answer.items.unwrap()
    }

    async fn events(&self) -> Vec<StoredEvent> {
        serde_dynamo::from_items(self.items().await).unwrap()
    }

    /// Sets or removes attributes of an event, as only somebody with the table's keys in hand can.
    async fn tamper(&self, version: u64, expression: &str, value: Option<AttributeValue>) {
        let mut update = self
            .dynamodb
            .client()
            .update_item()
            .table_name(EVENT_TABLE)
            .key("patient_id", AttributeValue::S(patient().to_string()))
            .key("version", AttributeValue::N(version.to_string()))
            .update_expression(expression)
            .set_expression_attribute_values(
                value.map(|value| HashMap::from([(":value".to_owned(), value)])),
            );
        // Reserved words.
        for name in ["hash", "data"] {
            if expression.contains(&format!("#{name}")) {
                update = update.expression_attribute_names(format!("#{name}"), name);
            }
        }
        update.send().await.unwrap();
    }
}

/// The versions are dense from 1, each event has its hash and that of the event before it, and the times of
/// recording do not decrease.
#[track_caller]
fn assert_intact(events: &[StoredEvent]) {
    let mut previous = (StreamVersion::EMPTY, EventHash::GENESIS, minute(-1_000));
    for event in events {
        assert_eq!(event.version, previous.0.next());
        assert_eq!(event.previous_hash, previous.1);
        assert_eq!(event.computed_hash(), event.hash);
        assert!(
            event.recorded_at >= previous.2,
            "{} {}",
            event.recorded_at,
            previous.2
        );
        previous = (event.version, event.hash, event.recorded_at);
    }
}

#[tokio::test]
async fn events_are_chained_in_dense_versions() {
    let stream = Stream::start().await;
    for number in 1..=7 {
        let appended = stream
            .append(&check_in(number), ExpectedVersion::Any)
            .await
            .unwrap();
        assert_eq!(appended, new(number.unsigned_abs()));
    }
    let events = stream.events().await;
    assert_eq!(events.len(), 7);
    assert_intact(&events);
}

#[tokio::test]
async fn the_same_fact_appended_five_times_at_once_is_one_event() {
    let stream = Stream::of(3).await;
    let fact = check_in(4);
    let outcomes =
        futures::future::join_all((0..5).map(|_| stream.append(&fact, ExpectedVersion::Any))).await;
    let outcomes: Vec<Appended> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == new(4)).count(), 1);
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == already(4)).count(),
        4
    );
    assert_eq!(stream.events().await.len(), 4);
}

#[tokio::test]
async fn different_facts_appended_at_once_all_become_events() {
    let stream = Stream::of(1).await;
    let facts: Vec<EventDraft> = (2..=9).map(check_in).collect();
    let outcomes = futures::future::join_all(
        facts
            .iter()
            .map(|fact| stream.append(fact, ExpectedVersion::NotEmpty)),
    )
    .await;
    let mut versions: Vec<StreamVersion> = outcomes
        .into_iter()
        .map(|outcome| match outcome.unwrap() {
            Appended::New {
                version,
                link: Link::Intact,
            } => version,
            Appended::New { version, .. } | Appended::Already { version } => panic!("version {version}"),
        })
        .collect();
    versions.sort();
    assert_eq!(versions, (2..=9).map(StreamVersion::new).collect::<Vec<_>>());
    assert_intact(&stream.events().await);
}

#[tokio::test]
async fn a_repeated_fact_is_recognised_however_many_events_followed() {
    for followers in [1, 4, 5, 6, 130] {
        let stream = Stream::of(2 + followers).await;
        let now = minute(1_000);
        let repeated = stream.append_at(&check_in(2), ExpectedVersion::Any, now).await;
        assert_eq!(repeated.unwrap(), already(2), "after {followers}");
        let first = stream.append_at(&check_in(1), ExpectedVersion::Empty, now).await;
        assert_eq!(first.unwrap(), already(1), "after {followers}");
        assert_eq!(
            stream.events().await.len(),
            2 + usize::try_from(followers).unwrap()
        );
    }
}

#[tokio::test]
async fn facts_of_one_moment_are_told_apart_and_recognised() {
    let stream = Stream::start().await;
    let fact = |number| EventDraft {
        occurred_at: minute(1),
        ..check_in(number)
    };
    for number in 1..=12 {
        let appended = stream
            .append_at(&fact(number), ExpectedVersion::Any, minute(1))
            .await;
        assert_eq!(appended.unwrap(), new(number.unsigned_abs()));
    }
    for number in 1..=12 {
        let repeated = stream
            .append_at(&fact(number), ExpectedVersion::Any, minute(2))
            .await;
        assert_eq!(repeated.unwrap(), already(number.unsigned_abs()));
    }
}

#[tokio::test]
async fn a_retry_after_a_lost_acknowledgement_is_recognised() {
    let stream = Stream::of(1).await;
    let last = stream.events().await.pop().unwrap();
    let placed = check_in(2)
        .place(&patient(), last.version, last.hash, minute(2))
        .unwrap();
    stream.store.insert(&placed).await.unwrap();
    let again = stream
        .append(&check_in(2), ExpectedVersion::Exactly(last.version))
        .await;
    assert_eq!(again.unwrap(), already(2));
    assert_eq!(stream.events().await.len(), 2);
}

/// A store where another request inserts the same event just before the first insert, as when the SDK repeats a
/// request whose answer was lost.
struct LostAnswer(EventStore);

impl AppendLog for LostAnswer {
    async fn tail(
        &self,
        patient: &PatientId,
        before: Option<StreamVersion>,
        limit: u16,
    ) -> Result<Vec<event_store::TailEntry>, event_log::LogUnavailable> {
        self.0.tail(patient, before, limit).await
    }

    async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
        self.0.insert(event).await?;
        self.0.insert(event).await
    }
}

#[tokio::test]
async fn a_write_that_the_sdk_repeated_is_recognised() {
    let stream = Stream::of(1).await;
    let log = LostAnswer(stream.store.clone());
    for expected in [
        ExpectedVersion::Any,
        ExpectedVersion::Exactly(StreamVersion::new(2)),
    ] {
        let fact = check_in(if expected == ExpectedVersion::Any { 2 } else { 3 });
        let outcome = append(&log, &patient(), &fact, expected, fact.occurred_at)
            .await
            .unwrap();
        assert!(matches!(outcome, Appended::Already { .. }), "{outcome:?}");
    }
    assert_intact(&stream.events().await);
    assert_eq!(stream.events().await.len(), 3);
}

#[tokio::test]
async fn the_search_for_a_fact_ends_where_the_fact_cannot_be() {
    /// Counts the events that are read.
    struct Counting(EventStore, Mutex<usize>);

    impl AppendLog for Counting {
        async fn tail(
            &self,
            patient: &PatientId,
            before: Option<StreamVersion>,
            limit: u16,
        ) -> Result<Vec<event_store::TailEntry>, event_log::LogUnavailable> {
            let entries = self.0.tail(patient, before, limit).await?;
            *self.1.lock().unwrap() += entries.len();
            Ok(entries)
        }

        async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
            self.0.insert(event).await
        }
    }

    let stream = Stream::of(300).await;
    let check = async |fact: EventDraft, read: usize| {
        let log = Counting(stream.store.clone(), Mutex::new(0));
        append(&log, &patient(), &fact, ExpectedVersion::Any, minute(1_000))
            .await
            .unwrap();
        assert_eq!(*log.1.lock().unwrap(), read, "{}", fact.occurred_at);
    };
    check(check_in(301), 5).await;
    let late = EventDraft {
        event_id: EventId::derive("late", &[]),
        ..check_in(250)
    };
    check(late, 5 + 100).await;
}

#[tokio::test]
async fn the_time_of_recording_never_goes_back() {
    let stream = Stream::start().await;
    let any = ExpectedVersion::Any;
    // The clock goes back; then a fact is of a moment that this clock has not reached.
    for (number, now, recorded_at) in [(1, 10, 10), (2, 5, 10), (30, 12, 30), (4, 13, 30), (5, 40, 40)] {
        stream
            .append_at(&check_in(number), any, minute(now))
            .await
            .unwrap();
        let last = stream.events().await.pop().unwrap();
        assert_eq!(last.recorded_at, minute(recorded_at));
    }
    assert_intact(&stream.events().await);
    // However late a repeat comes, the fact of the future is found.
    let repeated = stream.append_at(&check_in(30), any, minute(1_000)).await;
    assert_eq!(repeated.unwrap(), already(3));
}

#[tokio::test]
async fn a_stream_that_is_not_as_expected_is_a_conflict() {
    let stream = Stream::of(2).await;
    let check = async |expected: ExpectedVersion, message: &str| {
        let error = stream.append(&check_in(3), expected).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    check(
        ExpectedVersion::Empty,
        "stream p-001 is at version 2, where no events was expected",
    )
    .await;
    for version in [1, 3] {
        check(
            ExpectedVersion::Exactly(StreamVersion::new(version)),
            &format!("stream p-001 is at version 2, where version {version} was expected"),
        )
        .await;
    }
    assert_eq!(stream.events().await.len(), 2);
    let as_expected = ExpectedVersion::Exactly(StreamVersion::new(2));
    assert_eq!(stream.append(&check_in(3), as_expected).await.unwrap(), new(3));
    let empty = Stream::start().await;
    let error = empty
        .append(&check_in(1), ExpectedVersion::NotEmpty)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        AppendError::VersionConflict {
            actual: StreamVersion::EMPTY,
            ..
        }
    ));
}

#[tokio::test]
async fn an_append_that_never_wins_gives_up() {
    /// Somebody else is always faster.
    struct Busy(EventStore);

    impl AppendLog for Busy {
        async fn tail(
            &self,
            patient: &PatientId,
            before: Option<StreamVersion>,
            limit: u16,
        ) -> Result<Vec<event_store::TailEntry>, event_log::LogUnavailable> {
            self.0.tail(patient, before, limit).await
        }

        async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
            let number = i64::try_from(event.version.get()).unwrap();
            let after = StreamVersion::new(event.version.get() - 1);
            let other =
                check_in(number).place(&event.patient_id, after, event.previous_hash, event.recorded_at);
            self.0.insert(&other.unwrap()).await?;
            self.0.insert(event).await
        }
    }

    let stream = Stream::start().await;
    let log = Busy(stream.store.clone());
    let fact = check_in(1_000);
    let outcome = append(&log, &patient(), &fact, ExpectedVersion::Any, fact.occurred_at).await;
    let Err(AppendError::VersionConflict { actual, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(actual, StreamVersion::new(10));
    assert!(
        stream
            .events()
            .await
            .iter()
            .all(|event| event.event_id != fact.event_id)
    );
}

#[tokio::test]
async fn the_largest_events_that_are_allowed_can_be_stored_and_read_back() {
    let stream = Stream::start().await;
    let mut largest = Vec::new();
    // Together more than the megabyte at which DynamoDB cuts a page.
    for number in 1..=17 {
        let after = StreamVersion::new(number - 1);
        let placed = check_in(1).place(&patient(), after, EventHash::GENESIS, minute(1));
        let mut event = placed.unwrap();
        // With its envelope, it is even somewhat larger than allowed.
        let note = "n".repeat(MAX_EVENT_BYTES);
        event.data.insert("note".to_owned(), note.into());
        stream.store.insert(&event).await.unwrap();
        largest.push(event);
    }
    let tail = stream.store.tail(&patient(), None, 100).await.unwrap();
    let hashes: Vec<_> = tail.iter().rev().map(|entry| entry.hash).collect();
    let expected: Vec<_> = largest.iter().map(|event| Some(event.hash)).collect();
    assert_eq!(hashes, expected);
}

#[tokio::test]
async fn a_broken_event_at_the_end_does_not_block_later_facts() {
    let text = |text: &str| Some(AttributeValue::S(text.to_owned()));
    let check = async |expression: &str, value: Option<AttributeValue>, link: Link| {
        let stream = Stream::of(3).await;
        let hash = stream.events().await.pop().unwrap().hash;
        stream.tamper(3, expression, value).await;
        let appended = stream.append(&check_in(4), ExpectedVersion::Any).await.unwrap();
        assert_eq!(
            appended,
            Appended::New {
                version: StreamVersion::new(4),
                link
            },
            "{expression}"
        );
        let event: StoredEvent = serde_dynamo::from_item(stream.items().await.pop().unwrap()).unwrap();
        let chained = match link {
            Link::Intact => hash,
            Link::Broken => EventHash::GENESIS,
        };
        assert_eq!(event.previous_hash, chained, "{expression}");
        assert!(event.recorded_at >= minute(4), "{expression}");
        // The one before the broken one is still found.
        let repeated = stream.append(&check_in(2), ExpectedVersion::Any).await.unwrap();
        assert_eq!(repeated, already(2), "{expression}");
    };
    check(
        "SET #data = :value, #hash = #hash",
        text("not a map"),
        Link::Intact,
    )
    .await;
    check("REMOVE #data", None, Link::Intact).await;
    check("SET recorded_at = :value", text("yesterday"), Link::Intact).await;
    check("REMOVE recorded_at, event_id", None, Link::Intact).await;
    check("SET #hash = :value", text("0123"), Link::Broken).await;
    check("REMOVE #hash", None, Link::Broken).await;
}

#[tokio::test]
async fn an_unreachable_table_is_unavailable() {
    let stream = Stream::start().await;
    let store = EventStore::new(stream.dynamodb.client(), "no-such-table");
    let fact = check_in(1);
    let error = append(&store, &patient(), &fact, ExpectedVersion::Any, minute(1))
        .await
        .unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

/// What it costs to append this fact. A change that makes it dearer has to change these numbers, and those in
/// docs/PERFORMANCE.md.
async fn check_cost(stream: &Stream, fact: &EventDraft, expected: &str) {
    let meter = Meter::default();
    let store = EventStore::new(meter.on(&stream.dynamodb.client()), EVENT_TABLE);
    append(&store, &patient(), fact, ExpectedVersion::Any, minute(1_000))
        .await
        .unwrap();
    assert_eq!(meter.take().to_string(), expected);
}

#[tokio::test]
async fn an_append_costs_one_write_unit_and_one_for_the_index() {
    let expected = concat!(
        r#"calls {"PutItem": 1, "Query": 1}, reads {"checkin-events": 1.0}, "#,
        r#"writes {"by_recorded_at": 1.0, "checkin-events": 1.0}"#
    );
    let name = "Ada Example".parse().unwrap();
    let registration = EventDraft {
        event: Event::PatientRegistered(PatientRegistered { name }),
        ..check_in(0)
    };
    let stream = Stream::start().await;
    check_cost(&stream, &registration, expected).await;
    check_cost(&stream, &check_in(1), expected).await;
    // However many there are.
    check_cost(&Stream::of(130).await, &check_in(131), expected).await;
}

#[tokio::test]
async fn a_fact_that_is_repeated_costs_the_reading_of_what_followed_it_and_no_write() {
    let stream = Stream::of(130).await;
    for (repeated, expected) in [
        (
            130,
            r#"calls {"Query": 1}, reads {"checkin-events": 1.0}, writes {}"#,
        ),
        // The last five are within one read unit.
        (
            126,
            r#"calls {"Query": 1}, reads {"checkin-events": 1.0}, writes {}"#,
        ),
        // Then come a hundred at a time.
        (
            125,
            r#"calls {"Query": 2}, reads {"checkin-events": 15.0}, writes {}"#,
        ),
        (
            1,
            r#"calls {"Query": 3}, reads {"checkin-events": 19.0}, writes {}"#,
        ),
    ] {
        check_cost(&stream, &check_in(repeated), expected).await;
    }
}
