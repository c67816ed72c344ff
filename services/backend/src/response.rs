//! The HTTP side of an answer: status, headers, and whether a body is needed at all.

use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};

use crate::etag;
use crate::page::File;
use crate::problem::Problem;

const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
/// One second: by then an event that was just appended is commonly applied, and a throttled table is not any more.
const SOON: HeaderValue = HeaderValue::from_static("1");

/// The representation, or `304 Not Modified` if the client has it.
pub(crate) fn representation(file: &File, request: &ApiGatewayProxyRequest) -> ApiGatewayProxyResponse {
    let etag = etag::of(&file.body);
    let known = header_lines(request, &IF_NONE_MATCH)
        .filter_map(|line| line.to_str().ok())
        .any(|line| etag::is_named(&etag, line));
    let mut headers = HeaderMap::from_iter([(CACHE_CONTROL, file.cache_control.clone())]);
    // It is made of characters that a header can have.
    headers.extend(HeaderValue::try_from(etag).ok().map(|etag| (ETAG, etag)));
    if known {
        return response(StatusCode::NOT_MODIFIED, headers, None);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    let policy = file.content_security_policy.map(HeaderValue::from_static);
    headers.extend(policy.map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    response(StatusCode::OK, headers, Some(&file.body))
}

/// Why there is none.
pub(crate) fn problem(problem: &Problem) -> ApiGatewayProxyResponse {
    let mut headers = HeaderMap::from_iter([
        (CACHE_CONTROL, NOT_KEPT),
        (CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
    ]);
    let status = problem.status();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(Method::GET.as_str()));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, SOON);
    }
    response(status, headers, Some(&problem.body()))
}

fn response(status: StatusCode, mut headers: HeaderMap, body: Option<&str>) -> ApiGatewayProxyResponse {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status.as_u16().into();
    response.headers = headers;
    response.body = body.map(Into::into);
    response
}

/// Each line of a header. The single-valued map has only the last, but is all that some senders fill in.
fn header_lines<'a>(
    request: &'a ApiGatewayProxyRequest,
    name: &HeaderName,
) -> impl Iterator<Item = &'a HeaderValue> {
    let given = if request.multi_value_headers.is_empty() {
        &request.headers
    } else {
        &request.multi_value_headers
    };
    given.get_all(name).into_iter()
}
