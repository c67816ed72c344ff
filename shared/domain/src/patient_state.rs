//! The projection: the pure fold of a patient's events.

use crate::{
    CheckinRow, Event, HistoryDigest, PatientName, Quarantine, RecordedEvent, StreamVersion, Timestamp,
};

/// What the events up to `applied` say about one patient, plus the mark that stops it there, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientState {
    /// The highest version folded in.
    pub applied: StreamVersion,
    /// Of which events; `None` where that was not kept, as by software before this field.
    pub history: Option<HistoryDigest>,
    /// The patient; `None` until the registration was applied.
    pub patient: Option<Patient>,
    /// Set while the next event can't be applied.
    pub quarantine: Option<Quarantine>,
}

impl Default for PatientState {
    /// Nobody of whom there is an event.
    fn default() -> PatientState {
        PatientState {
            applied: StreamVersion::EMPTY,
            history: Some(HistoryDigest::EMPTY),
            patient: None,
            quarantine: None,
        }
    }
}

/// A registered patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// The name.
    pub name: PatientName,
    /// When the patient was registered.
    pub registered_at: Timestamp,
    /// How many check-ins were applied; equals the number of rows that readers see.
    pub checkin_count: u64,
    /// The latest time of a check-in, which is not always that of the latest version.
    pub last_checkin_at: Option<Timestamp>,
}

/// What applying an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: the event was applied before.
    Already,
    /// The patient is now registered.
    Registered,
    /// The patient has one more check-in: this one.
    CheckedIn(CheckinRow),
}

/// Why an event was not applied. The state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// An earlier event has not been applied: catch up from the event table.
    #[error("version {got} does not follow applied version {applied}")]
    Gap {
        /// The highest version folded in.
        applied: StreamVersion,
        /// The version of the event.
        got: StreamVersion,
    },
    /// The event contradicts the ones before it: quarantine the patient.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

/// A contradiction between an event and the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A check-in before the registration.
    #[error("the patient is not registered")]
    NotRegistered,
    /// A second registration.
    #[error("the patient is registered already")]
    AlreadyRegistered,
}

impl Rejection {
    /// The stable code for logs, metrics and queue messages.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Rejection::NotRegistered => "not_registered",
            Rejection::AlreadyRegistered => "already_registered",
        }
    }
}

impl PatientState {
    /// Folds one event in. A redelivered event changes nothing.
    ///
    /// # Errors
    /// [`ApplyError`] when the event does not follow, or contradicts, what was applied; the state is unchanged.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Result<Applied, ApplyError> {
        if recorded.version <= self.applied {
            return Ok(Applied::Already);
        }
        if recorded.version != self.applied.next() {
            return Err(ApplyError::Gap {
                applied: self.applied,
                got: recorded.version,
            });
        }
        let applied = match (&recorded.event, &mut self.patient) {
            (Event::PatientRegistered(_), Some(_)) => return Err(Rejection::AlreadyRegistered.into()),
            (Event::PatientCheckedIn(_), None) => return Err(Rejection::NotRegistered.into()),
            (Event::PatientRegistered(body), vacant @ None) => {
                *vacant = Some(Patient {
                    name: body.name.clone(),
                    registered_at: recorded.occurred_at,
                    checkin_count: 0,
                    last_checkin_at: None,
                });
                Applied::Registered
            }
            (Event::PatientCheckedIn(body), Some(patient)) => {
                patient.checkin_count += 1;
                patient.last_checkin_at = patient.last_checkin_at.max(Some(recorded.occurred_at));
                Applied::CheckedIn(CheckinRow {
                    checkin_id: body.checkin_id,
                    occurred_at: recorded.occurred_at,
                    version: recorded.version,
                })
            }
        };
        self.applied = recorded.version;
        self.history = self.history.map(|history| history.with(recorded.hash));
        // The event that was in the way has been applied.
        self.quarantine = None;
        Ok(applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CheckinId, CorrelationId, EventHash, PatientCheckedIn, PatientRegistered};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_millis(minute * 60_000).unwrap()
    }

    fn recorded(version: u64, minute: i64, event: Event) -> RecordedEvent {
        RecordedEvent {
            patient_id: "p-001".parse().unwrap(),
            version: StreamVersion::new(version),
            occurred_at: at(minute),
            recorded_at: at(minute),
            correlation_id: CorrelationId::derive("test", &[]),
            hash: EventHash::of(&version.to_be_bytes()),
            event,
        }
    }

    fn registered(version: u64, minute: i64) -> RecordedEvent {
        recorded(
            version,
            minute,
            Event::PatientRegistered(PatientRegistered {
                name: "Ada".parse().unwrap(),
            }),
        )
    }

    fn checked_in(version: u64, minute: i64) -> RecordedEvent {
        let checkin_id = CheckinId::derive(&[&version.to_string()]);
        recorded(
            version,
            minute,
            Event::PatientCheckedIn(PatientCheckedIn { checkin_id }),
        )
    }

    fn fold(events: &[RecordedEvent]) -> PatientState {
        let mut state = PatientState::default();
        for event in events {
            state.apply(event).unwrap();
        }
        state
    }

    /// Applies `next` after `before`, and expects `outcome` and, unless it applied, an unchanged state.
    #[track_caller]
    fn check(before: &[RecordedEvent], next: &RecordedEvent, outcome: Result<Applied, ApplyError>) {
        let mut state = fold(before);
        let unchanged = state.clone();
        let found = state.apply(next);
        assert_eq!(found, outcome);
        match found {
            Ok(Applied::Registered | Applied::CheckedIn(_)) => assert_eq!(state.applied, next.version),
            Ok(Applied::Already) | Err(_) => assert_eq!(state, unchanged),
        }
    }

    #[test]
    fn registration_comes_first_and_once() {
        check(&[], &registered(1, 0), Ok(Applied::Registered));
        check(&[], &checked_in(1, 0), Err(Rejection::NotRegistered.into()));
        check(
            &[registered(1, 0)],
            &registered(2, 1),
            Err(Rejection::AlreadyRegistered.into()),
        );
    }

    #[test]
    fn redelivered_event_changes_nothing() {
        let events = [registered(1, 0), checked_in(2, 5)];
        check(&events, &events[0], Ok(Applied::Already));
        check(&events, &events[1], Ok(Applied::Already));
    }

    #[test]
    fn an_event_after_a_gap_is_not_applied() {
        let gap = ApplyError::Gap {
            applied: StreamVersion::new(1),
            got: StreamVersion::new(3),
        };
        check(&[registered(1, 0)], &checked_in(3, 5), Err(gap));
    }

    #[test]
    fn check_ins_are_counted_and_the_latest_is_remembered() {
        let patient = fold(&[registered(1, 0), checked_in(2, 5), checked_in(3, 9)])
            .patient
            .unwrap();
        assert_eq!((patient.checkin_count, patient.last_checkin_at), (2, Some(at(9))));
        assert_eq!(patient.registered_at, at(0));
    }

    #[test]
    fn a_late_recorded_check_in_does_not_move_the_latest_back() {
        let patient = fold(&[registered(1, 0), checked_in(2, 9), checked_in(3, 5)])
            .patient
            .unwrap();
        assert_eq!((patient.checkin_count, patient.last_checkin_at), (2, Some(at(9))));
    }

    #[test]
    fn another_event_of_the_same_content_makes_another_history() {
        let events = [registered(1, 0), checked_in(2, 5), checked_in(3, 9)];
        let mut other = events.clone();
        other[1].hash = EventHash::of(b"another");
        let (one, mut two) = (fold(&events), fold(&other));
        assert_ne!(one.history, two.history);
        two.history = one.history;
        assert_eq!(one, two);
    }

    #[test]
    fn what_was_not_kept_of_a_history_stays_unknown() {
        let mut state = fold(&[registered(1, 0)]);
        state.history = None;
        state.apply(&checked_in(2, 5)).unwrap();
        assert_eq!((state.history, state.applied), (None, StreamVersion::new(2)));
    }

    #[test]
    fn applying_the_event_in_the_way_lifts_the_quarantine() {
        let mut state = fold(&[registered(1, 0)]);
        state.quarantine = Some(Quarantine {
            version: StreamVersion::new(2),
            reason: Rejection::AlreadyRegistered.into(),
            since: at(1),
        });
        state.apply(&checked_in(2, 5)).unwrap();
        assert_eq!(state.quarantine, None);
    }
}
