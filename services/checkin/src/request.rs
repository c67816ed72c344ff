//! What the service can be asked to do.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use domain::{CorrelationId, Timestamp};
use serde_json::Value;

use crate::Tick;

/// What the service can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Check patients in: a scheduled event of EventBridge.
    Tick(Tick),
    /// Register the roster: `{"command": "register-roster"}`.
    RegisterRoster,
}

/// The payload asks for nothing that this service does. Correct whoever sends it; repeating it is in vain.
#[derive(Debug, thiserror::Error)]
#[error("invalid request: {reason}")]
pub struct InvalidRequest {
    reason: &'static str,
    source: Option<serde_json::Error>,
}

impl InvalidRequest {
    pub(crate) fn new(reason: &'static str) -> InvalidRequest {
        InvalidRequest { reason, source: None }
    }
}

impl Request {
    /// The occasion to which all events of the request belong: the same whenever a tick is repeated, another one for each
    /// `invocation` that registers the roster.
    #[must_use]
    pub fn correlation_id(&self, invocation: &str) -> CorrelationId {
        match self {
            Request::Tick(tick) => tick.correlation_id(),
            Request::RegisterRoster => CorrelationId::derive("register-roster", &[invocation]),
        }
    }

    /// Reads the payload of an invocation.
    ///
    /// # Errors
    /// [`InvalidRequest`]
    pub fn parse(payload: Value) -> Result<Request, InvalidRequest> {
        if let Some(command) = payload.get("command") {
            return match command.as_str() {
                Some("register-roster") => Ok(Request::RegisterRoster),
                _ => Err(InvalidRequest::new("the only command is register-roster")),
            };
        }
        if payload.get("detail-type").is_none() {
            return Err(InvalidRequest::new("neither a scheduled event nor a command"));
        }
        let event: EventBridgeEvent = serde_json::from_value(payload).map_err(|error| InvalidRequest {
            reason: "the event is malformed",
            source: Some(error),
        })?;
        if event.source != "aws.events" || event.detail_type != "Scheduled Event" {
            return Err(InvalidRequest::new("the event is not a scheduled one"));
        }
        let time = event
            .time
            .and_then(|time| Timestamp::try_from(time).ok())
            .ok_or_else(|| InvalidRequest::new("the scheduled event has no time"))?;
        let rule = event
            .resources
            .and_then(|resources| resources.into_iter().next())
            .ok_or_else(|| InvalidRequest::new("the scheduled event names no rule"))?;
        Ok(Request::Tick(Tick { rule, time }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scheduled() -> Value {
        json!({
            "version": "0",
            "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": "123456789012",
            "time": "2026-11-24T09:30:00Z",
            "region": "us-east-1",
            "resources": ["arn:aws:events:us-east-1:123456789012:rule/tick"],
            "detail": {}
        })
    }

    #[test]
    fn requests_are_ticks_and_commands() {
        #[track_caller]
        fn check(payload: Value, expected: &Request) {
            assert_eq!(&Request::parse(payload).unwrap(), expected);
        }
        check(json!({"command": "register-roster"}), &Request::RegisterRoster);
        check(
            scheduled(),
            &Request::Tick(Tick {
                rule: "arn:aws:events:us-east-1:123456789012:rule/tick".to_owned(),
                time: "2026-11-24T09:30:00.000Z".parse().unwrap(),
            }),
        );
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        #[track_caller]
        fn check(payload: Value, reason: &str) {
            let error = Request::parse(payload).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid request: {reason}"));
        }
        /// The scheduled event with one field replaced.
        fn with(field: &str, value: Value) -> Value {
            let mut event = scheduled();
            event[field] = value;
            event
        }
        for payload in [json!(null), json!([]), json!("tick"), json!({})] {
            check(payload, "neither a scheduled event nor a command");
        }
        for command in [json!("delete-everything"), json!(7), json!(null)] {
            check(json!({"command": command}), "the only command is register-roster");
        }
        check(
            with("detail-type", json!("Other")),
            "the event is not a scheduled one",
        );
        check(
            with("source", json!("my.app")),
            "the event is not a scheduled one",
        );
        check(with("source", json!(7)), "the event is malformed");
        check(with("time", json!("noon")), "the event is malformed");
        check(with("time", json!(null)), "the scheduled event has no time");
        check(
            with("resources", json!(null)),
            "the scheduled event names no rule",
        );
        check(with("resources", json!([])), "the scheduled event names no rule");
    }
}
