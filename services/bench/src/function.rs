//! A Lambda function as one process, and what each of its invocations costs.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtime::clock::system_clock;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cost::{Cost, NotCounted};
use crate::runtime_api::{Call, Invocation, RuntimeApi};

/// How long anything that is waited for may take: long enough for Python on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How to start a function.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What it is called in the output.
    pub(crate) name: &'static str,
    /// The executable.
    pub(crate) executable: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// The certificate authorities that it comes with, or those of the system that it comes on.
    pub(crate) trust_store: PathBuf,
    /// Its environment, beside what Lambda and the tables add.
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// What an invocation, or a start, took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Taken {
    /// CPU time of the function's process.
    pub(crate) cpu: Duration,
    /// Time on the clock.
    pub(crate) wall: Duration,
}

/// Why a function could not be measured. Its log says more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FunctionError {
    /// The program can't be started.
    #[error("{program} cannot be started")]
    NotStarted {
        /// Which one.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its process ended.
    #[error("{program} ended ({status}): {log}")]
    Ended {
        /// Which one.
        program: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It said that it failed.
    #[error("{program} failed: {report}; {log}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// What it reported.
        report: String,
        /// The end of its log.
        log: String,
    },
    /// It took longer than anything here may.
    #[error("{program} did not answer within {} s: {log}", LIMIT.as_secs())]
    TimedOut {
        /// Which one.
        program: &'static str,
        /// The end of its log.
        log: String,
    },
    /// What it cost is not known.
    #[error(transparent)]
    NotCounted(#[from] NotCounted),
}

/// A running function that waits for an invocation.
#[derive(Debug)]
pub(crate) struct Function {
    program: &'static str,
    child: Child,
    pid: u32,
    api: RuntimeApi,
    waiting: Option<oneshot::Sender<Invocation>>,
    log: PathBuf,
    invocations: u32,
    cpu: Duration,
}

impl Function {
    /// Starts the program with its log in `folder`, and waits until it asks for its first invocation: Lambda's init
    /// phase.
    ///
    /// # Errors
    /// [`FunctionError`]
    pub(crate) async fn start(
        program: &Program,
        environment: &[(&'static str, String)],
        folder: &Path,
    ) -> Result<(Function, Taken), FunctionError> {
        let not_started = |source| FunctionError::NotStarted {
            program: program.name,
            source,
        };
        let api = RuntimeApi::start().await.map_err(not_started)?;
        let log = folder.join(format!("{}.log", program.name.replace(' ', "-")));
        let file = std::fs::File::create(&log).map_err(not_started)?;
        let (key, secret) = embedded::CREDENTIALS;
        let mut command = Command::new(&program.executable);
        command
            .args(&program.arguments)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/bench")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
            .env("AWS_REGION", embedded::REGION)
            .env("AWS_DEFAULT_REGION", embedded::REGION)
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(not_started)?)
            .stderr(file)
            .kill_on_drop(true);
        let began = Instant::now();
        let child = command.spawn().map_err(not_started)?;
        // It has a number until it is waited for.
        let pid = child.id().unwrap_or_default();
        let mut function = Function {
            program: program.name,
            child,
            pid,
            api,
            waiting: None,
            log,
            invocations: 0,
            cpu: Duration::ZERO,
        };
        function.asks_for_next().await?;
        let wall = began.elapsed();
        let cpu = function.cpu_since()?;
        Ok((function, Taken { cpu, wall }))
    }

    /// Invokes it. The time on the clock is until the answer; the CPU time is until it asks for the next invocation.
    ///
    /// # Errors
    /// [`FunctionError`]
    pub(crate) async fn invoke(&mut self, payload: Bytes) -> Result<(Bytes, Taken), FunctionError> {
        self.invocations += 1;
        let invocation = Invocation {
            request_id: format!("00000000-0000-4000-8000-{:012}", self.invocations),
            deadline_millis: system_clock().unix_millis() + 60_000,
            payload,
        };
        let began = Instant::now();
        if let Some(waiting) = self.waiting.take() {
            // If the process has just ended, that is the next thing seen.
            let _ = waiting.send(invocation);
        }
        let answer = match self.call().await? {
            Call::Response(answer) => answer,
            Call::Error(report) => return Err(self.failed(&report)),
            Call::Next(_) => return Err(self.failed(b"it asked for the next invocation without an answer")),
        };
        let wall = began.elapsed();
        self.asks_for_next().await?;
        let cpu = self.cpu_since()?;
        Ok((answer, Taken { cpu, wall }))
    }

    /// What it has cost since its start.
    ///
    /// # Errors
    /// [`NotCounted`]
    pub(crate) fn cost(&self) -> Result<Cost, NotCounted> {
        Cost::of(self.pid)
    }

    /// Ends it, and waits until it is gone.
    pub(crate) async fn end(mut self) {
        // It fails only if the process has ended already.
        let _ = self.child.kill().await;
    }

    async fn asks_for_next(&mut self) -> Result<(), FunctionError> {
        match self.call().await? {
            Call::Next(waiting) => {
                self.waiting = Some(waiting);
                Ok(())
            }
            Call::Error(report) => Err(self.failed(&report)),
            Call::Response(_) => Err(self.failed(b"it answered twice")),
        }
    }

    async fn call(&mut self) -> Result<Call, FunctionError> {
        let call = async {
            tokio::select! {
                // What the process said before it ended counts.
                biased;
                Some(call) = self.api.calls.recv() => Ok(call),
                ended = self.child.wait() => Err(ended),
            }
        };
        match timeout(LIMIT, call).await {
            Ok(Ok(call)) => Ok(call),
            Ok(Err(Ok(status))) => Err(FunctionError::Ended {
                program: self.program,
                status,
                log: self.log_end(),
            }),
            Ok(Err(Err(source))) => Err(FunctionError::NotStarted {
                program: self.program,
                source,
            }),
            Err(_) => Err(FunctionError::TimedOut {
                program: self.program,
                log: self.log_end(),
            }),
        }
    }

    /// The CPU time since this was asked last.
    fn cpu_since(&mut self) -> Result<Duration, NotCounted> {
        let before = self.cpu;
        self.cpu = self.cost()?.cpu;
        Ok(self.cpu.saturating_sub(before))
    }

    fn failed(&self, report: &[u8]) -> FunctionError {
        FunctionError::Failed {
            program: self.program,
            report: String::from_utf8_lossy(report).into_owned(),
            log: self.log_end(),
        }
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let end = log.len().saturating_sub(2_000);
        String::from_utf8_lossy(log.get(end..).unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            name: "script",
            executable: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            trust_store: PathBuf::new(),
            environment: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_program_that_ends_is_told_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Function::start(&shell("echo no table >&2; exit 3"), &[], folder.path()).await;
        let message = refused.err().unwrap().to_string();
        assert_eq!(message, "script ended (exit status: 3): no table\n");
    }

    #[tokio::test]
    async fn nothing_of_our_environment_gets_into_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program {
            environment: vec![("OF_THE_PROGRAM", "1".to_owned())],
            ..shell("env; exit 1")
        };
        let table = [("TABLE", "t".to_owned())];
        let message = Function::start(&program, &table, folder.path())
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("OF_THE_PROGRAM=1"), "{message}");
        assert!(message.contains("TABLE=t"), "{message}");
        assert!(!message.contains("CARGO"), "{message}");
    }
}
