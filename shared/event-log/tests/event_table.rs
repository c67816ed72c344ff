//! Reading the event table, in the embedded DynamoDB, with pages of every small size.
#![allow(clippy::unwrap_used, reason = "functions that tests share are tests too")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    CheckinId, CorrelationId, Event, EventDraft, EventHash, EventId, EventShard, PatientCheckedIn, PatientId,
    StoredEntry, StoredEvent, StreamVersion, Timestamp, Undecodable,
};
use embedded::{EVENT_TABLE, EmbeddedDynamoDb};
use event_log::{EventLog as _, EventTable, LogPosition, RecordedKey, Segment, item};

fn patient(number: u64) -> PatientId {
    format!("p-{number:03}").parse().unwrap()
}

fn minute(number: u64) -> Timestamp {
    let millis = i64::try_from(number).unwrap() * 60_000;
    Timestamp::from_unix_millis(1_764_000_000_000 + millis).unwrap()
}

/// The stream of a patient with `count` events, recorded at minutes 1 to `count`.
fn stream(of: u64, count: u64) -> Vec<StoredEvent> {
    let mut previous = EventHash::GENESIS;
    let mut place = |version: u64| {
        let identity = [of.to_string(), version.to_string()];
        let identity = [identity[0].as_str(), identity[1].as_str()];
        let draft = EventDraft {
            event_id: EventId::derive("check-in", &identity),
            occurred_at: minute(version),
            correlation_id: CorrelationId::derive("tick", &identity),
            causation_id: CorrelationId::derive("tick", &identity),
            event: Event::PatientCheckedIn(PatientCheckedIn {
                checkin_id: CheckinId::derive(&identity),
            }),
        };
        let event = draft.place(
            &patient(of),
            StreamVersion::new(version - 1),
            previous,
            minute(version),
        );
        let event = event.unwrap();
        previous = event.hash;
        event
    };
    (1..=count).map(&mut place).collect()
}

async fn put(dynamodb: &EmbeddedDynamoDb, item: HashMap<String, AttributeValue>) {
    let put = dynamodb.client().put_item().table_name(EVENT_TABLE);
    put.set_item(Some(item)).send().await.unwrap();
}

/// A table with these streams: patient number and how many events.
async fn table_with(streams: &[(u64, u64)]) -> (EmbeddedDynamoDb, EventTable) {
    let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
    for (of, count) in streams {
        for event in stream(*of, *count) {
            put(&dynamodb, item::to_item(&event).unwrap().into()).await;
        }
    }
    let table = EventTable::new(dynamodb.client(), EVENT_TABLE);
    (dynamodb, table)
}

fn versions(entries: &[StoredEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.version.get()).collect()
}

fn position(key: &RecordedKey) -> LogPosition {
    LogPosition {
        patient_id: key.patient_id.clone(),
        version: key.version,
        recorded_at: Some(key.recorded_at),
    }
}

#[tokio::test]
async fn a_stream_is_read_in_order_whatever_the_size_of_pages() {
    let (_dynamodb, table) = table_with(&[(1, 9), (2, 3)]).await;
    let check = async |table: &EventTable, after: u64, limit: u16, expected: Vec<u64>| {
        let found = table
            .read(&patient(1), StreamVersion::new(after), limit)
            .await
            .unwrap();
        assert_eq!(versions(&found), expected, "after {after}, limit {limit}");
        for entry in found {
            let event = entry.event.unwrap();
            assert_eq!((event.patient_id, event.version), (patient(1), entry.version));
        }
    };
    for page_limit in [1, 2, 3, 4, 9, 10, 1_000] {
        let table = table.clone().with_page_limit(page_limit);
        check(&table, 0, 100, (1..=9).collect()).await;
        check(&table, 0, 9, (1..=9).collect()).await;
        check(&table, 0, 4, (1..=4).collect()).await;
        check(&table, 4, 4, (5..=8).collect()).await;
        check(&table, 8, 4, vec![9]).await;
        check(&table, 9, 4, vec![]).await;
        check(&table, 0, 0, vec![]).await;
    }
    let nobody = table.read(&patient(3), StreamVersion::EMPTY, 10).await.unwrap();
    assert!(nobody.is_empty());
}

#[tokio::test]
async fn the_head_is_the_last_version() {
    let (_dynamodb, table) = table_with(&[(1, 11), (2, 1)]).await;
    for (of, head) in [(1, 11), (2, 1), (3, 0)] {
        assert_eq!(table.head(&patient(of)).await.unwrap(), StreamVersion::new(head));
    }
}

#[tokio::test]
async fn a_scan_in_segments_covers_every_event_once_and_in_order() {
    let streams: Vec<(u64, u64)> = (1..=12).map(|of| (of, of % 5 + 1)).collect();
    let (_dynamodb, table) = table_with(&streams).await;
    for total in [1, 2, 5, 16] {
        for page_limit in [1, 3, 1_000] {
            let table = table.clone().with_page_limit(page_limit);
            let mut segment_of: BTreeMap<PatientId, u16> = BTreeMap::new();
            let mut found: BTreeMap<PatientId, Vec<u64>> = BTreeMap::new();
            for index in 0..total {
                let mut after = None;
                loop {
                    let page = table.scan(Segment { index, total }, after).await.unwrap();
                    for entry in page.entries {
                        assert!(entry.event.is_ok());
                        assert_eq!(
                            *segment_of.entry(entry.patient_id.clone()).or_insert(index),
                            index
                        );
                        found
                            .entry(entry.patient_id)
                            .or_default()
                            .push(entry.version.get());
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            let expected: BTreeMap<PatientId, Vec<u64>> = streams
                .iter()
                .map(|(of, count)| (patient(*of), (1..=*count).collect()))
                .collect();
            assert_eq!(found, expected, "{total} segments, pages of {page_limit}");
        }
    }
}

#[tokio::test]
async fn a_sweep_finds_all_that_was_recorded_since_in_order() {
    let streams: Vec<(u64, u64)> = (1..=20).map(|of| (of, of % 4 + 1)).collect();
    let (_dynamodb, table) = table_with(&streams).await;
    for from in [0, 2, 4, 5, 6] {
        for page_limit in [1, 2, 1_000] {
            let table = table.clone().with_page_limit(page_limit);
            let mut found = BTreeSet::new();
            for shard in EventShard::all() {
                let mut after = None;
                let mut order = Vec::new();
                loop {
                    let page = table.recorded_since(shard, minute(from), after).await.unwrap();
                    for key in page.entries {
                        assert_eq!(EventShard::of(&key.patient_id), shard);
                        order.push(key.recorded_at);
                        assert!(found.insert((key.patient_id.clone(), key.version)), "{key:?}");
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert!(order.is_sorted(), "{order:?}");
            }
            let expected: BTreeSet<_> = streams
                .iter()
                .flat_map(|(of, count)| (1..=*count).map(move |version| (*of, version)))
                .filter(|(_, version)| *version >= from)
                .map(|(of, version)| (patient(of), StreamVersion::new(version)))
                .collect();
            assert_eq!(found, expected, "since minute {from}, pages of {page_limit}");
        }
    }
}

#[tokio::test]
async fn a_sweep_goes_on_after_any_event() {
    let (_dynamodb, table) = table_with(&[(1, 6)]).await;
    let shard = EventShard::of(&patient(1));
    let all = table.recorded_since(shard, minute(0), None).await.unwrap();
    assert_eq!(all.next, None);
    for (read, key) in (1..).zip(&all.entries) {
        let rest = table
            .recorded_since(shard, minute(0), Some(position(key)))
            .await
            .unwrap();
        assert_eq!(rest.entries, all.entries[read..]);
    }
}

#[tokio::test]
async fn a_broken_event_keeps_its_place_and_says_why() {
    let (dynamodb, table) = table_with(&[]).await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let name = |name: &str| AttributeValue::M(HashMap::from([("name".to_owned(), text(name))]));
    // The attribute that is replaced or removed in the event of each version, and what becomes of it.
    let cases = [
        ("data", Some(name("")), Undecodable::InvalidData),
        ("data", Some(text("{}")), Undecodable::InvalidEnvelope),
        ("data", None, Undecodable::InvalidEnvelope),
        (
            "event_type",
            Some(text("PatientVanished")),
            Undecodable::UnknownType,
        ),
        (
            "schema_version",
            Some(AttributeValue::N("99".to_owned())),
            Undecodable::UnknownSchemaVersion,
        ),
        (
            "schema_version",
            Some(AttributeValue::N("-1".to_owned())),
            Undecodable::InvalidEnvelope,
        ),
        (
            "occurred_at",
            Some(text("2026-11-24T09:30:00Z")),
            Undecodable::InvalidEnvelope,
        ),
        ("event_id", Some(text("1")), Undecodable::InvalidEnvelope),
        ("hash", Some(text("00")), Undecodable::InvalidEnvelope),
    ];
    for (event, (attribute, value, _)) in stream(1, 9).iter().zip(&cases) {
        let mut item: HashMap<_, _> = item::to_item(event).unwrap().into();
        match value {
            Some(value) => drop(item.insert((*attribute).to_owned(), value.clone())),
            None => drop(item.remove(*attribute)),
        }
        put(&dynamodb, item).await;
    }
    let read = table.read(&patient(1), StreamVersion::EMPTY, 100).await.unwrap();
    assert_eq!(versions(&read), (1..=9).collect::<Vec<_>>());
    for (entry, (attribute, _, reason)) in read.into_iter().zip(cases) {
        assert_eq!(
            entry.clone().decode().event.unwrap_err(),
            reason,
            "{attribute} of version {}",
            entry.version
        );
    }
    assert_eq!(table.head(&patient(1)).await.unwrap(), StreamVersion::new(9));
    let scanned = table.scan(Segment { index: 0, total: 1 }, None).await.unwrap();
    assert_eq!(scanned.entries.len(), 9);
    let swept = table
        .recorded_since(EventShard::of(&patient(1)), minute(0), None)
        .await
        .unwrap();
    assert_eq!(swept.entries.len(), 9);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_unavailable() {
    let (dynamodb, _) = table_with(&[]).await;
    let table = EventTable::new(dynamodb.client(), "no-such-table");
    let error = table.head(&patient(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "the event table is unavailable");
    assert!(std::error::Error::source(&error).is_some());
}
