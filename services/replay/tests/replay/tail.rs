//! Following all streams at once.

use domain::Timestamp;
use replay::{Tail, TailEvent};
use testbed::{World, at};

async fn poll(tail: &mut Tail<'_, event_log::EventTable>, now: Timestamp) -> Vec<String> {
    let events = tail.poll(now).await.unwrap();
    let shown = |event: TailEvent| {
        let minute = event.recorded_at.millis_since(at(0)) / 60_000;
        let kind = event.event_type.unwrap_or_default();
        format!("{minute} {} {} {kind}", event.patient_id, event.version)
    };
    events.into_iter().map(shown).collect()
}

#[tokio::test]
async fn events_of_all_patients_come_once_and_in_the_order_of_recording() {
    let world = World::new().await;
    for patient in ["p-1", "p-2", "p-3"] {
        world.register(patient).await;
    }
    for (patient, minute) in [("p-3", 1), ("p-1", 2), ("p-2", 3)] {
        world.check_in(patient, minute).await;
    }
    let log = world.log.clone().with_page_limit(1);
    let mut tail = Tail::new(&log, at(1));
    assert_eq!(
        poll(&mut tail, at(4)).await,
        [
            "1 p-3 2 PatientCheckedIn",
            "2 p-1 2 PatientCheckedIn",
            "3 p-2 2 PatientCheckedIn"
        ]
    );
    assert_eq!(poll(&mut tail, at(4)).await, [""; 0]);
    world.check_in("p-1", 5).await;
    assert_eq!(poll(&mut tail, at(6)).await, ["5 p-1 3 PatientCheckedIn"]);
    // One that was slow comes late, and once.
    world.check_in("p-2", 4).await;
    assert_eq!(poll(&mut tail, at(7)).await, ["4 p-2 3 PatientCheckedIn"]);
    assert_eq!(poll(&mut tail, at(60)).await, [""; 0]);
    assert_eq!(poll(&mut tail, at(61)).await, [""; 0]);
    world.check_in("p-3", 61).await;
    assert_eq!(poll(&mut tail, at(62)).await, ["61 p-3 3 PatientCheckedIn"]);
}

#[tokio::test]
async fn event_that_cannot_be_read_is_shown_by_its_key() {
    let world = World::new().await;
    world.patient("p-1", 1).await;
    let broken = aws_sdk_dynamodb::types::AttributeValue::Bool(true);
    world.edit("p-1", 2, "event_id", broken).await;
    let mut tail = Tail::new(&world.log, at(1));
    assert_eq!(poll(&mut tail, at(2)).await, ["1 p-1 2 "]);
}
