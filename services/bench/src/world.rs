//! What the functions work on: the tables, behind TLS, and what is put into them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::Generation;
use embedded::{EVENT_TABLE, READ_MODEL_TABLE};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::World;

use crate::capacity::{CapacityMeter, Consumed};
use crate::function::{Function, Program};
use crate::measure::MeasureError;
use crate::tls::{Tls, TlsError};

/// The patient whose check-ins are queried: a full page, and not one more.
const QUERIED: &str = "p-queried";
const CHECK_INS: i64 = 50;

/// The tables and the way to them.
pub(crate) struct Site {
    /// The tables.
    pub(crate) world: World,
    tls: Tls,
    meter: CapacityMeter,
    folder: TempDir,
    authority: PathBuf,
}

/// How a program gets to the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// As on AWS.
    Tls,
    /// As the programs that store events do here ([`crate::contender`]).
    Plain,
    /// Past what counts what is consumed.
    Metered,
}

/// Which batch of stream records a projector gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchShape {
    /// How many patients it is about.
    pub(crate) patients: usize,
    /// How many check-ins of each.
    pub(crate) check_ins: usize,
}

impl BatchShape {
    /// So many patients, with so many check-ins each.
    pub(crate) const fn new(patients: usize, check_ins: usize) -> BatchShape {
        BatchShape { patients, check_ins }
    }
}

/// Stream records about patients whom no other batch is about.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Registers them.
    pub(crate) registrations: Bytes,
    /// Checks them in.
    pub(crate) check_ins: Bytes,
    /// Who they are.
    pub(crate) patients: Vec<String>,
}

impl Site {
    /// Empty tables behind TLS.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) async fn new() -> Result<Site, TlsError> {
        let world = World::new().await;
        let endpoint_url = world.endpoint_url();
        let address = endpoint_url.trim_start_matches("http://");
        let tls = Tls::before(address).await?;
        let meter = CapacityMeter::before(address).await?;
        let folder = tempfile::tempdir()?;
        let authority = tls.write_authority(folder.path().join("authority.pem"))?;
        Ok(Site {
            world,
            tls,
            meter,
            folder,
            authority,
        })
    }

    /// Where logs go.
    #[must_use]
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address past what counts what is consumed.
    #[must_use]
    pub(crate) fn metered_url(&self) -> String {
        self.meter.endpoint_url()
    }

    /// What was consumed since this was asked last, by whoever is metered.
    #[must_use]
    pub(crate) fn consumed(&self) -> Consumed {
        self.meter.take()
    }

    /// What this program is told of the tables, and whom to trust.
    ///
    /// # Errors
    /// [`TlsError::System`]
    pub(crate) fn environment(
        &self,
        program: &Program,
        connection: Connection,
    ) -> Result<Vec<(&'static str, String)>, TlsError> {
        let endpoint_url = match connection {
            Connection::Tls => self.tls.endpoint_url(),
            Connection::Plain => self.world.endpoint_url(),
            Connection::Metered => self.metered_url(),
        };
        let store = self.folder().join(format!("{}.pem", program.name));
        let store = self.tls.write_trust_store(&program.trust_store, store)?;
        let store = store.display().to_string();
        Ok(vec![
            ("EVENT_TABLE", EVENT_TABLE.to_owned()),
            ("READ_MODEL_TABLE", READ_MODEL_TABLE.to_owned()),
            // Nothing here is ever quarantined.
            ("QUARANTINE_QUEUE_URL", format!("{endpoint_url}/none")),
            ("AWS_ENDPOINT_URL_DYNAMODB", endpoint_url),
            ("SSL_CERT_FILE", store.clone()),
            ("AWS_CA_BUNDLE", store),
            // Node has its certificate authorities built in.
            ("NODE_EXTRA_CA_CERTS", self.authority.display().to_string()),
        ])
    }

    /// Puts a patient with a page of check-ins into the read model, by way of the projector, as all of it comes there.
    ///
    /// # Errors
    /// [`MeasureError`]
    pub(crate) async fn fill(&self, projector: &Program) -> Result<(), MeasureError> {
        let environment = self.environment(projector, Connection::Tls)?;
        let records = self.world.images(QUERIED, CHECK_INS);
        let (mut function, _) = Function::start(projector, &environment, self.folder()).await?;
        function.invoke(stream_event(&records)).await?;
        function.end().await;
        Ok(())
    }

    /// Stream records of this shape about patients of their own: `name` must not occur twice.
    #[must_use]
    pub(crate) fn batch(&self, name: &str, shape: BatchShape) -> Batch {
        let patients: Vec<String> = (0..shape.patients)
            .map(|number| format!("{name}-{number}"))
            .collect();
        let last = i64::try_from(shape.check_ins).unwrap_or(i64::MAX);
        let mut rounds: Vec<Vec<Value>> = vec![Vec::new(); shape.check_ins + 1];
        for patient in &patients {
            for (round, record) in rounds.iter_mut().zip(self.world.images(patient, last)) {
                round.push(record);
            }
        }
        // As they come in life: first everybody's first check-in, then everybody's second.
        let mut rounds = rounds.into_iter();
        let registrations = stream_event(&rounds.next().unwrap_or_default());
        Batch {
            registrations,
            check_ins: stream_event(&rounds.flatten().collect::<Vec<_>>()),
            patients,
        }
    }
}

impl Site {
    /// Looks at the first patient and the last: a projector that does less would be measured as quick.
    ///
    /// # Panics
    /// They have not so many visible check-ins.
    pub(crate) async fn is_applied(&self, patients: &[String], check_ins: usize) {
        for patient in patients.iter().take(1).chain(patients.last()) {
            let rows = self.world.visible(Generation::FIRST, patient).await;
            assert_eq!(rows.len(), check_ins, "{patient}");
        }
    }
}

/// As Lambda hands records over.
pub(crate) fn stream_event(records: &[Value]) -> Bytes {
    json!({ "Records": records }).to_string().into()
}

/// The path of the patient whose check-ins are queried.
#[must_use]
pub(crate) fn queried_path() -> String {
    format!("/patients/{QUERIED}")
}

/// The request for the page of check-ins, as API Gateway hands it over.
#[must_use]
pub(crate) fn query_event() -> Bytes {
    query_event_of(QUERIED)
}

/// The same for this patient.
#[must_use]
pub(crate) fn query_event_of(patient: &str) -> Bytes {
    request_event(&format!("/patients/{patient}/checkins"), None)
}

/// A firing of the schedule, as EventBridge hands it over: the first, the second and so on.
#[must_use]
pub(crate) fn tick_event(number: u32) -> Bytes {
    json!({
        "version": "0",
        "id": format!("00000000-0000-4000-8000-{number:012}"),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": format!("2026-01-05T{:02}:{:02}:00Z", number / 60, number % 60),
        "region": embedded::REGION,
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/bench"],
        "detail": {},
    })
    .to_string()
    .into()
}

/// A GET request, as API Gateway hands it over.
#[must_use]
pub(crate) fn request_event(path: &str, query: Option<(&str, &str)>) -> Bytes {
    let headers = json!({
        "Accept": "application/json",
        "Host": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    });
    let of_each = |value: &Value| Value::Array(vec![value.clone()]);
    let many: serde_json::Map<String, Value> = headers
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), of_each(value)))
        .collect();
    json!({
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": many,
        "queryStringParameters": query.map(|(name, value)| json!({ name: value })),
        "multiValueQueryStringParameters": query.map(|(name, value)| json!({ name: [value] })),
        "pathParameters": { "proxy": path.trim_start_matches('/') },
        "stageVariables": null,
        "requestContext": {
            "resourceId": "ab12cd",
            "resourcePath": "/{proxy+}",
            "httpMethod": "GET",
            "path": format!("/prod{path}"),
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "prod",
            "requestTimeEpoch": 1_795_564_584_123_u64,
            "requestId": "0f9e8d7c-6b5a-4f3e-9d2c-1b0a99887766",
            "identity": { "sourceIp": "203.0.113.7" },
            "apiId": "a1b2c3d4e5",
        },
        "body": null,
        "isBase64Encoded": false,
    })
    .to_string()
    .into()
}
