//! Configuration of the service.

use runtime::config::{ConfigError, Lookup, required};

/// What the service has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the read model's table: `READ_MODEL_TABLE`.
    pub read_model_table: String,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable that is missing.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        Ok(Config {
            read_model_table: required(lookup, "READ_MODEL_TABLE")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_variable_is_named() {
        let error = Config::from_lookup(&|_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable READ_MODEL_TABLE is not set"
        );
        let config = Config::from_lookup(&|name| (name == "READ_MODEL_TABLE").then(|| "table".to_owned()));
        assert_eq!(config.unwrap().read_model_table, "table");
    }
}
