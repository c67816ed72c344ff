//! What was really appended, and what readers must therefore see. Written anew rather than with the fold of the
//! crate `domain`, so that a mistake there does not hide itself.

use domain::{
    CheckinId, CheckinRow, EventHash, EventId, Patient, PatientState, StoredEvent, StreamVersion, Timestamp,
};

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Registered { name: String },
    CheckedIn(CheckinId),
}

/// Whether an event can be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    No,
    UntilNewerSoftware,
    ForEver,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) event_id: EventId,
    pub(crate) occurred_at: Timestamp,
    pub(crate) recorded_at: Timestamp,
    pub(crate) hash: EventHash,
    pub(crate) body: Body,
    pub(crate) poison: Poison,
}

/// The events of one patient.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    facts: Vec<Fact>,
    newer_software: bool,
}

impl Fact {
    /// What the event says, if it is one that this system writes.
    pub(crate) fn of(event: &StoredEvent, poison: Poison) -> Option<Fact> {
        let text = |field| event.data.get(field);
        let body = match event.event_type.as_str() {
            "PatientRegistered" => Body::Registered {
                name: text("name")?.as_str()?.to_owned(),
            },
            "PatientCheckedIn" => Body::CheckedIn(serde_json::from_value(text("checkin_id")?.clone()).ok()?),
            _ => return None,
        };
        Some(Fact {
            event_id: event.event_id,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            hash: event.hash,
            body,
            poison,
        })
    }
}

impl Truth {
    /// How many events there are.
    pub(crate) fn head(&self) -> u64 {
        u64::try_from(self.facts.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn facts(&self) -> &[Fact] {
        &self.facts
    }

    pub(crate) fn push(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// From now on, software knows events that were unknown to it.
    pub(crate) fn deploy_newer_software(&mut self) {
        self.newer_software = true;
    }

    /// The first event that can't be applied.
    pub(crate) fn first_poison(&self) -> Option<u64> {
        let poison = self.facts.iter().position(|fact| match fact.poison {
            Poison::No => false,
            Poison::UntilNewerSoftware => !self.newer_software,
            Poison::ForEver => true,
        });
        poison.and_then(|index| u64::try_from(index + 1).ok())
    }

    /// The version that everybody ends at.
    pub(crate) fn applicable(&self) -> u64 {
        self.first_poison().map_or(self.head(), |poison| poison - 1)
    }

    fn until(&self, version: StreamVersion) -> impl Iterator<Item = (StreamVersion, &Fact)> {
        (1..=version.get()).map(StreamVersion::new).zip(&self.facts)
    }

    /// The check-ins up to a version, in the order of lists.
    pub(crate) fn rows(&self, version: StreamVersion) -> Vec<CheckinRow> {
        let mut rows: Vec<CheckinRow> = self
            .until(version)
            .filter_map(|(version, fact)| row(version, fact))
            .collect();
        rows.sort_by_key(|row| (row.occurred_at, row.version));
        rows
    }

    /// The check-in of one version.
    pub(crate) fn row(&self, version: StreamVersion) -> Option<CheckinRow> {
        let index = usize::try_from(version.get().checked_sub(1)?).ok()?;
        row(version, self.facts.get(index)?)
    }

    /// What is wrong with a state, if anything is, but for its mark.
    pub(crate) fn contradicts(&self, state: &PatientState) -> Option<String> {
        if state.applied.get() > self.applicable() {
            return Some(format!(
                "version {} is applied, and only {} can be",
                state.applied,
                self.applicable()
            ));
        }
        self.contradicts_patient(state.applied, state.patient.as_ref())
    }

    /// What is wrong with what is known of a patient as of a version, if anything is.
    pub(crate) fn contradicts_patient(
        &self,
        version: StreamVersion,
        patient: Option<&Patient>,
    ) -> Option<String> {
        let mut expected: Option<(&str, Timestamp, u64, Option<Timestamp>)> = None;
        for (_, fact) in self.until(version) {
            match (&fact.body, &mut expected) {
                (Body::Registered { name }, vacant @ None) => {
                    *vacant = Some((name, fact.occurred_at, 0, None));
                }
                (Body::CheckedIn(_), Some((_, _, count, last))) => {
                    *count += 1;
                    *last = (*last).max(Some(fact.occurred_at));
                }
                (Body::Registered { .. }, Some(_)) | (Body::CheckedIn(_), None) => {
                    return Some(format!(
                        "version {version} is beyond an event that can't be applied"
                    ));
                }
            }
        }
        let found = patient.map(|patient| {
            (
                patient.name.as_str(),
                patient.registered_at,
                patient.checkin_count,
                patient.last_checkin_at,
            )
        });
        (found != expected).then(|| {
            let (expected, found) = (shown(expected), shown(found));
            format!("as of version {version} the events say {expected}, the read model {found}")
        })
    }
}

/// A patient: name, time of registration, count of check-ins, and the last of them.
fn shown(patient: Option<(&str, Timestamp, u64, Option<Timestamp>)>) -> String {
    let Some((name, registered_at, count, last)) = patient else {
        return "that nobody is registered".to_owned();
    };
    let last = last.map_or("none".to_owned(), |last| last.to_string());
    format!("'{name}', registered {registered_at}, check-ins: {count}, last: {last}")
}

fn row(version: StreamVersion, fact: &Fact) -> Option<CheckinRow> {
    match fact.body {
        Body::Registered { .. } => None,
        Body::CheckedIn(checkin_id) => Some(CheckinRow {
            checkin_id,
            occurred_at: fact.occurred_at,
            version,
        }),
    }
}
