//! An event with its envelope, as it is stored and as it is read back.
//!
//! The field names are a storage format (docs/EVENTS.md): the attributes of an item in the event table.

use serde::{Deserialize, Serialize};

use crate::{
    CorrelationId, Event, EventData, EventHash, EventId, PatientId, StreamVersion, Timestamp, Undecodable,
    Upcasters,
};

/// The largest event that is appended, in bytes of its canonical form. DynamoDB takes items of 400 KB
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>); this leaves room for
/// what the table adds, and keeps a full batch of rows and a page of events small.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// An event that is about to be appended: everything but its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDraft {
    /// Which fact.
    pub event_id: EventId,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The occasion that it belongs to.
    pub correlation_id: CorrelationId,
    /// What caused it.
    pub causation_id: CorrelationId,
    /// What happened.
    pub event: Event,
}

/// An event exactly as it is stored, in whatever schema version it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// Which fact.
    pub event_id: EventId,
    /// The type's stored name.
    pub event_type: String,
    /// The form of `data`.
    pub schema_version: u32,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was appended. Never before `occurred_at`, nor before that of the event before it.
    pub recorded_at: Timestamp,
    /// The occasion that it belongs to.
    pub correlation_id: CorrelationId,
    /// What caused it.
    pub causation_id: CorrelationId,
    /// The body.
    pub data: EventData,
    /// The hash of the event before it, [`EventHash::GENESIS`] for the first.
    pub previous_hash: EventHash,
    /// The hash of all the above.
    pub hash: EventHash,
}

/// An event as the rules see it: decoded and in today's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was appended.
    pub recorded_at: Timestamp,
    /// The occasion that it belongs to. No rule depends on it; logs name it.
    pub correlation_id: CorrelationId,
    /// Which of all possible histories it ends, as the event table has it.
    pub hash: EventHash,
    /// What happened.
    pub event: Event,
}

/// One place in a stream exactly as it is stored: its version can always be read, its envelope perhaps not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// What is stored there, or why it can't be read.
    pub event: Result<StoredEvent, Undecodable>,
    /// An attribute by which an index finds the event, if it is not what the event gives. The hash covers none of them.
    pub misfiled: Option<&'static str>,
    /// An attribute that no event has, if there is one. The hash does not cover it either.
    pub foreign: Option<String>,
}

/// One place in a stream: its version can always be read, its event perhaps not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Whose stream.
    pub patient_id: PatientId,
    /// Where in the stream.
    pub version: StreamVersion,
    /// The event, or why it can't be decoded.
    pub event: Result<RecordedEvent, Undecodable>,
}

/// What the hash is taken of: all of [`StoredEvent`] but `hash`.
#[derive(Serialize)]
struct Hashed<'a> {
    patient_id: &'a PatientId,
    version: StreamVersion,
    event_id: EventId,
    event_type: &'a str,
    schema_version: u32,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    correlation_id: CorrelationId,
    causation_id: CorrelationId,
    data: &'a EventData,
    previous_hash: EventHash,
}

/// An event is larger than [`MAX_EVENT_BYTES`], so it can never be stored. Reject the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of {bytes} bytes exceeds the limit of {MAX_EVENT_BYTES}")]
pub struct EventTooLarge {
    /// Its size in canonical form.
    pub bytes: usize,
}

impl EventDraft {
    /// Gives the draft its place: after version `after`, whose hash is `previous_hash`.
    ///
    /// # Errors
    /// [`EventTooLarge`]: reject the command.
    pub fn place(
        &self,
        patient_id: &PatientId,
        after: StreamVersion,
        previous_hash: EventHash,
        recorded_at: Timestamp,
    ) -> Result<StoredEvent, EventTooLarge> {
        let event = StoredEvent {
            patient_id: patient_id.clone(),
            version: after.next(),
            event_id: self.event_id,
            event_type: self.event.event_type().to_owned(),
            schema_version: self.event.schema_version(),
            occurred_at: self.occurred_at,
            recorded_at,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            data: self.event.to_data(),
            previous_hash,
            hash: EventHash::GENESIS,
        };
        event.sealed()
    }
}

impl StoredEntry {
    /// Decodes the event into today's shape.
    #[must_use]
    pub fn decode(self) -> StreamEntry {
        StreamEntry {
            patient_id: self.patient_id,
            version: self.version,
            event: self.event.and_then(StoredEvent::decode),
        }
    }
}

impl StoredEvent {
    /// The hash that this event should have. A stored `hash` that differs was tampered with.
    #[must_use]
    pub fn computed_hash(&self) -> EventHash {
        EventHash::of(&self.canonical())
    }

    /// The event with its hash, if it is not too large.
    fn sealed(mut self) -> Result<StoredEvent, EventTooLarge> {
        let canonical = self.canonical();
        if canonical.len() > MAX_EVENT_BYTES {
            return Err(EventTooLarge {
                bytes: canonical.len(),
            });
        }
        self.hash = EventHash::of(&canonical);
        Ok(self)
    }

    /// The canonical form: RFC 8785 (JCS) of the object of all attributes but `hash`.
    fn canonical(&self) -> Vec<u8> {
        let hashed = Hashed {
            patient_id: &self.patient_id,
            version: self.version,
            event_id: self.event_id,
            event_type: &self.event_type,
            schema_version: self.schema_version,
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            data: &self.data,
            previous_hash: self.previous_hash,
        };
        // Only a map with keys that aren't text, or a number that is not finite, could fail; JSON has neither.
        serde_json_canonicalizer::to_vec(&hashed).unwrap_or_default()
    }

    /// Decodes the event into today's shape.
    ///
    /// # Errors
    /// [`Undecodable`]: quarantine the patient at this version.
    pub fn decode(self) -> Result<RecordedEvent, Undecodable> {
        let event = Upcasters::CURRENT.decode(&self.event_type, self.schema_version, self.data)?;
        Ok(RecordedEvent {
            patient_id: self.patient_id,
            version: self.version,
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            correlation_id: self.correlation_id,
            hash: self.hash,
            event,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PatientRegistered;

    /// The longest event of today: four bytes in each character of the name.
    fn longest() -> StoredEvent {
        let at = Timestamp::EARLIEST;
        let occasion = CorrelationId::derive("tick", &[]);
        let draft = EventDraft {
            event_id: EventId::derive("registration", &["p-001"]),
            occurred_at: at,
            correlation_id: occasion,
            causation_id: occasion,
            event: Event::PatientRegistered(PatientRegistered {
                name: "😀".repeat(200).parse().unwrap(),
            }),
        };
        let patient = "p".repeat(64).parse().unwrap();
        let placed = draft.place(&patient, StreamVersion::EMPTY, EventHash::GENESIS, at);
        placed.unwrap()
    }

    #[test]
    fn an_event_above_the_limit_gets_no_place() {
        let mut event = longest();
        event.data.insert("note".to_owned(), "".into());
        let bytes = event.canonical().len();
        // No body of today comes near the limit.
        assert!(bytes < MAX_EVENT_BYTES / 32, "{bytes}");

        let mut with_note = |length: usize| {
            event.data.insert("note".to_owned(), "n".repeat(length).into());
            event.clone().sealed()
        };
        let room = MAX_EVENT_BYTES - bytes;
        let largest = with_note(room).unwrap();
        assert_eq!(largest.hash, largest.computed_hash());
        let refused = with_note(room + 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "an event of 65537 bytes exceeds the limit of 65536"
        );
    }
}
