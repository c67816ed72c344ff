//! Configuration of the service.

use runtime::config::{ConfigError, Lookup, optional, required};

use crate::cors::AllowOrigin;

/// What the service has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the read model's table: `READ_MODEL_TABLE`.
    pub read_model_table: String,
    /// Which other origin's pages may read answers: `CORS_ALLOW_ORIGIN`; none if it is not set.
    pub allow_origin: Option<AllowOrigin>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable that is missing or wrong.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<Config, ConfigError> {
        const CORS_ALLOW_ORIGIN: &str = "CORS_ALLOW_ORIGIN";
        let allow_origin = optional(lookup, CORS_ALLOW_ORIGIN)
            .map(|origin| {
                origin
                    .parse()
                    .map_err(|error: crate::cors::InvalidOrigin| ConfigError::Invalid {
                        name: CORS_ALLOW_ORIGIN,
                        reason: error.to_string(),
                    })
            })
            .transpose()?;
        Ok(Config {
            read_model_table: required(lookup, "READ_MODEL_TABLE")?,
            allow_origin,
        })
    }
}

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
    fn the_table_is_required_and_the_origin_is_not() {
        check(&[], Err("environment variable READ_MODEL_TABLE is not set"));
        let table = ("READ_MODEL_TABLE", "table");
        let config = |allow_origin| Config {
            read_model_table: "table".to_owned(),
            allow_origin,
        };
        check(&[table], Ok(config(None)));
        let origin = "https://clinic.example".parse().ok();
        check(
            &[table, ("CORS_ALLOW_ORIGIN", "https://clinic.example")],
            Ok(config(origin)),
        );
        check(
            &[table, ("CORS_ALLOW_ORIGIN", "clinic")],
            Err("environment variable CORS_ALLOW_ORIGIN is invalid: \
                 must be * or one origin such as https://clinic.example, without a path"),
        );
    }
}
