//! How the system is doing, and the line that says so.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use domain::ListingShard;
use embedded::EventCounter;
use read_model::{ReadModelStore, ReadModelTable, ReadModelUnavailable};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::event_source_mapping::Progress;
use crate::stopping::Stopping;

/// How often the line is renewed on a terminal…
const REFRESH: Duration = Duration::from_secs(1);
/// …and how often it is printed, if it changed, elsewhere.
const PRINT: Duration = Duration::from_secs(5);
/// Counting may take one part in this many of the time, so that it never slows down what it watches…
const SHARE: u32 = 20;
/// …but one count that was slow, as when the machine was busy, does not silence it for longer than this.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How many patients are read at a time.
const PAGE: u16 = 500;

/// How long nothing is counted after a count that took so long.
pub(crate) fn rest(took: Duration) -> Duration {
    (took * SHARE).min(LONGEST_REST)
}

/// How the system is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// Events in the event table.
    pub(crate) events: u64,
    /// Events that queries see: the sum of the applied versions.
    pub(crate) applied: u64,
    /// At most how old the oldest stream record is that the projector has not done yet.
    pub(crate) lag: Duration,
    /// Patients whose next event can't be applied.
    pub(crate) quarantined: u64,
    /// How often an event was modified or removed: integrity violations.
    pub(crate) violations: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status {
            events,
            applied,
            lag,
            quarantined,
            violations,
        } = self;
        write!(
            f,
            "events {events}  applied {applied}  lag {:.1} s  quarantined {quarantined}",
            lag.as_secs_f32()
        )?;
        if *violations > 0 {
            write!(f, "  violations {violations}")?;
        }
        if quarantined + violations > 0 {
            f.write_str("  see replay verify")?;
        }
        Ok(())
    }
}

/// Why there are no numbers: shown in their place, so that old ones are not taken for new.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoStatus {
    /// Look at the read model: queries can't be answered either.
    #[error("read model unreadable")]
    ReadModel(#[from] ReadModelUnavailable),
    /// Look at the event table.
    #[error("event table unreadable")]
    EventTable(#[source] runtime::BoxError),
}

/// Where the numbers come from.
pub(crate) struct Sources {
    pub(crate) events: EventCounter,
    pub(crate) read_model: ReadModelTable,
    pub(crate) mapping: watch::Receiver<Progress>,
}

impl Sources {
    /// Counts.
    ///
    /// # Errors
    /// [`NoStatus`]
    pub(crate) async fn status(&self) -> Result<Status, NoStatus> {
        let (applied, quarantined) = self.patients().await?;
        // Counted last, so that no more events are applied than there are.
        let counter = self.events.clone();
        let events = tokio::task::spawn_blocking(move || counter.count())
            .await
            .map_err(|error| NoStatus::EventTable(error.into()))?
            .map_err(|error| NoStatus::EventTable(error.into()))?;
        Ok(Status {
            events: events.appended,
            applied,
            lag: self.mapping.borrow().lag(Instant::now()),
            quarantined,
            violations: events.changed,
        })
    }

    /// The sum of the applied versions and the number of quarantined patients, in the active generation.
    async fn patients(&self) -> Result<(u64, u64), ReadModelUnavailable> {
        let (mut applied, mut quarantined) = (0, 0);
        let Some(control) = self.read_model.control().await? else {
            return Ok((0, 0));
        };
        for shard in ListingShard::all() {
            let mut after: Option<String> = None;
            loop {
                let page = self
                    .read_model
                    .recent(control.active, shard, after.as_deref(), PAGE)
                    .await?;
                for entry in &page.items {
                    applied += entry.state.applied.get();
                    quarantined += u64::from(entry.state.quarantine.is_some());
                }
                match page.items.last() {
                    Some(last) if page.more => after = Some(last.recent_key.clone()),
                    _ => break,
                }
            }
        }
        Ok((applied, quarantined))
    }
}

/// Shows the status until it is time to stop.
pub(crate) async fn run(sources: Arc<Sources>, mut stopping: Stopping) {
    let mut out = std::io::stdout();
    let in_place = out.is_terminal();
    let interval = if in_place { REFRESH } else { PRINT };
    let mut shown = String::new();
    loop {
        let began = Instant::now();
        let line = match sources.status().await {
            Ok(status) => status.to_string(),
            Err(error) => {
                tracing::warn!(error = %runtime::telemetry::chain(&error), "no status");
                error.to_string()
            }
        };
        let written = match (in_place, line == shown) {
            (_, true) => Ok(()),
            // Back to the beginning of the line, and clear what is longer than the new one.
            (true, false) => write!(out, "\r{line}\x1b[K").and_then(|()| out.flush()),
            (false, false) => writeln!(out, "{line}"),
        };
        // Nobody reads it any more: the system goes on.
        if written.is_err() {
            return;
        }
        shown = line;
        let pause = interval.max(rest(began.elapsed()));
        if timeout(pause, stopping.wait()).await.is_ok() {
            break;
        }
    }
    if in_place {
        let _ = writeln!(out);
    }
}

#[cfg(test)]
mod tests {
    use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};

    use super::*;

    /// What is shown of an empty system that looks for its read model in this table.
    async fn line(read_model: &str) -> String {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        let (_report, mapping) = watch::channel(Progress::default());
        let sources = Sources {
            events: dynamodb.event_counter(),
            read_model: ReadModelTable::new(dynamodb.client(), read_model),
            mapping,
        };
        match sources.status().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn numbers_are_shown_or_else_what_cannot_be_read() {
        assert_eq!(
            line(READ_MODEL_TABLE).await,
            "events 0  applied 0  lag 0.0 s  quarantined 0"
        );
        assert_eq!(line("missing").await, "read model unreadable");
    }

    #[test]
    fn what_is_wrong_is_shown_with_the_command_that_lists_it() {
        #[track_caller]
        fn check(quarantined: u64, violations: u64, expected: &str) {
            let status = Status {
                events: 7,
                applied: 6,
                lag: Duration::from_millis(1_250),
                quarantined,
                violations,
            };
            let line = status.to_string();
            assert_eq!(
                line,
                format!("events 7  applied 6  lag 1.2 s  quarantined {expected}")
            );
        }
        check(0, 0, "0");
        check(1, 0, "1  see replay verify");
        check(0, 2, "0  violations 2  see replay verify");
        check(1, 2, "1  violations 2  see replay verify");
    }
}
