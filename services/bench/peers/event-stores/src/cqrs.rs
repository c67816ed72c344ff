//! Appending, and projecting into a view, with cqrs-es and dynamo-es, as their guide does it.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ScalarAttributeType::{N, S};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::GenericQuery;
use cqrs_es::{Aggregate, DomainEvent, EventEnvelope, Query, View};
use dynamo_es::{DynamoViewRepository, dynamodb_cqrs};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Work, done, ready, tables};

const VIEWS: &str = "patient-views";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Patient {
    registered: bool,
}

enum Command {
    Register { name: String },
    CheckIn { checkin_id: Uuid },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum PatientEvent {
    Registered { name: String },
    CheckedIn { checkin_id: Uuid },
}

#[derive(Debug)]
struct NotRegistered;

impl std::fmt::Display for NotRegistered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the patient is not registered")
    }
}

impl std::error::Error for NotRegistered {}

impl DomainEvent for PatientEvent {
    fn event_type(&self) -> String {
        match self {
            PatientEvent::Registered { .. } => "Registered",
            PatientEvent::CheckedIn { .. } => "CheckedIn",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Aggregate for Patient {
    const TYPE: &'static str = "patient";
    type Command = Command;
    type Event = PatientEvent;
    type Error = NotRegistered;
    type Services = ();

    async fn handle(
        &mut self,
        command: Command,
        _services: &(),
        sink: &EventSink<Patient>,
    ) -> Result<(), NotRegistered> {
        let event = match command {
            Command::Register { name } => PatientEvent::Registered { name },
            Command::CheckIn { checkin_id } if self.registered => PatientEvent::CheckedIn { checkin_id },
            Command::CheckIn { .. } => return Err(NotRegistered),
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: PatientEvent) {
        if let PatientEvent::Registered { .. } = event {
            self.registered = true;
        }
    }
}

/// A patient as a query shows it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct PatientView {
    name: String,
    checkins: Vec<Uuid>,
}

impl View<Patient> for PatientView {
    fn update(&mut self, event: &EventEnvelope<Patient>) {
        match &event.payload {
            PatientEvent::Registered { name } => self.name.clone_from(name),
            PatientEvent::CheckedIn { checkin_id } => self.checkins.push(*checkin_id),
        }
    }
}

pub(crate) async fn run(client: &Client, work: Work, with_view: bool) -> Result<(), Error> {
    // dynamo-es names them so. (That the embedded DynamoDB gives streams of so short a name invalid ids matters to who reads them.)
    let events = [("AggregateTypeAndId", S), ("AggregateIdSequence", N)];
    if with_view {
        // It projects by itself, so it needs no stream.
        tables::create(client, "Events", &events).await?;
    } else {
        tables::create_journal(client, "Events", &events).await?;
    }
    tables::create(client, "Snapshots", &[("AggregateTypeAndId", S)]).await?;
    tables::create(client, VIEWS, &[("ViewId", S)]).await?;
    let mut queries: Vec<Box<dyn Query<Patient>>> = Vec::new();
    if with_view {
        let repository = DynamoViewRepository::<PatientView, Patient>::new(VIEWS, client.clone());
        let mut query = GenericQuery::new(Arc::new(repository));
        // Or a view that is not written would be measured as a quick one.
        query.use_error_handler(Box::new(|error| panic!("the view was not written: {error}")));
        queries.push(Box::new(query));
    }
    let cqrs = dynamodb_cqrs(client.clone(), queries, ());
    for id in work.patient_ids() {
        cqrs.execute(&id, Command::Register { name: "Ada Example".to_owned() }).await?;
    }
    ready().await?;
    for _ in 0..work.check_ins {
        for id in work.patient_ids() {
            cqrs.execute(&id, Command::CheckIn { checkin_id: Uuid::new_v4() }).await?;
        }
    }
    done(work.patients * work.check_ins).await
}
