//! One firing of the schedule: whom it checks in, and as which facts.

use std::num::NonZeroU16;

use domain::{
    CheckinId, CorrelationId, Event, EventDraft, EventId, PatientCheckedIn, PatientId, PatientRegistered,
    Timestamp,
};
use sha2::{Digest, Sha256};

use crate::{Roster, RosterEntry};

/// One firing of the schedule. All that it does follows from its identity, so a repeated tick repeats nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The ARN of the rule that fired.
    pub rule: String,
    /// When it was to fire.
    pub time: Timestamp,
}

impl Tick {
    /// The occasion to which all events of this tick belong.
    #[must_use]
    pub fn correlation_id(&self) -> CorrelationId {
        CorrelationId::derive("tick", &[&self.rule, &self.time.to_string()])
    }

    /// The patients whom this tick checks in: `count` of the roster, or all if it has fewer.
    ///
    /// Each patient draws a lot, the hash of tick and patient, and the lowest ones are chosen. So the choice
    /// depends neither on the roster's order nor on the lots of others: a new patient replaces one at most.
    #[must_use]
    pub fn choose<'a>(&self, roster: &'a Roster, count: NonZeroU16) -> Vec<&'a RosterEntry> {
        let tick = self.correlation_id();
        let mut entries: Vec<&RosterEntry> = roster.entries().iter().collect();
        entries.sort_by_cached_key(|entry| {
            let lot = Sha256::new().chain_update(tick.as_uuid());
            <[u8; 32]>::from(lot.chain_update(entry.id.as_str()).finalize())
        });
        entries.truncate(count.get().into());
        entries
    }

    /// The fact that this tick checked the patient in.
    #[must_use]
    pub fn check_in(&self, patient: &PatientId) -> EventDraft {
        let time = self.time.to_string();
        let identity = [self.rule.as_str(), &time, patient.as_str()];
        let occasion = self.correlation_id();
        EventDraft {
            event_id: EventId::derive("check-in", &identity),
            occurred_at: self.time,
            correlation_id: occasion,
            causation_id: occasion,
            event: Event::PatientCheckedIn(PatientCheckedIn {
                checkin_id: CheckinId::derive(&identity),
            }),
        }
    }
}

/// The fact that the patient became known, at `occurred_at` and on this occasion. There is one for each patient,
/// whoever registers the patient, and when.
#[must_use]
pub(crate) fn registration(
    entry: &RosterEntry,
    occasion: CorrelationId,
    occurred_at: Timestamp,
) -> EventDraft {
    EventDraft {
        event_id: EventId::derive("registration", &[entry.id.as_str()]),
        occurred_at,
        correlation_id: occasion,
        causation_id: occasion,
        event: Event::PatientRegistered(PatientRegistered {
            name: entry.name.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn tick(number: i64) -> Tick {
        Tick {
            rule: "arn:aws:events:us-east-1:123456789012:rule/tick".to_owned(),
            time: Timestamp::from_unix_millis(1_764_000_000_000 + number * 120_000).unwrap(),
        }
    }

    fn roster(ids: impl IntoIterator<Item = u32>) -> Roster {
        let entries: Vec<_> = ids
            .into_iter()
            .map(|id| serde_json::json!({"id": format!("p-{id:03}"), "name": "Ada Example"}))
            .collect();
        Roster::parse(&serde_json::Value::from(entries).to_string()).unwrap()
    }

    fn chosen(tick: &Tick, roster: &Roster, count: u16) -> Vec<String> {
        tick.choose(roster, NonZeroU16::new(count).unwrap())
            .into_iter()
            .map(|entry| entry.id.to_string())
            .collect()
    }

    #[test]
    fn the_choice_follows_from_the_tick_alone() {
        let (forwards, backwards) = (roster(1..=50), roster((1..=50).rev()));
        for number in 0..20 {
            let tick = tick(number);
            assert_eq!(chosen(&tick, &forwards, 3), chosen(&tick, &backwards, 3));
        }
        // Changing how patients are chosen would let a tick that is retried across a deployment repeat itself.
        assert_eq!(chosen(&tick(0), &forwards, 3), ["p-038", "p-045", "p-017"]);
    }

    #[test]
    fn a_new_patient_replaces_one_of_the_chosen_at_most() {
        for number in 0..100 {
            let before = chosen(&tick(number), &roster(1..=50), 5);
            let after = chosen(&tick(number), &roster(1..=51), 5);
            let kept = before.iter().filter(|id| after.contains(id)).count();
            assert!(kept >= 4, "{before:?} {after:?}");
        }
    }

    #[test]
    fn nobody_is_chosen_twice_and_no_more_than_there_are() {
        let mut ids = chosen(&tick(0), &roster(1..=50), 1_000);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    }

    #[test]
    fn ticks_spread_over_the_whole_roster() {
        let roster = roster(1..=50);
        let mut counts: HashMap<String, u32> = HashMap::new();
        for number in 0..1_000 {
            for id in chosen(&tick(number), &roster, 1) {
                *counts.entry(id).or_default() += 1;
            }
        }
        assert_eq!(counts.len(), 50);
        assert!(
            counts.values().all(|count| (5..=40).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn one_tick_and_patient_are_one_fact() {
        let (ada, ben) = ("p-001".parse().unwrap(), "p-002".parse().unwrap());
        let first = tick(0).check_in(&ada);
        assert_eq!(first, tick(0).check_in(&ada));
        assert_eq!(first.occurred_at, tick(0).time);
        for other in [tick(0).check_in(&ben), tick(1).check_in(&ada)] {
            assert_ne!(first.event_id, other.event_id);
            assert_ne!(first.event.to_data(), other.event.to_data());
        }
    }
}
