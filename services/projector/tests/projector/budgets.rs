//! What an event may cost, in capacity units and calls. A change that makes it dearer has to change these numbers, and
//! those in docs/PERFORMANCE.md.

use aws_lambda_events::dynamodb::EventRecord;
use aws_sdk_dynamodb::types::AttributeValue;
use projection::{SOFTWARE, begin_building};
use testbed::{Bill, Meter, World, at};

use crate::fixture::{batch, failed, projector};

/// A world of which every call is metered.
struct Metered {
    world: World,
    meter: Meter,
}

fn patients(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("p-{number}"))
}

/// The records of registered patients with so many check-ins each: the registrations, and the check-ins.
fn records(count: usize, check_ins: i64) -> (Vec<EventRecord>, Vec<EventRecord>) {
    let mut registrations = Vec::new();
    let mut records = Vec::new();
    for patient in patients(count) {
        let images = testbed::records(&patient, check_ins).into_iter();
        let mut images = images.map(|image| serde_json::from_value(image).unwrap());
        registrations.extend(images.next());
        records.extend(images);
    }
    (registrations, records)
}

impl Metered {
    /// One in which nothing was applied yet.
    async fn new() -> Metered {
        Metered::on(World::new().await).await
    }

    async fn on(world: World) -> Metered {
        world.control().await;
        let meter = Meter::default();
        let world = world.metered(&meter);
        Metered { world, meter }
    }

    /// Applies one batch; what that costs.
    async fn apply(&self, records: Vec<EventRecord>) -> Bill {
        drop(self.meter.take());
        let handled = projector(&self.world).handle(batch(records)).await;
        assert_eq!(failed(&handled.unwrap()), None);
        self.meter.take()
    }

    async fn check(&self, records: Vec<EventRecord>, expected: &str) {
        assert_eq!(self.apply(records).await.to_string(), expected);
    }
}

/// What it costs to apply one batch of `check_ins` check-ins of each of so many registered patients; and, of both tables,
/// the write units of each event.
async fn check(patients: usize, check_ins: i64, expected: &str, each: &str) {
    let metered = Metered::new().await;
    let (registrations, records) = records(patients, check_ins);
    metered.apply(registrations).await;
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let events = records.len() as f64;
    let bill = metered.apply(records).await;
    assert_eq!(bill.to_string(), expected);
    // An event and its entry in the index are 2 units.
    assert_eq!(format!("{:.2}", 2.0 + bill.write_units() / events), each);
}

#[tokio::test]
async fn ten_check_ins_of_each_patient_share_a_summary() {
    check(
        10,
        10,
        concat!(
            r#"calls {"BatchExecuteStatement": 1, "BatchGetItem": 1, "#,
            r#""BatchWriteItem": 4, "GetItem": 1, "PutItem": 1}, "#,
            r#"reads {"checkin-read-model": 11.0}, "#,
            r#"writes {"by_recent": 20.0, "checkin-read-model": 111.0}"#
        ),
        "3.31",
    )
    .await;
}

#[tokio::test]
async fn one_check_in_of_each_patient_pays_for_its_own_summary() {
    check(
        100,
        1,
        concat!(
            r#"calls {"BatchExecuteStatement": 4, "BatchGetItem": 1, "#,
            r#""BatchWriteItem": 4, "GetItem": 1, "PutItem": 1}, "#,
            r#"reads {"checkin-read-model": 101.0}, "#,
            r#"writes {"by_recent": 200.0, "checkin-read-model": 201.0}"#
        ),
        "6.01",
    )
    .await;
}

#[tokio::test]
async fn one_check_in_alone_pays_for_its_batch_too() {
    check(
        1,
        1,
        concat!(
            r#"calls {"BatchGetItem": 1, "BatchWriteItem": 1, "GetItem": 1, "PutItem": 2}, "#,
            r#"reads {"checkin-read-model": 2.0}, "#,
            r#"writes {"by_recent": 2.0, "checkin-read-model": 3.0}"#
        ),
        "7.00",
    )
    .await;
}

#[tokio::test]
async fn a_registration_enters_a_patient_into_both_lists() {
    let (registrations, _) = records(100, 0);
    let expected = concat!(
        r#"calls {"BatchExecuteStatement": 4, "BatchGetItem": 1, "GetItem": 1, "PutItem": 1}, "#,
        r#"reads {"checkin-read-model": 101.0}, "#,
        r#"writes {"by_id": 100.0, "by_recent": 100.0, "checkin-read-model": 101.0}"#
    );
    Metered::new().await.check(registrations, expected).await;
}

#[tokio::test]
async fn a_redelivered_batch_writes_nothing() {
    let metered = Metered::new().await;
    let (registrations, records) = records(10, 10);
    metered.apply(registrations).await;
    metered.apply(records.clone()).await;
    metered
        .check(
            records,
            r#"calls {"BatchGetItem": 1, "GetItem": 1}, reads {"checkin-read-model": 11.0}, writes {}"#,
        )
        .await;
}

#[tokio::test]
async fn a_gap_is_read_from_the_event_table_from_where_it_begins() {
    let metered = Metered::new().await;
    metered
        .world
        .put_streams(&patients(10).collect::<Vec<_>>(), 10)
        .await;
    let (registrations, mut records) = records(10, 10);
    metered.apply(registrations).await;
    // The last of each patient alone: the other nine are missing.
    records.retain(|record| format!("{:?}", record.change.keys).contains("\"11\""));
    metered
        .check(
            records,
            concat!(
                r#"calls {"BatchExecuteStatement": 1, "BatchGetItem": 1, "#,
                r#""BatchWriteItem": 4, "GetItem": 1, "PutItem": 1, "Query": 10}, "#,
                r#"reads {"checkin-events": 20.0, "checkin-read-model": 11.0}, "#,
                r#"writes {"by_recent": 20.0, "checkin-read-model": 111.0}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_generation_that_is_being_built_costs_as_much_as_the_active_one() {
    let metered = Metered::new().await;
    let begun = begin_building(&metered.world.store(), SOFTWARE, at(0)).await;
    begun.unwrap();
    let (registrations, records) = records(10, 10);
    metered.apply(registrations).await;
    metered
        .check(
            records,
            concat!(
                r#"calls {"BatchExecuteStatement": 2, "BatchGetItem": 2, "#,
                r#""BatchWriteItem": 8, "GetItem": 1, "PutItem": 2}, "#,
                r#"reads {"checkin-read-model": 21.0}, "#,
                r#"writes {"by_recent": 40.0, "checkin-read-model": 222.0}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_generation_that_is_being_built_costs_a_look_at_those_whom_the_build_has_not_come_to() {
    let metered = Metered::new().await;
    let (registrations, records) = records(10, 10);
    metered.apply(registrations).await;
    let begun = begin_building(&metered.world.store(), SOFTWARE, at(0)).await;
    begun.unwrap();
    metered
        .check(
            records,
            concat!(
                r#"calls {"BatchExecuteStatement": 1, "BatchGetItem": 2, "#,
                r#""BatchWriteItem": 4, "GetItem": 1, "PutItem": 1}, "#,
                r#"reads {"checkin-read-model": 21.0}, "#,
                r#"writes {"by_recent": 20.0, "checkin-read-model": 111.0}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_patient_is_quarantined_by_one_mark_and_costs_a_look_from_then_on() {
    let world = World::new().await;
    world.put_streams(&patients(1).collect::<Vec<_>>(), 10).await;
    world
        .edit("p-0", 6, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    let metered = Metered::on(world).await;
    let (registrations, mut records) = records(1, 10);
    metered.apply(registrations).await;
    let mut poison = serde_json::to_value(&records[4]).unwrap();
    poison["dynamodb"]["NewImage"]["schema_version"]["N"] = "99".into();
    records[4] = serde_json::from_value(poison).unwrap();
    let later = records.split_off(5);
    // Four rows and the summary, with its mark. It is no progress.
    metered
        .check(
            records,
            concat!(
                r#"calls {"BatchGetItem": 1, "BatchWriteItem": 1, "#,
                r#""GetItem": 1, "PutItem": 1, "Query": 1}, "#,
                r#"reads {"checkin-events": 2.0, "checkin-read-model": 2.0}, "#,
                r#"writes {"by_recent": 2.0, "checkin-read-model": 5.0}"#
            ),
        )
        .await;
    metered
        .check(
            later,
            r#"calls {"BatchGetItem": 1, "GetItem": 1}, reads {"checkin-read-model": 2.0}, writes {}"#,
        )
        .await;
}
