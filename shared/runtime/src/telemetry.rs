//! Structured logs, one JSON object a line on stdout, as CloudWatch Logs takes them.

use tracing::level_filters::LevelFilter;

use crate::config::{ConfigError, Lookup, parsed_or};

/// Starts logging at the level that `LOG_LEVEL` names (`off`, `error`, `warn`, `info`, `debug`, `trace`; default
/// `info`). Patient data is never logged; what may be is decided where a line is written.
///
/// # Errors
/// [`ConfigError::Invalid`] if the level is none of these.
pub fn init(lookup: Lookup<'_>) -> Result<(), ConfigError> {
    let level = parsed_or(lookup, "LOG_LEVEL", LevelFilter::INFO)?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_max_level(level)
        // CloudWatch adds the time of arrival; our own is the one that sorts.
        .with_target(true)
        .init();
    Ok(())
}
