//! What an event may cost, in capacity units and calls. A change that makes it dearer has to change these numbers, and
//! those in docs/PERFORMANCE.md.

use testbed::{Bill, Meter, World};

use crate::fixture::{batch, failed, projector};

/// What it costs to apply one batch of `check_ins` check-ins of each of so many registered patients.
async fn check(patients: usize, check_ins: usize, expected: &str) -> Bill {
    let meter = Meter::default();
    let world = World::new().await.metered(&meter);
    let mut registrations = Vec::new();
    let mut records = Vec::new();
    for number in 0..patients {
        let images = world.images(&format!("p-{number}"), i64::try_from(check_ins).unwrap());
        let images = images
            .into_iter()
            .map(|image| serde_json::from_value(image).unwrap());
        let mut images: Vec<_> = images.collect();
        records.extend(images.split_off(1));
        registrations.extend(images);
    }
    let projector = projector(&world);
    assert_eq!(
        failed(&projector.handle(batch(registrations)).await.unwrap()),
        None
    );
    drop(meter.take());
    assert_eq!(failed(&projector.handle(batch(records)).await.unwrap()), None);
    let bill = meter.take();
    assert_eq!(bill.to_string(), expected);
    bill
}

#[tokio::test]
async fn ten_check_ins_of_each_patient_share_a_summary() {
    let bill = check(
        10,
        10,
        concat!(
            r#"calls {"BatchExecuteStatement": 1, "BatchGetItem": 1, "BatchWriteItem": 4, "GetItem": 1, "PutItem": 1}, "#,
            r#"reads {"checkin-read-model": 11.0}, "#,
            r#"writes {"by_recent": 20.0, "checkin-read-model": 111.0}"#
        ),
    )
    .await;
    // With the event and its entry in the index, 2 units.
    assert_eq!(format!("{:.2}", 2.0 + bill.write_units() / 100.0), "3.31");
}

#[tokio::test]
async fn one_check_in_of_each_patient_pays_for_its_own_summary() {
    let bill = check(
        100,
        1,
        concat!(
            r#"calls {"BatchExecuteStatement": 4, "BatchGetItem": 1, "BatchWriteItem": 4, "GetItem": 1, "PutItem": 1}, "#,
            r#"reads {"checkin-read-model": 101.0}, "#,
            r#"writes {"by_recent": 200.0, "checkin-read-model": 201.0}"#
        ),
    )
    .await;
    assert_eq!(format!("{:.2}", 2.0 + bill.write_units() / 100.0), "6.01");
}
