//! Configuration: read once, through an injected lookup, so that a test needs no environment.

use std::fmt::Display;
use std::str::FromStr;

/// A setting is missing or wrong. Fix the environment named in the message (Terraform sets it on AWS).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required setting is absent or empty.
    #[error("environment variable {name} is not set")]
    Missing {
        /// The variable.
        name: &'static str,
    },
    /// A setting does not have the form that it should.
    #[error("environment variable {name} is invalid: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// Where settings come from: `|name| std::env::var(name).ok()` in a service, a map in a test.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process environment, as a [`Lookup`].
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is where the environment comes in")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The setting called `name`, if it is there and not empty.
#[must_use]
pub fn optional(lookup: Lookup<'_>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.is_empty())
}

/// The setting called `name`.
///
/// # Errors
/// [`ConfigError::Missing`]
pub fn required(lookup: Lookup<'_>, name: &'static str) -> Result<String, ConfigError> {
    optional(lookup, name).ok_or(ConfigError::Missing { name })
}

/// The setting called `name`, parsed, or `default` if it is absent.
///
/// # Errors
/// [`ConfigError::Invalid`]
pub fn parsed_or<T>(lookup: Lookup<'_>, name: &'static str, default: T) -> Result<T, ConfigError>
where
    T: FromStr<Err: Display>,
{
    optional(lookup, name).map_or(Ok(default), |value| {
        value.parse().map_err(|error: T::Err| ConfigError::Invalid {
            name,
            reason: error.to_string(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "NUMBER" => Some("7".to_owned()),
            "WORD" => Some("seven".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn errors_name_the_variable() {
        assert_eq!(required(&lookup, "NUMBER"), Ok("7".to_owned()));
        for name in ["EMPTY", "ABSENT"] {
            let error = required(&lookup, name).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("environment variable {name} is not set")
            );
        }
        assert_eq!(parsed_or(&lookup, "NUMBER", 1), Ok(7));
        assert_eq!(parsed_or(&lookup, "ABSENT", 1), Ok(1));
        let error = parsed_or(&lookup, "WORD", 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable WORD is invalid: invalid digit found in string"
        );
    }
}
