//! Pages of other origins that may read answers (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::str::FromStr;

use http::Uri;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue,
};

/// Which origin, beside the API's own, may read answers: one, or `*` for any.
///
/// Deliberately absent: credentials. A page of another origin never acts with the cookies or certificates of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowOrigin(HeaderValue);

/// The text is neither `*` nor an origin. Correct the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be * or one origin such as https://clinic.example, without a path")]
pub struct InvalidOrigin;

impl AllowOrigin {
    /// The setting, as it is sent.
    #[must_use]
    pub const fn as_header(&self) -> &HeaderValue {
        &self.0
    }

    /// What every answer has.
    pub(crate) fn add_to_answer(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("allow, etag, link, retry-after, x-correlation-id"),
        );
    }

    /// What an answer to OPTIONS has besides: which requests may be sent. Those of the headers that are not ours sign a
    /// request, where the API is restricted to whoever can.
    pub(crate) fn add_to_preflight(headers: &mut HeaderMap) {
        headers.extend([
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, HEAD"),
            ),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(
                    "authorization, if-none-match, x-amz-content-sha256, x-amz-date, x-amz-security-token, \
                     x-correlation-id",
                ),
            ),
            // Ten minutes, in seconds: for so long a browser need not ask again.
            (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
        ]);
    }
}

impl FromStr for AllowOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<AllowOrigin, InvalidOrigin> {
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin)?;
        let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| {
                // As a browser writes it: nothing but scheme, host and port.
                let origin = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
                origin == text && !text.contains('@')
            });
        if text != "*" && !is_origin {
            return Err(InvalidOrigin);
        }
        HeaderValue::from_str(text)
            .map(AllowOrigin)
            .map_err(|_| InvalidOrigin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_or_any_is_read() {
        for text in [
            "*",
            "https://clinic.example",
            "http://127.0.0.1:8080",
            "https://[::1]:8443",
        ] {
            assert_eq!(text.parse::<AllowOrigin>().unwrap().0, text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "null",
            "clinic.example",
            "https://",
            "https://clinic.example/",
            "https://clinic.example/page",
            "https://a.example,https://b.example",
            "https://a.example https://b.example",
            "https://user@clinic.example",
            "ftp://clinic.example",
            "https://*.example\n",
            "**",
        ] {
            assert_eq!(text.parse::<AllowOrigin>(), Err(InvalidOrigin), "{text}");
        }
    }
}
