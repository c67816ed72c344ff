//! A replay during live writes, killed on the way, and started again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{CheckinRow, Generation, StreamVersion, Timestamp};
use embedded::READ_MODEL_TABLE;
use projector::Projector;
use read_model::{CheckinsQuery, PageLimit, Queries, ReadModelStore, RowRange};
use testbed::{World, at};

use crate::program::{end, run, start};

/// How many patients there are, and how many check-ins each of them has.
struct Size {
    patients: i64,
    check_ins: i64,
    /// How often the replay is killed.
    kills: u64,
}

impl Size {
    fn events(&self) -> u64 {
        u64::try_from(self.patients * (self.check_ins + 1)).unwrap()
    }
}

fn patient(number: i64) -> String {
    format!("p-{number:04}")
}

/// What runs while the replay does.
struct Live<'w> {
    world: &'w World,
    size: &'w Size,
    ended: AtomicBool,
    written: AtomicU64,
    answers: AtomicU64,
    generations: std::sync::Mutex<BTreeSet<Generation>>,
}

impl Live<'_> {
    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::SeqCst)
    }

    /// Checks patients in, one after the other, and delivers what the stream has.
    async fn write(&self, mut position: Option<String>) {
        // Later than anything else here, each a minute after the one before.
        let mut minute = now().millis_since(at(0)) / 60_000;
        let projector = Projector {
            log: self.world.log.clone(),
            store: self.world.store(),
            queue: &self.world.queue,
            concurrency: 8,
            software: projection::SOFTWARE,
            clock: now,
        };
        let mut more = true;
        while more {
            more = self.goes_on();
            if more {
                minute += 1;
                self.world
                    .check_in(&patient(minute % self.size.patients), minute)
                    .await;
                self.written.fetch_add(1, Ordering::SeqCst);
            }
            let records = self.world.stream(position.as_deref());
            let Some(last) = records.last() else { continue };
            position = Some(last["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned());
            let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();
            let response = projector.handle(event).await.unwrap().response;
            assert!(response.batch_item_failures.is_empty());
        }
    }

    /// Asks as the API does, and compares each answer with itself: a count is that of the rows of one generation.
    async fn read(&self) {
        let mut number = 0;
        while self.goes_on() {
            number = (number + 7) % self.size.patients;
            let id = patient(number).parse().unwrap();
            let control = self.world.read_model.control().await.unwrap().unwrap();
            let queries = Queries::new(&self.world.read_model, control.active);
            let summary = queries.patient(&id, StreamVersion::EMPTY).await.unwrap();
            let mut rows: Vec<CheckinRow> = Vec::new();
            let mut query = CheckinsQuery {
                pinned: Some(summary.version),
                at_least: StreamVersion::EMPTY,
                range: RowRange::default(),
                limit: PageLimit::new(100).unwrap(),
            };
            loop {
                let listing = queries.checkins(&id, query).await.unwrap();
                rows.extend(listing.page.items);
                query.range.after = listing.page.next;
                if query.range.after.is_none() {
                    break;
                }
            }
            let versions: BTreeSet<StreamVersion> = rows.iter().map(|row| row.version).collect();
            let expected: BTreeSet<StreamVersion> =
                (2..=summary.version.get()).map(StreamVersion::new).collect();
            assert_eq!(versions, expected, "{id} in {}", control.active);
            assert_eq!(
                summary.patient.checkin_count,
                u64::try_from(rows.len()).unwrap(),
                "{id}"
            );
            self.generations.lock().unwrap().insert(control.active);
            self.answers.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the program that is tested goes by the time of this machine"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_unix_millis(since.as_millis().try_into().unwrap()).unwrap()
}

/// How many events the passes of a build have read, by its checkpoints.
async fn read_so_far(world: &World, build: &str) -> u64 {
    let query = world.client.query().table_name(READ_MODEL_TABLE);
    let answer = query
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(build.to_owned()))
        .consistent_read(true)
        .send()
        .await
        .unwrap();
    let passes = answer
        .items
        .unwrap()
        .into_iter()
        .filter(|item| item.contains_key("done"));
    passes
        .map(|item| item["events"].as_n().unwrap().parse::<u64>().unwrap())
        .sum()
}

async fn replay_is_killed_and_gone_on_with(size: Size) {
    let world = World::new().await;
    let names: Vec<String> = (0..size.patients).map(patient).collect();
    world.put_streams(&names, size.check_ins).await;
    let first = run(&world, &["rebuild", "--json"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    let position = world.last_sequence_number();
    let live = Live {
        world: &world,
        size: &size,
        ended: AtomicBool::new(false),
        written: AtomicU64::new(0),
        answers: AtomicU64::new(0),
        generations: std::sync::Mutex::default(),
    };
    let replay = async {
        // Both passes read all events.
        let total = 2 * size.events();
        let mut lost = 0;
        for kill in 1..=size.kills {
            let mut child = start(&world, &["rebuild", "--json", "--segments", "8"]);
            while read_so_far(&world, "g3#build").await < total * kill / (size.kills + 1) {
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "it ended before it was killed"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            child.kill().unwrap();
            let killed = end(child).await;
            assert_eq!(killed.code, -1, "{killed:?}");
            assert_eq!(world.control().await.active, Generation::new(2));
            lost = read_so_far(&world, "g3#build").await;
            println!("killed after {lost} of {total} reads");
        }
        let began = Instant::now();
        let rebuilt = end(start(&world, &["rebuild", "--json", "--segments", "8"])).await;
        assert_eq!(rebuilt.code, 0, "{rebuilt:?}");
        let rebuilt = rebuilt.json();
        println!("gone on with, {:.1} s: {rebuilt}", began.elapsed().as_secs_f64());
        assert_eq!(rebuilt["generation"], 3);
        // What had been read by the third kill was not read again.
        assert!(rebuilt["resumed"].as_u64().unwrap() >= lost, "{lost}: {rebuilt}");
        // Readers stay a moment with the new one.
        let seen = live.answers.load(Ordering::SeqCst);
        while live.answers.load(Ordering::SeqCst) < seen + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        live.ended.store(true, Ordering::SeqCst);
    };
    tokio::join!(live.write(position), live.read(), replay);
    let generations: Vec<u32> = live
        .generations
        .into_inner()
        .unwrap()
        .iter()
        .map(|of| of.get())
        .collect();
    assert_eq!(generations, [2, 3], "readers saw both, one after the other");
    let (written, answers) = (live.written.into_inner(), live.answers.into_inner());
    println!("{answers} answers and {written} check-ins meanwhile");
    assert!(written > 10 && answers > 10);
    let verified = run(&world, &["verify", "--json"]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    let verified = verified.json();
    assert_eq!(verified["events"], size.events() + written);
    assert_eq!(verified["lag"], 0);
    for name in &names {
        world.assert_complete(Generation::new(3), name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_during_live_writes_survives_a_kill() {
    replay_is_killed_and_gone_on_with(Size {
        patients: 40,
        check_ins: 49,
        kills: 1,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --release -p replay --test command_line -- --ignored --nocapture"]
async fn replay_of_a_hundred_thousand_events_during_live_writes_survives_three_kills() {
    replay_is_killed_and_gone_on_with(Size {
        patients: 1_000,
        check_ins: 99,
        kills: 3,
    })
    .await;
}
