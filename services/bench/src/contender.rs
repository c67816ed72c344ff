//! Programs that store or project events as fast as they can, and what that costs them.
//!
//! Each prepares, says `ready`, waits for a line, works, says what it came to as JSON, and waits for a line again: so that what
//! is measured is the work, and nothing of the preparation.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::cost::{Cost, NotCounted};
use crate::function::Taken;

/// How long the whole of it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// How to start one.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// What it is called in the output.
    pub(crate) name: &'static str,
    /// The executable.
    pub(crate) executable: PathBuf,
    /// Which way, and how much.
    pub(crate) arguments: Vec<String>,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// How many events were stored, or applied.
    pub(crate) events: u32,
    /// How long it took.
    pub(crate) taken: Taken,
}

#[derive(Deserialize)]
struct Said {
    events: u32,
}

/// It could not be measured. What it wrote to stderr says more.
#[derive(Debug, thiserror::Error)]
#[error("{name} did not do its work")]
pub(crate) struct ContenderError {
    name: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Work {
    /// Events a second, on the clock.
    #[must_use]
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.events) / self.taken.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// CPU time of an event.
    #[must_use]
    pub(crate) fn cpu_per_event(&self) -> Duration {
        self.taken.cpu / self.events.max(1)
    }
}

impl Contender {
    /// Has it work on the DynamoDB at this address, with this much in its environment beside. When it has prepared, and not
    /// begun, it is `ready`.
    ///
    /// # Errors
    /// [`ContenderError`]
    pub(crate) async fn work(
        &self,
        endpoint_url: &str,
        environment: &[(&str, &str)],
        ready: impl FnOnce(),
    ) -> Result<Work, ContenderError> {
        let (key, secret) = embedded::CREDENTIALS;
        let mut command = Command::new(&self.executable);
        command
            .args(&self.arguments)
            .env_clear()
            .env("AWS_REGION", embedded::REGION)
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint_url)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let failed = |source| ContenderError {
            name: self.name,
            source,
        };
        let working = async {
            let child = command.spawn()?;
            Dialogue::with(child)?.work(ready).await
        };
        match timeout(LIMIT, working).await {
            Ok(worked) => worked.map_err(failed),
            Err(elapsed) => Err(failed(elapsed.into())),
        }
    }
}

/// Both ends of what is said.
struct Dialogue {
    child: Child,
    pid: u32,
    says: Lines<BufReader<ChildStdout>>,
    hears: ChildStdin,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Dialogue {
    fn with(mut child: Child) -> Result<Dialogue, BoxError> {
        let says = child.stdout.take().ok_or("it has no stdout")?;
        let hears = child.stdin.take().ok_or("it has no stdin")?;
        Ok(Dialogue {
            pid: child.id().ok_or("it has ended")?,
            says: BufReader::new(says).lines(),
            hears,
            child,
        })
    }

    async fn work(mut self, ready: impl FnOnce()) -> Result<Work, BoxError> {
        let said = self.line().await?;
        if said != "ready" {
            return Err(format!("it said {said}, and not that it is ready").into());
        }
        ready();
        let before = self.cost()?;
        let began = Instant::now();
        self.hears.write_all(b"\n").await?;
        let said: Said = serde_json::from_str(&self.line().await?)?;
        let wall = began.elapsed();
        let cpu = self.cost()?.cpu.saturating_sub(before.cpu);
        self.hears.write_all(b"\n").await?;
        self.child.wait().await?;
        Ok(Work {
            events: said.events,
            taken: Taken { cpu, wall },
        })
    }

    async fn line(&mut self) -> Result<String, BoxError> {
        let line = self.says.next_line().await?;
        line.ok_or_else(|| "it ended before its time".into())
    }

    fn cost(&self) -> Result<Cost, NotCounted> {
        Cost::of(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(script: &str) -> Result<Work, String> {
        let contender = Contender {
            name: "script",
            executable: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
        };
        let worked = contender.work("http://127.0.0.1:1", &[], || ()).await;
        worked.map_err(|error| error.source.to_string())
    }

    #[tokio::test]
    async fn what_is_said_between_two_lines_is_the_work() {
        let script = r#"echo ready; read go; echo '{"events": 4}'; read end"#;
        let work = check(script).await.unwrap();
        assert_eq!(work.events, 4);
        assert!(work.rate() > 0.0);
    }

    #[tokio::test]
    async fn one_that_ends_or_says_something_else_is_an_error() {
        assert_eq!(check("exit 1").await.unwrap_err(), "it ended before its time");
        assert_eq!(
            check("echo steady").await.unwrap_err(),
            "it said steady, and not that it is ready"
        );
        assert!(check("echo ready; read go; echo nonsense").await.is_err());
    }
}
