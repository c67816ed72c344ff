//! What a page may cost, in read units and calls. A change that makes it dearer has to change these numbers, and those in
//! docs/PERFORMANCE.md.

use backend::Backend;
use domain::{Generation, Timestamp};
use projection::{Reconcile, Retry};
use testbed::{Meter, World, at};

use crate::fixture::event;

const BUSY: &str = "busy";

/// What a page of 50 costs, from a read model of 400 patients with one check-in each and one with 120.
async fn check(path: &str, query: &[(&str, &str)], expected: &str) {
    let meter = Meter::default();
    let world = World::new().await.metered(&meter);
    let patients: Vec<String> = (0..400).map(|number| format!("p-{number:04}")).collect();
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
    let found = format!("{} units, {} calls: {bill}", bill.read_units(), bill.all_calls());
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_page_of_patients_by_id() {
    check("/patients", &[], "").await;
}

#[tokio::test]
async fn a_page_of_patients_by_recent_check_in() {
    check("/patients", &[("sort", "recent")], "").await;
}

#[tokio::test]
async fn a_page_of_a_patients_check_ins() {
    check("/patients/busy/checkins", &[], "").await;
}

#[tokio::test]
async fn a_patient() {
    check("/patients/busy", &[], "").await;
}
