//! Comparing two accounts of one patient, field by field.

use std::collections::{BTreeMap, BTreeSet};

use domain::{CheckinRow, PatientState, StreamVersion};
use serde::Serialize;

/// The field that says which events a state was folded from.
pub(crate) const HISTORY: &str = "history";

/// One account of a patient: a summary, and the check-ins that it counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The summary.
    pub state: PatientState,
    /// The check-ins up to the applied version, by version.
    pub rows: BTreeMap<StreamVersion, CheckinRow>,
    /// What readers take for further check-ins: the versions and sort keys of rows that are not where their content says,
    /// of second ones of a version, and of such that can't be read, with version 0.
    pub extra: BTreeSet<(StreamVersion, String)>,
    /// The attributes by which the indexes find the summary, where they are not what it says.
    pub misfiled: Vec<Difference>,
}

/// A field in which two accounts differ. The values are patient data: they are shown only to those who ask for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which field: `name`, or `checkins[7].occurredAt` for the check-in of version 7.
    pub field: String,
    /// The one account's value; `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The other's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl Difference {
    pub(crate) fn between<T: PartialEq>(
        field: impl Into<String>,
        found: Option<T>,
        expected: Option<T>,
        show: impl Fn(T) -> String,
    ) -> Option<Difference> {
        (found != expected).then(|| Difference {
            field: field.into(),
            found: found.map(&show),
            expected: expected.map(&show),
        })
    }

    /// The same without the values.
    #[must_use]
    pub fn without_values(self) -> Difference {
        Difference {
            found: None,
            expected: None,
            ..self
        }
    }
}

impl Account {
    /// Whether the summary counts the check-ins that there are, and everything is where it belongs, whatever the events
    /// say.
    pub(crate) fn inconsistencies(&self) -> Vec<Difference> {
        let mut expected = Account {
            state: self.state.clone(),
            rows: self.rows.clone(),
            ..Account::default()
        };
        match &mut expected.state.patient {
            Some(patient) => patient.checkin_count = u64::try_from(self.rows.len()).unwrap_or(u64::MAX),
            // Rows of a patient whom nobody knows.
            None => expected.rows.clear(),
        }
        self.differences(&expected)
    }

    /// The fields in which this account is not the expected one. The mark of a quarantine is compared by the version
    /// that it names: when it was found out is no function of the events.
    #[must_use]
    pub fn differences(&self, expected: &Account) -> Vec<Difference> {
        let (found, other) = (&self.state, &expected.state);
        let patients = (found.patient.as_ref(), other.patient.as_ref());
        let mark = |state: &PatientState| state.quarantine.as_ref().map(|mark| mark.version);
        let mut differences: Vec<Difference> = [
            Difference::between("version", Some(found.applied), Some(other.applied), |version| {
                version.to_string()
            }),
            // What was not kept is no difference.
            found.history.zip(other.history).and_then(|(found, other)| {
                Difference::between(HISTORY, Some(found), Some(other), |history| history.to_string())
            }),
            Difference::between(
                "name",
                patients.0.map(|patient| &patient.name),
                patients.1.map(|patient| &patient.name),
                |name| name.as_str().to_owned(),
            ),
            Difference::between(
                "registeredAt",
                patients.0.map(|patient| patient.registered_at),
                patients.1.map(|patient| patient.registered_at),
                |at| at.to_string(),
            ),
            Difference::between(
                "checkinCount",
                patients.0.map(|patient| patient.checkin_count),
                patients.1.map(|patient| patient.checkin_count),
                |count| count.to_string(),
            ),
            Difference::between(
                "lastCheckinAt",
                patients.0.and_then(|patient| patient.last_checkin_at),
                patients.1.and_then(|patient| patient.last_checkin_at),
                |at| at.to_string(),
            ),
            Difference::between("quarantinedAt", mark(found), mark(other), |version| {
                version.to_string()
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut versions: Vec<StreamVersion> =
            self.rows.keys().chain(expected.rows.keys()).copied().collect();
        versions.sort_unstable();
        versions.dedup();
        for version in versions {
            let rows = (self.rows.get(&version), expected.rows.get(&version));
            differences.extend(row_differences(version, rows));
        }
        let key = |accounts: (&Account, &Account), of: &(StreamVersion, String)| {
            accounts.0.extra.contains(of).then(|| of.1.clone())
        };
        for of in self.extra.symmetric_difference(&expected.extra) {
            differences.extend(Difference::between(
                format!("checkins[{}].key", of.0),
                key((self, expected), of),
                key((expected, self), of),
                |key| key,
            ));
        }
        differences.extend(self.misfiled.iter().cloned());
        differences
    }
}

fn row_differences(
    version: StreamVersion,
    rows: (Option<&CheckinRow>, Option<&CheckinRow>),
) -> Vec<Difference> {
    let (found, expected) = match rows {
        (Some(found), Some(expected)) => (found, expected),
        (found, expected) => {
            let field = format!("checkins[{version}]");
            return Difference::between(field, found, expected, |row| row.checkin_id.to_string())
                .into_iter()
                .collect();
        }
    };
    let id = Difference::between(
        format!("checkins[{version}].id"),
        Some(found.checkin_id),
        Some(expected.checkin_id),
        |id| id.to_string(),
    );
    let occurred_at = Difference::between(
        format!("checkins[{version}].occurredAt"),
        Some(found.occurred_at),
        Some(expected.occurred_at),
        |at| at.to_string(),
    );
    id.into_iter().chain(occurred_at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{CheckinId, EventHash, HistoryDigest, Patient, Quarantine, QuarantineReason, Timestamp};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_millis(minute * 60_000).unwrap()
    }

    fn account() -> Account {
        let row = |version: u64| CheckinRow {
            checkin_id: CheckinId::derive(&[&version.to_string()]),
            occurred_at: at(i64::try_from(version).unwrap()),
            version: StreamVersion::new(version),
        };
        Account {
            state: PatientState {
                applied: StreamVersion::new(3),
                history: Some(HistoryDigest::EMPTY),
                patient: Some(Patient {
                    name: "Ada Example".parse().unwrap(),
                    registered_at: at(1),
                    checkin_count: 2,
                    last_checkin_at: Some(at(3)),
                }),
                quarantine: None,
            },
            rows: [2, 3]
                .map(|version| (StreamVersion::new(version), row(version)))
                .into(),
            ..Account::default()
        }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Account), expected: &[&str]) {
        let mut changed = account();
        change(&mut changed);
        let fields = |found: &Account, expected: &Account| -> Vec<String> {
            let differences = found.differences(expected).into_iter();
            differences.map(|difference| difference.field).collect()
        };
        assert_eq!(fields(&changed, &account()), expected);
        assert_eq!(fields(&account(), &changed), expected);
    }

    #[test]
    fn equal_accounts_have_no_difference() {
        check(|_| (), &[]);
    }

    #[test]
    fn each_field_is_compared() {
        check(
            |account| account.state.applied = StreamVersion::new(2),
            &["version"],
        );
        check(
            |account| account.state.history = Some(HistoryDigest::EMPTY.with(EventHash::GENESIS)),
            &["history"],
        );
        check(|account| account.state.history = None, &[]);
        let patient =
            |account: &mut Account, change: fn(&mut Patient)| change(account.state.patient.as_mut().unwrap());
        check(
            |account| patient(account, |patient| patient.name = "Eve Example".parse().unwrap()),
            &["name"],
        );
        check(
            |account| patient(account, |patient| patient.registered_at = at(9)),
            &["registeredAt"],
        );
        check(
            |account| patient(account, |patient| patient.checkin_count = 9),
            &["checkinCount"],
        );
        check(
            |account| patient(account, |patient| patient.last_checkin_at = None),
            &["lastCheckinAt"],
        );
        check(
            |account| account.state.patient = None,
            &["name", "registeredAt", "checkinCount", "lastCheckinAt"],
        );
    }

    #[test]
    fn check_ins_are_compared_by_version() {
        let third = StreamVersion::new(3);
        check(|account| _ = account.rows.remove(&third), &["checkins[3]"]);
        check(
            |account| account.rows.get_mut(&third).unwrap().occurred_at = at(9),
            &["checkins[3].occurredAt"],
        );
        check(
            |account| account.rows.get_mut(&third).unwrap().checkin_id = CheckinId::derive(&["other"]),
            &["checkins[3].id"],
        );
    }

    #[test]
    fn time_of_a_quarantine_is_no_difference() {
        let mark = |minute| Quarantine {
            version: StreamVersion::new(4),
            reason: QuarantineReason::missing(),
            since: at(minute),
        };
        check(
            |account| account.state.quarantine = Some(mark(1)),
            &["quarantinedAt"],
        );
        let (mut one, mut other) = (account(), account());
        one.state.quarantine = Some(mark(1));
        other.state.quarantine = Some(mark(2));
        assert_eq!(one.differences(&other), []);
    }

    #[test]
    fn values_can_be_left_out() {
        let mut changed = account();
        changed.state.applied = StreamVersion::new(2);
        let difference = changed.differences(&account()).pop().unwrap();
        assert_eq!(
            (difference.found.as_deref(), difference.expected.as_deref()),
            (Some("2"), Some("3"))
        );
        assert_eq!(
            serde_json::to_string(&difference.without_values()).unwrap(),
            r#"{"field":"version"}"#
        );
    }
}
