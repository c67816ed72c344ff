//! `GET /patients/{id}/checkins`: the newest check-ins of a patient.

use std::collections::HashMap;

use aws_config::BehaviorVersion;
use aws_lambda_events::apigw::{ApiGatewayProxyRequest, ApiGatewayProxyResponse};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const LIMIT: usize = 50;

#[derive(Deserialize)]
struct Control {
    active: u64,
}

#[derive(Deserialize)]
struct Progress {
    recorded_at: String,
    applied_at: String,
}

#[derive(Deserialize)]
struct Sweep {
    swept_to: String,
    #[serde(default)]
    lag_millis: i64,
}

#[derive(Deserialize)]
struct Quarantine {
    since: String,
}

#[derive(Deserialize)]
struct Summary {
    applied: u64,
    quarantine: Option<Quarantine>,
}

#[derive(Deserialize)]
struct Row {
    sk: String,
    checkin_id: String,
}

impl Row {
    fn into_checkin(self) -> Option<Checkin> {
        let (occurred_at, version) = self.sk.strip_prefix("checkin#")?.split_once('#')?;
        Some(Checkin {
            id: self.checkin_id,
            occurred_at: occurred_at.to_owned(),
            version: version.parse().ok()?,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checkin {
    id: String,
    occurred_at: String,
    version: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    patient_id: String,
    quarantined_since: Option<String>,
    stale_since: Option<String>,
    checkins: Vec<Checkin>,
    next_cursor: Option<String>,
}

struct ReadModel {
    client: Client,
    table: String,
}

impl ReadModel {
    async fn get<T: DeserializeOwned>(&self, pk: &str, sk: &str) -> Result<Option<T>, Error> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(pk.to_owned()))
            .key("sk", AttributeValue::S(sk.to_owned()))
            .send()
            .await?;
        Ok(found.item.map(serde_dynamo::from_item).transpose()?)
    }

    async fn checkins(&self, pk: &str) -> Result<Option<(Summary, Vec<Checkin>)>, Error> {
        let Some(summary) = self.get::<Summary>(pk, "summary").await? else {
            return Ok(None);
        };
        let rows = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :rows)")
            .projection_expression("sk, checkin_id")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .expression_attribute_values(":rows", AttributeValue::S("checkin#".to_owned()))
            .scan_index_forward(false)
            .limit(LIMIT as i32 + 1)
            .send()
            .await?;
        let rows: Vec<Row> = serde_dynamo::from_items(rows.items.unwrap_or_default())?;
        let checkins = rows
            .into_iter()
            .filter_map(Row::into_checkin)
            .filter(|checkin| checkin.version <= summary.applied)
            .take(LIMIT)
            .collect();
        Ok(Some((summary, checkins)))
    }

    async fn freshness(&self, generation: u64) -> Result<(Option<Progress>, Option<Sweep>), Error> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(format!("g{generation}#freshness")))
            .send()
            .await?;
        let (mut progress, mut sweep) = (None, None);
        for item in found.items.unwrap_or_default() {
            match item.get("sk").and_then(|sk| sk.as_s().ok()).map(String::as_str) {
                Some("progress") => progress = Some(serde_dynamo::from_item(item)?),
                Some("sweep") => sweep = Some(serde_dynamo::from_item(item)?),
                _ => {}
            }
        }
        Ok((progress, sweep))
    }

    async fn handle(&self, event: ApiGatewayProxyRequest) -> Result<ApiGatewayProxyResponse, Error> {
        let path = event.path.unwrap_or_default();
        let patient = path.split('/').nth(2).unwrap_or_default();
        let control: Option<Control> = self.get("control", "control").await?;
        let generation = control.map_or(1, |control| control.active);
        let pk = format!("g{generation}#patient#{patient}");
        let (found, (progress, sweep)) = tokio::try_join!(self.checkins(&pk), self.freshness(generation))?;
        let Some((summary, checkins)) = found else {
            let problem = serde_json::json!({
                "type": "urn:problem:patient-checkins:unknown-patient",
                "status": 404,
            });
            return Ok(answer(404, problem.to_string(), HashMap::new()));
        };
        let body = serde_json::to_string(&Listed {
            patient_id: patient.to_owned(),
            quarantined_since: summary.quarantine.map(|quarantine| quarantine.since),
            stale_since: stale_since(progress, sweep)?,
            checkins,
            next_cursor: None,
        })?;
        let hash = Sha256::digest(body.as_bytes());
        let etag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash[..16]));
        let known = event
            .headers
            .get("if-none-match")
            .is_some_and(|known| known.as_bytes() == etag.as_bytes());
        tracing::info!(status = if known { 304 } else { 200 }, "answered");
        if known {
            return Ok(answer(304, String::new(), HashMap::from([("etag", etag)])));
        }
        let headers = HashMap::from([
            ("etag", etag),
            ("cache-control", "no-store".to_owned()),
            ("content-type", "application/json".to_owned()),
        ]);
        Ok(answer(200, body, headers))
    }
}

fn stale_since(progress: Option<Progress>, sweep: Option<Sweep>) -> Result<Option<String>, Error> {
    let moment = |text: &str| DateTime::parse_from_rfc3339(text);
    let mut words = Vec::new();
    if let Some(progress) = &progress {
        let applied_at = moment(&progress.applied_at)?;
        words.push((applied_at, applied_at - moment(&progress.recorded_at)?));
    }
    if let Some(sweep) = &sweep {
        words.push((moment(&sweep.swept_to)?, TimeDelta::milliseconds(sweep.lag_millis)));
    }
    let Some((_, lag)) = words.into_iter().max() else {
        return Ok(None);
    };
    let since = sweep
        .map(|sweep| sweep.swept_to)
        .or(progress.map(|progress| progress.recorded_at));
    let Some(since) = since else {
        return Ok(None);
    };
    let silence = Utc::now() - moment(&since)?.to_utc();
    let stale = lag > TimeDelta::minutes(2) || silence > TimeDelta::hours(2);
    Ok(stale.then_some(since))
}

fn answer(status: i64, body: String, headers: HashMap<&'static str, String>) -> ApiGatewayProxyResponse {
    let mut all = HeaderMap::new();
    all.insert("x-content-type-options", "nosniff".parse().unwrap());
    all.insert("referrer-policy", "no-referrer".parse().unwrap());
    for (name, value) in headers {
        all.insert(name, value.parse().unwrap());
    }
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status;
    response.headers = all;
    response.body = (status != 304).then(|| body.into());
    response
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().json().init();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let read_model = &ReadModel {
        client: Client::new(&config),
        table: std::env::var("READ_MODEL_TABLE")?,
    };
    run(service_fn(|event: LambdaEvent<ApiGatewayProxyRequest>| read_model.handle(event.payload))).await
}
