//! Walks through long lists, while patients check in and register.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI64};

use backend::Backend;
use domain::{Generation, PatientId, Timestamp};
use projection::{Reconcile, Retry};
use serde_json::Value;
use testbed::{World, at};

use crate::fixture::event;

const BUSY: &str = "busy";

/// A read model of real events, projected by the real algorithm.
struct Live {
    world: World,
    patients: i64,
    backend: Backend<read_model::ReadModelTable>,
    /// How many rounds of writes there were.
    written: AtomicI64,
}

impl Live {
    /// So many patients, and one of them with so many check-ins.
    async fn new(patients: i64, check_ins: i64) -> Live {
        let world = World::new().await;
        world.put_streams(&quiet(patients), 0).await;
        world.put_streams(&[BUSY.to_owned()], check_ins).await;
        world.control().await;
        let backend = Backend::new(world.read_model.clone(), || at(20_000), None);
        let live = Live {
            world,
            patients,
            backend,
            written: AtomicI64::new(0),
        };
        live.reconcile(None).await;
        live
    }

    /// Projects what was appended: of one patient, or of all.
    async fn reconcile(&self, patient: Option<&str>) {
        let reconcile = Reconcile {
            log: &self.world.log,
            store: &self.world.store(),
            queue: &&self.world.queue,
            generation: Generation::FIRST,
            retry: Retry::No,
            concurrency: 16,
            now: at(0),
        };
        let reconciled = match patient.map(|patient| patient.parse::<PatientId>().unwrap()) {
            Some(patient) => reconcile.to_heads(&[patient]).await.unwrap(),
            None => reconcile.since(Timestamp::EARLIEST).await.unwrap(),
        };
        assert!(reconciled.failed.is_empty() && reconciled.quarantined.is_empty());
    }

    /// Checks in somebody after the other, and the busy one in between, now and in the past, and registers new patients, until
    /// `over`.
    async fn write_until(&self, over: &AtomicBool) {
        while !over.load(SeqCst) {
            let written = self.written.load(SeqCst);
            let number = written * 7 % (self.patients - 1) + 1;
            for patient in [BUSY.to_owned(), format!("p-{number:04}")] {
                // Newer than all others, or now and then older: where the one walk or the other still has to go.
                let minute = if written % 10 == 9 {
                    -written
                } else {
                    10_001 + written
                };
                self.world.check_in(&patient, minute).await;
                self.reconcile(Some(&patient)).await;
            }
            // Before all others, behind them, and between two.
            let new = match written % 3 {
                0 => format!("a-{written}"),
                1 => format!("z-{written}"),
                _ => format!("p-{number:04}-{written}"),
            };
            self.world.register(&new).await;
            self.reconcile(Some(&new)).await;
            self.written.fetch_add(1, SeqCst);
        }
    }

    /// All entries of a list, page by page, each of which is asked for once something was written since the one before.
    async fn walk(&self, path: &str, query: &[(&str, &str)], field: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut asked = query.to_vec();
            asked.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let request = serde_json::from_value(event("GET", path, &asked)).unwrap();
            let answer = serde_json::to_value(self.backend.handle(&request).await).unwrap();
            assert_eq!(answer["statusCode"], 200, "{answer}");
            let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            entries.extend(body[field].as_array().unwrap().iter().cloned());
            cursor = body["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return entries;
            }
            let before = self.written.load(SeqCst);
            while self.written.load(SeqCst) == before {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// All but the busy one.
fn quiet(patients: i64) -> Vec<String> {
    (1..patients).map(|number| format!("p-{number:04}")).collect()
}

#[tokio::test]
async fn walks_during_live_writes_give_each_entry_once() {
    check(150, 400).await;
}

#[tokio::test]
#[ignore = "long without optimization: .ci/run runs it"]
async fn long_walks_during_live_writes_give_each_entry_once() {
    check(2_000, 10_000).await;
}

async fn check(patients: i64, check_ins: i64) {
    let live = Live::new(patients, check_ins).await;
    let over = AtomicBool::new(false);
    let walks = async {
        let path = format!("/patients/{BUSY}/checkins");
        for order in ["desc", "asc"] {
            let query = [("limit", "100"), ("order", order)];
            let rows = live.walk(&path, &query, "checkins").await;
            let versions: Vec<u64> = rows.iter().map(|row| row["version"].as_u64().unwrap()).collect();
            let distinct: BTreeSet<u64> = versions.iter().copied().collect();
            // As of the first page: dense, and nothing of what came meanwhile.
            let last = *distinct.last().unwrap();
            assert!(last > u64::try_from(check_ins).unwrap());
            assert_eq!(distinct, (2..=last).collect());
            assert_eq!(versions.len(), distinct.len(), "{order}");
        }
        let listed = live.walk("/patients", &[("limit", "20")], "patients").await;
        let listed: Vec<&str> = listed
            .iter()
            .map(|patient| patient["id"].as_str().unwrap())
            .collect();
        assert!(listed.is_sorted(), "in order, so each once: {listed:?}");
        let mut known = quiet(patients);
        known.push(BUSY.to_owned());
        known.sort_unstable();
        let of_known: Vec<&str> = listed
            .iter()
            .copied()
            .filter(|id| known.iter().any(|known| known == id))
            .collect();
        assert_eq!(of_known, known);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
        // Those who registered behind the place that the walk had come to are in it.
        assert!(listed.len() > known.len(), "nobody registered");
        // By time, one who checks in meanwhile may be missed, and none comes twice.
        let query = [("limit", "20"), ("sort", "recent")];
        let listed = live.walk("/patients", &query, "patients").await;
        let distinct: BTreeSet<String> = listed.iter().map(|patient| patient["id"].to_string()).collect();
        assert_eq!(distinct.len(), listed.len());
        over.store(true, SeqCst);
    };
    tokio::join!(live.write_until(&over), walks);
    let written = live.written.load(SeqCst);
    let busy = live.world.state(Generation::FIRST, BUSY).await.patient.unwrap();
    assert_eq!(busy.checkin_count, u64::try_from(check_ins + written).unwrap());
}
