//! Walking through a segment of the event table, stream by stream.

use domain::{PatientId, StoredEntry};
use event_log::{EventLog, LogPosition, LogUnavailable, Segment};

/// The events of one patient, from the first on, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WholeStream {
    pub(crate) patient: PatientId,
    pub(crate) entries: Vec<StoredEntry>,
}

/// Some whole streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Streams {
    pub(crate) streams: Vec<WholeStream>,
    /// Where a walk that ends here has to go on: after the last event of the last of them.
    pub(crate) position: Option<LogPosition>,
}

/// A walk through a segment. Pages of the table end within streams; this gives whole ones. One stream has to fit into
/// memory, as it does a hundred times over: a check-in is a few hundred bytes.
#[derive(Debug)]
pub(crate) struct Walk<'a, L> {
    log: &'a L,
    segment: Segment,
    next: Option<LogPosition>,
    at_end: bool,
    /// A stream whose end was not seen yet.
    open: Option<WholeStream>,
}

impl<'a, L: EventLog> Walk<'a, L> {
    /// Begins after `from`, which is the end of a stream, or at the beginning.
    pub(crate) fn new(log: &'a L, segment: Segment, from: Option<LogPosition>) -> Walk<'a, L> {
        Walk {
            log,
            segment,
            next: from,
            at_end: false,
            open: None,
        }
    }

    /// The next streams; `None` at the end of the segment.
    pub(crate) async fn next(&mut self) -> Result<Option<Streams>, LogUnavailable> {
        while !self.at_end {
            let page = self.log.scan(self.segment, self.next.take()).await?;
            self.next = page.next;
            self.at_end = self.next.is_none();
            let mut streams = Vec::new();
            for entry in page.entries {
                match &mut self.open {
                    Some(open) if open.patient == entry.patient_id => open.entries.push(entry),
                    open => {
                        let begun = WholeStream {
                            patient: entry.patient_id.clone(),
                            entries: vec![entry],
                        };
                        streams.extend(open.replace(begun));
                    }
                }
            }
            if self.at_end {
                streams.extend(self.open.take());
            }
            if let Some(last) = streams.last().and_then(|stream| stream.entries.last()) {
                let position = Some(LogPosition {
                    patient_id: last.patient_id.clone(),
                    version: last.version,
                    recorded_at: None,
                });
                return Ok(Some(Streams { streams, position }));
            }
        }
        Ok(None)
    }
}
