//! The tables that the commands of these tests work on.

use std::collections::BTreeSet;
use std::sync::Mutex;

use domain::{Generation, Timestamp};
use embedded::READ_MODEL_TABLE;
use event_log::{EventLog, EventTable};
use projection::{ProjectionStore, ProjectionTable, SweepStore};
use projector::Projector;
use read_model::ReadModelTable;
use replay::{
    Accepted, Letter, Letters, LettersUnavailable, Promote, Prune, Rebuild, Redrive, ReplayTable, RollBack,
    Tables, Verify,
};
use testbed::{Queue, World, at};

/// The generation that a world begins with.
pub(crate) const LIVE: Generation = Generation::FIRST;
/// The one that is built next.
pub(crate) const NEXT: Generation = Generation::new(2);

/// The software of the projector, and of every replay.
pub(crate) const TODAYS: &str = "today's";

/// Nothing wrong is known.
static NOTHING: Accepted = Accepted {
    broken_links: BTreeSet::new(),
    less: BTreeSet::new(),
    unsound: BTreeSet::new(),
};

/// What accepts these broken links.
pub(crate) fn accepting(broken_links: &[&str]) -> Accepted {
    Accepted {
        broken_links: broken_links.iter().map(|link| link.parse().unwrap()).collect(),
        ..Accepted::default()
    }
}

/// What accepts that less is shown of this patient.
pub(crate) fn accepting_less(patient: &str) -> Accepted {
    Accepted {
        less: [patient.parse().unwrap()].into(),
        ..Accepted::default()
    }
}

/// When every command of these tests runs, unless it says otherwise.
pub(crate) fn now() -> Timestamp {
    at(1_000)
}

/// What the command line would connect; the projection and the events may be others.
pub(crate) struct Connected<'w, P = ProjectionTable, L = EventTable> {
    log: L,
    projection: P,
    read_model: ReadModelTable,
    replay: ReplayTable,
    queue: &'w Queue,
    pub(crate) quarantined: Mailbox,
    pub(crate) given_up: Mailbox,
}

impl<'w> Connected<'w> {
    pub(crate) fn new(world: &'w World) -> Connected<'w> {
        Connected {
            log: world.log.clone(),
            projection: world.store(),
            read_model: world.read_model.clone(),
            replay: ReplayTable::new(world.client.clone(), READ_MODEL_TABLE),
            queue: &world.queue,
            quarantined: Mailbox::default(),
            given_up: Mailbox::default(),
        }
    }
}

impl<'w, P: ProjectionStore + SweepStore> Connected<'w, P> {
    pub(crate) fn with_pages_of(mut self, items: u16) -> Connected<'w, P> {
        self.log = self.log.with_page_limit(items);
        self.replay = self.replay.with_page_limit(items);
        self
    }

    /// With the events of another table.
    pub(crate) fn reading<L>(self, log: L) -> Connected<'w, P, L> {
        Connected {
            log,
            projection: self.projection,
            read_model: self.read_model,
            replay: self.replay,
            queue: self.queue,
            quarantined: self.quarantined,
            given_up: self.given_up,
        }
    }

    pub(crate) fn with_projection<Q>(self, projection: Q) -> Connected<'w, Q> {
        Connected {
            log: self.log,
            projection,
            read_model: self.read_model,
            replay: self.replay,
            queue: self.queue,
            quarantined: self.quarantined,
            given_up: self.given_up,
        }
    }
}

impl<P: ProjectionStore + SweepStore, L: EventLog> Connected<'_, P, L> {
    pub(crate) fn rebuild(&self) -> Rebuild<'_, Self> {
        Rebuild {
            tables: self,
            segments: 3,
            concurrency: 4,
            accepted: &NOTHING,
            software: TODAYS,
            promote: true,
            any_projector: false,
            clock: now,
        }
    }

    pub(crate) fn dry_run(&self) -> Rebuild<'_, Self> {
        Rebuild {
            promote: false,
            ..self.rebuild()
        }
    }

    pub(crate) fn verify(&self, generation: Generation) -> Verify<'_, Self> {
        Verify {
            tables: self,
            generation,
            segments: 3,
            concurrency: 4,
            accepted: &NOTHING,
            now: now(),
        }
    }

    pub(crate) fn promote(&self) -> Promote<'_, Self> {
        Promote {
            tables: self,
            segments: 3,
            concurrency: 4,
            accepted: &NOTHING,
            software: TODAYS,
            any_projector: false,
            clock: now,
        }
    }

    pub(crate) fn roll_back(&self) -> RollBack<'_, Self> {
        RollBack {
            tables: self,
            to: None,
            accepted: &NOTHING,
            concurrency: 4,
            clock: now,
        }
    }

    /// A prune some time after everything else.
    pub(crate) fn prune(&self) -> Prune<'_, Self> {
        Prune {
            tables: self,
            previous: false,
            building: false,
            segments: 3,
            clock: || now().plus_millis(replay::QUIET_MILLIS),
        }
    }

    pub(crate) fn redrive(&self) -> Redrive<'_, Self> {
        Redrive {
            tables: self,
            concurrency: 4,
            clock: now,
        }
    }
}

impl<'w, P: ProjectionStore + SweepStore, L: EventLog> Tables for Connected<'w, P, L> {
    type Log = L;
    type Projection = P;
    type ReadModel = ReadModelTable;
    type Audit = ReplayTable;
    type Builds = ReplayTable;
    type Prunable = ReplayTable;
    type Queue = &'w Queue;
    type Letters = Mailbox;

    fn log(&self) -> &L {
        &self.log
    }

    fn projection(&self) -> &P {
        &self.projection
    }

    fn read_model(&self) -> &ReadModelTable {
        &self.read_model
    }

    fn audit(&self) -> &ReplayTable {
        &self.replay
    }

    fn builds(&self) -> &ReplayTable {
        &self.replay
    }

    fn prunable(&self) -> &ReplayTable {
        &self.replay
    }

    fn queue(&self) -> &&'w Queue {
        &self.queue
    }

    fn quarantined(&self) -> Option<&Mailbox> {
        Some(&self.quarantined)
    }

    fn given_up(&self) -> Option<&Mailbox> {
        Some(&self.given_up)
    }
}

/// Messages, as SQS gives them: who was received comes again only after some more receives, or once it is put back.
pub(crate) struct Mailbox(Mutex<Messages>);

struct Messages {
    waiting: Vec<Waiting>,
    receives: usize,
    /// For how many receives a message is invisible, once it was received.
    invisible: usize,
}

struct Waiting {
    letter: Letter,
    visible_from: usize,
    /// How often it was received.
    received: usize,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox::forgetting_after(1_000)
    }
}

impl Mailbox {
    /// One whose messages come again after so many receives.
    pub(crate) fn forgetting_after(receives: usize) -> Mailbox {
        Mailbox(Mutex::new(Messages {
            waiting: Vec::new(),
            receives: 0,
            invisible: receives,
        }))
    }

    pub(crate) fn put(&self, body: &impl serde::Serialize) {
        let mut messages = self.0.lock().unwrap();
        let id = messages.waiting.len().to_string();
        messages.waiting.push(Waiting {
            letter: Letter {
                receipt: id.clone(),
                id,
                body: serde_json::to_string(body).unwrap(),
            },
            visible_from: 0,
            received: 0,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().waiting.len()
    }

    /// How many could be received now.
    pub(crate) fn visible(&self) -> usize {
        let messages = self.0.lock().unwrap();
        let receives = messages.receives;
        let visible = messages
            .waiting
            .iter()
            .filter(|waiting| waiting.visible_from <= receives);
        visible.count()
    }

    /// How often each that is left was received.
    pub(crate) fn received(&self) -> Vec<usize> {
        let messages = self.0.lock().unwrap();
        messages.waiting.iter().map(|waiting| waiting.received).collect()
    }

    fn show(&self, letter: &Letter, visible_from: usize) {
        let mut messages = self.0.lock().unwrap();
        let mut waiting = messages.waiting.iter_mut();
        if let Some(waiting) = waiting.find(|waiting| waiting.letter.id == letter.id) {
            waiting.visible_from = visible_from;
        }
    }
}

impl Letters for Mailbox {
    async fn receive(&self) -> Result<Vec<Letter>, LettersUnavailable> {
        let mut messages = self.0.lock().unwrap();
        messages.receives += 1;
        let (receives, invisible) = (messages.receives, messages.invisible);
        let visible = messages
            .waiting
            .iter_mut()
            .filter(|waiting| waiting.visible_from <= receives);
        let received = visible.take(2).map(|waiting| {
            waiting.visible_from = receives + invisible;
            waiting.received += 1;
            waiting.letter.clone()
        });
        Ok(received.collect())
    }

    async fn hold(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.show(letter, usize::MAX);
        Ok(())
    }

    async fn put_back(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.show(letter, 0);
        Ok(())
    }

    async fn remove(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        let mut messages = self.0.lock().unwrap();
        messages.waiting.retain(|waiting| waiting.letter.id != letter.id);
        Ok(())
    }
}

/// Four patients with 42 events.
pub(crate) async fn world() -> World {
    let world = World::new().await;
    for (patient, check_ins) in [("p-1", 7), ("p-2", 0), ("p-3", 30), ("p-4", 1)] {
        world.patient(patient, check_ins).await;
    }
    world
}

pub(crate) fn projector(world: &World) -> Projector<EventTable, ProjectionTable, &Queue> {
    Projector {
        log: world.log.clone(),
        store: world.store(),
        queue: &world.queue,
        concurrency: 4,
        software: TODAYS,
        clock: now,
    }
}

/// Delivers what the stream has after `position`, as the event source mapping does, and moves on.
pub(crate) async fn deliver(world: &World, position: &mut Option<String>) {
    let records = world.stream(position.as_deref());
    let Some(last) = records.last() else { return };
    let last = last["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned();
    let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();
    let response = projector(world).handle(event).await.unwrap().response;
    assert!(response.batch_item_failures.is_empty());
    *position = Some(last);
}
