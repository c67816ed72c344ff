//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What `local` was asked to do.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "local",
    about = "Runs the whole patient check-in system on this machine.",
    long_about = "Runs the whole patient check-in system on this machine: an embedded DynamoDB with Streams, an SQS \
                  endpoint, every Lambda function as a process of its own, the schedule, the stream and the HTTP \
                  API. No AWS account, no Docker. Ctrl-C ends it.",
    override_usage = "local [OPTIONS]",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct CommandLine {
    /// How to run the system.
    #[command(flatten)]
    pub options: Options,
    /// Only set in the child processes, which are this same program.
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// How to run the system.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Port of the HTTP API; 0 lets the system choose
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub port: u16,
    /// Time between two ticks of the schedule: 10ms to 24h, such as 500ms, 2s, 2m
    #[arg(long, default_value = "2s", value_name = "TIME")]
    pub every: Period,
    /// Time between two comparisons of the read model with the events, such as 30s, 5m
    #[arg(long, default_value = "1m", value_name = "TIME")]
    pub reconcile_every: Period,
    /// How many patients check in on each tick
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub checkins_per_tick: u32,
    /// Keep everything in this folder, and go on from what is in it [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// File with the patients to register: a JSON list of {"id", "name"}, or FHIR R4 patients (a Bundle, or one a line)
    /// [default: 50 made-up people]
    #[arg(long, value_name = "FILE")]
    pub roster: Option<PathBuf>,
    /// Origin whose pages may read the API's answers, such as `https://clinic.example`; `*` for any
    #[arg(long, value_name = "ORIGIN")]
    pub cors_allow_origin: Option<backend::AllowOrigin>,
    /// Port of the embedded DynamoDB; 0 lets the system choose
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub dynamodb_port: u16,
}

/// What a child process does.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Role {
    /// Runs one Lambda function on the Lambda Runtime API that the environment names
    #[command(hide = true)]
    Service {
        /// Which function.
        service: Service,
    },
}

/// A Lambda function of this system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// Registers the roster, checks patients in on each tick.
    Checkin,
    /// Keeps the read model up to date.
    Projector,
    /// Answers queries.
    Backend,
    /// Repairs what the projector missed.
    Reconciler,
}

impl Service {
    /// The function's name, which is also what `local service` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Service::Checkin => "checkin",
            Service::Projector => "projector",
            Service::Backend => "backend",
            Service::Reconciler => "reconciler",
        }
    }
}

/// The time between two ticks: 10 milliseconds to 24 hours. Text form: a whole number and one of `ms`, `s`,
/// `m`, `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(Duration);

/// The text is not a period. Show it to whoever typed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a period is a whole number and a unit (ms, s, m or h), from 10ms to 24h, such as 500ms or 2m")]
pub struct InvalidPeriod;

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Period {
    /// The period in whole milliseconds, 10 or more.
    #[must_use]
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Period, InvalidPeriod> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or(InvalidPeriod)?;
        let (number, unit) = text.split_at(unit_at);
        let millis_per_unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(InvalidPeriod),
        };
        let number: u64 = number.parse().map_err(|_| InvalidPeriod)?;
        let millis = number.checked_mul(millis_per_unit).ok_or(InvalidPeriod)?;
        let period = Duration::from_millis(millis);
        if (SHORTEST..=LONGEST).contains(&period) {
            Ok(Period(period))
        } else {
            Err(InvalidPeriod)
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{} h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{} min", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => write!(f, "{} s", millis / 1_000),
            _ => write!(f, "{millis} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
        assert!(CommandLine::try_parse_from(["local", "service", "backend"]).is_ok());
    }

    #[test]
    fn periods_are_read_with_their_unit() {
        #[track_caller]
        fn check(text: &str, expected: Result<i64, InvalidPeriod>) {
            assert_eq!(text.parse::<Period>().map(Period::millis), expected, "{text}");
        }
        check("10ms", Ok(10));
        check("500ms", Ok(500));
        check("2s", Ok(2_000));
        check("2m", Ok(120_000));
        check("24h", Ok(86_400_000));
        for text in [
            "",
            "2",
            "s",
            "0s",
            "9ms",
            "25h",
            "-2s",
            "1.5s",
            "2 s",
            "2d",
            "99999999999999999999h",
        ] {
            check(text, Err(InvalidPeriod));
        }
    }
}
