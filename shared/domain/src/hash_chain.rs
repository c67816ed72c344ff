//! Following a stream's hash chain, to find the first event that was tampered with.

use crate::{EventHash, StoredEntry, StreamVersion};

/// Follows one stream from its first event on, and stops at the first broken link.
///
/// Whoever can write to the event table can forge a whole chain; what was forged is then found where the read model,
/// or a backup, says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashChain {
    version: StreamVersion,
    /// `None` behind an event whose hash is not known.
    hash: Option<EventHash>,
    broken: Option<BrokenLink>,
}

/// The first place where a stream is not what was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {version} {}", how.description())]
pub struct BrokenLink {
    /// The event that does not fit.
    pub version: StreamVersion,
    /// How it does not fit.
    pub how: Break,
}

/// How an event does not fit the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Its hash is not that of its content: it was edited.
    Edited,
    /// It does not continue the event before it: that one was edited, along with its hash, or replaced.
    Detached,
    /// Events before it are missing.
    Missing,
    /// Its envelope can't be read, so nothing is known of its hash.
    Unreadable,
}

impl Break {
    /// The stable code for reports.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Break::Edited => "edited",
            Break::Detached => "detached",
            Break::Missing => "missing",
            Break::Unreadable => "unreadable",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Break::Edited => "was edited: its hash is not that of its content",
            Break::Detached => "does not continue the event before it, which was replaced",
            Break::Missing => "does not follow the event before it: some are missing",
            Break::Unreadable => "can't be read, so its hash is not known",
        }
    }
}

impl HashChain {
    /// Nothing followed yet.
    pub const GENESIS: HashChain = HashChain {
        version: StreamVersion::EMPTY,
        hash: Some(EventHash::GENESIS),
        broken: None,
    };

    /// Takes the next entry of the stream. After the first broken link nothing further is said: all that follows
    /// hangs on it.
    pub fn follow(&mut self, entry: &StoredEntry) {
        if self.broken.is_some() {
            return;
        }
        let broken = |how| {
            Some(BrokenLink {
                version: entry.version,
                how,
            })
        };
        self.broken = match &entry.event {
            _ if entry.version != self.version.next() => broken(Break::Missing),
            Err(_) => broken(Break::Unreadable),
            Ok(event) if self.hash.is_some_and(|hash| hash != event.previous_hash) => broken(Break::Detached),
            Ok(event) if event.hash != event.computed_hash() => broken(Break::Edited),
            Ok(event) => {
                self.version = entry.version;
                self.hash = Some(event.hash);
                None
            }
        };
    }

    /// Goes on behind a broken link at this entry, which is known: what follows has to continue this event as it is now.
    pub fn go_on_behind(&mut self, entry: &StoredEntry) {
        *self = HashChain {
            version: entry.version,
            hash: entry.event.as_ref().ok().map(|event| event.hash),
            broken: None,
        };
    }

    /// The first broken link, if there is one so far.
    #[must_use]
    pub const fn broken(&self) -> Option<BrokenLink> {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CheckinId, CorrelationId, Event, EventDraft, EventId, PatientCheckedIn, StoredEvent, Timestamp,
    };

    fn stream(length: usize) -> Vec<StoredEvent> {
        let patient = "p-001".parse().unwrap();
        let mut events: Vec<StoredEvent> = Vec::new();
        for place in 0..length {
            let name = place.to_string();
            let draft = EventDraft {
                event_id: EventId::derive("test", &[&name]),
                occurred_at: Timestamp::from_unix_millis(0).unwrap(),
                correlation_id: CorrelationId::derive("test", &[]),
                causation_id: CorrelationId::derive("test", &[]),
                event: Event::PatientCheckedIn(PatientCheckedIn {
                    checkin_id: CheckinId::derive(&[&name]),
                }),
            };
            let (after, hash) = events
                .last()
                .map_or((StreamVersion::EMPTY, EventHash::GENESIS), |last| {
                    (last.version, last.hash)
                });
            let placed = draft.place(&patient, after, hash, draft.occurred_at);
            events.push(placed.unwrap());
        }
        events
    }

    fn entries(events: Vec<StoredEvent>) -> Vec<StoredEntry> {
        events
            .into_iter()
            .map(|event| StoredEntry {
                patient_id: event.patient_id.clone(),
                version: event.version,
                event: Ok(event),
                misfiled: None,
                foreign: None,
            })
            .collect()
    }

    #[track_caller]
    fn check(entries: &[StoredEntry], expected: Option<(u64, Break)>) {
        let mut chain = HashChain::GENESIS;
        entries.iter().for_each(|entry| chain.follow(entry));
        let expected = expected.map(|(version, how)| BrokenLink {
            version: StreamVersion::new(version),
            how,
        });
        assert_eq!(chain.broken(), expected);
    }

    #[test]
    fn each_break_has_a_stable_code_and_a_sentence() {
        #[track_caller]
        fn check(how: Break, code: &str, sentence: &str) {
            let version = StreamVersion::new(2);
            assert_eq!(how.code(), code);
            assert_eq!(BrokenLink { version, how }.to_string(), sentence);
        }
        check(
            Break::Edited,
            "edited",
            "event 2 was edited: its hash is not that of its content",
        );
        check(
            Break::Detached,
            "detached",
            "event 2 does not continue the event before it, which was replaced",
        );
        check(
            Break::Missing,
            "missing",
            "event 2 does not follow the event before it: some are missing",
        );
        check(
            Break::Unreadable,
            "unreadable",
            "event 2 can't be read, so its hash is not known",
        );
    }

    #[test]
    fn what_was_appended_is_intact() {
        check(&[], None);
        check(&entries(stream(1)), None);
        check(&entries(stream(5)), None);
    }

    #[test]
    fn edited_event_is_named() {
        let mut events = stream(5);
        events[2].event_type = "PatientMoved".to_owned();
        events[4].schema_version = 7;
        check(&entries(events), Some((3, Break::Edited)));
    }

    #[test]
    fn event_after_one_that_was_replaced_is_named() {
        let mut events = stream(5);
        events[1].schema_version = 7;
        events[1].hash = events[1].computed_hash();
        check(&entries(events), Some((3, Break::Detached)));
    }

    #[test]
    fn chain_begins_at_the_first_event() {
        let mut events = stream(2);
        events.remove(0);
        check(&entries(events), Some((2, Break::Missing)));
        let mut events = stream(1);
        events[0].previous_hash = events[0].hash;
        events[0].hash = events[0].computed_hash();
        check(&entries(events), Some((1, Break::Detached)));
    }

    #[test]
    fn removed_event_is_missed_at_the_next() {
        let mut events = stream(5);
        events.remove(3);
        check(&entries(events), Some((5, Break::Missing)));
    }

    #[test]
    fn event_that_cannot_be_read_is_named() {
        let mut entries = entries(stream(3));
        entries[1].event = Err(crate::Undecodable::InvalidEnvelope);
        check(&entries, Some((2, Break::Unreadable)));
    }

    /// The broken links that are found by somebody who goes on behind each.
    fn all_broken(entries: &[StoredEntry]) -> Vec<(u64, Break)> {
        let mut chain = HashChain::GENESIS;
        let mut found = Vec::new();
        for entry in entries {
            chain.follow(entry);
            if let Some(link) = chain.broken() {
                found.push((link.version.get(), link.how));
                chain.go_on_behind(entry);
                assert_eq!(chain.broken(), None);
            }
        }
        found
    }

    #[test]
    fn chain_is_followed_on_behind_a_broken_link() {
        let mut events = stream(9);
        events[2].schema_version = 7;
        events[4].previous_hash = EventHash::GENESIS;
        events.remove(6);
        let found = all_broken(&entries(events.clone()));
        assert_eq!(
            found,
            [(3, Break::Edited), (5, Break::Detached), (8, Break::Missing)]
        );
        // What continues an event that can't be read, nobody can say.
        let mut entries = entries(events);
        entries[6].event = Err(crate::Undecodable::InvalidEnvelope);
        let found = all_broken(&entries);
        assert_eq!(
            found,
            [(3, Break::Edited), (5, Break::Detached), (8, Break::Missing)]
        );
        entries[2].event = Err(crate::Undecodable::InvalidEnvelope);
        entries.truncate(4);
        assert_eq!(all_broken(&entries), [(3, Break::Unreadable)]);
    }

    #[test]
    fn last_event_can_be_edited_unseen_only_with_its_hash() {
        let mut events = stream(3);
        events[2].schema_version = 7;
        check(&entries(events.clone()), Some((3, Break::Edited)));
        events[2].hash = events[2].computed_hash();
        check(&entries(events), None);
    }
}
