//! What the stream, or anyone else, says about which patients have events to apply.

use std::collections::BTreeMap;

use domain::{PatientId, RecordedEvent, StreamEntry, StreamVersion};

/// Which patients to advance, how far, and such of their events as are at hand.
///
/// Hints may be incomplete, repeated and out of order: the event table is the truth, hints save reading it.
#[derive(Debug, Clone, Default)]
pub struct Hints(pub(crate) BTreeMap<PatientId, PatientHints>);

#[derive(Debug, Clone, Default)]
pub(crate) struct PatientHints {
    /// At least this version exists.
    pub(crate) target: StreamVersion,
    /// Events at hand. One that can't be decoded is left out, so that the event table decides about it.
    pub(crate) events: BTreeMap<StreamVersion, RecordedEvent>,
}

impl Hints {
    /// Adds an event at hand.
    pub fn add(&mut self, entry: StreamEntry) {
        let hints = self.0.entry(entry.patient_id).or_default();
        hints.target = hints.target.max(entry.version);
        if let Ok(event) = entry.event {
            hints.events.insert(entry.version, event);
        }
    }

    /// Adds that a patient's stream has at least `head` events, none of which is at hand.
    pub fn add_head(&mut self, patient: PatientId, head: StreamVersion) {
        let hints = self.0.entry(patient).or_default();
        hints.target = hints.target.max(head);
    }

    /// How many patients there are hints about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PatientHints {
    /// The events at hand that follow `applied` without a gap.
    pub(crate) fn continuing(&self, applied: StreamVersion) -> Vec<&RecordedEvent> {
        let mut next = applied.next();
        let mut events = Vec::new();
        while let Some(event) = self.events.get(&next) {
            events.push(event);
            next = next.next();
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_counted_by_patient() {
        let mut hints = Hints::default();
        assert!(hints.is_empty());
        for (patient, head) in [("p-1", 1), ("p-2", 1), ("p-1", 2)] {
            hints.add_head(patient.parse().unwrap(), StreamVersion::new(head));
        }
        assert_eq!((hints.len(), hints.is_empty()), (2, false));
    }
}
