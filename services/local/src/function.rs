//! A Lambda function on this machine: processes that are started, invoked and ended as Lambda would.
//!
//! Each instance is one process with a Runtime API of its own, and has one invocation at a time. A process that
//! ends, takes too long or is killed fails its invocation with a function error and is replaced.
//!
//! Deliberately absent: throttling. An invocation that finds all instances busy waits for one.

use std::fmt;
use std::fs::OpenOptions;
use std::future::Future;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::clock::Clock;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::request_ids::RequestIds;
use crate::runtime_api::{Call, Invocation, RuntimeApi};
use crate::stopping::Stopping;

/// How long a process may take until it asks for its first invocation, as on Lambda.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process has to end by itself once it was asked to.
const GRACE: Duration = Duration::from_secs(2);
/// The wait before a process that could not start up is started again doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What a function is made of.
#[derive(Debug, Clone)]
pub(crate) struct FunctionDefinition {
    /// The function's name.
    pub(crate) name: &'static str,
    /// The program to run.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its whole environment, apart from what the runtime adds: nothing of ours leaks in.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The file that its output is added to.
    pub(crate) log: PathBuf,
    /// How long an invocation may take.
    pub(crate) timeout: Duration,
    /// How many invocations can run at a time: 1 or more.
    pub(crate) instances: usize,
}

/// Why an invocation has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    /// A function error. Retry or give up, by the rules of whoever invokes.
    #[error("{function} {failure}")]
    FunctionError {
        /// Which function.
        function: &'static str,
        /// What happened.
        failure: FunctionFailure,
    },
    /// `local` is ending. Whatever is not done yet is done after the next start.
    #[error("{function} is being stopped")]
    Stopping {
        /// Which function.
        function: &'static str,
    },
}

/// What happened to an invocation, for people to read.
#[derive(Debug, Clone)]
pub(crate) enum FunctionFailure {
    /// The function said so itself.
    Reported(String),
    /// Its process ended, by itself or killed.
    Ended(ExitStatus),
    /// It took longer than it may; the process was killed.
    TimedOut(Duration),
    /// No process could be started.
    NotStarted(String),
}

impl fmt::Display for FunctionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FunctionFailure::Reported(message) => write!(f, "failed: {message}"),
            FunctionFailure::Ended(status) => write!(f, "ended ({status})"),
            FunctionFailure::TimedOut(limit) => write!(f, "took longer than {} s", limit.as_secs_f32()),
            FunctionFailure::NotStarted(reason) => write!(f, "cannot be started: {reason}"),
        }
    }
}

/// Something that is invoked like a Lambda function: a [`Function`], or in a test one without a process.
pub(crate) trait Invoke: Send + Sync + 'static {
    /// Invokes it and waits for its result.
    ///
    /// # Errors
    /// [`InvokeError`]; after a function error it is unknown how much was done.
    fn invoke(&self, payload: Bytes) -> impl Future<Output = Result<Bytes, InvokeError>> + Send;
}

struct Request {
    payload: Bytes,
    result: oneshot::Sender<Result<Bytes, FunctionFailure>>,
}

type Requests = Arc<Mutex<mpsc::Receiver<Request>>>;

/// A running function.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    requests: mpsc::Sender<Request>,
    stop: watch::Sender<bool>,
    instances: Mutex<JoinSet<()>>,
}

impl Invoke for Function {
    async fn invoke(&self, payload: Bytes) -> Result<Bytes, InvokeError> {
        let stopping = || InvokeError::Stopping { function: self.name };
        let (result, answer) = oneshot::channel();
        self.requests
            .send(Request { payload, result })
            .await
            .map_err(|_| stopping())?;
        answer
            .await
            .map_err(|_| stopping())?
            .map_err(|failure| InvokeError::FunctionError {
                function: self.name,
                failure,
            })
    }
}

impl Function {
    /// Starts the function's processes. Whether they do start up shows in the first invocation.
    #[must_use]
    pub(crate) fn start(definition: FunctionDefinition, clock: Clock) -> Function {
        let name = definition.name;
        let (sender, requests) = mpsc::channel(1_000);
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            request_ids: RequestIds::new(name, clock()),
            definition,
            requests: Arc::new(Mutex::new(requests)),
            clock,
        });
        let mut instances = JoinSet::new();
        for _ in 0..shared.definition.instances {
            instances.spawn(run_instance(shared.clone(), Stopping::new(stopping.clone())));
        }
        Function {
            name,
            requests: sender,
            stop,
            instances: Mutex::new(instances),
        }
    }

    /// Ends the processes, and waits until they are gone: at most two seconds.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let mut instances = self.instances.lock().await;
        while instances.join_next().await.is_some() {}
    }
}

struct Shared {
    definition: FunctionDefinition,
    requests: Requests,
    request_ids: RequestIds,
    clock: Clock,
}

/// Keeps one instance running until it is told to stop.
async fn run_instance(shared: Arc<Shared>, mut stopping: Stopping) {
    let name = shared.definition.name;
    let (mut backoff, longest) = BACKOFF;
    let mut undelivered = None;
    loop {
        let failure = match Sandbox::start(&shared).await {
            Err(error) => StartFailed(FunctionFailure::NotStarted(error.to_string())),
            Ok(mut sandbox) => {
                tracing::info!(function = name, pid = sandbox.child.id(), "started");
                let failure = tokio::select! {
                    biased;
                    () = stopping.wait() => {
                        sandbox.stop().await;
                        return;
                    }
                    failure = serve(&mut sandbox, &shared, &mut undelivered) => failure,
                };
                sandbox.kill().await;
                failure
            }
        };
        match failure {
            Failed(failure) => {
                tracing::warn!(function = name, %failure, "restarting");
                backoff = BACKOFF.0;
            }
            StartFailed(failure) => {
                tracing::error!(function = name, %failure, "did not start up");
                // Whoever waits is told, as Lambda does; who invokes after this waits for the next start.
                let waiting = undelivered
                    .take()
                    .or_else(|| shared.requests.try_lock().ok()?.try_recv().ok());
                if let Some(request) = waiting {
                    let _ = request.result.send(Err(failure));
                }
                if timeout(backoff, stopping.wait()).await.is_ok() {
                    return;
                }
                backoff = longest.min(backoff * 2);
            }
        }
    }
}

/// How the life of a process ended.
enum SandboxEnd {
    /// Before it asked for its first invocation.
    StartFailed(FunctionFailure),
    /// After.
    Failed(FunctionFailure),
}
use SandboxEnd::{Failed, StartFailed};

/// Hands invocations to the process until that ends. A request that finds the process gone is left in
/// `undelivered`, for the next one.
async fn serve(sandbox: &mut Sandbox, shared: &Shared, undelivered: &mut Option<Request>) -> SandboxEnd {
    if let Err(failure) = sandbox.starts_up().await {
        return StartFailed(failure);
    }
    loop {
        let request = match undelivered.take() {
            Some(request) => request,
            None => tokio::select! {
                biased;
                failure = sandbox.ends() => return Failed(failure),
                // Never `None`: the sender lives as long as the function.
                Some(request) = next_request(&shared.requests) => request,
            },
        };
        if let Ok(Some(status)) = sandbox.child.try_wait() {
            *undelivered = Some(request);
            return Failed(FunctionFailure::Ended(status));
        }
        let limit = shared.definition.timeout;
        let deadline = (shared.clock)().plus_millis(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        let invocation = Invocation {
            request_id: shared.request_ids.next().to_string(),
            deadline,
            function_arn: format!(
                "arn:aws:lambda:{}:000000000000:function:{}",
                embedded::REGION,
                shared.definition.name
            ),
            payload: request.payload,
        };
        let result = timeout(limit, sandbox.invoke(invocation))
            .await
            .unwrap_or(Err(FunctionFailure::TimedOut(limit)));
        let end = match &result {
            Ok(_) | Err(FunctionFailure::Reported(_)) => None,
            Err(failure) => Some(failure.clone()),
        };
        // A caller that is gone does not undo what was done.
        let _ = request.result.send(result);
        if let Some(failure) = end {
            return Failed(failure);
        }
    }
}

async fn next_request(requests: &Requests) -> Option<Request> {
    requests.lock().await.recv().await
}

/// One process and its Runtime API.
struct Sandbox {
    child: Child,
    api: RuntimeApi,
    /// The process's request for its next invocation.
    waiting: Option<oneshot::Sender<Invocation>>,
}

impl Sandbox {
    async fn start(shared: &Shared) -> std::io::Result<Sandbox> {
        let definition = &shared.definition;
        let api = RuntimeApi::start().await?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&definition.log)?;
        let (key, secret) = embedded::CREDENTIALS;
        let child = Command::new(&definition.program)
            .args(&definition.arguments)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", definition.name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env(
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", definition.name),
            )
            .env(
                "AWS_LAMBDA_LOG_STREAM_NAME",
                format!("local/{}", api.address.port()),
            )
            .env("AWS_REGION", embedded::REGION)
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .envs(definition.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole foreground group: it must reach only us, who then end
            // the processes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Sandbox {
            child,
            api,
            waiting: None,
        })
    }

    /// Waits for the process to ask for its first invocation.
    async fn starts_up(&mut self) -> Result<(), FunctionFailure> {
        timeout(INIT_TIMEOUT, self.asks_for_next())
            .await
            .unwrap_or(Err(FunctionFailure::TimedOut(INIT_TIMEOUT)))
    }

    async fn asks_for_next(&mut self) -> Result<(), FunctionFailure> {
        while self.waiting.as_ref().is_none_or(oneshot::Sender::is_closed) {
            self.call(None).await?;
        }
        Ok(())
    }

    /// Waits for the process to end while it has no invocation.
    async fn ends(&mut self) -> FunctionFailure {
        loop {
            if let Err(failure) = self.call(None).await {
                return failure;
            }
        }
    }

    /// Hands an invocation to the process and waits for the result.
    async fn invoke(&mut self, invocation: Invocation) -> Result<Bytes, FunctionFailure> {
        self.asks_for_next().await?;
        let request_id = invocation.request_id.clone();
        if let Some(waiting) = self.waiting.take() {
            // If the process has just gone, its end is the next thing seen.
            let _ = waiting.send(invocation);
        }
        loop {
            if let Some(result) = self.call(Some(&request_id)).await? {
                return result;
            }
        }
    }

    /// Answers one call of the process, or fails because it ended. `Some` if the call was the result of the
    /// invocation `running`.
    #[allow(
        clippy::type_complexity,
        reason = "outer: is there still a process; inner: what came of the invocation"
    )]
    async fn call(
        &mut self,
        running: Option<&str>,
    ) -> Result<Option<Result<Bytes, FunctionFailure>>, FunctionFailure> {
        let call = tokio::select! {
            // What the process said before it ended counts.
            biased;
            Some(call) = self.api.calls.recv() => call,
            ended = self.child.wait() => {
                return Err(ended.map_or_else(
                    |error| FunctionFailure::NotStarted(error.to_string()),
                    FunctionFailure::Ended,
                ));
            }
        };
        Ok(match call {
            Call::Next(waiting) => {
                self.waiting = Some(waiting);
                // The Runtime API may have refused its result: one that is too large, say.
                running.map(|_| Err(FunctionFailure::Reported("no result was accepted".to_owned())))
            }
            Call::Response {
                request_id,
                payload,
                known,
            } => {
                let is_known = running == Some(request_id.as_str());
                let _ = known.send(is_known);
                is_known.then_some(Ok(payload))
            }
            Call::Error {
                request_id,
                report,
                known,
            } => {
                let is_known = running == Some(request_id.as_str());
                let _ = known.send(is_known);
                is_known.then(|| Err(FunctionFailure::Reported(error_message(&report))))
            }
            Call::InitError { report } => return Err(FunctionFailure::Reported(error_message(&report))),
        })
    }

    /// Asks the process to end; kills it if it does not.
    async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
            // If it is gone already, that is what we want.
            && rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
            && timeout(GRACE, self.child.wait()).await.is_ok()
        {
            return;
        }
        self.kill().await;
    }

    async fn kill(&mut self) {
        // It fails only if the process has ended already.
        let _ = self.child.kill().await;
    }
}

/// What a function reports of an error: `{"errorMessage": …, "errorType": …}`.
fn error_message(report: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Report {
        error_message: String,
    }
    serde_json::from_slice::<Report>(report)
        .map_or_else(|_| "no reason given".to_owned(), |report| report.error_message)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use domain::Timestamp;
    use runtime::clock::system_clock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A process that lives long enough, and a sandbox around it. What it asks of its runtime, the test asks.
    async fn sandbox() -> Sandbox {
        let child = Command::new("sleep")
            .arg("1000")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Sandbox {
            child,
            api: RuntimeApi::start().await.unwrap(),
            waiting: None,
        }
    }

    fn invocation(request_id: &str) -> Invocation {
        Invocation {
            request_id: request_id.to_owned(),
            deadline: Timestamp::from_unix_millis(1_764_000_000_000).unwrap(),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:test".to_owned(),
            payload: Bytes::from_static(b"work"),
        }
    }

    /// One request to a Runtime API; gives the whole answer in lower case. `None` if it was hung up on.
    async fn request(address: SocketAddr, line: &str, body: &str) -> Option<String> {
        let mut connection = TcpStream::connect(address).await.ok()?;
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.ok()?;
        (!answer.is_empty()).then(|| answer.to_lowercase())
    }

    const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";

    #[tokio::test]
    async fn invocation_reaches_the_process_and_its_result_the_caller() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let process = tokio::spawn(async move {
            let invocation = request(address, NEXT, "").await.unwrap();
            let accepted = request(
                address,
                "POST /2018-06-01/runtime/invocation/id-1/response",
                "done",
            )
            .await
            .unwrap();
            (invocation, accepted)
        });
        let result = sandbox.invoke(invocation("id-1")).await.unwrap();
        assert_eq!(result, "done");
        let (invocation, accepted) = process.await.unwrap();
        for expected in [
            "http/1.1 200",
            "lambda-runtime-aws-request-id: id-1",
            "lambda-runtime-deadline-ms: 1764000000000",
            "lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:test",
            "\r\n\r\nwork",
        ] {
            assert!(invocation.contains(expected), "{expected} in {invocation}");
        }
        assert!(accepted.starts_with("http/1.1 202"), "{accepted}");
    }

    #[tokio::test]
    async fn reported_error_fails_the_invocation_and_keeps_the_process() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let process = tokio::spawn(async move {
            request(address, NEXT, "").await.unwrap();
            let report = r#"{"errorMessage":"out of order","errorType":"X"}"#;
            request(address, "POST /2018-06-01/runtime/invocation/id-1/error", report)
                .await
                .unwrap();
            request(address, NEXT, "").await.unwrap();
            request(
                address,
                "POST /2018-06-01/runtime/invocation/id-2/response",
                "done",
            )
            .await
            .unwrap()
        });
        let failure = sandbox.invoke(invocation("id-1")).await.unwrap_err();
        assert_eq!(failure.to_string(), "failed: out of order");
        assert_eq!(sandbox.invoke(invocation("id-2")).await.unwrap(), "done");
        assert!(process.await.unwrap().starts_with("http/1.1 202"));
    }

    #[tokio::test]
    async fn result_of_another_invocation_is_refused() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let process = tokio::spawn(async move {
            request(address, NEXT, "").await.unwrap();
            let refused = request(
                address,
                "POST /2018-06-01/runtime/invocation/id-0/response",
                "old",
            )
            .await;
            request(
                address,
                "POST /2018-06-01/runtime/invocation/id-1/response",
                "new",
            )
            .await
            .unwrap();
            refused.unwrap()
        });
        assert_eq!(sandbox.invoke(invocation("id-1")).await.unwrap(), "new");
        assert!(process.await.unwrap().starts_with("http/1.1 400"));
    }

    #[tokio::test]
    async fn result_that_is_too_large_fails_the_invocation() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let process = tokio::spawn(async move {
            request(address, NEXT, "").await.unwrap();
            let too_large = "x".repeat(crate::runtime_api::MAX_PAYLOAD_BYTES + 1);
            // The endpoint may hang up before it has read everything.
            let refused = request(
                address,
                "POST /2018-06-01/runtime/invocation/id-1/response",
                &too_large,
            )
            .await;
            let next = tokio::spawn(request(address, NEXT, ""));
            (refused, next)
        });
        let failure = sandbox.invoke(invocation("id-1")).await.unwrap_err();
        assert_eq!(failure.to_string(), "failed: no result was accepted");
        let (refused, next) = process.await.unwrap();
        assert!(refused.is_none_or(|refused| refused.starts_with("http/1.1 413")));
        next.abort();
    }

    #[tokio::test]
    async fn process_that_dies_in_mid_invocation_fails_it() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let pid = rustix::process::Pid::from_raw(sandbox.child.id().unwrap().try_into().unwrap()).unwrap();
        tokio::spawn(async move {
            request(address, NEXT, "").await.unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        let failure = sandbox.invoke(invocation("id-1")).await.unwrap_err();
        assert!(
            matches!(failure, FunctionFailure::Ended(status) if !status.success()),
            "{failure}"
        );
    }

    #[tokio::test]
    async fn runtime_hangs_up_when_it_ends() {
        let mut sandbox = sandbox().await;
        let address = sandbox.api.address;
        let process = tokio::spawn(request(address, NEXT, ""));
        sandbox.asks_for_next().await.unwrap();
        sandbox.stop().await;
        let answer = process.await.unwrap();
        assert!(
            answer
                .as_ref()
                .is_none_or(|answer| answer.starts_with("http/1.1 410")),
            "{answer:?}"
        );
        assert_eq!(request(address, NEXT, "").await, None);
    }

    fn definition(program: &str, arguments: &[&str]) -> FunctionDefinition {
        FunctionDefinition {
            name: "test",
            program: program.into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: Vec::new(),
            log: "/dev/null".into(),
            timeout: Duration::from_millis(50),
            instances: 1,
        }
    }

    #[tokio::test]
    async fn function_that_cannot_start_says_so_to_each_caller() {
        for (program, arguments, expected) in [
            (
                "/there/is/no/such/program",
                [].as_slice(),
                "test cannot be started: No such file or directory",
            ),
            ("sleep", ["0"].as_slice(), "test ended (exit status: 0)"),
            ("sleep", ["-x"].as_slice(), "test ended (exit status: 1)"),
        ] {
            let function = Function::start(definition(program, arguments), system_clock);
            for _ in 0..2 {
                let error = function.invoke(Bytes::new()).await.unwrap_err().to_string();
                assert!(error.starts_with(expected), "{error}");
            }
            function.stop().await;
        }
    }

    #[tokio::test]
    async fn stopped_function_ends_its_processes_and_refuses_invocations() {
        let function = Arc::new(Function::start(definition("sleep", &["1000"]), system_clock));
        let waiting = tokio::spawn({
            let function = function.clone();
            async move { function.invoke(Bytes::new()).await }
        });
        function.stop().await;
        for result in [waiting.await.unwrap(), function.invoke(Bytes::new()).await] {
            assert!(
                matches!(result, Err(InvokeError::Stopping { function: "test" })),
                "{result:?}"
            );
        }
    }
}
