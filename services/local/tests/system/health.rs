//! What `/health` says of a projector that does nothing.

use domain::Timestamp;
use runtime::clock::system_clock;
use rustix::process::Signal;
use serde_json::Value;

use crate::system::{System, wait_until};

fn time(health: &Value, field: &str) -> Timestamp {
    health[field].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_projector_that_holds_still_is_told_though_the_reconciler_does_its_work() {
    // Twice this long, what it finds is far from the two minutes that are too late by themselves.
    let system = System::start(&["--every", "200ms", "--reconcile-every", "15s"]);
    let health = || {
        let answer = system.get("/health");
        (answer.status, answer.json())
    };
    wait_until("it has applied something", || {
        let (status, health) = health();
        status == 200 && health["lastAppliedAt"].is_string()
    });
    system.hold("projector");
    let held_at = system_clock();

    let mut told = Value::Null;
    wait_until("it is told", || {
        // One that took too long is replaced.
        system.signal("projector", Signal::STOP);
        let (status, health) = health();
        told = health;
        status == 503
    });
    assert_eq!(told["type"], "urn:problem:patient-checkins:projection-stalled");
    assert!(told["lagMillis"].as_i64().unwrap() > 10_000, "{told}");
    assert!(
        told["lagMillis"].as_i64().unwrap() < 2 * 60_000,
        "long before that alone would be too much: {told}"
    );
    // What the reconciler has applied is applied.
    assert!(time(&told, "lastAppliedAt") > held_at, "{told}");
    assert!(time(&told, "comparedTo") > held_at, "{told}");
    let stale = system.get("/patients/p-001").json()["staleSince"].clone();
    assert!(stale.is_string(), "{stale}");

    system.signal("projector", Signal::CONT);
    wait_until("it is well again", || health().0 == 200);
}
