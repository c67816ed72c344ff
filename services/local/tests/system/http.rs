//! The few lines of HTTP that the tests need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::system::PATIENCE;

/// The smallest body that is too large for an invocation. What is refused is then not larger than what has been read by
/// then: else the answer may get lost with the connection.
pub(crate) const TOO_LARGE: usize = 6 * 1024 * 1024 - 64 * 1024 + 1;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// Decompressed, if it was not sent as it is.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, if it is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// GETs a path from `127.0.0.1:PORT`.
///
/// # Errors
/// Nobody listens there, or the connection was closed.
pub(crate) fn get(address: &str, path: &str) -> std::io::Result<Answer> {
    request(address, "GET", path, "")
}

/// As [`get`], with any method and body.
///
/// # Errors
/// As [`get`].
pub(crate) fn request(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    send(address, method, path, body)?.answer()
}

/// As [`request`], with headers, each of which ends with `\r\n`.
///
/// # Errors
/// As [`get`].
pub(crate) fn request_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<Answer> {
    send_with(address, method, path, headers, body)?.answer()
}

/// One request in the JSON protocol of AWS.
#[track_caller]
pub(crate) fn post_json(address: &str, target: &str, body: &str) -> Value {
    let headers = format!("Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: {target}\r\n");
    let answer = send_with(address, "POST", "/", &headers, body)
        .and_then(SentRequest::answer)
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Sends a request whose answer is read later.
///
/// # Errors
/// As [`get`].
pub(crate) fn send(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<SentRequest> {
    send_with(address, method, path, "", body)
}

/// As [`send`], with headers as in [`request_with`].
///
/// # Errors
/// As [`get`].
pub(crate) fn send_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<SentRequest> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let mut connection = TcpStream::connect(address)?;
    // At once: a server that refuses the first half hangs up, and then the second could not be written.
    connection.write_all(request.as_bytes())?;
    Ok(SentRequest(connection))
}

/// A request that was sent.
#[derive(Debug)]
pub(crate) struct SentRequest(TcpStream);

impl SentRequest {
    pub(crate) fn is_answered_within(&self, patience: Duration) -> bool {
        self.0.set_read_timeout(Some(patience)).unwrap();
        self.0.peek(&mut [0]).is_ok()
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The connection was closed.
    pub(crate) fn answer(mut self) -> std::io::Result<Answer> {
        self.0.set_read_timeout(Some(PATIENCE))?;
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer)?;
        let closed = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer
            .split_at_checked(end.ok_or_else(closed)? + 4)
            .ok_or_else(closed)?;
        let head = String::from_utf8_lossy(head).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(closed)?;
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        if answer.header("content-encoding") == Some("gzip") {
            GzDecoder::new(body).read_to_string(&mut answer.body)?;
        } else {
            answer.body = String::from_utf8_lossy(body).into_owned();
        }
        Ok(answer)
    }
}
