//! The pipeline under load. It takes some minutes, so it is run by name only:
//! `cargo test --release -p local --test system -- --ignored --nocapture --test-threads 1`

#![allow(clippy::print_stdout, reason = "the numbers are what it is run for")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::{PatientId, Timestamp};
use event_store::EventStore;
use futures::{StreamExt, stream};

use crate::append::{check_in, now};
use crate::check::{count, queries_see_exactly_the_events, streams};
use crate::system::System;

/// What queries have seen: for each patient, when which version was there for the first time.
type Sightings = BTreeMap<String, Vec<(u64, Timestamp)>>;

/// Looks at all patients, and notes whose version has risen; the sum of all versions.
fn look(system: &System, seen: &mut Sightings) -> u64 {
    let answer = system.get("/patients?limit=100");
    let at = now();
    let mut sum = 0;
    for patient in answer.json()["patients"].as_array().unwrap() {
        let version = patient["version"].as_u64().unwrap();
        sum += version;
        let sightings = seen
            .entry(patient["id"].as_str().unwrap().to_owned())
            .or_default();
        if sightings.last().is_none_or(|(last, _)| *last < version) {
            sightings.push((version, at));
        }
    }
    sum
}

#[test]
#[ignore = "takes more than two minutes"]
fn a_thousand_check_ins_a_minute_for_two_minutes() {
    let system = System::start(&["--every", "1s", "--checkins-per-tick", "17"]);
    let mut seen = Sightings::new();
    look(&system, &mut seen);
    let (began, until) = (now(), Instant::now() + Duration::from_secs(120));
    while Instant::now() < until {
        look(&system, &mut seen);
    }
    let ended = now();
    let streams = queries_see_exactly_the_events(&system);
    let mut millis: Vec<i64> = streams
        .iter()
        .flat_map(|(patient, events)| {
            let sightings = &seen[patient];
            events.iter().map(move |event| (sightings, event))
        })
        .filter(|(_, event)| (began..ended.plus_millis(-5_000)).contains(&event.recorded_at()))
        .map(|(sightings, event)| {
            let readable = sightings.iter().find(|(version, _)| *version >= event.version());
            readable
                .expect("it was readable within 5 s")
                .1
                .millis_since(event.recorded_at())
        })
        .collect();
    millis.sort_unstable();
    let percentile = |percent: usize| millis[(millis.len() - 1) * percent / 100];
    println!(
        "{} check-ins in two minutes; append to readable: p50 {} ms, p99 {} ms, most {} ms",
        millis.len(),
        percentile(50),
        percentile(99),
        percentile(100)
    );
    assert!(millis.len() >= 1_900, "{}", millis.len());
}

/// Appends `total` check-ins to the streams of `patients`, several at once.
async fn append_all(dynamodb: &str, patients: &[PatientId], total: usize) -> Vec<Instant> {
    let events = EventStore::new(embedded::client(dynamodb), embedded::EVENT_TABLE);
    let events = &events;
    stream::iter((0..total).zip(patients.iter().cycle()))
        .map(|(number, patient)| async move {
            check_in(events, patient, number).await;
            Instant::now()
        })
        .buffer_unordered(8)
        .collect()
        .await
}

/// What else the machine does in a run makes a part of it slow by chance. A stream that makes the system slow does so in each run;
/// so two of three have to be fast.
#[test]
#[ignore = "takes most of a minute"]
fn no_slow_down_up_to_twenty_thousand_events() {
    let ratios = (0..3).map(|_| late_rate_by_early_rate());
    let enough = ratios
        .inspect(|ratio| println!("{ratio:.2}"))
        .filter(|ratio| *ratio >= 0.9)
        .take(2)
        .count();
    assert_eq!(enough, 2, "slower in most runs");
}

/// The rate of the last five thousand of 20,000 events by that of the first five, in a new system.
fn late_rate_by_early_rate() -> f64 {
    const TOTAL: usize = 20_000;
    let system = System::start(&["--every", "1h"]);
    let registered = count(&streams(&system));
    let patients: Vec<PatientId> = system
        .patients()
        .iter()
        .map(|patient| patient["id"].as_str().unwrap().parse().unwrap())
        .collect();
    let began = Instant::now();
    let done = AtomicBool::new(false);
    let (appended, readable) = std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let appended = runtime.block_on(append_all(&system.dynamodb, &patients, TOTAL));
            done.store(true, Ordering::SeqCst);
            appended
        });
        let mut seen = Sightings::new();
        let mut readable = Vec::new();
        while readable.len() < TOTAL {
            let was_done = done.load(Ordering::SeqCst);
            let sum = usize::try_from(look(&system, &mut seen)).unwrap();
            readable.resize(sum.saturating_sub(registered).min(TOTAL), Instant::now());
            assert!(
                !was_done || began.elapsed() < Duration::from_secs(300),
                "{} of {TOTAL}",
                readable.len()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        (appending.join().unwrap(), readable)
    });
    queries_see_exactly_the_events(&system);
    let rate = |times: &[Instant], thousand: usize| {
        // Before the first sighting, whoever appends is only getting ready.
        let from = if thousand == 0 {
            times.partition_point(|time| *time <= times[0]) - 1
        } else {
            thousand * 1_000 - 1
        };
        let to = thousand * 1_000 + 999;
        (to - from) as f64 / (times[to] - times[from]).as_secs_f64()
    };
    println!("events        appended/s    readable/s");
    for thousand in 0..TOTAL / 1_000 {
        let (appended, readable) = (rate(&appended, thousand), rate(&readable, thousand));
        println!(
            "to {:>6} {appended:>14.0} {readable:>13.0}",
            (thousand + 1) * 1_000
        );
    }
    let (first, last) = (0..5, TOTAL / 1_000 - 5..TOTAL / 1_000);
    println!(
        "the last thousand at {:.2} of the rate of the first",
        rate(&readable, last.end - 1) / rate(&readable, 0)
    );
    // One thousand alone can be slow because the machine does something else, and fast because it makes up for a backlog of
    // the one before: on a busy machine the last was at 0.86 of the rate of the first in one run, and at 1.43 in the next.
    // Neither is the median of five.
    let median = |thousands: Range<usize>| {
        let mut rates: Vec<f64> = thousands.map(|thousand| rate(&readable, thousand)).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    print!("the median of the last five thousands by that of the first five: ");
    median(last) / median(first)
}
