//! Following all streams at once: events in the order in which they were recorded.

use std::collections::BTreeSet;

use domain::{EventShard, PatientId, StoredEntry, StreamVersion, Timestamp};
use event_log::{EventLog, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::SWEEP_OVERLAP_MILLIS;
use serde::Serialize;

/// Calls under way at once.
const CONCURRENCY: usize = 16;

/// An event as the all-stream read shows it: who and what, nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TailEvent {
    /// When it was appended.
    pub recorded_at: Timestamp,
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// The type's stored name; `None` if the event's envelope can't be read.
    pub event_type: Option<String>,
    /// The occasion that it belongs to, as the logs name it.
    pub correlation_id: Option<String>,
}

/// Follows the event table by its index.
///
/// Each poll gives what was not given before, in order. An event is recorded a moment before it is written, and the
/// index follows the table, so one that was slow comes in a later poll, after events that were recorded after it: each
/// poll looks back as far as a sweep does.
#[derive(Debug)]
pub struct Tail<'a, L> {
    log: &'a L,
    from: Timestamp,
    given: BTreeSet<(Timestamp, PatientId, StreamVersion)>,
}

impl<'a, L: EventLog> Tail<'a, L> {
    /// Follows from this time on.
    #[must_use]
    pub fn new(log: &'a L, from: Timestamp) -> Tail<'a, L> {
        Tail {
            log,
            from,
            given: BTreeSet::new(),
        }
    }

    /// What is new, at this time.
    ///
    /// # Errors
    /// [`LogUnavailable`]: poll again, nothing is lost.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Vec<TailEvent>, LogUnavailable> {
        let mut new = BTreeSet::new();
        for shard in EventShard::all() {
            let mut next = None;
            loop {
                let page = self.log.recorded_since(shard, self.from, next).await?;
                for key in page.entries {
                    let key = (key.recorded_at, key.patient_id, key.version);
                    if !self.given.contains(&key) {
                        new.insert(key);
                    }
                }
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
        }
        let events: Vec<TailEvent> = stream::iter(new.iter().cloned())
            .map(|key| self.event(key))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        self.given.extend(new);
        // What is older than any append can take comes no more.
        self.from = self.from.max(now.plus_millis(-SWEEP_OVERLAP_MILLIS));
        self.given.retain(|(recorded_at, _, _)| *recorded_at >= self.from);
        Ok(events)
    }

    async fn event(
        &self,
        (recorded_at, patient_id, version): (Timestamp, PatientId, StreamVersion),
    ) -> Result<TailEvent, LogUnavailable> {
        let before = StreamVersion::new(version.get().saturating_sub(1));
        let entries: Vec<StoredEntry> = self.log.read(&patient_id, before, 1).await?;
        let event = entries.into_iter().next().and_then(|entry| entry.event.ok());
        let (event_type, correlation_id) = event
            .map(|event| (event.event_type, event.correlation_id.to_string()))
            .unzip();
        Ok(TailEvent {
            recorded_at,
            patient_id,
            version,
            event_type,
            correlation_id,
        })
    }
}
