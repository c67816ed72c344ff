//! Many schedules.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::{Fault, Way};
use crate::schedule::{Outcome, Schedule};
use crate::system::Retries;
use crate::tables::Tables;

/// What came of many schedules, all of which ended as they should.
#[derive(Default)]
pub(crate) struct Report {
    /// How many schedules, and in how many of them a service failed and was invoked again.
    ways: BTreeMap<(Retries, Way), (usize, usize)>,
    /// How many of the calls that failed did what to what.
    kinds: BTreeMap<String, usize>,
    took: Duration,
}

/// Runs something on this thread, with tables that nobody else uses.
pub(crate) fn on_tables<T>(run: impl AsyncFnOnce(&Tables) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { run(&Tables::start().await).await })
}

/// Every schedule of a seed's story: each of its calls fails once in each way, without and with the SDK's retries.
///
/// # Panics
/// With the history of the story, if it goes wrong even without a fault.
pub(crate) fn of_story(seed: u64) -> Vec<Schedule> {
    let schedule = Schedule::without_fault(seed);
    let outcome = on_tables(async |tables| schedule.run(tables).await);
    if let Some(failure) = failure(&schedule, &outcome) {
        panic!("{failure}");
    }
    let mut schedules = Vec::new();
    for call in outcome.calls {
        for way in Way::ALL {
            for retries in [Retries::Off, Retries::On] {
                let call = call.clone();
                schedules.push(Schedule {
                    fault: Some(Fault { call, way }),
                    retries,
                    ..schedule.clone()
                });
            }
        }
    }
    schedules
}

/// Some of these schedules: about so many for each kind of call, in all ways if they are enough.
pub(crate) fn sample(schedules: &[Schedule], of_each_kind: usize) -> Vec<Schedule> {
    let mut kinds: BTreeMap<_, Vec<&Schedule>> = BTreeMap::new();
    for schedule in schedules {
        let call = schedule.fault.as_ref().map(|fault| fault.call.kind());
        kinds.entry(call).or_default().push(schedule);
    }
    let mut sample = Vec::new();
    for (first, schedules) in kinds.into_values().enumerate() {
        // Odd, so that it shares no factor with the number of ways, and each of them comes; and not every kind begins
        // with the same one.
        let step = (schedules.len() / of_each_kind) | 1;
        sample.extend(schedules.into_iter().skip(first % step).step_by(step).cloned());
    }
    sample
}

/// Runs schedules on all processors.
///
/// # Panics
/// With the history of the first schedule that does not end as it should.
pub(crate) fn run(schedules: &[Schedule]) -> Report {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let report = Mutex::new(Report::default());
    let first_failure = OnceLock::new();
    let work = async |tables: &Tables| {
        while first_failure.get().is_none() {
            let Some(schedule) = schedules.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let outcome = schedule.run(tables).await;
            match failure(schedule, &outcome) {
                None => report.lock().unwrap().add(schedule, &outcome),
                Some(failure) => _ = first_failure.set(failure),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| on_tables(work));
        }
    });
    if let Some(failure) = first_failure.get() {
        panic!("{failure}");
    }
    let mut report = report.into_inner().unwrap();
    report.took = began.elapsed();
    report
}

/// What went wrong, if anything did, and how it came to that.
fn failure(schedule: &Schedule, outcome: &Outcome) -> Option<String> {
    let violation = outcome.result.as_ref().err()?;
    Some(format!("{}\n{schedule}\n{violation}", outcome.history.join("\n")))
}

impl Report {
    fn add(&mut self, schedule: &Schedule, outcome: &Outcome) {
        let Some(Fault { call, way }) = &schedule.fault else {
            return;
        };
        let (schedules, failed) = self.ways.entry((schedule.retries, *way)).or_default();
        *schedules += 1;
        *failed += usize::from(outcome.failed_invocations > 0);
        let (operation, target) = call.kind();
        *self.kinds.entry(format!("{operation} {target}")).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = 0;
        for ((retries, way), (schedules, failed)) in &self.ways {
            all += schedules;
            writeln!(
                f,
                "  SDK's retries {retries:3}, call {way:17} {schedules:5} schedules, a service failed in {failed}"
            )?;
        }
        for (kind, schedules) in &self.kinds {
            writeln!(f, "  {kind:35} {schedules:5} schedules")?;
        }
        let seconds = self.took.as_secs_f64();
        write!(f, "100 % converged: {all} of {all} schedules, in {seconds:.1} s")
    }
}
