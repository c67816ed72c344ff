//! What names a request in the logs of everybody who took part in it.

use aws_lambda_events::apigw::ApiGatewayProxyRequest;
use http::HeaderName;
use http::header::HeaderValue;

use crate::response::header_lines;

/// The header, in requests and in answers.
pub(crate) const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// A UUID, as its sender wrote it: with its hyphens or without. As it is nothing but hexadecimal digits, it can be
/// logged and repeated whoever sent it; a freer form could have a name in it, or a line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CorrelationId(HeaderValue);

impl CorrelationId {
    /// The one that the client sent, if it did and is valid; else the gateway's id of the request. Over HTTP there is
    /// always one.
    pub(crate) fn of(request: &ApiGatewayProxyRequest) -> Option<CorrelationId> {
        let mut sent = header_lines(request, &X_CORRELATION_ID);
        let only = sent.next().filter(|_| sent.next().is_none());
        let made = || request.request_context.request_id.as_deref();
        only.and_then(|value| CorrelationId::new(value.to_str().ok()?))
            .or_else(|| CorrelationId::new(made()?))
    }

    fn new(text: &str) -> Option<CorrelationId> {
        const HYPHENS: [usize; 4] = [8, 13, 18, 23];
        let is_valid = match text.len() {
            32 => text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            36 => text.bytes().enumerate().all(|(index, byte)| {
                if HYPHENS.contains(&index) {
                    byte == b'-'
                } else {
                    byte.is_ascii_hexdigit()
                }
            }),
            _ => false,
        };
        let value = HeaderValue::from_str(text).ok().filter(|_| is_valid)?;
        Some(CorrelationId(value))
    }

    /// For the log.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// For the answer.
    pub(crate) fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MADE: &str = "0f9e8d7c-6b5a-4f3e-9d2c-1b0a99887766";

    #[track_caller]
    fn check(sent: &[&str], expected: &str) {
        let event = json!({
            "httpMethod": "GET",
            "multiValueHeaders": { "X-Correlation-ID": sent },
            "requestContext": { "httpMethod": "GET", "requestId": MADE },
        });
        let found = CorrelationId::of(&serde_json::from_value(event).unwrap());
        assert_eq!(
            found.as_ref().map(CorrelationId::as_str),
            Some(expected),
            "{sent:?}"
        );
    }

    #[test]
    fn a_uuid_that_was_sent_is_kept_as_it_was_written() {
        for sent in [
            "11111111-2222-3333-4444-555555555555",
            "ABCDEFAB-CDEF-abcd-efab-cdefabcdefab",
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ] {
            check(&[sent], sent);
        }
    }

    #[test]
    fn anything_else_is_replaced() {
        check(&[], MADE);
        for sent in [
            "",
            "Ada Lovelace",
            "4bf92f3577b34da6a3ce929d0e0e473",
            "4bf92f3577b34da6a3ce929d0e0e47366",
            "4bf92f3577b34da6a3ce929d0e0e473g",
            "11111111-2222-3333-4444 555555555555",
            "111111112-222-3333-4444-555555555555",
            "{11111111-2222-3333-4444-55555555555}",
            "1111111122223333444455555555éé",
        ] {
            check(&[sent], MADE);
        }
        let one = "11111111-2222-3333-4444-555555555555";
        check(&[one, one], MADE);
    }
}
