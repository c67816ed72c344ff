//! A backend over the embedded DynamoDB, asked as API Gateway asks. Each answer is checked against `openapi.json`.

use aws_sdk_dynamodb::Client;
use backend::{AllowOrigin, Backend};
use domain::{
    CheckinId, CheckinRow, Generation, Patient, PatientId, PatientState, Quarantine, QuarantineReason,
    StreamVersion, Timestamp,
};
use embedded::{EmbeddedDynamoDb, READ_MODEL_TABLE};
use read_model::item::{CONTROL, RowItem, SummaryItem};
use read_model::{Control, CursorKey, ReadModelTable};
use runtime::clock::Clock;
use serde::Serialize;
use serde_json::{Value, json};

use crate::contract::{Answered, Contract};

pub(crate) const G1: Generation = Generation::FIRST;
pub(crate) const G2: Generation = G1.next();
/// Occurs in every patient's name, and may in no problem.
pub(crate) const CANARY: &str = "Canary";
/// The time, unless a test says otherwise.
pub(crate) const NOW: Clock = || at(60);

pub(crate) struct Api {
    pub(crate) backend: Backend<ReadModelTable>,
    pub(crate) client: Client,
    contract: Contract,
    _dynamodb: EmbeddedDynamoDb,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Value,
    pub(crate) body: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Keyed<T> {
    pub(crate) pk: String,
    pub(crate) sk: &'static str,
    #[serde(flatten)]
    pub(crate) content: T,
}

impl Api {
    /// Over a read model to which nothing was projected yet.
    pub(crate) async fn empty() -> Api {
        let dynamodb = EmbeddedDynamoDb::temporary().await.unwrap();
        Api {
            backend: Backend::new(
                ReadModelTable::new(dynamodb.client(), READ_MODEL_TABLE),
                NOW,
                None,
            ),
            client: dynamodb.client(),
            contract: Contract::new(),
            _dynamodb: dynamodb,
        }
    }

    /// Over a read model whose first generation is active.
    pub(crate) async fn new() -> Api {
        let api = Api::empty().await;
        api.activate(G1).await;
        api
    }

    /// The same read model, asked at another time, or with pages of another origin.
    pub(crate) fn with(mut self, clock: Clock, allow_origin: Option<AllowOrigin>) -> Api {
        let table = ReadModelTable::new(self.client.clone(), READ_MODEL_TABLE);
        self.backend = Backend::new(table, clock, allow_origin);
        self
    }

    /// Every answer that was given so far, by what `openapi.json` calls it.
    pub(crate) fn answered(&self) -> Answered {
        self.contract.answered()
    }

    pub(crate) async fn put(&self, item: impl Serialize) {
        let item = serde_dynamo::to_item(item).unwrap();
        let put = self.client.put_item().table_name(READ_MODEL_TABLE);
        put.set_item(Some(item)).send().await.unwrap();
    }

    pub(crate) async fn activate(&self, generation: Generation) {
        let content = Control {
            active: generation,
            active_since: None,
            building: None,
            building_since: None,
            building_software: None,
            brings_back: false,
            previous: None,
            latest: generation,
            changes: 0,
            cursor_key: CursorKey::new([7; 32]),
        };
        self.put(Keyed {
            pk: CONTROL.to_owned(),
            sk: CONTROL,
            content,
        })
        .await;
    }

    pub(crate) async fn put_row(&self, generation: Generation, patient: &str, version: u64, minute: i64) {
        let row = CheckinRow {
            checkin_id: CheckinId::derive(&[patient, &version.to_string()]),
            occurred_at: at(minute),
            version: StreamVersion::new(version),
        };
        self.put(RowItem::new(generation, &id(patient), &row)).await;
    }

    /// A patient whose check-ins at these minutes have been applied, as versions 2, 3, …
    pub(crate) async fn put_patient(&self, generation: Generation, patient: &str, minutes: &[i64]) {
        self.put_marked(generation, patient, minutes, None).await;
    }

    /// The same, quarantined since a minute.
    pub(crate) async fn put_marked(
        &self,
        generation: Generation,
        patient: &str,
        minutes: &[i64],
        since: Option<i64>,
    ) {
        for (version, minute) in (2..).zip(minutes) {
            self.put_row(generation, patient, version, *minute).await;
        }
        let applied = StreamVersion::new(1 + minutes.len() as u64);
        let state = PatientState {
            applied,
            history: None,
            patient: Some(Patient {
                name: format!("{CANARY} {patient}").parse().unwrap(),
                registered_at: at(-1),
                checkin_count: minutes.len() as u64,
                last_checkin_at: minutes.iter().max().map(|minute| at(*minute)),
            }),
            quarantine: since.map(|minute| Quarantine {
                version: applied.next(),
                reason: QuarantineReason::missing(),
                since: at(minute),
            }),
        };
        self.put(SummaryItem::new(generation, &id(patient), &state)).await;
    }

    /// Sends an event through JSON in both directions, as Lambda does.
    pub(crate) async fn send(&self, event: Value) -> Answer {
        let method = event["httpMethod"].as_str().unwrap().to_owned();
        let path = event["path"].as_str().unwrap_or_default().to_owned();
        let request = serde_json::from_value(event).unwrap();
        let response = serde_json::to_value(self.backend.handle(&request).await).unwrap();
        assert_eq!(response["isBase64Encoded"], false);
        assert_eq!(response["multiValueHeaders"], json!({}));
        let answer = Answer {
            status: response["statusCode"].as_u64().unwrap(),
            headers: response["headers"].clone(),
            body: response["body"].as_str().map(str::to_owned),
        };
        self.contract.check(&method, &path, &answer);
        answer
    }

    /// A list or resource that has to be there.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.send(event("GET", path, query)).await;
        let body = answer.body.unwrap();
        assert_eq!(answer.status, 200, "{path} {query:?}: {body}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        serde_json::from_str(&body).unwrap()
    }

    /// All pages of a list: what is in `field` of each. Between two pages, `meanwhile` happens.
    pub(crate) async fn walk(
        &self,
        path: &str,
        query: &[(&str, &str)],
        field: &str,
        meanwhile: impl AsyncFn(usize),
    ) -> Vec<Value> {
        let mut pages: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut asked = query.to_vec();
            asked.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page = self.get(path, &asked).await;
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            assert!(
                pages.is_empty() || page[field] != json!([]),
                "an empty page at the end of {path} {query:?}"
            );
            pages.push(page[field].clone());
            if cursor.is_none() {
                break;
            }
            meanwhile(pages.len()).await;
        }
        pages
            .iter()
            .flat_map(|page| page.as_array().unwrap().clone())
            .collect()
    }
}

/// The sample of what API Gateway sends, with another request in it.
pub(crate) fn event(method: &str, path: &str, query: &[(&str, &str)]) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("events/get_patients.json")).unwrap();
    event["httpMethod"] = json!(method);
    event["requestContext"]["httpMethod"] = json!(method);
    event["path"] = json!(path);
    event["requestContext"]["path"] = json!(format!("/prod{path}"));
    event["pathParameters"]["proxy"] = json!(path.trim_start_matches('/'));
    let mut one = json!({});
    let mut all = json!({});
    for (name, value) in query {
        one[name] = json!(value);
        let values = all.as_object_mut().unwrap().entry(*name).or_insert(json!([]));
        values.as_array_mut().unwrap().push(json!(value));
    }
    let given = !query.is_empty();
    event["queryStringParameters"] = if given { one } else { json!(null) };
    event["multiValueQueryStringParameters"] = if given { all } else { json!(null) };
    event
}

pub(crate) fn id(text: &str) -> PatientId {
    text.parse().unwrap()
}

pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + minute * 60_000).unwrap()
}

pub(crate) async fn nothing(_: usize) {}

pub(crate) fn field<'a>(items: &'a [Value], name: &str) -> Vec<&'a str> {
    items.iter().map(|item| item[name].as_str().unwrap()).collect()
}

pub(crate) fn versions(items: &[Value]) -> Vec<u64> {
    items
        .iter()
        .map(|item| item["version"].as_u64().unwrap())
        .collect()
}
