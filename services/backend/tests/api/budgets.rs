//! What a page may cost, in read units and calls. A change that makes it dearer has to change these numbers, and those in
//! docs/PERFORMANCE.md.

use backend::Backend;
use domain::{Generation, Timestamp};
use projection::{Reconcile, Retry};
use testbed::{Meter, World, at};

use crate::fixture::event;

/// Ids are as long as in life.
const BUSY: &str = "5b1f6a0e-93a4-4d0c-8d5e-0a3f5a7c9e21";

/// What a page of 50 costs, from a read model of 400 patients with one check-in each and one with 120.
async fn check(path: &str, query: &[(&str, &str)], expected: &str) {
    let meter = Meter::default();
    let world = World::new().await.metered(&meter);
    let patients: Vec<String> = (0..400)
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
    let backend = Backend::new(world.read_model.clone(), || at(200), None);
    drop(meter.take());

    let request = serde_json::from_value(event("GET", path, query)).unwrap();
    let answer = serde_json::to_value(backend.handle(&request).await).unwrap();
    assert_eq!(answer["statusCode"], 200);
    let bill = meter.take();
    let found = format!(
        "{} units, {} calls: {:?}",
        bill.read_units(),
        bill.all_calls(),
        bill.reads
    );
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_page_of_patients_by_id() {
    // An index of eight shards, 50 summaries; control and freshness.
    let expected = r#"30 units, 11 calls: {"by_id": 4.0, "checkin-read-model": 26.0}"#;
    check("/patients", &[], expected).await;
}

#[tokio::test]
async fn a_page_of_patients_by_recent_check_in() {
    let expected = r#"5 units, 10 calls: {"by_recent": 4.0, "checkin-read-model": 1.0}"#;
    check("/patients", &[("sort", "recent")], expected).await;
}

#[tokio::test]
async fn a_page_of_a_patients_check_ins() {
    // 51 rows, read consistently, are 2 units; the summary, control and freshness half a unit each.
    let expected = r#"3.5 units, 4 calls: {"checkin-read-model": 3.5}"#;
    check(&format!("/patients/{BUSY}/checkins"), &[], expected).await;
}

#[tokio::test]
async fn a_patient() {
    let expected = r#"1.5 units, 3 calls: {"checkin-read-model": 1.5}"#;
    check(&format!("/patients/{BUSY}"), &[], expected).await;
}
