//! What the commands may cost, in capacity units and calls. A change that makes them dearer has to change these numbers, and
//! those in docs/PERFORMANCE.md.

use replay::Prune;
use testbed::{Meter, World, at};

use crate::connected::{Connected, LIVE, deliver};

/// Ten patients with ten check-ins each, whose events are all applied, of which every call is metered. The parts of a table
/// are worked on at once, but each patient is in one of them: the sums are always the same.
struct Metered {
    world: World,
    meter: Meter,
}

impl Metered {
    async fn new() -> Metered {
        let meter = Meter::default();
        let world = World::new().await.metered(&meter);
        let patients: Vec<String> = (0..10).map(|number| format!("p-{number}")).collect();
        world.put_streams(&patients, 10).await;
        deliver(&world, &mut None).await;
        Metered { world, meter }
    }

    /// The same, rebuilt: with a generation that was active before.
    async fn rebuilt() -> Metered {
        let metered = Metered::new().await;
        metered.tables().rebuild().run(&|_, _| ()).await.unwrap();
        metered
    }

    fn tables(&self) -> Connected<'_> {
        Connected::new(&self.world)
    }

    /// Checks what a command costs.
    async fn check<V, E: std::fmt::Debug>(
        &self,
        command: impl Future<Output = Result<V, E>>,
        expected: &str,
    ) -> V {
        drop(self.meter.take());
        let done = command.await.unwrap();
        assert_eq!(self.meter.take().to_string(), expected);
        done
    }
}

#[tokio::test]
async fn a_rebuild() {
    let metered = Metered::new().await;
    let tables = metered.tables();
    let rebuilt = metered
        .check(
            tables.rebuild().run(&|_, _| ()),
            concat!(
                r#"calls {"BatchExecuteStatement": 2, "BatchGetItem": 21, "#,
                r#""BatchWriteItem": 5, "GetItem": 13, "PutItem": 15, "Query": 61, "Scan": 6}, "#,
                r#"reads {"by_id": 4.0, "by_recorded_at": 16.0, "#,
                r#""checkin-events": 42.0, "checkin-read-model": 73.5}, "#,
                r#"writes {"by_id": 10.0, "by_recent": 10.0, "checkin-read-model": 124.0}"#
            ),
        )
        .await;
    assert_eq!((rebuilt.patients, rebuilt.events), (10, 110));
}

#[tokio::test]
async fn a_dry_run_and_its_promotion() {
    let metered = Metered::new().await;
    let tables = metered.tables();
    metered
        .check(
            tables.dry_run().run(&|_, _| ()),
            concat!(
                r#"calls {"BatchExecuteStatement": 2, "BatchGetItem": 9, "BatchWriteItem": 5, "#,
                r#""GetItem": 10, "PutItem": 13, "Query": 20, "Scan": 6}, "#,
                r#"reads {"checkin-events": 42.0, "checkin-read-model": 50.0}, "#,
                r#"writes {"by_id": 10.0, "by_recent": 10.0, "checkin-read-model": 122.0}"#
            ),
        )
        .await;
    metered
        .check(
            tables.promote().run(&|_, _| ()),
            concat!(
                r#"calls {"BatchGetItem": 18, "GetItem": 6, "PutItem": 8, "Query": 62, "Scan": 3}, "#,
                r#"reads {"by_id": 4.0, "by_recorded_at": 16.0, "#,
                r#""checkin-events": 26.0, "checkin-read-model": 57.0}, "#,
                r#"writes {"checkin-read-model": 8.0}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_verification_only_reads() {
    let metered = Metered::new().await;
    let tables = metered.tables();
    metered
        .check(
            tables.verify(LIVE).all(&|_| ()),
            concat!(
                r#"calls {"BatchGetItem": 3, "Query": 19, "Scan": 3}, "#,
                r#"reads {"by_id": 4.0, "checkin-events": 16.0, "checkin-read-model": 20.5}, "#,
                r#"writes {}"#
            ),
        )
        .await;
    let patient = "p-0".parse().unwrap();
    metered
        .check(
            tables.verify(LIVE).patient(&patient),
            concat!(
                r#"calls {"BatchGetItem": 1, "Query": 4}, "#,
                r#"reads {"checkin-events": 3.0, "checkin-read-model": 2.5}, "#,
                r#"writes {}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn the_status_only_reads() {
    let metered = Metered::rebuilt().await;
    let tables = metered.tables();
    metered
        .check(
            replay::status(&tables, at(60)),
            concat!(
                r#"calls {"GetItem": 1, "Query": 42}, "#,
                r#"reads {"by_recent": 8.0, "by_recorded_at": 8.0, "#,
                r#""checkin-events": 10.0, "checkin-read-model": 1.0}, "#,
                r#"writes {}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_roll_back() {
    let metered = Metered::rebuilt().await;
    metered
        .check(
            metered.tables().roll_back().run(),
            concat!(
                r#"calls {"BatchGetItem": 32, "GetItem": 5, "PutItem": 3, "Query": 58}, "#,
                r#"reads {"by_id": 8.0, "by_recorded_at": 16.0, "checkin-read-model": 65.0}, "#,
                r#"writes {"checkin-read-model": 3.0}"#
            ),
        )
        .await;
}

#[tokio::test]
async fn a_prune() {
    let metered = Metered::rebuilt().await;
    let tables = metered.tables();
    metered
        .check(
            tables.prune().run(&|_| ()),
            concat!(
                r#"calls {"GetItem": 2, "Scan": 3}, "#,
                r#"reads {"checkin-read-model": 11.0}, "#,
                r#"writes {}"#
            ),
        )
        .await;
    let all = Prune {
        previous: true,
        ..tables.prune()
    };
    let pruned = metered
        .check(
            all.run(&|_| ()),
            concat!(
                r#"calls {"BatchWriteItem": 6, "GetItem": 2, "PutItem": 1, "Scan": 3}, "#,
                r#"reads {"checkin-read-model": 11.0}, "#,
                r#"writes {"by_id": 10.0, "by_recent": 10.0, "checkin-read-model": 112.0}"#
            ),
        )
        .await;
    // A hundred rows and ten summaries, and how far the projection of it had come.
    assert_eq!(pruned.items, 111);
}
