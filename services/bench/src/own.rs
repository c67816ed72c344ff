//! What contends with the programs of others (`peers/event-stores`), by the same rules ([`crate::contender`]): this system's append;
//! and, as the ceiling of a replay, nothing but BatchWriteItem.

use std::collections::HashMap;
use std::io::Write as _;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use domain::{
    CheckinId, CorrelationId, Event, EventDraft, EventId, Generation, PatientCheckedIn, PatientId,
    PatientRegistered, StreamVersion, Timestamp,
};
use embedded::{EVENT_TABLE, READ_MODEL_TABLE};
use event_store::{EventStore, ExpectedVersion, append};
use futures::{StreamExt, TryStreamExt, stream};
use read_model::item;
use runtime::BoxError;
use runtime::clients::AwsEnvironment;
use runtime::clock::system_clock;
use runtime::config::environment;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

/// What BatchWriteItem takes at most.
const BATCH: usize = 25;
/// How many calls are under way at once, as in a replay with its defaults.
const AT_ONCE: usize = 32;

/// Which way to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Way {
    /// Append check-ins to the event table
    #[command(hide = true)]
    Append(Amount),
    /// Put as many rows into the read model as there would be check-ins
    #[command(hide = true)]
    Fill(Amount),
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Amount {
    /// How many patients
    pub patients: usize,
    /// How many check-ins of each
    pub check_ins: usize,
}

impl Way {
    /// Works, when it is told to.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub async fn work(self) -> Result<(), BoxError> {
        let client = AwsEnvironment::from_lookup(&environment)?.dynamodb();
        match self {
            Way::Append(amount) => append_all(&client, amount).await,
            Way::Fill(amount) => fill(&client, amount).await,
        }
    }
}

impl Amount {
    fn patients(self) -> Result<Vec<PatientId>, BoxError> {
        let ids = (0..self.patients).map(|number| Ok(format!("p-{number:05}").parse()?));
        ids.collect()
    }

    fn events(self) -> usize {
        self.patients * self.check_ins
    }
}

async fn append_all(client: &Client, amount: Amount) -> Result<(), BoxError> {
    let store = EventStore::new(client.clone(), EVENT_TABLE);
    let patients = amount.patients()?;
    for patient in &patients {
        let name = "Ada Example".parse()?;
        let event = Event::PatientRegistered(PatientRegistered { name });
        append_one(&store, patient, "registration", 0, event).await?;
    }
    ready().await?;
    for number in 0..amount.check_ins {
        for patient in &patients {
            let checkin_id = CheckinId::derive(&[patient.as_str(), &number.to_string()]);
            let event = Event::PatientCheckedIn(PatientCheckedIn { checkin_id });
            append_one(&store, patient, "check-in", number, event).await?;
        }
    }
    done(amount.events()).await
}

async fn append_one(
    store: &EventStore,
    patient: &PatientId,
    kind: &str,
    number: usize,
    event: Event,
) -> Result<(), BoxError> {
    let now = system_clock();
    let occasion = CorrelationId::derive("bench", &[]);
    let draft = EventDraft {
        event_id: EventId::derive(kind, &[patient.as_str(), &number.to_string()]),
        occurred_at: now,
        correlation_id: occasion,
        causation_id: occasion,
        event,
    };
    append(store, patient, &draft, ExpectedVersion::Any, now).await?;
    Ok(())
}

/// The rows that a replay would write, in a generation that nobody reads.
async fn fill(client: &Client, amount: Amount) -> Result<(), BoxError> {
    let generation = Generation::new(9);
    let mut rows = Vec::with_capacity(amount.events());
    for patient in amount.patients()? {
        for (number, version) in (0..amount.check_ins).zip(2..) {
            let at = Timestamp::EARLIEST.plus_millis(version * 60_000);
            let sk = item::row_sk(at, StreamVersion::new(version.unsigned_abs()));
            let id = CheckinId::derive(&[patient.as_str(), &number.to_string()]);
            rows.push(put([
                (item::PK, item::patient_pk(generation, &patient)),
                (item::SK, sk),
                ("checkin_id", id.to_string()),
            ])?);
        }
    }
    ready().await?;
    stream::iter(rows.chunks(BATCH))
        .map(|some| async {
            let mut wanted = HashMap::from([(READ_MODEL_TABLE.to_owned(), some.to_vec())]);
            while !wanted.is_empty() {
                let call = client.batch_write_item().set_request_items(Some(wanted));
                wanted = call.send().await?.unprocessed_items.unwrap_or_default();
            }
            Ok::<_, BoxError>(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    done(amount.events()).await
}

fn put<const N: usize>(attributes: [(&str, String); N]) -> Result<WriteRequest, BoxError> {
    let item = attributes.map(|(name, value)| (name.to_owned(), AttributeValue::S(value)));
    let put = PutRequest::builder().set_item(Some(item.into())).build()?;
    Ok(WriteRequest::builder().put_request(put).build())
}

async fn ready() -> Result<(), BoxError> {
    say("ready")?;
    wait_for_line().await
}

async fn done(events: usize) -> Result<(), BoxError> {
    say(&json!({ "events": events }).to_string())?;
    wait_for_line().await
}

fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

async fn wait_for_line() -> Result<(), BoxError> {
    BufReader::new(tokio::io::stdin())
        .read_line(&mut String::new())
        .await?;
    Ok(())
}
