//! The Lambda Runtime API on loopback, one endpoint for each process of a function
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).
//!
//! The endpoint decides nothing: it turns each request into a [`Call`] and answers as it is told.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The largest payload of an invocation and of its response, in bytes, as on Lambda
/// (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>).
pub(crate) const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// One invocation as the function gets it.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) deadline: Timestamp,
    pub(crate) function_arn: String,
    pub(crate) payload: Bytes,
}

/// What a function asks of its runtime. A call whose answer is dropped fails at the function's end.
#[derive(Debug)]
pub(crate) enum Call {
    /// It has started up, or is done with the last invocation, and waits for the next one.
    Next(oneshot::Sender<Invocation>),
    /// It has done what it was asked.
    Response {
        request_id: String,
        payload: Bytes,
        known: oneshot::Sender<bool>,
    },
    /// It has failed to.
    Error {
        request_id: String,
        report: Bytes,
        known: oneshot::Sender<bool>,
    },
    /// It could not start up.
    InitError { report: Bytes },
}

/// A running endpoint. Dropping it stops it, and whatever process is waiting on it then ends by itself.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::Receiver<Call>,
    server: JoinHandle<()>,
}

impl RuntimeApi {
    /// Starts on a port that the system chooses.
    ///
    /// # Errors
    /// No port is free.
    pub(crate) async fn start() -> std::io::Result<RuntimeApi> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, calls) = mpsc::channel(4);
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{request_id}/response",
                post(response),
            )
            .route("/2018-06-01/runtime/invocation/{request_id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
            .with_state(sender);
        let server = tokio::spawn(async move {
            // It only ends with the task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(RuntimeApi {
            address,
            calls,
            server,
        })
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Calls = State<mpsc::Sender<Call>>;

async fn next(State(calls): Calls) -> Response {
    let (answer, invocation) = oneshot::channel();
    if calls.send(Call::Next(answer)).await.is_err() {
        return gone();
    }
    let Ok(invocation) = invocation.await else {
        return gone();
    };
    let trace = format!("Root=1-{};Sampled=0", trace_root(&invocation));
    (
        [
            ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
            (
                "Lambda-Runtime-Deadline-Ms",
                invocation.deadline.unix_millis().to_string(),
            ),
            ("Lambda-Runtime-Invoked-Function-Arn", invocation.function_arn),
            ("Lambda-Runtime-Trace-Id", trace),
            ("Content-Type", "application/json".to_owned()),
        ],
        invocation.payload,
    )
        .into_response()
}

async fn response(State(calls): Calls, Path(request_id): Path<String>, payload: Bytes) -> Response {
    let (known, answer) = oneshot::channel();
    accept(
        &calls,
        Call::Response {
            request_id,
            payload,
            known,
        },
        answer,
    )
    .await
}

async fn error(State(calls): Calls, Path(request_id): Path<String>, report: Bytes) -> Response {
    let (known, answer) = oneshot::channel();
    accept(
        &calls,
        Call::Error {
            request_id,
            report,
            known,
        },
        answer,
    )
    .await
}

async fn init_error(State(calls): Calls, report: Bytes) -> Response {
    match calls.send(Call::InitError { report }).await {
        Ok(()) => accepted(),
        Err(_) => gone(),
    }
}

async fn accept(calls: &mpsc::Sender<Call>, call: Call, known: oneshot::Receiver<bool>) -> Response {
    if calls.send(call).await.is_err() {
        return gone();
    }
    match known.await {
        Ok(true) => accepted(),
        Ok(false) => (
            StatusCode::BAD_REQUEST,
            r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#,
        )
            .into_response(),
        Err(_) => gone(),
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, r#"{"status":"OK"}"#).into_response()
}

/// The function is being ended: nobody waits for what it has to say.
fn gone() -> Response {
    StatusCode::GONE.into_response()
}

/// X-Ray's form of an id: the second as 8 hexadecimal digits, then 24 that are unique.
fn trace_root(invocation: &Invocation) -> String {
    let digits: String = invocation
        .request_id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(24)
        .collect();
    format!("{:08x}-{digits}", invocation.deadline.unix_millis() / 1_000)
}
