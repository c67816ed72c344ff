//! A story as it happens: whoever invokes the services, and readers in between.

use std::collections::BTreeSet;
use std::fmt;

use aws_lambda_events::dynamodb::{Event, EventRecord};
use checkin::Request;
use domain::{CheckinId, CorrelationId, EventDraft, EventHash, EventId, PatientCheckedIn, StreamVersion};
use embedded::EmbeddedDynamoDb;
use event_log::item::EventKey;
use event_store::AppendLog as _;
use serde_json::{Value, json};

use crate::call::Call;
use crate::dice::Dice;
use crate::proxy::{Fault, GIVEN_UP, Proxy};
use crate::readers::{LookError, Readers, Stored};
use crate::story::{Command, Step, Story};
use crate::system::{Retries, System};
use crate::time;
use crate::truth::Truth;
use crate::violation::{Violation, ensure};

/// How often a service is invoked until it succeeds: there is one fault, so the second time has to be enough.
const ATTEMPTS: usize = 2;
/// The largest batch of stream records.
const BATCH: usize = 4;
/// How many of a hundred records the stream loses, and how many it delivers twice.
const LOST: usize = 20;
const TWICE: usize = 20;
/// The rule that the schedule's ticks name.
const RULE: &str = "arn:aws:events:us-east-1:000000000000:rule/tick";

/// A story as it happens.
pub(crate) struct Run {
    story: Story,
    pub(crate) system: System,
    pub(crate) truth: Truth,
    readers: Readers,
    minute: i64,
    /// How many of the stream's records were delivered, or lost.
    delivered: usize,
    /// Every check-in that has to be an event in the end.
    pub(crate) check_ins: BTreeSet<EventId>,
    /// Every call of the story, but for those of the last reconcile.
    pub(crate) calls: Vec<Call>,
    pub(crate) failed_invocations: usize,
    pub(crate) history: Vec<String>,
}

impl Run {
    /// Before the first step of the story of this seed.
    pub(crate) async fn start(
        dynamodb: &EmbeddedDynamoDb,
        seed: u64,
        retries: Retries,
        fault: Option<Fault>,
    ) -> Run {
        time::set(0);
        let story = Story::of(seed);
        let proxy = Proxy::before(dynamodb, fault).await;
        let system = System::new(dynamodb, proxy, story.patients, story.checkins_per_tick, retries);
        Run {
            truth: Truth::of(dynamodb),
            story,
            system,
            readers: Readers::default(),
            minute: 0,
            delivered: 0,
            check_ins: BTreeSet::new(),
            calls: Vec::new(),
            failed_invocations: 0,
            history: Vec::new(),
        }
    }

    /// Everything that happens in the story.
    pub(crate) async fn tell(&mut self) -> Result<(), Violation> {
        for step in self.story.steps.clone() {
            match step {
                Step::Register => self.check_in(json!({ "command": "register-roster" })).await?,
                Step::Tick(minute) => self.tick(minute).await?,
                Step::Poison(patient) => self.poison(patient).await?,
                Step::Deliver(seed) => self.deliver(Dice::new(seed)).await?,
                Step::Reconcile => self.reconcile().await?,
                Step::GiveUp => self.give_up(),
                Step::Operate(command) => self.operate(command).await?,
                Step::Query => self.query().await?,
            }
        }
        self.calls = self.system.proxy.calls();
        Ok(())
    }

    fn note(&mut self, what: impl fmt::Display) {
        self.history.push(format!("minute {}: {what}", self.minute));
    }

    fn note_failure(&mut self, what: &str, error: &impl fmt::Debug) {
        self.failed_invocations += 1;
        self.note(format_args!("{what} failed: {error:?}"));
    }

    /// The schedule fires. Lambda invokes again what failed.
    async fn tick(&mut self, minute: i64) -> Result<(), Violation> {
        self.minute = self.minute.max(minute);
        time::set(self.minute);
        let payload = json!({
            "version": "0",
            "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": "000000000000",
            "time": time::at(minute),
            "region": "us-east-1",
            "resources": [RULE],
            "detail": {},
        });
        let Ok(Request::Tick(tick)) = Request::parse(payload.clone()) else {
            panic!("{payload} is no tick");
        };
        for entry in tick.choose(&self.system.roster, self.story.checkins_per_tick) {
            self.check_ins.insert(tick.check_in(&entry.id).event_id);
        }
        self.check_in(payload).await
    }

    async fn check_in(&mut self, payload: Value) -> Result<(), Violation> {
        for _ in 0..ATTEMPTS {
            let result = self.system.checkin.handle(payload.clone(), "invocation").await;
            self.truth.read_on()?;
            match result {
                Ok(summary) => {
                    self.note(format_args!("{summary:?}"));
                    return Ok(());
                }
                Err(error) => self.note_failure("the producer", &error),
            }
        }
        Err(again("the producer"))
    }

    /// What a newer producer appends is whole, and chained, and can't be decoded.
    async fn poison(&mut self, patient: usize) -> Result<(), Violation> {
        let events = &self.system.event_store_itself;
        let patient = self.system.roster.entries()[patient].id.clone();
        let tail = events.tail(&patient, None, 1).await.unwrap();
        let (head, head_hash) = tail
            .first()
            .map_or((StreamVersion::EMPTY, EventHash::GENESIS), |last| {
                (last.version, last.hash.unwrap())
            });
        let occasion = CorrelationId::derive("newer", &[]);
        let draft = EventDraft {
            event_id: EventId::derive("newer", &[patient.as_str()]),
            occurred_at: time::now(),
            correlation_id: occasion,
            causation_id: occasion,
            event: domain::Event::PatientCheckedIn(PatientCheckedIn {
                checkin_id: CheckinId::derive(&["newer", patient.as_str()]),
            }),
        };
        let mut event = draft.place(&patient, head, head_hash, time::now()).unwrap();
        event.schema_version += 1;
        event.hash = event.computed_hash();
        events.insert(&event).await.unwrap();
        self.check_ins.insert(event.event_id);
        self.note(format_args!("version {} of {patient} is poison", event.version));
        self.truth.read_on()
    }

    /// The stream delivers what was recorded since it last did: some of it not at all, some of it twice, some of it
    /// out of order.
    async fn deliver(&mut self, mut dice: Dice) -> Result<(), Violation> {
        let (old, new) = self.truth.records.split_at(self.delivered);
        let mut records = Vec::new();
        for record in new {
            if dice.chance(LOST) {
                continue;
            }
            records.push(record.clone());
            if dice.chance(TWICE) {
                records.push(record.clone());
            }
        }
        if !old.is_empty() && dice.chance(50) {
            records.push(old[dice.below(old.len())].clone());
        }
        if dice.chance(60) {
            dice.shuffle(&mut records);
        }
        self.delivered = self.truth.records.len();
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(1 + dice.below(BATCH)));
            self.deliver_batch(std::mem::replace(&mut records, rest)).await?;
        }
        Ok(())
    }

    /// An event source mapping delivers a batch, and what is left of it, until all of it is done.
    async fn deliver_batch(&mut self, mut batch: Vec<EventRecord>) -> Result<(), Violation> {
        for _ in 0..ATTEMPTS {
            let mut event = Event::default();
            event.records.clone_from(&batch);
            let delivered = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
            let result = self.system.projector.handle(delivered).await;
            let stored = self.look().await?;
            let response = match result {
                Ok(handled) => handled.response,
                Err(error) => {
                    self.note_failure("the projector", &error);
                    continue;
                }
            };
            let failed = response.batch_item_failures.iter().map(|failure| {
                let position = batch
                    .iter()
                    .position(|record| record.change.sequence_number == failure.item_identifier);
                position.ok_or_else(|| Violation(format!("{failure:?} names no record")))
            });
            let failed = failed.collect::<Result<Vec<usize>, Violation>>()?;
            let rest = batch.split_off(failed.iter().copied().min().unwrap_or(batch.len()));
            Run::check_acknowledged(&stored, &batch)?;
            self.note(format_args!("{} records were delivered", batch.len()));
            if failed.is_empty() {
                return Ok(());
            }
            batch = rest;
            self.note_failure("the projector", &format_args!("the last {} records", batch.len()));
        }
        Err(again("the projector"))
    }

    /// What was acknowledged has been applied, or waits behind the event that its patient is quarantined at.
    fn check_acknowledged(stored: &Stored, records: &[EventRecord]) -> Result<(), Violation> {
        for record in records {
            let key: EventKey = serde_dynamo::from_item(record.change.keys.clone()).unwrap();
            let state = &stored.states[&key.patient_id];
            let mark = state.quarantine.as_ref();
            let waits = mark.is_some_and(|mark| mark.version <= key.version);
            ensure(waits || state.applied >= key.version, || {
                let EventKey { patient_id, version } = key;
                format!("version {version} of {patient_id} was acknowledged, and is not applied")
            })?;
        }
        Ok(())
    }

    /// The reconciler's schedule fires. Lambda invokes again what failed.
    pub(crate) async fn reconcile(&mut self) -> Result<(), Violation> {
        for _ in 0..ATTEMPTS {
            let request = reconciler::Request::default();
            let result = self.system.reconciler.handle(request).await;
            self.look().await?;
            match result {
                Ok(summary) => {
                    self.note(format_args!("{summary:?}"));
                    return Ok(());
                }
                Err(error) => self.note_failure("the reconciler", &error),
            }
        }
        Err(again("the reconciler"))
    }

    /// Lambda gives up what was recorded since the stream last delivered, and says so on a queue.
    fn give_up(&mut self) {
        assert!(
            self.delivered < self.truth.records.len(),
            "there is nothing to give up"
        );
        self.delivered = self.truth.records.len();
        let message = json!({ "DDBStreamBatchInfo": { "approximateArrivalOfFirstRecord": time::now() } });
        self.system.proxy.put(GIVEN_UP, &message);
        self.note("a batch was given up");
    }

    /// An operator does something, and does so again if it failed. While the read model is rebuilt patients check in.
    async fn operate(&mut self, command: Command) -> Result<(), Violation> {
        for attempt in 0..ATTEMPTS {
            let result = self.system.obey(command, attempt > 0).await;
            self.look().await?;
            match result {
                Ok(()) => {
                    self.note(format_args!("{command:?} is done"));
                    return Ok(());
                }
                Err(error) => self.note_failure(&format!("{command:?}"), &error),
            }
            if attempt == 0 && command == Command::Rebuild {
                self.tick(self.minute + 2).await?;
                self.deliver(Dice::new(0)).await?;
            }
        }
        Err(again("the operator"))
    }

    /// Somebody looks through all lists, page by page, and does so again if the API had no answer.
    async fn query(&mut self) -> Result<(), Violation> {
        for _ in 0..ATTEMPTS {
            match self.readers.walk(&self.truth, &self.system.read_model).await {
                Ok(()) => {
                    self.note("queried");
                    return Ok(());
                }
                Err(LookError::Wrong(violation)) => return Err(violation),
                Err(LookError::Unavailable(error)) => self.note_failure("a query", &error),
            }
        }
        Err(again("a query"))
    }

    /// Readers look at the read model, past the proxy.
    pub(crate) async fn look(&mut self) -> Result<Stored, Violation> {
        match self
            .readers
            .look(&self.truth, &self.system.read_model_itself)
            .await
        {
            Ok(stored) => Ok(stored),
            Err(LookError::Wrong(violation)) => Err(violation),
            Err(LookError::Unavailable(error)) => panic!("{error:?}"),
        }
    }

    /// As [`Run::look`], by readers who have seen nothing yet, and so look at everything.
    pub(crate) async fn look_anew(&mut self) -> Result<Stored, Violation> {
        self.readers = Readers::default();
        self.look().await
    }
}

fn again(who: &str) -> Violation {
    Violation(format!("there was one fault, and {who} failed every time"))
}
