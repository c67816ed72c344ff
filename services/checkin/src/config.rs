//! The settings of the service.

use std::num::NonZeroU16;
use std::path::PathBuf;

use runtime::config::{ConfigError, Lookup, optional, parsed_or, required};

/// The settings of the service, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `EVENT_TABLE`: the name of the event table.
    pub event_table: String,
    /// `CHECKINS_PER_TICK`: how many patients a tick checks in; 1 unless set.
    pub checkins_per_tick: NonZeroU16,
    /// `ROSTER_FILE`: the operator's roster; the built-in one unless set.
    pub roster_file: Option<PathBuf>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable that is missing or wrong.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        Ok(Config {
            event_table: required(lookup, "EVENT_TABLE")?,
            checkins_per_tick: parsed_or(lookup, "CHECKINS_PER_TICK", NonZeroU16::MIN)?,
            roster_file: optional(lookup, ROSTER_FILE).map(PathBuf::from),
        })
    }
}

pub(crate) const ROSTER_FILE: &str = "ROSTER_FILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: &[(&str, &str)], expected: Result<Config, &str>) {
        let lookup = |name: &str| {
            let (_, value) = settings.iter().find(|(key, _)| *key == name)?;
            Some((*value).to_owned())
        };
        let found = Config::from_lookup(&lookup).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn only_the_table_is_required() {
        check(&[], Err("environment variable EVENT_TABLE is not set"));
        check(
            &[("EVENT_TABLE", "events")],
            Ok(Config {
                event_table: "events".to_owned(),
                checkins_per_tick: NonZeroU16::MIN,
                roster_file: None,
            }),
        );
    }

    #[test]
    fn every_setting_is_read() {
        check(
            &[
                ("EVENT_TABLE", "events"),
                ("CHECKINS_PER_TICK", "25"),
                ("ROSTER_FILE", "/roster.json"),
            ],
            Ok(Config {
                event_table: "events".to_owned(),
                checkins_per_tick: NonZeroU16::new(25).unwrap(),
                roster_file: Some("/roster.json".into()),
            }),
        );
    }

    #[test]
    fn a_tick_without_check_ins_is_a_mistake() {
        check(
            &[("EVENT_TABLE", "events"), ("CHECKINS_PER_TICK", "0")],
            Err("environment variable CHECKINS_PER_TICK is invalid: number would be zero for non-zero type"),
        );
    }
}
