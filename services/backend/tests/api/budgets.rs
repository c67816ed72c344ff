//! What an answer may cost, in read units and calls. A change that makes it dearer has to change these numbers, and those in
//! docs/PERFORMANCE.md.

use backend::Backend;
use domain::{Generation, Timestamp};
use projection::{Reconcile, Retry};
use read_model::ReadModelTable;
use serde_json::{Value, json};
use testbed::{Meter, World, at};

use crate::fixture::event;

/// Ids are as long as in life.
const BUSY: &str = "5b1f6a0e-93a4-4d0c-8d5e-0a3f5a7c9e21";

/// A backend of which every call is metered.
struct Metered {
    backend: Backend<ReadModelTable>,
    meter: Meter,
    _world: World,
}

impl Metered {
    /// Over a read model of so many patients with one check-in each and one with 120.
    async fn with(others: usize) -> Metered {
        let meter = Meter::default();
        let world = World::new().await.metered(&meter);
        let patients: Vec<String> = (0..others)
            .map(|number| format!("9c8e2d5f-71b3-4a60-b1c4-{number:012}"))
            .collect();
        world.put_streams(&patients, 1).await;
        world.put_streams(&[BUSY.to_owned()], 120).await;
        world.control().await;
        let reconcile = Reconcile {
            log: &world.log,
            store: &world.store(),
            queue: &&world.queue,
            generation: Generation::FIRST,
            retry: Retry::No,
            concurrency: 16,
            now: at(0),
        };
        let reconciled = reconcile.since(Timestamp::EARLIEST).await.unwrap();
        assert!(reconciled.failed.is_empty());
        Metered {
            backend: Backend::new(world.read_model.clone(), || at(200), None),
            meter,
            _world: world,
        }
    }

    /// Checks what it costs to answer this request, with this status; the answer.
    async fn answer(&self, request: Value, status: u64, expected: &str) -> Value {
        drop(self.meter.take());
        let request = serde_json::from_value(request).unwrap();
        let answer = serde_json::to_value(self.backend.handle(&request).await).unwrap();
        assert_eq!(answer["statusCode"], status);
        let bill = self.meter.take();
        let found = format!(
            "{} units, {} calls: {:?}",
            // The sum of nothing is -0.
            bill.read_units() + 0.0,
            bill.all_calls(),
            bill.reads
        );
        assert_eq!((found.as_str(), bill.write_units()), (expected, 0.0));
        answer
    }

    /// Checks what it costs to answer GET.
    async fn check(&self, path: &str, query: &[(&str, &str)], status: u64, expected: &str) -> Value {
        self.answer(event("GET", path, query), status, expected).await
    }

    /// Checks what each of the first two pages of a list costs; and the second one once more, for whoever has it.
    async fn check_pages(&self, path: &str, query: &[(&str, &str)], expected: [&str; 2]) {
        let first = self.check(path, query, 200, expected[0]).await;
        let body: Value = serde_json::from_str(first["body"].as_str().unwrap()).unwrap();
        let cursor = body["nextCursor"].as_str().unwrap();
        let second = event("GET", path, &[query, &[("cursor", cursor)]].concat());
        let answer = self.answer(second.clone(), 200, expected[1]).await;
        self.check_unchanged(second, &answer, expected[1]).await;
    }

    /// Checks what it costs to ask again for what was answered, and has not changed.
    async fn check_unchanged(&self, mut request: Value, answered: &Value, expected: &str) {
        request["multiValueHeaders"]["if-none-match"] = json!([answered["headers"]["etag"]]);
        self.answer(request, 304, expected).await;
    }
}

#[tokio::test]
async fn a_page_of_patients_by_id() {
    // An index of eight shards, 50 summaries; control and freshness.
    let expected = r#"30 units, 11 calls: {"by_id": 4.0, "checkin-read-model": 26.0}"#;
    let metered = Metered::with(400).await;
    metered.check_pages("/patients", &[], [expected; 2]).await;
}

#[tokio::test]
async fn a_page_of_patients_by_recent_check_in() {
    let expected = r#"5 units, 10 calls: {"by_recent": 4.0, "checkin-read-model": 1.0}"#;
    let metered = Metered::with(400).await;
    let recent = [("sort", "recent")];
    metered.check_pages("/patients", &recent, [expected; 2]).await;
}

#[tokio::test]
async fn a_page_of_a_patients_check_ins() {
    // 51 rows, read consistently, are 2 units; the summary, control and freshness half a unit each.
    let first = r#"3.5 units, 4 calls: {"checkin-read-model": 3.5}"#;
    // Whoever knows a version, from a page or from an append, gets no older one: the summary is read consistently.
    let of_a_version = r#"4 units, 4 calls: {"checkin-read-model": 4.0}"#;
    let metered = Metered::with(0).await;
    let path = format!("/patients/{BUSY}/checkins");
    for order in ["desc", "asc"] {
        metered
            .check_pages(&path, &[("order", order)], [first, of_a_version])
            .await;
    }
    let versions = [
        ("121", 200, of_a_version),
        ("122", 503, r#"2 units, 3 calls: {"checkin-read-model": 2.0}"#),
    ];
    for (version, status, expected) in versions {
        let query = [("minVersion", version)];
        metered.check(&path, &query, status, expected).await;
    }
    let unknown = r#"1.5 units, 3 calls: {"checkin-read-model": 1.5}"#;
    metered
        .check("/patients/nobody/checkins", &[], 404, unknown)
        .await;
}

#[tokio::test]
async fn a_patient() {
    let expected = r#"1.5 units, 3 calls: {"checkin-read-model": 1.5}"#;
    let metered = Metered::with(0).await;
    let path = format!("/patients/{BUSY}");
    let found = metered.check(&path, &[], 200, expected).await;
    metered
        .check_unchanged(event("GET", &path, &[]), &found, expected)
        .await;
    metered.check("/patients/nobody", &[], 404, expected).await;
    let of_a_version = r#"2 units, 3 calls: {"checkin-read-model": 2.0}"#;
    for (version, status) in [("121", 200), ("122", 503)] {
        let query = [("minVersion", version)];
        metered.check(&path, &query, status, of_a_version).await;
    }
}

#[tokio::test]
async fn how_the_projection_is() {
    let expected = r#"1 units, 2 calls: {"checkin-read-model": 1.0}"#;
    Metered::with(0).await.check("/health", &[], 200, expected).await;
}

#[tokio::test]
async fn what_needs_no_data_costs_nothing() {
    let metered = Metered::with(0).await;
    let wrong = event("GET", "/patients", &[("limit", "0")]);
    for (request, status) in [
        (event("GET", "/", &[]), 200),
        (event("GET", "/openapi.json", &[]), 200),
        (event("OPTIONS", "/patients", &[]), 204),
        (wrong, 400),
        (event("GET", "/nowhere", &[]), 404),
        (event("POST", "/patients", &[]), 405),
    ] {
        metered.answer(request, status, "0 units, 0 calls: {}").await;
    }
}
