//! Following all streams at once: events in the order in which they were recorded.

use std::collections::{BTreeSet, VecDeque};

use domain::{EventShard, PatientId, StoredEntry, StreamVersion, Timestamp};
use event_log::{EventLog, LogPosition, LogUnavailable};
use futures::stream::{self, StreamExt, TryStreamExt};
use projection::SWEEP_OVERLAP_MILLIS;
use serde::Serialize;

/// Calls under way at once.
const CONCURRENCY: usize = 16;
/// Events that are given at once.
const CHUNK: usize = 500;

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
/// poll looks back as far as a sweep does. However long ago it begins, it holds a page of each shard, and the keys of what
/// it gave in that time.
#[derive(Debug)]
pub struct Tail<'a, L> {
    log: &'a L,
    from: Timestamp,
    given: BTreeSet<Key>,
}

/// What the order of recording is.
type Key = (Timestamp, PatientId, StreamVersion);

/// What was read of a shard, and not given yet.
struct Cursor {
    shard: EventShard,
    keys: VecDeque<Key>,
    next: Option<LogPosition>,
    begun: bool,
}

impl Cursor {
    const fn at_end(&self) -> bool {
        self.begun && self.next.is_none()
    }
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

    /// Gives `on_event` what is new, at this time, until it says that it wants no more; whether it wants more.
    ///
    /// # Errors
    /// [`LogUnavailable`]: poll again, nothing is lost, and nothing comes twice.
    pub async fn poll(
        &mut self,
        now: Timestamp,
        mut on_event: impl FnMut(TailEvent) -> bool,
    ) -> Result<bool, LogUnavailable> {
        let from = self.from;
        // What is older than any append can take comes no more.
        let settled = now.plus_millis(-SWEEP_OVERLAP_MILLIS);
        let mut cursors: Vec<Cursor> = EventShard::all()
            .map(|shard| Cursor {
                shard,
                keys: VecDeque::new(),
                next: None,
                begun: false,
            })
            .collect();
        loop {
            for cursor in &mut cursors {
                self.fill(cursor, from).await?;
            }
            let new = next_keys(&mut cursors);
            let Some((last, _, _)) = new.last().cloned() else {
                break;
            };
            let new = new.into_iter().filter(|key| !self.given.contains(key));
            let events: Vec<TailEvent> = stream::iter(new)
                .map(|key| self.event(key))
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            for event in events {
                let key = (event.recorded_at, event.patient_id.clone(), event.version);
                self.given.insert(key);
                if !on_event(event) {
                    return Ok(false);
                }
            }
            self.forget_before(last.min(settled));
        }
        self.forget_before(settled);
        Ok(true)
    }

    /// All that was recorded before has been given.
    fn forget_before(&mut self, settled: Timestamp) {
        self.from = self.from.max(settled);
        self.given.retain(|(recorded_at, _, _)| *recorded_at >= self.from);
    }

    /// Reads on in a shard of which nothing is left.
    async fn fill(&self, cursor: &mut Cursor, from: Timestamp) -> Result<(), LogUnavailable> {
        while cursor.keys.is_empty() && !cursor.at_end() {
            let page = self
                .log
                .recorded_since(cursor.shard, from, cursor.next.take())
                .await?;
            let keys = page.entries.into_iter();
            cursor
                .keys
                .extend(keys.map(|key| (key.recorded_at, key.patient_id, key.version)));
            cursor.next = page.next;
            cursor.begun = true;
        }
        Ok(())
    }

    async fn event(&self, (recorded_at, patient_id, version): Key) -> Result<TailEvent, LogUnavailable> {
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

/// The keys that come next in the order of recording, as far as that is known before another page is read. None at the end.
fn next_keys(cursors: &mut [Cursor]) -> Vec<Key> {
    let mut keys = Vec::new();
    while keys.len() < CHUNK {
        // A shard of which nothing is left, and which has more, may have what comes next.
        if cursors
            .iter()
            .any(|cursor| cursor.keys.is_empty() && !cursor.at_end())
        {
            break;
        }
        let first = cursors
            .iter_mut()
            .min_by(|one, other| match (one.keys.front(), other.keys.front()) {
                (Some(one), Some(other)) => one.cmp(other),
                // The end comes last.
                (one, other) => other.is_some().cmp(&one.is_some()),
            });
        let Some(key) = first.and_then(|cursor| cursor.keys.pop_front()) else {
            break;
        };
        keys.push(key);
    }
    keys
}
