//! What a service that writes the read model is told by its environment.

use std::num::NonZeroU8;

use crate::config::{ConfigError, Lookup, parsed_or, required};

/// How many calls to DynamoDB are under way at once unless `CONCURRENCY` says otherwise.
const DEFAULT_CONCURRENCY: NonZeroU8 = NonZeroU8::new(16).unwrap();

/// The settings of the projector, and of the reconciler. Terraform sets exactly these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionConfig {
    /// `EVENT_TABLE`: the event table's name.
    pub event_table: String,
    /// `READ_MODEL_TABLE`: the read model table's name.
    pub read_model_table: String,
    /// `QUARANTINE_QUEUE_URL`: where events that can't be applied are reported.
    pub quarantine_queue_url: String,
    /// `CONCURRENCY`: how many calls to DynamoDB are under way at once, at most: 1 to 255, 16 if it is not set.
    pub concurrency: usize,
}

impl ProjectionConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the one that is missing or wrong.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<ProjectionConfig, ConfigError> {
        Ok(ProjectionConfig {
            event_table: required(lookup, "EVENT_TABLE")?,
            read_model_table: required(lookup, "READ_MODEL_TABLE")?,
            quarantine_queue_url: required(lookup, "QUARANTINE_QUEUE_URL")?,
            concurrency: parsed_or(lookup, "CONCURRENCY", DEFAULT_CONCURRENCY)?
                .get()
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads these settings, but for `changed`, which is this (`None`: not set).
    fn read(changed: &str, to: Option<&str>) -> Result<ProjectionConfig, String> {
        let lookup = |name: &str| match name {
            _ if name == changed => to.map(str::to_owned),
            "EVENT_TABLE" => Some("events".to_owned()),
            "READ_MODEL_TABLE" => Some("read-model".to_owned()),
            "QUARANTINE_QUEUE_URL" => Some("http://127.0.0.1/queue".to_owned()),
            _ => None,
        };
        ProjectionConfig::from_lookup(&lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn each_setting_is_read_from_its_variable() {
        let expected = ProjectionConfig {
            event_table: "events".to_owned(),
            read_model_table: "read-model".to_owned(),
            quarantine_queue_url: "http://127.0.0.1/queue".to_owned(),
            concurrency: 16,
        };
        assert_eq!(read("", None), Ok(expected));
        assert_eq!(
            read("CONCURRENCY", Some("255")).map(|config| config.concurrency),
            Ok(255)
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for name in ["EVENT_TABLE", "READ_MODEL_TABLE", "QUARANTINE_QUEUE_URL"] {
            assert_eq!(
                read(name, None),
                Err(format!("environment variable {name} is not set"))
            );
        }
        for wrong in ["0", "256", "-1", "many"] {
            let error = read("CONCURRENCY", Some(wrong)).unwrap_err();
            let expected = "environment variable CONCURRENCY is invalid: ";
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
