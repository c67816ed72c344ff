//! The Lambda Runtime API on loopback, for one process of a function
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).
//!
//! That of `local` is not used here: it replaces processes that fail, which a measurement must not.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What the process asks of its runtime.
#[derive(Debug)]
pub(crate) enum Call {
    /// It waits for the next invocation.
    Next(oneshot::Sender<Invocation>),
    /// It has done what it was asked.
    Response(Bytes),
    /// It has failed to, or could not start up.
    Error(Bytes),
}

/// One invocation as the process gets it.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) request_id: String,
    pub(crate) deadline_millis: i64,
    pub(crate) payload: Bytes,
}

/// A running endpoint. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::Receiver<Call>,
    server: JoinHandle<()>,
}

type Calls = State<mpsc::Sender<Call>>;

impl RuntimeApi {
    /// Starts on a port that the system chooses.
    pub(crate) async fn start() -> std::io::Result<RuntimeApi> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (sender, calls) = mpsc::channel(4);
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::disable())
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

async fn next(State(calls): Calls) -> Response {
    let (answer, invocation) = oneshot::channel();
    if calls.send(Call::Next(answer)).await.is_err() {
        return StatusCode::GONE.into_response();
    }
    let Ok(invocation) = invocation.await else {
        return StatusCode::GONE.into_response();
    };
    let headers = [
        ("Lambda-Runtime-Aws-Request-Id", invocation.request_id),
        (
            "Lambda-Runtime-Deadline-Ms",
            invocation.deadline_millis.to_string(),
        ),
        (
            "Lambda-Runtime-Invoked-Function-Arn",
            format!("arn:aws:lambda:{}:000000000000:function:bench", embedded::REGION),
        ),
        ("Content-Type", "application/json".to_owned()),
    ];
    (headers, invocation.payload).into_response()
}

async fn response(State(calls): Calls, Path(_): Path<String>, payload: Bytes) -> StatusCode {
    told(&calls, Call::Response(payload)).await
}

async fn error(State(calls): Calls, Path(_): Path<String>, report: Bytes) -> StatusCode {
    told(&calls, Call::Error(report)).await
}

async fn init_error(State(calls): Calls, report: Bytes) -> StatusCode {
    told(&calls, Call::Error(report)).await
}

async fn told(calls: &mpsc::Sender<Call>, call: Call) -> StatusCode {
    match calls.send(call).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::GONE,
    }
}
