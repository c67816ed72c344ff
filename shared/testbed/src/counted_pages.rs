//! The event table, for tests of how much of it is read by time.

use std::sync::atomic::{AtomicUsize, Ordering};

use domain::{EventShard, PatientId, StoredEntry, StreamVersion, Timestamp};
use event_log::{EventLog, EventTable, LogPage, LogPosition, LogUnavailable, RecordedKey, Segment};

/// The event table; it counts the pages of what was recorded that are read, and may end there.
#[derive(Debug)]
pub struct CountedPages {
    inner: EventTable,
    /// How many pages were asked for.
    pub asked: AtomicUsize,
    /// After how many of them it can't be read any more.
    pub most: AtomicUsize,
}

impl CountedPages {
    /// This table, readable up to `most` pages.
    #[must_use]
    pub const fn new(inner: EventTable, most: usize) -> CountedPages {
        CountedPages {
            inner,
            asked: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
        }
    }
}

impl EventLog for CountedPages {
    async fn read(
        &self,
        patient: &PatientId,
        after: StreamVersion,
        limit: u16,
    ) -> Result<Vec<StoredEntry>, LogUnavailable> {
        self.inner.read(patient, after, limit).await
    }

    async fn head(&self, patient: &PatientId) -> Result<StreamVersion, LogUnavailable> {
        self.inner.head(patient).await
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<LogPosition>,
    ) -> Result<LogPage<StoredEntry>, LogUnavailable> {
        self.inner.scan(segment, after).await
    }

    async fn recorded_since(
        &self,
        shard: EventShard,
        from: Timestamp,
        after: Option<LogPosition>,
    ) -> Result<LogPage<RecordedKey>, LogUnavailable> {
        if self.asked.fetch_add(1, Ordering::SeqCst) >= self.most.load(Ordering::SeqCst) {
            return Err(LogUnavailable("a fault was injected".into()));
        }
        self.inner.recorded_since(shard, from, after).await
    }
}
