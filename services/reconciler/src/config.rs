//! What the reconciler is told by its environment.

use std::num::NonZeroU8;

use runtime::config::{ConfigError, Lookup, parsed_or, required};

/// How many calls to DynamoDB are under way at once unless `CONCURRENCY` says otherwise.
const DEFAULT_CONCURRENCY: NonZeroU8 = NonZeroU8::new(16).unwrap();

/// The reconciler's settings. Terraform sets exactly these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `EVENT_TABLE`: the event table's name.
    pub event_table: String,
    /// `READ_MODEL_TABLE`: the read model table's name.
    pub read_model_table: String,
    /// `QUARANTINE_QUEUE_URL`: where events that can't be applied are reported.
    pub quarantine_queue_url: String,
    /// `CONCURRENCY`: how many calls to DynamoDB are under way at once, at most: 1 to 255, 16 if it is not set.
    pub concurrency: usize,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the one that is missing or wrong.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        Ok(Config {
            event_table: required(lookup, "EVENT_TABLE")?,
            read_model_table: required(lookup, "READ_MODEL_TABLE")?,
            quarantine_queue_url: required(lookup, "QUARANTINE_QUEUE_URL")?,
            concurrency: parsed_or(lookup, "CONCURRENCY", DEFAULT_CONCURRENCY)?
                .get()
                .into(),
        })
    }
}
