//! Turning any stored shape of an event into today's.

use serde::de::DeserializeOwned;

use crate::event::{Event, EventData};

/// Why a stored event cannot be turned into an [`Event`]: the patient is quarantined at it. The variants are
/// stable codes without patient data; see [`Undecodable::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The attributes around the body are missing or malformed.
    #[error("the event's envelope is malformed")]
    InvalidEnvelope,
    /// No such type of event. Newer software may have written it: deploy that, then rebuild.
    #[error("the event's type is unknown")]
    UnknownType,
    /// No upcaster leads from this schema version. Newer software may have written it: deploy that, then rebuild.
    #[error("the event's schema version is unknown")]
    UnknownSchemaVersion,
    /// The body is not of the form that its schema version promises.
    #[error("the event's body is malformed")]
    InvalidData,
}

impl Undecodable {
    /// The stable code for logs, metrics and queue messages.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Undecodable::InvalidEnvelope => "invalid_envelope",
            Undecodable::UnknownType => "unknown_type",
            Undecodable::UnknownSchemaVersion => "unknown_schema_version",
            Undecodable::InvalidData => "invalid_data",
        }
    }
}

/// Turns the body of one type of event from schema version `from` into `from + 1`.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The stored name of the event's type.
    pub event_type: &'static str,
    /// The schema version that it reads.
    pub from: u32,
    /// The step. `None` when the body is not of the form that version `from` promises.
    pub step: fn(EventData) -> Option<EventData>,
}

/// The steps from every schema version ever written to today's.
#[derive(Debug, Clone, Copy)]
pub struct Upcasters(&'static [Upcaster]);

impl Upcasters {
    /// The steps of this system: none yet, as every shape is still in its first version.
    pub const CURRENT: Upcasters = Upcasters(&[]);

    /// These steps.
    #[must_use]
    pub const fn new(steps: &'static [Upcaster]) -> Upcasters {
        Upcasters(steps)
    }

    /// Decodes a stored body, by way of as many steps as its schema version needs.
    ///
    /// # Errors
    /// [`Undecodable`]: no version of this software can apply it as it is; quarantine the patient.
    pub fn decode(
        self,
        event_type: &str,
        schema_version: u32,
        mut data: EventData,
    ) -> Result<Event, Undecodable> {
        let mut version = schema_version;
        while let Some(upcaster) = self
            .0
            .iter()
            .find(|u| u.event_type == event_type && u.from == version)
        {
            data = (upcaster.step)(data).ok_or(Undecodable::InvalidData)?;
            version += 1;
        }
        match (event_type, version) {
            ("PatientRegistered", 1) => body(data).map(Event::PatientRegistered),
            ("PatientCheckedIn", 1) => body(data).map(Event::PatientCheckedIn),
            ("PatientRegistered" | "PatientCheckedIn", _) => Err(Undecodable::UnknownSchemaVersion),
            _ => Err(Undecodable::UnknownType),
        }
    }
}

fn body<T: DeserializeOwned>(data: EventData) -> Result<T, Undecodable> {
    serde_json::from_value(serde_json::Value::Object(data)).map_err(|_| Undecodable::InvalidData)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A history in which version 0 called the name `full_name`, and version -1 does not exist.
    const RENAMED: Upcasters = Upcasters::new(&[Upcaster {
        event_type: "PatientRegistered",
        from: 0,
        step: |mut data| {
            let name = data.remove("full_name")?;
            data.insert("name".to_owned(), name);
            Some(data)
        },
    }]);

    #[track_caller]
    fn check(upcasters: Upcasters, event_type: &str, version: u32, data: serde_json::Value, expected: &str) {
        let serde_json::Value::Object(data) = data else {
            panic!("a body is an object")
        };
        let found = match upcasters.decode(event_type, version, data) {
            Ok(event) => serde_json::to_string(&event.to_data()).unwrap(),
            Err(reason) => reason.code().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_older_shape_becomes_todays() {
        check(
            RENAMED,
            "PatientRegistered",
            0,
            json!({"full_name": "Ada"}),
            r#"{"name":"Ada"}"#,
        );
        check(
            RENAMED,
            "PatientRegistered",
            1,
            json!({"name": "Ada"}),
            r#"{"name":"Ada"}"#,
        );
    }

    #[test]
    fn an_older_shape_that_breaks_its_promise_is_undecodable() {
        check(
            RENAMED,
            "PatientRegistered",
            0,
            json!({"name": "Ada"}),
            "invalid_data",
        );
    }

    #[test]
    fn what_nobody_can_read_is_named() {
        check(
            Upcasters::CURRENT,
            "PatientRegistered",
            0,
            json!({}),
            "unknown_schema_version",
        );
        check(
            Upcasters::CURRENT,
            "PatientRegistered",
            2,
            json!({}),
            "unknown_schema_version",
        );
        check(
            Upcasters::CURRENT,
            "PatientVanished",
            1,
            json!({}),
            "unknown_type",
        );
        check(
            Upcasters::CURRENT,
            "PatientRegistered",
            1,
            json!({"name": ""}),
            "invalid_data",
        );
        check(
            Upcasters::CURRENT,
            "PatientCheckedIn",
            1,
            json!({"checkin_id": "x"}),
            "invalid_data",
        );
        check(
            Upcasters::CURRENT,
            "PatientCheckedIn",
            1,
            json!({}),
            "invalid_data",
        );
    }

    #[test]
    fn a_field_that_is_not_known_yet_does_not_hurt() {
        check(
            Upcasters::CURRENT,
            "PatientRegistered",
            1,
            json!({"name": "Ada", "since": 7}),
            r#"{"name":"Ada"}"#,
        );
    }
}
