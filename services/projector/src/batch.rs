//! What a batch of stream records says, before anything is done about it.

use std::collections::HashMap;

use domain::{CorrelationId, PatientId, StreamVersion, Timestamp};
use event_log::item::EventKey;
use projection::Hints;

use crate::record::{Change, StreamBatch};

/// What a batch of stream records says.
#[derive(Debug, Default)]
pub struct Batch {
    /// The sequence number of each record, in the order of the stream.
    sequence_numbers: Vec<String>,
    /// What is told of each patient.
    patients: HashMap<PatientId, Told>,
    /// What there is to apply.
    pub hints: Hints,
    /// Records whose key is not one that this system writes.
    pub unreadable: Vec<usize>,
    /// Changes of events, which never happen in this system.
    pub violations: Vec<Violation>,
}

/// What a batch tells of a patient.
#[derive(Debug)]
struct Told {
    /// The first record that is about the patient.
    first_record: usize,
    /// The newest event, if any can be read.
    newest: Option<Newest>,
}

/// What is told of a patient's newest event in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The occasion that it belongs to.
    pub correlation_id: CorrelationId,
}

/// Somebody modified or removed an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `MODIFY` or `REMOVE`.
    pub event_name: String,
    /// The event, if the record's key can be read.
    pub key: Option<EventKey>,
}

/// A record has no sequence number, so that its failure could not be reported: the whole batch has to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream record has no sequence number")]
pub struct NoSequenceNumber;

impl Batch {
    /// Reads a batch.
    ///
    /// # Errors
    /// [`NoSequenceNumber`]: fail the invocation.
    pub fn read(delivered: StreamBatch) -> Result<Batch, NoSequenceNumber> {
        let mut batch = Batch::default();
        for (index, mut record) in delivered.records.into_iter().enumerate() {
            let sequence_number = record.change.sequence_number.take();
            let sequence_number = sequence_number.filter(|number| !number.is_empty());
            batch
                .sequence_numbers
                .push(sequence_number.ok_or(NoSequenceNumber)?);
            if record.event_name == "INSERT" {
                batch.insert(index, record.change);
            } else {
                batch.violations.push(Violation {
                    event_name: record.event_name,
                    key: record.change.into_key(),
                });
            }
        }
        Ok(batch)
    }

    fn insert(&mut self, index: usize, change: Change) {
        let entry = change
            .into_entry()
            .filter(|entry| entry.version > StreamVersion::EMPTY);
        let Some(entry) = entry else {
            return self.unreadable.push(index);
        };
        let told = match self.patients.get_mut(&entry.patient_id) {
            Some(told) => told,
            None => self.patients.entry(entry.patient_id.clone()).or_insert(Told {
                first_record: index,
                newest: None,
            }),
        };
        if let Ok(event) = &entry.event
            && told
                .newest
                .is_none_or(|newest| event.recorded_at > newest.recorded_at)
        {
            told.newest = Some(Newest {
                recorded_at: event.recorded_at,
                correlation_id: event.correlation_id,
            });
        }
        self.hints.add(entry);
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> usize {
        self.sequence_numbers.len()
    }

    /// The newest event of a patient, if there is one that can be read.
    #[must_use]
    pub fn newest(&self, patient: &PatientId) -> Option<Newest> {
        self.patients.get(patient)?.newest
    }

    /// The occasion of the newest events, if it is the same for all of them.
    #[must_use]
    pub fn correlation_id(&self) -> Option<CorrelationId> {
        let newest = self.patients.values().filter_map(|told| told.newest);
        let mut occasions = newest.map(|event| event.correlation_id);
        let first = occasions.next()?;
        occasions.all(|other| other == first).then_some(first)
    }

    /// The sequence number of the record at `index`.
    #[must_use]
    pub fn sequence_number(&self, index: usize) -> Option<&str> {
        self.sequence_numbers.get(index).map(String::as_str)
    }

    /// The first record about any of these patients, or at any of these places: where the stream has to be
    /// taken up again when they failed.
    #[must_use]
    pub fn first_failed<'p>(
        &self,
        patients: impl IntoIterator<Item = &'p PatientId>,
        records: impl IntoIterator<Item = usize>,
    ) -> Option<&str> {
        let of_patients = patients
            .into_iter()
            .filter_map(|patient| self.patients.get(patient))
            .map(|told| told.first_record);
        self.sequence_number(of_patients.chain(records).min()?)
    }
}
