//! The HTTP front: what API Gateway does between a client and a function, for a REST API with Lambda proxy
//! integration (<https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>).
//!
//! Deliberately absent: the routes. Every request goes to the function, which knows them. On AWS the gateway knows
//! them too, and what it refuses by itself is refused in the same way by the function. The one exception is
//! `/pipeline`, which is not of the API: every answer says by a link that it is there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL,
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    LINK, REFERRER_POLICY, RETRY_AFTER, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use backend::etag;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use runtime::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::function::{Function, Invoke, InvokeError};
use crate::pipeline::Pipeline;
use crate::request_ids::RequestIds;
use crate::runtime_api::MAX_PAYLOAD_BYTES;
use crate::stopping::Stopping;

/// How long a client waits for the function at most, as on API Gateway.
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(29);
/// How large the body of a request can be, in bytes: the event around it has to fit into an invocation too.
const MAX_BODY_BYTES: usize = MAX_PAYLOAD_BYTES - 64 * 1024;

/// What is at least as large is compressed, for whoever accepts that: the deployment's `minimum_compression_size`.
const COMPRESSED_FROM_BYTES: usize = 1024;

/// Where the pipeline can be watched…
const PIPELINE: &str = "/pipeline";
/// …and the link to it (RFC 8631).
const PIPELINE_LINK: HeaderValue = HeaderValue::from_static("</pipeline>; rel=\"status\"");

/// Serves `function`, and the pipeline, on `listener` until it is told to stop; requests that were begun are answered.
pub(crate) async fn run(
    listener: TcpListener,
    function: Arc<Function>,
    pipeline: Pipeline,
    allow_origin: Option<HeaderValue>,
    clock: Clock,
    mut stopping: Stopping,
) {
    let request_ids = RequestIds::new("request", clock());
    let gateway = Arc::new(Gateway {
        function,
        pipeline,
        allow_origin,
        clock,
        request_ids,
    });
    let routes = Router::new()
        .route(PIPELINE, get(watch).fallback(watch_only))
        .fallback(handle)
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), compressed))
        .with_state(gateway);
    let stop = async move { stopping.wait().await };
    // It does not fail once it listens.
    let _ = axum::serve(listener, routes).with_graceful_shutdown(stop).await;
}

struct Gateway {
    function: Arc<Function>,
    pipeline: Pipeline,
    /// Whose pages may read what the gateway answers by itself: as the function says of its answers.
    allow_origin: Option<HeaderValue>,
    clock: Clock,
    request_ids: RequestIds,
}

impl Gateway {
    fn refuse(&self, refusal: Refusal) -> Response {
        let request_id = self.request_ids.next().to_string();
        refusal.response(&request_id, self.allow_origin.as_ref())
    }
}

async fn watch(State(gateway): State<Arc<Gateway>>, asked: HeaderMap) -> Response {
    let watched = match gateway.pipeline.watched().await {
        Ok(watched) => watched,
        Err(error) => {
            tracing::warn!(error = %runtime::telemetry::chain(&error), "the pipeline cannot be watched");
            return gateway.refuse(Refusal::Unavailable);
        }
    };
    let etag = etag::of(&watched);
    let known = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .any(|line| etag::is_named(&etag, line));
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (ETAG, etag.as_str()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, "application/json")], watched).into_response()
}

/// The pipeline takes no other method.
async fn watch_only(State(gateway): State<Arc<Gateway>>) -> Response {
    ([(ALLOW, "GET, HEAD")], gateway.refuse(Refusal::NotAllowed)).into_response()
}

/// Compresses what is large enough, for whoever accepts it.
async fn compressed(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    // An answer to HEAD has no body to compress, nor a length to get from it.
    let is_accepted = request.method() != Method::HEAD && accepts_gzip(request.headers());
    let response = next.run(request).await;
    if !is_accepted || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // All of them are in memory already, and none is larger than an answer of a function can be.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return gateway.refuse(Refusal::Failed);
    };
    if body.len() < COMPRESSED_FROM_BYTES {
        return Response::from_parts(head, Body::from(body));
    }
    let Ok(smaller) = gzip(&body) else {
        return Response::from_parts(head, Body::from(body));
    };
    head.headers.remove(CONTENT_LENGTH);
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(head, Body::from(smaller))
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Whether an `Accept-Encoding` names gzip, and not as what is never wanted (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    codings.into_iter().any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight: f32| weight > 0.0)
    })
}

async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let request_id = gateway.request_ids.next().to_string();
    let answered = answer(&gateway, request, &request_id).await;
    answered.unwrap_or_else(|refusal| refusal.response(&request_id, gateway.allow_origin.as_ref()))
}

async fn answer(gateway: &Gateway, request: Request, request_id: &str) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| Refusal::TooLarge)?;
    let event = serde_json::to_vec(&event(&parts, &body, request_id, (gateway.clock)()))
        .map_err(|_| Refusal::Malformed)?;
    if event.len() > MAX_PAYLOAD_BYTES {
        return Err(Refusal::TooLarge);
    }
    let invoked = timeout(INTEGRATION_TIMEOUT, gateway.function.invoke(event.into()))
        .await
        .map_err(|_| Refusal::Timeout)?;
    let answer = invoked.map_err(|error| match error {
        InvokeError::Stopping { .. } => Refusal::Unavailable,
        InvokeError::FunctionError { .. } => {
            tracing::warn!(error = %runtime::telemetry::chain(&error), request_id, "request failed");
            Refusal::Failed
        }
    })?;
    response(&answer, &parts.method).map_err(|reason| {
        tracing::error!(%reason, request_id, "malformed proxy response");
        Refusal::Failed
    })
}

/// What the gateway answers by itself: a problem of the contract's types, as the deployment's gateway responses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Malformed,
    NotAllowed,
    TooLarge,
    Failed,
    Unavailable,
    Timeout,
}

impl Refusal {
    fn response(self, request_id: &str, allow_origin: Option<&HeaderValue>) -> Response {
        let (status, kind, title, detail) = match self {
            Refusal::Malformed => (
                StatusCode::BAD_REQUEST,
                "invalid-parameter",
                "A query parameter is invalid",
                "The request is malformed.",
            ),
            Refusal::NotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
                "Ask with one of those that Allow names.",
            ),
            Refusal::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "request-too-large",
                "The request is too large",
                "Ask with a shorter one.",
            ),
            Refusal::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong",
                "Ask again later.",
            ),
            Refusal::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The data cannot be read at the moment",
                "Ask again soon.",
            ),
            Refusal::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "There was no answer in time",
                "Ask again later.",
            ),
        };
        let problem = serde_json::json!({
            "type": format!("urn:problem:patient-checkins:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        for (name, value) in OF_REFUSALS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // It is made of digits and hyphens. The client's own id is left to the function, which knows which are valid.
        headers.extend(HeaderValue::try_from(request_id).map(|id| (X_CORRELATION_ID, id)));
        if self == Refusal::Unavailable {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(origin) = allow_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("retry-after, x-correlation-id"),
            );
        }
        headers.insert(LINK, PIPELINE_LINK);
        response
    }
}

const X_CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// As the function has them with its problems.
const OF_REFUSALS: [(HeaderName, &str); 7] = [
    (CONTENT_TYPE, "application/problem+json"),
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Values by name, in one or in several forms. An absent one is `null`, as in API Gateway.
type Single = Option<BTreeMap<String, String>>;
type Multi = Option<BTreeMap<String, Vec<String>>>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyEvent<'a> {
    resource: &'a str,
    path: &'a str,
    http_method: &'a str,
    headers: Single,
    multi_value_headers: Multi,
    query_string_parameters: Single,
    multi_value_query_string_parameters: Multi,
    path_parameters: Single,
    stage_variables: Single,
    request_context: RequestContext<'a>,
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'a str,
    api_id: &'a str,
    resource_path: &'a str,
    path: &'a str,
    http_method: &'a str,
    stage: &'a str,
    protocol: &'a str,
    request_id: &'a str,
    request_time_epoch: i64,
    identity: Identity<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    source_ip: &'a str,
    user_agent: Option<&'a str>,
}

/// The event of one request. The path is as the client sent it; query parameters are decoded.
fn event<'a>(parts: &'a Parts, body: &[u8], request_id: &'a str, now: Timestamp) -> ProxyEvent<'a> {
    let path = parts.uri.path();
    let proxy = path.strip_prefix('/').filter(|rest| !rest.is_empty());
    let resource = if proxy.is_some() { "/{proxy+}" } else { "/" };
    let headers = parts.headers.iter().map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let (headers, multi_value_headers) = by_name(headers);
    let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
    let (query_string_parameters, multi_value_query_string_parameters) = by_name(query);
    let user_agent = parts
        .headers
        .get("user-agent")
        .and_then(|value| value.to_str().ok());
    // No binary media types are configured, so a body is text.
    let body = (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned());
    ProxyEvent {
        resource,
        path,
        http_method: parts.method.as_str(),
        headers,
        multi_value_headers,
        query_string_parameters,
        multi_value_query_string_parameters,
        path_parameters: proxy.map(|rest| BTreeMap::from([("proxy".to_owned(), rest.to_owned())])),
        stage_variables: None,
        request_context: RequestContext {
            account_id: "000000000000",
            api_id: "local",
            resource_path: resource,
            path,
            http_method: parts.method.as_str(),
            stage: "local",
            protocol: "HTTP/1.1",
            request_id,
            request_time_epoch: now.unix_millis(),
            identity: Identity {
                source_ip: "127.0.0.1",
                user_agent,
            },
        },
        body,
        is_base64_encoded: false,
    }
}

/// The last value of each name, and all values of each name.
fn by_name(pairs: impl Iterator<Item = (String, String)>) -> (Single, Multi) {
    let mut multi: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        multi.entry(name).or_default().push(value);
    }
    if multi.is_empty() {
        return (None, None);
    }
    let single = multi
        .iter()
        .filter_map(|(name, values)| Some((name.clone(), values.last()?.clone())))
        .collect();
    (Some(single), Some(multi))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyResponse {
    status_code: u16,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// The response that a function's answer describes. A name that is in both kinds of headers counts in the one of
/// many values.
fn response(answer: &[u8], method: &Method) -> Result<Response, runtime::BoxError> {
    let answer: ProxyResponse = serde_json::from_slice(answer)?;
    let body = answer.body.unwrap_or_default();
    let body = if answer.is_base64_encoded {
        Bytes::from(STANDARD.decode(body)?)
    } else {
        Bytes::from(body)
    };
    // A length of 0 would say that GET has no body either (RFC 9110, section 8.6); one that is not known is not told.
    let body = if *method == Method::HEAD {
        Body::from_stream(futures::stream::empty::<Result<Bytes, Infallible>>())
    } else {
        Body::from(body)
    };
    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status_code)?)
        .body(body)?;
    let headers = response.headers_mut();
    for (name, value) in answer.headers.into_iter().flatten() {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    for (name, values) in answer.multi_value_headers.into_iter().flatten() {
        let name = HeaderName::try_from(name)?;
        headers.remove(&name);
        for value in values {
            headers.append(name.clone(), HeaderValue::try_from(value)?);
        }
    }
    // These are about the connection, which is ours.
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.append(LINK, PIPELINE_LINK);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::apigw::ApiGatewayProxyRequest;
    use axum::http;
    use serde_json::{Value, json};

    use super::*;

    fn event_of(request: http::request::Builder, body: &str) -> Value {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let now = Timestamp::from_unix_millis(1_764_000_000_000).unwrap();
        serde_json::to_value(event(&parts, body.as_bytes(), "id-1", now)).unwrap()
    }

    #[test]
    fn request_becomes_the_event_of_a_rest_api() {
        let request = http::Request::get("/patients/p%2D1/checkins?limit=2&from=a%3Ab+c&limit=3")
            .header("Accept", "a")
            .header("accept", "b")
            .header("User-Agent", "test");
        assert_eq!(
            event_of(request, ""),
            json!({
                "resource": "/{proxy+}",
                "path": "/patients/p%2D1/checkins",
                "httpMethod": "GET",
                "headers": { "accept": "b", "user-agent": "test" },
                "multiValueHeaders": { "accept": ["a", "b"], "user-agent": ["test"] },
                "queryStringParameters": { "from": "a:b c", "limit": "3" },
                "multiValueQueryStringParameters": { "from": ["a:b c"], "limit": ["2", "3"] },
                "pathParameters": { "proxy": "patients/p%2D1/checkins" },
                "stageVariables": null,
                "requestContext": {
                    "accountId": "000000000000",
                    "apiId": "local",
                    "resourcePath": "/{proxy+}",
                    "path": "/patients/p%2D1/checkins",
                    "httpMethod": "GET",
                    "stage": "local",
                    "protocol": "HTTP/1.1",
                    "requestId": "id-1",
                    "requestTimeEpoch": 1_764_000_000_000_i64,
                    "identity": { "sourceIp": "127.0.0.1", "userAgent": "test" },
                },
                "body": null,
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn functions_can_read_every_event() {
        for (request, body) in [
            (http::Request::get("/"), ""),
            (
                http::Request::post("/patients").header("content-type", "application/json"),
                "{}",
            ),
            (http::Request::get("/?"), ""),
            (http::Request::get("/patients?limit").header("x", "y"), ""),
        ] {
            let event = event_of(request, body);
            let read: ApiGatewayProxyRequest = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(read.path.as_deref(), event["path"].as_str());
            assert_eq!(read.body.as_deref(), event["body"].as_str());
        }
    }

    #[test]
    fn answer_becomes_the_response() {
        let answer = json!({
            "statusCode": 304,
            "headers": { "etag": "\"1\"", "content-length": "7", "x": "single" },
            "multiValueHeaders": { "x": ["1", "2"] },
            "isBase64Encoded": true,
            "body": "aGVsbG8=",
        });
        let response = response(answer.to_string().as_bytes(), &Method::GET).unwrap();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        let mut headers: Vec<(&str, &str)> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        headers.sort_unstable();
        let pipeline = ("link", "</pipeline>; rel=\"status\"");
        assert_eq!(headers, [("etag", "\"1\""), pipeline, ("x", "1"), ("x", "2")]);
    }

    #[tokio::test]
    async fn what_it_answers_by_itself_is_of_the_contract() {
        let contract: Value = serde_json::from_str(include_str!("../../backend/openapi.json")).unwrap();
        let responses = &contract["components"]["responses"];
        let origin = HeaderValue::from_static("https://clinic.example");
        for (refusal, status, promised) in [
            (Refusal::Malformed, 400, "BadRequest"),
            (Refusal::TooLarge, 413, "TooLarge"),
            (Refusal::Failed, 500, "Internal"),
            (Refusal::Unavailable, 503, "Unavailable"),
            (Refusal::Timeout, 504, "Timeout"),
        ] {
            let id = "0f9e8d7c-6b5a-4f3e-9d2c-1b0a99887766";
            let answer = refusal.response(id, None);
            assert_eq!(answer.status(), status);
            let headers = answer.headers().clone();
            for name in responses[promised]["headers"].as_object().unwrap().keys() {
                assert!(headers.contains_key(name), "{status} has no {name}");
            }
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["x-correlation-id"], id);
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert!(!headers.contains_key("access-control-allow-origin"));
            let body = to_bytes(answer.into_body(), 1_000).await.unwrap();
            let problem: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["status"], status);
            let code = problem["type"].as_str().unwrap().rsplit(':').next().unwrap();
            let listed = format!("| `{code}` | {status} |");
            let description = contract["info"]["description"].as_str().unwrap();
            assert!(description.contains(&listed), "{listed}");

            let answer = refusal.response(id, Some(&origin));
            assert_eq!(answer.headers()["access-control-allow-origin"], origin);
            let exposed = answer.headers()["access-control-expose-headers"]
                .to_str()
                .unwrap();
            assert!(exposed.contains("x-correlation-id") && exposed.contains("retry-after"));
        }
    }

    #[test]
    fn gzip_is_for_whoever_names_it() {
        #[track_caller]
        fn check(lines: &[&'static str], expected: bool) {
            let lines = lines
                .iter()
                .map(|line| (ACCEPT_ENCODING, HeaderValue::from_static(line)));
            assert_eq!(accepts_gzip(&lines.collect()), expected);
        }
        check(&["gzip"], true);
        check(&["gzip, deflate, br, zstd"], true);
        check(&["br;q=1.0 , GZIP ; q=0.5"], true);
        check(&["br", "gzip"], true);
        for other in [
            "",
            "br",
            "identity",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=x",
            "xgzip",
        ] {
            check(&[other], false);
        }
        check(&[], false);
    }

    #[test]
    fn answer_of_another_form_is_an_error() {
        for answer in [
            "",
            "null",
            "{}",
            r#"{"statusCode":"200"}"#,
            r#"{"statusCode":99}"#,
            r#"{"statusCode":200,"headers":{"a b":"c"}}"#,
            r#"{"statusCode":200,"headers":{"a":"\n"}}"#,
            r#"{"statusCode":200,"isBase64Encoded":true,"body":"?"}"#,
        ] {
            assert!(response(answer.as_bytes(), &Method::GET).is_err(), "{answer}");
        }
    }
}
