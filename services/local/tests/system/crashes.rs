//! What is killed at any moment is started again, and nothing is lost or repeated.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::append::append_check_in;
use crate::check::{count, queries_see_exactly_the_events, streams};
use crate::http;
use crate::system::{System, is_alive, never, wait_until};

/// Often enough that there is always something under way.
const BUSY: [&str; 4] = ["--every", "50ms", "--checkins-per-tick", "3"];

/// What a function, or `local` itself, has logged with this message.
fn logged(system: &System, function: &str, message: &str) -> Vec<Value> {
    let mut log = system.log_of(function);
    log.retain(|line| line["message"] == message);
    log
}

/// How many batches failed that the projector had been given.
fn failed_batches(system: &System) -> usize {
    logged(system, "local", "batch failed").len()
}

#[test]
fn batch_in_the_hands_of_a_killed_projector_is_delivered_again() {
    // Nothing else ever tells of the check-in: neither a later record nor the reconciler.
    let system = System::start(&["--every", never(), "--reconcile-every", never()]);
    let events = count(&streams(&system)) + 1;
    system.hold("projector");
    append_check_in(&system, "p-007");
    wait_until("it has had the batch for more than a second", || {
        let status = system.status();
        status.starts_with(&format!("events {events} ")) && !status.contains("lag 0.")
    });
    assert_eq!(failed_batches(&system), 0);

    system.signal("projector", Signal::KILL);
    wait_until("the batch has failed", || failed_batches(&system) == 1);
    let streams = queries_see_exactly_the_events(&system);
    assert_eq!(count(&streams), events);
}

#[test]
fn projector_killed_again_and_again_loses_and_repeats_nothing() {
    let system = System::start(&BUSY);
    let mut rounds = 0;
    while rounds < 6 || failed_batches(&system) < 3 {
        assert!(rounds < 30, "it never has a batch in its hands");
        let before = count(&streams(&system));
        if rounds % 2 == 0 {
            // It holds still with a batch in its hands, while more and more is appended…
            system.signal("projector", Signal::STOP);
        }
        wait_until("events are appended", || count(&streams(&system)) > before + 10);
        let killed = system.processes("projector");
        system.signal("projector", Signal::KILL);
        wait_until("there is a new one", || {
            system
                .processes("projector")
                .iter()
                .any(|process| !killed.contains(process))
        });
        rounds += 1;
    }
    queries_see_exactly_the_events(&system);
}

#[test]
fn backend_killed_in_mid_request_fails_that_one_and_answers_the_next() {
    let system = System::start(&["--every", never()]);
    wait_until("a request was cut off", || {
        wait_until("both backends are there", || {
            system.processes("backend").len() == 2
        });
        system.hold("backend");
        let request = http::send(&system.api, "GET", "/patients", "").unwrap();
        // However short this is: if it was too short, the request is answered by the next backend.
        assert!(!request.is_answered_within(Duration::from_millis(100)));
        let killed = system.processes("backend");
        system.signal("backend", Signal::KILL);
        wait_until("they have ended", || {
            !killed.iter().any(|process| is_alive(*process))
        });
        let cut_off = request.answer().unwrap();

        let next = system.get("/patients");
        assert_eq!(next.status, 200, "{next:?}");
        match cut_off.status {
            500 => assert_eq!(cut_off.json()["type"], "urn:problem:patient-checkins:internal"),
            status => assert_eq!(status, 200),
        }
        cut_off.status == 500
    });
}

#[test]
fn producer_killed_again_and_again_repeats_no_event() {
    let system = System::start(&BUSY);
    for _ in 0..5 {
        let before = count(&streams(&system));
        system.signal("checkin", Signal::KILL);
        wait_until("events are appended", || count(&streams(&system)) > before + 5);
    }
    queries_see_exactly_the_events(&system);
}

#[test]
fn whole_system_killed_goes_on_from_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = [&BUSY, ["--data", data].as_slice()].concat();
    let mut known = 0;
    for _ in 0..3 {
        let mut system = System::start(&arguments);
        let before = streams(&system);
        assert!(count(&before) >= known, "appended events are gone");
        wait_until("events are appended", || {
            count(&streams(&system)) > count(&before) + 20
        });
        let kept = streams(&system);
        for (patient, events) in &before {
            assert!(
                kept[patient].starts_with(events),
                "the stream of {patient} has changed"
            );
        }
        known = count(&kept);
        let children = system.children();
        assert_eq!(children.len(), 5);
        system.end(Signal::KILL);
        wait_until("its children have ended by themselves", || {
            !children.iter().any(|child| is_alive(*child))
        });
    }
    let system = System::start(&arguments);
    let streams = queries_see_exactly_the_events(&system);
    assert!(count(&streams) >= known, "appended events are gone");
}

#[test]
fn batch_in_the_hands_of_a_projector_that_is_killed_with_everything_is_delivered_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = ["--every", never(), "--reconcile-every", never(), "--data", data];
    let reconciled = |system: &System| logged(system, "reconciler", "reconciled");
    let mut system = System::start(&arguments);
    // It begins with a comparison, which must not come to the check-in.
    wait_until("the reconciler has compared", || reconciled(&system).len() == 1);
    system.hold("projector");
    append_check_in(&system, "p-007");
    wait_until("it has had the batch for more than a second", || {
        let status = system.status();
        status.starts_with("events 51 ") && !status.contains("lag 0.")
    });
    system.end(Signal::KILL);
    system.signal("projector", Signal::KILL);
    let before = logged(&system, "projector", "batch applied").len();

    let system = System::start(&arguments);
    wait_until("the reconciler has compared", || reconciled(&system).len() == 2);
    assert_eq!(count(&queries_see_exactly_the_events(&system)), 51);
    let redelivered = logged(&system, "projector", "batch applied").split_off(before);
    let redelivered: Vec<_> = redelivered
        .iter()
        .map(|line| [&line["records"], &line["applied"]])
        .collect();
    // From the checkpoint on: neither none of the stream nor all.
    assert_eq!(json!(redelivered), json!([[1, 1]]));
    assert!(
        reconciled(&system)
            .iter()
            .all(|line| line["repaired_events"] == 0),
        "it was not the projector alone"
    );
}
