//! The queries, against the embedded DynamoDB, whatever the size of a page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_sdk_dynamodb::Client;
use domain::{
    CheckinId, CheckinRow, Generation, ListingShard, Patient, PatientId, PatientState, StreamVersion,
    Timestamp,
};
use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};
use read_model::item::{RowItem, SummaryItem};
use read_model::{
    CheckinsQuery, Consistency, Control, Freshness, Page, PageLimit, PatientError, Queries, ReadModelStore,
    ReadModelTable, ReadModelUnavailable, RecentEntry, RowRange, StoredState,
};

const G1: Generation = Generation::FIRST;
const G2: Generation = G1.next();

/// The real table, but no read gives more than `page` items, and a check-in may be applied just before one.
struct Store {
    table: ReadModelTable,
    client: Client,
    page: u16,
    applied_before: Option<(Read, PatientId, PatientState, CheckinRow)>,
    _dynamodb: EmbeddedDynamoDb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    States,
    Rows,
}

impl Store {
    async fn new() -> Store {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        Store {
            table: ReadModelTable::new(dynamodb.client(), READ_MODEL_TABLE),
            client: dynamodb.client(),
            page: u16::MAX,
            applied_before: None,
            _dynamodb: dynamodb,
        }
    }

    async fn put(&self, item: impl serde::Serialize) {
        let item = serde_dynamo::to_item(item).unwrap();
        let put = self.client.put_item().table_name(READ_MODEL_TABLE);
        put.set_item(Some(item)).send().await.unwrap();
    }

    async fn put_state(&self, generation: Generation, id: &PatientId, state: &PatientState) {
        self.put(SummaryItem::new(generation, id, state)).await;
    }

    async fn put_row(&self, generation: Generation, id: &PatientId, row: &CheckinRow) {
        self.put(RowItem::new(generation, id, row)).await;
    }

    async fn before(&self, read: Read, generation: Generation) {
        if let Some((before, id, state, row)) = &self.applied_before
            && *before == read
        {
            self.put_row(generation, id, row).await;
            self.put_state(generation, id, state).await;
        }
    }

    /// A patient whose check-ins at these minutes have been applied, as versions 2, 3, …
    async fn put_patient(&self, generation: Generation, id: &PatientId, minutes: &[i64]) {
        for row in rows(id, minutes) {
            self.put_row(generation, id, &row).await;
        }
        self.put_state(generation, id, &state(minutes)).await;
    }
}

impl ReadModelStore for Store {
    async fn control(&self) -> Result<Option<Control>, ReadModelUnavailable> {
        self.table.control().await
    }

    async fn freshness(&self, generation: Generation) -> Result<Freshness, ReadModelUnavailable> {
        self.table.freshness(generation).await
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<Vec<StoredState>, ReadModelUnavailable> {
        self.before(Read::States, generation).await;
        self.table.states(generation, patients, consistency).await
    }

    async fn rows(
        &self,
        generation: Generation,
        patient: &PatientId,
        range: RowRange,
        limit: u16,
    ) -> Result<Page<CheckinRow>, ReadModelUnavailable> {
        self.before(Read::Rows, generation).await;
        self.table
            .rows(generation, patient, range, limit.min(self.page))
            .await
    }

    async fn ids(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&PatientId>,
        limit: u16,
    ) -> Result<Page<PatientId>, ReadModelUnavailable> {
        self.table
            .ids(generation, shard, after, limit.min(self.page))
            .await
    }

    async fn recent(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&str>,
        limit: u16,
    ) -> Result<Page<RecentEntry>, ReadModelUnavailable> {
        self.table
            .recent(generation, shard, after, limit.min(self.page))
            .await
    }
}

fn id(text: &str) -> PatientId {
    text.parse().unwrap()
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
}

fn limit(entries: u16) -> PageLimit {
    PageLimit::new(entries).unwrap()
}

fn version(number: u64) -> StreamVersion {
    StreamVersion::new(number)
}

fn row(id: &PatientId, number: u64, minute: i64) -> CheckinRow {
    CheckinRow {
        checkin_id: CheckinId::derive(&[id.as_str(), &number.to_string()]),
        occurred_at: at(minute),
        version: version(number),
    }
}

/// A check-in at each of these minutes, as versions 2, 3, …
fn rows(id: &PatientId, minutes: &[i64]) -> Vec<CheckinRow> {
    let numbered = (2..).zip(minutes);
    numbered
        .map(|(number, minute)| row(id, number, *minute))
        .collect()
}

fn state(minutes: &[i64]) -> PatientState {
    let checkin_count = minutes.len() as u64;
    PatientState {
        applied: version(1 + checkin_count),
        history: None,
        patient: Some(Patient {
            name: "Ada".parse().unwrap(),
            registered_at: at(-1),
            checkin_count,
            last_checkin_at: minutes.iter().max().map(|minute| at(*minute)),
        }),
        quarantine: None,
    }
}

const NEWEST_FIRST: CheckinsQuery = CheckinsQuery {
    pinned: None,
    at_least: StreamVersion::EMPTY,
    range: RowRange {
        from: None,
        to: None,
        after: None,
        ascending: false,
    },
    limit: PageLimit::MAX,
};

/// The versions on all pages of a walk, pinned to what its first page is as of.
async fn walk(store: &Store, patient: &PatientId, mut query: CheckinsQuery) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        let listing = Queries::new(store, G1).checkins(patient, query).await.unwrap();
        let page = listing.page;
        assert!(page.items.len() <= query.limit.get().into());
        assert!(
            !page.items.is_empty() || seen.is_empty(),
            "an empty page at the end"
        );
        seen.extend(page.items.iter().map(|row| row.version.get()));
        if page.next.is_none() {
            return seen;
        }
        query.range.after = page.next;
        query.pinned = Some(listing.version);
    }
}

#[tokio::test]
async fn patients_come_in_order_of_their_ids_each_once() {
    let mut store = Store::new().await;
    let mut ids: Vec<PatientId> = (0..40).map(|n| id(&format!("p-{n}"))).collect();
    for patient in &ids {
        store.put_patient(G1, patient, &[]).await;
    }
    // Whoever is not registered yet, and whoever is in another generation, is not listed.
    for n in 0..20 {
        store
            .put_state(G1, &id(&format!("p-{n}.x")), &PatientState::default())
            .await;
        store.put_patient(G2, &id(&format!("p-{n}.y")), &[]).await;
    }
    ids.sort();
    for (page, entries) in [(1, 1), (1, 7), (2, 3), (3, 39), (100, 40), (100, 41), (2, 100)] {
        store.page = page;
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let listing = Queries::new(&store, G1)
                .patients_by_id(after.as_ref(), limit(entries))
                .await
                .unwrap();
            // The ids after it may be those of patients who cannot be listed: the last page can be empty.
            assert!(!listing.items.is_empty() || listing.next.is_none());
            seen.extend(listing.items.into_iter().map(|summary| summary.id));
            after = listing.next;
            if after.is_none() {
                break;
            }
            assert_eq!(seen.len() % usize::from(entries), 0, "a page that is not full");
        }
        assert_eq!(seen, ids, "reading {page} for pages of {entries}");
    }
}

#[tokio::test]
async fn the_patient_who_checked_in_last_comes_first_and_whoever_never_did_last() {
    let mut store = Store::new().await;
    let mut expected = Vec::new();
    for n in 0..30 {
        let patient = id(&format!("p-{n}"));
        // Every third never checked in; some checked in at the same moment.
        let minutes: &[i64] = match n % 3 {
            0 => &[],
            1 => &[n / 6],
            _ => &[n / 6, 100 + n],
        };
        store.put_patient(G1, &patient, minutes).await;
        expected.push((minutes.iter().max().map(|minute| at(*minute)), patient));
    }
    store.put_patient(G2, &id("p-other"), &[500]).await;
    store
        .put_state(G1, &id("p-unregistered"), &PatientState::default())
        .await;
    expected.sort_by(|one, other| other.cmp(one));
    for (page, entries) in [(1, 1), (2, 7), (100, 29), (100, 30), (3, 100)] {
        store.page = page;
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let listing = Queries::new(&store, G1)
                .patients_by_recent(after.as_ref(), limit(entries))
                .await
                .unwrap();
            assert!(!listing.items.is_empty(), "an empty page at the end");
            let found = listing.items.into_iter();
            seen.extend(found.map(|summary| (summary.patient.last_checkin_at, summary.id)));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "reading {page} for pages of {entries}");
    }
}

#[tokio::test]
async fn check_ins_come_in_either_order_each_once_whatever_the_page() {
    let mut store = Store::new().await;
    let ada = id("p-ada");
    // Versions 2 to 10; 5 happened before 4, and 7 and 8 at the same moment.
    let minutes = [0, 10, 30, 20, 40, 50, 50, 60, 70];
    store.put_patient(G1, &ada, &minutes).await;
    store.put_patient(G1, &id("p-ada2"), &[5, 15]).await;
    store.put_patient(G2, &ada, &[7]).await;
    let ascending = [2, 3, 5, 4, 6, 7, 8, 9, 10];
    let descending: Vec<u64> = ascending.iter().rev().copied().collect();
    for page in [1, 2, 100] {
        store.page = page;
        for entries in 1..=11 {
            let mut query = CheckinsQuery {
                limit: limit(entries),
                ..NEWEST_FIRST
            };
            assert_eq!(walk(&store, &ada, query).await, descending);
            query.range.ascending = true;
            assert_eq!(walk(&store, &ada, query).await, ascending);
        }
    }
}

#[tokio::test]
async fn a_range_includes_its_start_and_not_its_end() {
    let store = Store::new().await;
    let ada = id("p-ada");
    store.put_patient(G1, &ada, &[0, 10, 20, 30]).await;
    let check = async |from: Option<i64>, to: Option<i64>, expected: &[u64]| {
        for ascending in [false, true] {
            let mut query = NEWEST_FIRST;
            query.range = RowRange {
                from: from.map(at),
                to: to.map(at),
                after: None,
                ascending,
            };
            query.limit = limit(1);
            let mut seen = walk(&store, &ada, query).await;
            if !ascending {
                seen.reverse();
            }
            assert_eq!(seen, expected, "{from:?} to {to:?}");
        }
    };
    check(None, None, &[2, 3, 4, 5]).await;
    check(Some(10), None, &[3, 4, 5]).await;
    check(None, Some(20), &[2, 3]).await;
    check(Some(10), Some(30), &[3, 4]).await;
    check(Some(10), Some(10), &[]).await;
    check(Some(11), Some(19), &[]).await;
    check(Some(30), Some(10), &[]).await;
}

#[tokio::test]
async fn a_pinned_walk_does_not_see_what_is_applied_meanwhile() {
    let store = Store::new().await;
    let ada = id("p-ada");
    for ascending in [false, true] {
        let mut minutes = vec![0, 10, 20, 30];
        store.put_patient(G1, &ada, &minutes).await;
        let mut query = NEWEST_FIRST;
        query.limit = limit(1);
        query.range.ascending = ascending;
        let mut seen = Vec::new();
        loop {
            let listing = Queries::new(&store, G1).checkins(&ada, query).await.unwrap();
            seen.extend(listing.page.items.iter().map(|row| row.version.get()));
            query.range.after = listing.page.next;
            if listing.page.next.is_none() {
                break;
            }
            query.pinned = Some(listing.version);
            // One is newer than all others, one was recorded late: it lies on the part that is still to come.
            minutes.extend([100 + minutes.len() as i64, if ascending { 29 } else { 1 }]);
            store.put_patient(G1, &ada, &minutes).await;
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        seen.sort_unstable();
        assert_eq!(seen, [2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn rows_above_the_applied_version_are_invisible() {
    let mut store = Store::new().await;
    let ada = id("p-ada");
    store.put_patient(G1, &ada, &[0, 10]).await;
    // The projection stopped between the rows and the summary.
    for n in 4..40 {
        store.put_row(G1, &ada, &row(&ada, n, 100)).await;
    }
    for page in [1, 3, 100] {
        store.page = page;
        for entries in [1, 2, 3] {
            let mut query = NEWEST_FIRST;
            query.limit = limit(entries);
            assert_eq!(walk(&store, &ada, query).await, [3, 2]);
            query.range.ascending = true;
            assert_eq!(walk(&store, &ada, query).await, [2, 3]);
        }
    }
}

#[tokio::test]
async fn a_check_in_applied_during_a_query_is_seen_wholly_or_not_at_all() {
    let check = async |read: Read, as_of: u64, expected: &[u64]| {
        let mut store = Store::new().await;
        let ada = id("p-ada");
        store.put_patient(G1, &ada, &[0, 10]).await;
        store.applied_before = Some((read, ada.clone(), state(&[0, 10, 20]), row(&ada, 4, 20)));
        let listing = Queries::new(&store, G1)
            .checkins(&ada, NEWEST_FIRST)
            .await
            .unwrap();
        let rows = listing.page.items.iter();
        let seen: Vec<u64> = rows.map(|row| row.version.get()).collect();
        assert_eq!(
            (listing.version, seen.as_slice()),
            (version(as_of), expected),
            "{read:?}"
        );
    };
    check(Read::States, 4, &[4, 3, 2]).await;
    check(Read::Rows, 3, &[3, 2]).await;
}

#[tokio::test]
async fn a_version_that_is_not_there_yet_is_not_unknown() {
    let store = Store::new().await;
    let ada = id("p-ada");
    store.put_patient(G1, &ada, &[0]).await;
    store
        .put_state(G1, &id("p-unregistered"), &PatientState::default())
        .await;
    let check = async |generation: Generation, patient: &str, at_least: u64, expected: &str| {
        let queries = Queries::new(&store, generation);
        let found = queries.patient(&id(patient), version(at_least)).await;
        let describe = |error: PatientError| match error {
            PatientError::Unknown => "unknown",
            PatientError::NotYet { .. } => "not yet",
            PatientError::Unavailable(_) => "unavailable",
        };
        assert_eq!(found.map_or_else(describe, |_| "found"), expected);
        let query = CheckinsQuery {
            at_least: version(at_least),
            ..NEWEST_FIRST
        };
        let found = queries.checkins(&id(patient), query).await;
        assert_eq!(found.map_or_else(describe, |_| "found"), expected);
        let query = CheckinsQuery {
            pinned: Some(version(at_least)),
            ..NEWEST_FIRST
        };
        let found = queries.checkins(&id(patient), query).await;
        assert_eq!(found.map_or_else(describe, |_| "found"), expected);
    };
    check(G1, "p-ada", 0, "found").await;
    check(G1, "p-ada", 2, "found").await;
    check(G1, "p-ada", 3, "not yet").await;
    check(G2, "p-ada", 0, "unknown").await;
    check(G2, "p-ada", 2, "not yet").await;
    check(G1, "p-nobody", 0, "unknown").await;
    check(G1, "p-nobody", 1, "not yet").await;
    check(G1, "p-unregistered", 0, "unknown").await;
    check(G1, "p-unregistered", 1, "not yet").await;
}

#[tokio::test]
async fn more_patients_than_one_batch_takes_are_read_in_order() {
    let store = Store::new().await;
    let ids: Vec<PatientId> = (0..230).map(|n| id(&format!("p-{n}"))).collect();
    for patient in ids.iter().step_by(2) {
        store.put_state(G1, patient, &state(&[])).await;
    }
    for consistency in [Consistency::Eventual, Consistency::Strong] {
        let found = store.states(G1, &ids, consistency).await.unwrap();
        let known: Vec<bool> = found
            .iter()
            .map(|stored| stored.as_ref().unwrap().is_some())
            .collect();
        let expected: Vec<bool> = (0..230).map(|n| n % 2 == 0).collect();
        assert_eq!(known, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_stored_item_is_not_quoted() {
    let store = Store::new().await;
    let ada = id("p-ada");
    let mut item = SummaryItem::new(G1, &ada, &state(&[]));
    item.name = None;
    #[derive(serde::Serialize)]
    struct Broken {
        #[serde(flatten)]
        item: SummaryItem,
        name: Vec<String>,
    }
    let name = vec!["Canary".to_owned()];
    store.put(Broken { item, name }).await;
    let error = Queries::new(&store, G1)
        .patient(&ada, StreamVersion::EMPTY)
        .await
        .unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(said.contains("Malformed") && !said.contains("Canary"), "{said}");
}

#[tokio::test]
async fn a_malformed_summary_does_not_keep_the_other_patients_from_being_listed() {
    let mut store = Store::new().await;
    for (patient, minute) in [("p-1", 1), ("p-2", 2), ("p-3", 3), ("p-4", 4)] {
        store.put_patient(G1, &id(patient), &[minute]).await;
    }
    let put_broken = async |item: SummaryItem, attribute: &str, value: &str| {
        let mut item: serde_dynamo::Item = serde_dynamo::to_item(item).unwrap();
        let text = serde_dynamo::AttributeValue::S(value.to_owned());
        item.insert(attribute.to_owned(), text);
        let put = store.client.put_item().table_name(READ_MODEL_TABLE);
        put.set_item(Some(item.into())).send().await.unwrap();
    };
    for (patient, minute) in [("p-2", 2), ("p-4", 4)] {
        let item = SummaryItem::new(G1, &id(patient), &state(&[minute]));
        put_broken(item, "checkin_count", "many").await;
    }
    // What is not even an id, in both indexes before and after patients of the same shard.
    for (n, value) in (0..).zip(["_0", "_1", "p-2_", "p_9"]) {
        for (neighbour, minute) in [("p-1", 0), ("p-3", 9)] {
            let mut item = SummaryItem::new(G1, &id(&format!("x-{neighbour}.{n}")), &state(&[minute]));
            item.shard = SummaryItem::new(G1, &id(neighbour), &state(&[])).shard;
            put_broken(item, "patient_id", value).await;
        }
    }
    for (page, entries) in [(1, 1), (1, 2), (100, 1), (100, 2), (100, 100)] {
        store.page = page;
        let queries = Queries::new(&store, G1);
        let (mut by_id, mut after) = (Vec::new(), None);
        loop {
            let listing = queries
                .patients_by_id(after.as_ref(), limit(entries))
                .await
                .unwrap();
            by_id.extend(listing.items.into_iter().map(|summary| summary.id));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(
            by_id,
            [id("p-1"), id("p-3")],
            "reading {page} for pages of {entries}"
        );
        let (mut by_recent, mut after) = (Vec::new(), None);
        loop {
            let listing = queries
                .patients_by_recent(after.as_ref(), limit(entries))
                .await
                .unwrap();
            by_recent.extend(listing.items.into_iter().map(|summary| summary.id));
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(
            by_recent,
            [id("p-3"), id("p-1")],
            "reading {page} for pages of {entries}"
        );
    }
}
