//! Structured logs, one JSON object a line on stdout, as CloudWatch Logs takes them.

use std::error::Error;

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
        // Each line has what it is part of: lambda_runtime's span with the request id, and the service's own.
        .with_span_list(true)
        .with_current_span(false)
        .with_max_level(level)
        // CloudWatch adds the time of arrival; our own is the one that sorts.
        .with_target(true)
        .init();
    Ok(())
}

/// An error with all its sources, for a field of a log line. Not for clients.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| Error::source(*cause)) {
        let cause = cause.to_string();
        // A transparent variant, and many an SDK error, say what their source says.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the table is unavailable")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    enum Inner {
        #[error(transparent)]
        Io(#[from] std::io::Error),
    }

    #[test]
    fn every_cause_is_told_once() {
        let error = Outer(std::io::Error::other("connection refused").into());
        assert_eq!(chain(&error), "the table is unavailable: connection refused");
    }
}
