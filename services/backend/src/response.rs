//! The HTTP side of an answer: status, headers, and whether a body is needed at all.

use std::borrow::Cow;

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, LINK, REFERRER_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::correlation::{CorrelationId, X_CORRELATION_ID};
use crate::cors::AllowOrigin;
use crate::etag;
use crate::problem::Problem;
use crate::representation::json;

/// Nobody keeps it but the one who asked, in memory: on a shared computer, a browser's cache would show it to the next
/// person. Entity tags work all the same, for whoever sends `If-None-Match` without the help of a cache.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
/// Whoever likes may keep it, and has to ask each time whether it has changed.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// Every resource has the same methods.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// What there is at a path.
#[derive(Debug, Clone)]
pub(crate) struct Representation {
    pub(crate) body: Cow<'static, str>,
    pub(crate) media_type: &'static str,
    pub(crate) cache_control: HeaderValue,
    /// What a browser that shows it may load (<https://www.w3.org/TR/CSP3/>).
    pub(crate) content_security_policy: &'static str,
    /// What of the device it may use, where it is a page (<https://www.w3.org/TR/permissions-policy/>).
    pub(crate) permissions_policy: Option<&'static str>,
    /// Where the next page is, relative to this one.
    pub(crate) next: Option<String>,
}

impl Representation {
    /// Of something about patients, or about how things are at the moment.
    pub(crate) fn not_kept(resource: &impl Serialize) -> Representation {
        Representation {
            body: json(resource).into(),
            media_type: "application/json",
            cache_control: NOT_KEPT,
            content_security_policy: NOTHING,
            permissions_policy: None,
            next: None,
        }
    }

    /// Of something that is the same for everybody.
    pub(crate) fn revalidated(
        media_type: &'static str,
        body: impl Into<Cow<'static, str>>,
    ) -> Representation {
        Representation {
            body: body.into(),
            media_type,
            cache_control: REVALIDATED,
            content_security_policy: NOTHING,
            permissions_policy: None,
            next: None,
        }
    }
}

/// Nothing at all, nor may it be shown inside another page.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// The representation, or `304 Not Modified` if the client has it.
pub(crate) fn representation(
    representation: Representation,
    request: &ApiGatewayProxyRequest,
) -> ApiGatewayProxyResponse {
    let etag = etag::of(&representation.body);
    let known = header_lines(request, &IF_NONE_MATCH)
        .filter_map(|line| line.to_str().ok())
        .any(|line| etag::is_named(&etag, line));
    let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, representation.cache_control)]);
    // It is made of characters that a header can have.
    headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (ETAG, etag)));
    if known {
        return response(StatusCode::NOT_MODIFIED, headers, None);
    }
    headers.extend([
        (CONTENT_TYPE, HeaderValue::from_static(representation.media_type)),
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(representation.content_security_policy),
        ),
    ]);
    let permissions = representation.permissions_policy.map(HeaderValue::from_static);
    headers.extend(permissions.map(|policy| (PERMISSIONS_POLICY, policy)));
    let next = representation
        .next
        .map(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")));
    headers.extend(next.and_then(Result::ok).map(|next| (LINK, next)));
    response(StatusCode::OK, headers, Some(representation.body.into_owned()))
}

/// Why there is none.
pub(crate) fn problem(problem: &Problem) -> ApiGatewayProxyResponse {
    let mut headers = HeaderMap::from_iter([
        (CACHE_CONTROL, NOT_KEPT),
        (CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(NOTHING)),
    ]);
    let status = problem.status();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, METHODS);
    }
    let wait = problem.retry_after_seconds().map(HeaderValue::from);
    headers.extend(wait.map(|wait| (RETRY_AFTER, wait)));
    response(status, headers, Some(problem.body()))
}

/// Which methods there are, and what a browser wants to know before it sends one of them for another origin's page.
pub(crate) fn methods(allow_origin: Option<&AllowOrigin>) -> ApiGatewayProxyResponse {
    let mut headers = HeaderMap::from_iter([(ALLOW, METHODS)]);
    if allow_origin.is_some() {
        AllowOrigin::add_to_preflight(&mut headers);
    }
    response(StatusCode::NO_CONTENT, headers, None)
}

/// What every answer has, whatever it is; and none to HEAD has a body.
pub(crate) fn complete(
    response: &mut ApiGatewayProxyResponse,
    method: &Method,
    correlation_id: Option<&CorrelationId>,
    allow_origin: Option<&AllowOrigin>,
) {
    let headers = &mut response.headers;
    headers.extend([
        // A year, in seconds: a browser then never tries without TLS. (Over plain HTTP it takes no notice.)
        (
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // An address can name a patient.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // Nor does an answer get into another site's process as an image or a script, which CORS has no say in
        // (https://fetch.spec.whatwg.org/#cross-origin-resource-policy-header).
        (
            CROSS_ORIGIN_RESOURCE_POLICY,
            HeaderValue::from_static("same-origin"),
        ),
    ]);
    headers.extend(correlation_id.map(|id| (X_CORRELATION_ID, id.to_header())));
    if let Some(allow_origin) = allow_origin {
        allow_origin.add_to_answer(headers);
    }
    if *method == Method::HEAD {
        response.body = None;
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Option<String>) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status.as_u16().into();
    response.headers = headers;
    response.body = body.map(Into::into);
    response
}

/// Each line of a header. The single-valued map has only the last, but is all that some senders fill in.
pub(crate) fn header_lines<'a>(
    request: &'a ApiGatewayProxyRequest,
    name: &HeaderName,
) -> impl Iterator<Item = &'a HeaderValue> + use<'a> {
    let given = if request.multi_value_headers.is_empty() {
        &request.headers
    } else {
        &request.multi_value_headers
    };
    given.get_all(name).into_iter()
}
