//! Annotations on the X-Ray trace of an invocation, by which traces can be found: a subsegment in a datagram to the daemon
//! that runs beside a function (<https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html>).
//!
//! Deliberately absent: subsegments of single calls, and any wait or retry. A trace is sampled anyway.

use std::net::UdpSocket;

use domain::Timestamp;
use serde_json::{Map, Value, json};

use crate::config::{Lookup, optional};
use crate::report::Invocation;

/// What comes before each document.
const HEADER: &str = "{\"format\":\"json\",\"version\":1}\n";

/// A daemon that takes segments of traces.
#[derive(Debug)]
pub(crate) struct XRay {
    socket: UdpSocket,
}

/// The part of a trace that an invocation is, from the tracing header
/// (<https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>).
#[derive(Debug, PartialEq, Eq)]
struct Segment<'a> {
    trace_id: &'a str,
    id: &'a str,
}

impl XRay {
    /// The daemon at `AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets; none if it is not set, or of no use.
    #[must_use]
    pub(crate) fn from_lookup(lookup: Lookup<'_>) -> Option<XRay> {
        let address = optional(lookup, "AWS_XRAY_DAEMON_ADDRESS")?;
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(address).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(XRay { socket })
    }

    /// Puts `annotations` on the trace of an invocation, if that is sampled. What the daemon does not take is lost.
    pub(crate) fn annotate(
        &self,
        service: &str,
        invocation: Invocation<'_>,
        (began, ended): (Timestamp, Timestamp),
        annotations: &Map<String, Value>,
    ) {
        let Some((segment, id)) = invocation
            .trace
            .and_then(sampled)
            .zip(subsegment_id(invocation.request_id))
        else {
            return;
        };
        let document = json!({
            "type": "subsegment",
            "name": service,
            "id": id,
            "trace_id": segment.trace_id,
            "parent_id": segment.id,
            "start_time": seconds(began),
            "end_time": seconds(ended),
            "annotations": annotations,
        });
        let _ = self.socket.send(format!("{HEADER}{document}").as_bytes());
    }
}

/// The segment that a tracing header names, unless it says that the trace is not recorded.
fn sampled(header: &str) -> Option<Segment<'_>> {
    let part = |name: &str| {
        header.split(';').find_map(|part| {
            let (key, value) = part.trim().split_once('=')?;
            (key == name).then_some(value)
        })
    };
    (part("Sampled") == Some("1")).then_some(())?;
    Some(Segment {
        trace_id: part("Root")?,
        id: part("Parent")?,
    })
}

/// 16 hexadecimal digits, unique in their trace, for the one subsegment of an invocation: the last ones of its request
/// id, which is a random UUID. Nothing if it isn't.
fn subsegment_id(request_id: &str) -> Option<String> {
    let digits: Vec<char> = request_id.chars().filter(char::is_ascii_hexdigit).collect();
    let start = digits.len().checked_sub(16)?;
    Some(digits.iter().skip(start).collect::<String>().to_ascii_lowercase())
}

fn seconds(at: Timestamp) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "exact to the microsecond for the next 200 years"
    )]
    let millis = at.unix_millis() as f64;
    millis / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const REQUEST: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

    /// A daemon, and what sends to it.
    fn daemon() -> (UdpSocket, XRay) {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let address = daemon.local_addr().unwrap().to_string();
        let lookup = |name: &str| (name == "AWS_XRAY_DAEMON_ADDRESS").then(|| address.clone());
        let xray = XRay::from_lookup(&lookup).unwrap();
        (daemon, xray)
    }

    fn annotate(xray: &XRay, trace: Option<&str>, applied: u64) {
        let invocation = Invocation {
            request_id: REQUEST,
            trace,
        };
        let at = |millis| Timestamp::from_unix_millis(millis).unwrap();
        let times = (at(1_764_000_000_123), at(1_764_000_000_500));
        let annotations = Map::from_iter([("events_applied".to_owned(), json!(applied))]);
        xray.annotate("projector", invocation, times, &annotations);
    }

    fn received(daemon: &UdpSocket) -> Value {
        let mut datagram = [0; 4_096];
        let length = daemon.recv(&mut datagram).unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        serde_json::from_str(text.strip_prefix(HEADER).unwrap()).unwrap()
    }

    #[test]
    fn a_sampled_invocation_gets_a_subsegment_with_annotations() {
        let (daemon, xray) = daemon();
        let trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1";
        annotate(&xray, Some(trace), 3);
        assert_eq!(
            received(&daemon),
            json!({
                "type": "subsegment",
                "name": "projector",
                "id": "97392dfe598c3fcd",
                "trace_id": "1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
                "parent_id": "9a9197af755a6419",
                "start_time": 1_764_000_000.123,
                "end_time": 1_764_000_000.5,
                "annotations": { "events_applied": 3 },
            })
        );
    }

    #[test]
    fn nothing_is_sent_for_a_trace_that_is_not_recorded() {
        let (daemon, xray) = daemon();
        let root = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700";
        annotate(&xray, None, 1);
        annotate(&xray, Some(""), 1);
        annotate(
            &xray,
            Some(&format!("{root};Parent=9a9197af755a6419;Sampled=0")),
            1,
        );
        annotate(&xray, Some(&format!("{root};Sampled=1")), 1);
        // Datagrams on one machine keep their order: the first that arrives is the one that was to be sent.
        annotate(
            &xray,
            Some(&format!("{root};Parent=9a9197af755a6419;Sampled=1;Lineage=1:2:3")),
            2,
        );
        assert_eq!(received(&daemon)["annotations"]["events_applied"], 2);
    }

    #[test]
    fn a_daemon_that_is_gone_is_no_failure() {
        let (daemon, xray) = daemon();
        drop(daemon);
        for _ in 0..3 {
            annotate(&xray, Some("Root=1-0;Parent=0;Sampled=1"), 1);
        }
        assert!(XRay::from_lookup(&|_| None).is_none());
        assert!(XRay::from_lookup(&|_| Some("nowhere".to_owned())).is_none());
    }
}
