//! The simulated tables, the stream and the queue, as data. Each write is checked as it takes effect: what readers see
//! changes at no other time.

use std::collections::BTreeMap;

use domain::{
    CheckinRow, Generation, HistoryDigest, PatientState, StoredEntry, StoredEvent, StreamVersion, Timestamp,
};
use event_log::item;
use event_store::TailEntry;
use projection::QuarantineNotice;
use read_model::{Control, Progress, Sweep};
use replay::{Begun, Checkpoint, ItemKey, Letter, Verification};
use serde_dynamo::{AttributeValue, Item};

use crate::people::{MOST_PATIENTS, people};
use crate::planted::Bug;
use crate::stream::Record;
use crate::truth::{Fact, Poison, Truth};
use crate::violation::Violation;

/// One event in the event table.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    /// As it was inserted.
    event: StoredEvent,
    /// How it was made such that nobody can apply it, if it was.
    spoilt: Option<usize>,
    pub(crate) tail: TailEntry,
    /// From which step on the index has it.
    pub(crate) indexed_at: u32,
}

impl EventRow {
    /// The item.
    pub(crate) fn image(&self) -> Item {
        // None of the events that were inserted fails to be an item.
        let mut image = item::to_item(&self.event).unwrap_or_default();
        if let Some(kind) = self.spoilt {
            spoil(&mut image, kind);
        }
        image
    }
}

/// What the event table has of one patient.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    pub(crate) rows: Vec<EventRow>,
    pub(crate) truth: Truth,
    pub(crate) newer_software: bool,
}

impl Stream {
    /// The event as it is stored; one that newer software knows is what it says to that.
    pub(crate) fn stored(&self, row: &EventRow) -> StoredEntry {
        let sound = || StoredEntry {
            patient_id: row.event.patient_id.clone(),
            version: row.event.version,
            event: Ok(row.event.clone()),
            misfiled: None,
            foreign: None,
        };
        match row.spoilt.map(poison_of) {
            None => sound(),
            Some(Poison::UntilNewerSoftware) if self.newer_software => sound(),
            Some(_) => item::stored_entry(row.image()).unwrap_or_else(sound),
        }
    }
}

/// What the read model has of one patient in one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// Every summary there was, and from which step on.
    pub(crate) states: Vec<(u32, PatientState)>,
    /// From which step on the indexes have the summary of the same place.
    pub(crate) indexed_at: Vec<u32>,
    /// In the order of their keys.
    pub(crate) rows: Vec<CheckinRow>,
}

impl View {
    pub(crate) fn state(&self) -> Option<&PatientState> {
        self.states.last().map(|(_, state)| state)
    }

    pub(crate) fn applied(&self) -> StreamVersion {
        self.state().map_or(StreamVersion::EMPTY, |state| state.applied)
    }

    /// The state that the indexes have.
    pub(crate) fn indexed(&self, step: u32) -> Option<&PatientState> {
        let known = self.indexed_at.iter().rposition(|at| *at <= step)?;
        self.states.get(known).map(|(_, state)| state)
    }
}

/// One generation of the read model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    pub(crate) views: [View; MOST_PATIENTS],
    pub(crate) progress: Option<Progress>,
    pub(crate) sweep: Option<Sweep>,
    /// How a replay began it.
    pub(crate) begun: Option<Begun>,
    /// Which software began to build it.
    software: Option<String>,
    /// Whether it is, or was, the active one.
    promoted: bool,
    /// How far a replay has come, by pass and segment.
    pub(crate) checkpoints: BTreeMap<(&'static str, u16), Checkpoint>,
    pub(crate) verification: Option<Verification>,
    /// Whether somebody has begun to remove it. Nobody reads it any more, though a slow replay may still write to it.
    pruned: bool,
    /// Where the streams ended when somebody began to build it.
    pub(crate) heads_when_begun: [u64; MOST_PATIENTS],
}

impl Build {
    /// Which software builds it, as long as queries do not read it.
    pub(crate) fn built_by(&self) -> Option<&str> {
        self.software.as_deref().filter(|_| !self.promoted)
    }
}

/// A write, as DynamoDB or SQS would be asked for it.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Event(Box<StoredEvent>),
    Row {
        generation: Generation,
        patient: usize,
        row: CheckinRow,
    },
    State {
        generation: Generation,
        patient: usize,
        expected: StreamVersion,
        state: PatientState,
        by: By,
    },
    Control {
        expected: Option<Control>,
        control: Control,
    },
    Progress {
        generation: Generation,
        progress: Progress,
    },
    Sweep {
        generation: Generation,
        sweep: Sweep,
    },
    Checkpoint {
        generation: Generation,
        pass: &'static str,
        index: u16,
        checkpoint: Checkpoint,
    },
    Begun {
        generation: Generation,
        begun: Begun,
    },
    Verification {
        generation: Generation,
        verification: Verification,
    },
    Removal(ItemKey),
    Notice(QuarantineNotice),
    /// Removes a message.
    Settled(usize),
    /// Lets nobody receive a message for so many steps.
    Hidden {
        letter: usize,
        steps: u32,
    },
}

/// How a state is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// As an item, in the place of what is there.
    Item,
    /// By a statement: an `INSERT`, or an `UPDATE`, which has to find no mark, since it would keep it.
    Statement,
}

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mailbox {
    /// What can't be applied.
    Quarantined,
    /// Batches of stream records that were given up.
    GivenUp,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Something can't be applied: the notice of this place.
    Notice(usize),
    /// A batch whose first record came at this time was given up.
    GivenUp(Timestamp),
}

/// A message on a queue.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) id: usize,
    pub(crate) mailbox: Mailbox,
    pub(crate) content: Content,
    /// From which step on somebody can receive it.
    pub(crate) visible_from: u32,
}

impl Write {
    /// Whether a repetition is refused.
    pub(crate) fn is_conditional(&self) -> bool {
        matches!(
            self,
            Write::Event(_) | Write::State { .. } | Write::Control { .. }
        )
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    /// The condition was not met.
    Refused,
}

/// Which event is poison, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoisonAt {
    pub(crate) patient: usize,
    pub(crate) version: u64,
    pub(crate) kind: usize,
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) streams: [Stream; MOST_PATIENTS],
    pub(crate) builds: Vec<Build>,
    /// Every control item there was, and from which step on.
    pub(crate) control: Vec<(u32, Control)>,
    /// Everything that was ever put on the quarantine queue.
    pub(crate) notices: Vec<QuarantineNotice>,
    /// The messages that are on the queues.
    pub(crate) letters: Vec<Waiting>,
    pub(crate) next_letter: usize,
    /// Events that the stream has not got yet.
    pub(crate) unstreamed: Vec<(usize, u64)>,
    pub(crate) poison: Option<PoisonAt>,
    pub(crate) planted: Option<Bug>,
}

impl Tables {
    pub(crate) fn build(&self, generation: Generation) -> Option<&Build> {
        self.builds.get(index(generation)?)
    }

    pub(crate) fn view(&self, generation: Generation, patient: usize) -> Option<&View> {
        self.build(generation)?.views.get(patient)
    }

    fn build_mut(&mut self, generation: Generation) -> Option<&mut Build> {
        let index = index(generation)?;
        if self.builds.len() <= index {
            self.builds.resize_with(index + 1, Build::default);
        }
        self.builds.get_mut(index)
    }

    pub(crate) fn active(&self) -> Option<Generation> {
        self.control.last().map(|(_, control)| control.active)
    }

    /// Whether an event is behind in no sense that matters: applied, or waiting behind a mark.
    pub(crate) fn settled(&self, generation: Generation, patient: usize, version: u64) -> bool {
        self.view(generation, patient).is_some_and(|view| {
            view.applied().get() >= version || view.state().is_some_and(|state| state.quarantine.is_some())
        })
    }

    fn planted(&self, bug: Bug) -> bool {
        cfg!(feature = "planted-bugs") && self.planted == Some(bug)
    }

    /// Lets a write take effect, at `step`; the indexes follow at `indexed_at`.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub(crate) fn apply(&mut self, write: &Write, step: u32, indexed_at: u32) -> Result<Written, Violation> {
        match write {
            Write::Event(event) => self.apply_event(event, indexed_at),
            Write::Row {
                generation,
                patient,
                row,
            } => self.apply_row(*generation, *patient, row),
            Write::State {
                generation,
                patient,
                expected,
                state,
                by,
            } => {
                let put = (*expected, state, *by);
                self.apply_state(*generation, *patient, put, (step, indexed_at))
            }
            Write::Control { expected, control } => self.apply_control(expected.as_ref(), control, step),
            Write::Progress { generation, progress } => {
                if let Some(build) = self.build_mut(*generation) {
                    build.progress = Some(progress.clone());
                }
                Ok(Written::Done)
            }
            Write::Sweep { generation, sweep } => {
                if let Some(build) = self.build_mut(*generation) {
                    build.sweep = Some(sweep.clone());
                }
                Ok(Written::Done)
            }
            Write::Checkpoint {
                generation,
                pass,
                index,
                checkpoint,
            } => {
                if let Some(build) = self.build_mut(*generation) {
                    build.checkpoints.insert((pass, *index), checkpoint.clone());
                }
                Ok(Written::Done)
            }
            Write::Begun { generation, begun } => {
                if let Some(build) = self.build_mut(*generation) {
                    build.begun = Some(begun.clone());
                }
                Ok(Written::Done)
            }
            Write::Verification {
                generation,
                verification,
            } => {
                if let Some(build) = self.build_mut(*generation) {
                    build.verification = Some(verification.clone());
                }
                Ok(Written::Done)
            }
            Write::Removal(key) => self.apply_removal(key),
            Write::Notice(notice) => {
                self.post(Mailbox::Quarantined, Content::Notice(self.notices.len()), step);
                self.notices.push(notice.clone());
                Ok(Written::Done)
            }
            Write::Settled(id) => {
                self.letters.retain(|letter| letter.id != *id);
                Ok(Written::Done)
            }
            Write::Hidden { letter: id, steps } => {
                if let Some(letter) = self.letters.iter_mut().find(|letter| letter.id == *id) {
                    letter.visible_from = step + steps;
                }
                Ok(Written::Done)
            }
        }
    }

    /// Puts a message on a queue.
    pub(crate) fn post(&mut self, mailbox: Mailbox, content: Content, step: u32) {
        self.letters.push(Waiting {
            id: self.next_letter,
            mailbox,
            content,
            visible_from: step,
        });
        self.next_letter += 1;
    }

    /// What a receiver gets.
    pub(crate) fn received(&self, waiting: &Waiting) -> Letter {
        let body = match &waiting.content {
            Content::Notice(place) => self.notices.get(*place).map(serde_json::to_string),
            Content::GivenUp(at) => Some(serde_json::to_string(&serde_json::json!({
                "DDBStreamBatchInfo": { "approximateArrivalOfFirstRecord": at }
            }))),
        };
        Letter {
            id: waiting.id.to_string(),
            receipt: waiting.id.to_string(),
            body: body.and_then(Result::ok).unwrap_or_default(),
        }
    }

    fn apply_removal(&mut self, key: &ItemKey) -> Result<Written, Violation> {
        let Some(generation) = read_model::item::generation_of(&key.pk) else {
            return Err(Violation::new("I8", format!("{} is removed", key.pk)));
        };
        let needed = self.control.last().is_some_and(|(_, control)| {
            [Some(control.active), control.previous, control.building].contains(&Some(generation))
        });
        if needed {
            return Err(Violation::new(
                "I8",
                format!("{generation} is removed, which is needed"),
            ));
        }
        if let Some(build) = self.build_mut(generation) {
            build.pruned = true;
        }
        let place = people()
            .iter()
            .position(|person| read_model::item::patient_pk(generation, &person.id) == key.pk);
        let view = place.and_then(|place| self.build_mut(generation)?.views.get_mut(place));
        if let Some(view) = view {
            if key.sk == read_model::item::SUMMARY {
                view.states.clear();
                view.indexed_at.clear();
            } else {
                view.rows
                    .retain(|row| read_model::item::row_sk(row.occurred_at, row.version) != key.sk);
            }
        }
        Ok(Written::Done)
    }

    fn apply_event(&mut self, event: &StoredEvent, indexed_at: u32) -> Result<Written, Violation> {
        let Some(patient) = crate::people::place_of(&event.patient_id) else {
            return Err(Violation::new("I1", format!("an event of {}", event.patient_id)));
        };
        let poison = self
            .poison
            .filter(|poison| poison.patient == patient && poison.version == event.version.get());
        let unconditional = self.planted(Bug::EventWithoutCondition);
        let Some(stream) = self.streams.get_mut(patient) else {
            return Ok(Written::Refused);
        };
        let truth = &mut stream.truth;
        if event.version.get() <= truth.head() {
            if unconditional {
                return Err(Violation::new(
                    "I1",
                    format!("event {} of {} was replaced", event.version, event.patient_id),
                ));
            }
            return Ok(Written::Refused);
        }
        let poisoned = poison.map_or(Poison::No, |poison| poison_of(poison.kind));
        let Some(fact) = Fact::of(event, poisoned) else {
            return Err(Violation::new(
                "I1",
                format!("an event of type {}", event.event_type),
            ));
        };
        check_event(truth, event, &fact)?;
        truth.push(fact);
        stream.rows.push(EventRow {
            event: event.clone(),
            spoilt: poison.map(|poison| poison.kind),
            tail: TailEntry {
                version: event.version,
                event_id: Some(event.event_id),
                recorded_at: Some(event.recorded_at),
                hash: Some(event.hash),
            },
            indexed_at,
        });
        self.unstreamed.push((patient, event.version.get()));
        Ok(Written::Done)
    }

    fn apply_row(
        &mut self,
        generation: Generation,
        patient: usize,
        row: &CheckinRow,
    ) -> Result<Written, Violation> {
        let expected = self
            .streams
            .get(patient)
            .and_then(|stream| stream.truth.row(row.version));
        let view = self
            .build_mut(generation)
            .and_then(|build| build.views.get_mut(patient));
        let Some(view) = view else {
            return Ok(Written::Refused);
        };
        if expected != Some(*row) {
            return Err(Violation::new(
                "I2",
                format!(
                    "a row of p-{patient} at version {} says what its event does not",
                    row.version
                ),
            ));
        }
        let key = |row: &CheckinRow| (row.occurred_at, row.version);
        match view.rows.binary_search_by_key(&key(row), key) {
            Ok(_) => {} // The same content again.
            Err(place) => view.rows.insert(place, *row),
        }
        Ok(Written::Done)
    }

    fn apply_state(
        &mut self,
        generation: Generation,
        patient: usize,
        (expected, state, by): (StreamVersion, &PatientState, By),
        (step, indexed_at): (u32, u32),
    ) -> Result<Written, Violation> {
        let unconditional = self.planted(Bug::StateWithoutCondition) || self.planted(Bug::CountAddedTwice);
        let newer_is_enough = self.planted(Bug::NewerStateAccepted);
        let rows_come_later = self.planted(Bug::RowsAfterState);
        let view = self
            .build_mut(generation)
            .and_then(|build| build.views.get_mut(patient));
        let Some(view) = view else {
            return Ok(Written::Refused);
        };
        let before = view.applied();
        let condition_is_met = match (by, view.state()) {
            (By::Item, _) => before == expected,
            (By::Statement, None) => expected == StreamVersion::EMPTY,
            (By::Statement, Some(there)) => {
                expected != StreamVersion::EMPTY && there.applied == expected && there.quarantine.is_none()
            }
        };
        let admitted = if newer_is_enough {
            state.applied > before
        } else {
            condition_is_met || unconditional
        };
        if !admitted {
            return Ok(Written::Refused);
        }
        view.states.push((step, state.clone()));
        // An index takes the changes of one item in their order.
        let indexed_at = view.indexed_at.last().copied().unwrap_or(0).max(indexed_at);
        view.indexed_at.push(indexed_at);
        if state.applied < before {
            return Err(Violation::new(
                "I3",
                format!(
                    "{generation} of p-{patient} went from version {before} to {}",
                    state.applied
                ),
            ));
        }
        self.check_history(generation, patient, state)?;
        if !rows_come_later && self.build(generation).is_some_and(|build| !build.pruned) {
            self.check_view(generation, patient)?;
        }
        self.check_mark(generation, patient, state)?;
        Ok(Written::Done)
    }

    /// Whether a state knows which events it was folded from.
    fn check_history(
        &self,
        generation: Generation,
        patient: usize,
        state: &PatientState,
    ) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(patient) else {
            return Ok(());
        };
        let applied = usize::try_from(state.applied.get()).unwrap_or(usize::MAX);
        let events = stream.rows.iter().take(applied);
        let expected = events.fold(HistoryDigest::EMPTY, |history, row| history.with(row.event.hash));
        if state.history == Some(expected) {
            return Ok(());
        }
        Err(Violation::new(
            "I2",
            format!("the summary of p-{patient} in {generation} was folded from other events than there are"),
        ))
    }

    /// Whether what readers can see of a patient is the fold of its events up to the applied version.
    pub(crate) fn check_view(&self, generation: Generation, patient: usize) -> Result<(), Violation> {
        let (Some(view), Some(stream)) = (self.view(generation, patient), self.streams.get(patient)) else {
            return Ok(());
        };
        let Some(state) = view.state() else {
            return Ok(());
        };
        if let Some(contradiction) = stream.truth.contradicts(state) {
            return Err(Violation::new(
                "I2",
                format!("the summary of p-{patient} in {generation}: {contradiction}"),
            ));
        }
        let visible = view.rows.iter().filter(|row| row.version <= state.applied);
        let expected = stream.truth.rows(state.applied);
        if !visible.eq(expected.iter()) {
            return Err(Violation::new(
                "I2",
                format!(
                    "p-{patient} in {generation} is at version {}, and its rows are not there",
                    state.applied
                ),
            ));
        }
        Ok(())
    }

    fn check_mark(
        &self,
        generation: Generation,
        patient: usize,
        state: &PatientState,
    ) -> Result<(), Violation> {
        let (Some(mark), Some(stream)) = (&state.quarantine, self.streams.get(patient)) else {
            return Ok(());
        };
        if mark.version != state.applied.next() || Some(mark.version.get()) != stream.truth.first_poison() {
            return Err(Violation::new(
                "I6",
                format!(
                    "p-{patient} in {generation} is quarantined at {} ({}), and that event can be applied",
                    mark.version,
                    mark.reason.code()
                ),
            ));
        }
        if !self.is_reported(generation, patient, mark.version) {
            return Err(Violation::new(
                "I6",
                format!("p-{patient} in {generation} is quarantined, and the queue does not say so"),
            ));
        }
        Ok(())
    }

    /// Whether the queue has a message about this event.
    pub(crate) fn is_reported(&self, generation: Generation, patient: usize, version: StreamVersion) -> bool {
        self.notices.iter().any(|notice| match notice {
            QuarantineNotice::Event {
                generation: of,
                patient_id,
                quarantine,
            } => {
                *of == generation
                    && people()
                        .get(patient)
                        .is_some_and(|person| person.id == *patient_id)
                    && quarantine.version == version
            }
            QuarantineNotice::Record { .. } => false,
        })
    }

    /// Whether a message about this event is still on the queue.
    pub(crate) fn is_on_the_queue(
        &self,
        generation: Generation,
        patient: usize,
        version: StreamVersion,
    ) -> bool {
        let notices = self.letters.iter().filter_map(|letter| match letter.content {
            Content::Notice(place) => self.notices.get(place),
            Content::GivenUp(_) => None,
        });
        let person = people().get(patient);
        notices
            .filter_map(|notice| match notice {
                QuarantineNotice::Event {
                    generation: of,
                    patient_id,
                    quarantine,
                } => Some((*of, patient_id, quarantine.version)),
                QuarantineNotice::Record { .. } => None,
            })
            .any(|about| person.is_some_and(|person| about == (generation, &person.id, version)))
    }

    /// When the event was recorded that the first of these records is about.
    pub(crate) fn recorded_at(&self, records: &[Record]) -> Option<Timestamp> {
        let (Record::Insert(patient, version) | Record::Modify(patient, version)) = records.first()? else {
            return None;
        };
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.streams.get(*patient)?.rows.get(index)?.tail.recorded_at
    }

    fn apply_control(
        &mut self,
        expected: Option<&Control>,
        control: &Control,
        step: u32,
    ) -> Result<Written, Violation> {
        let current = self.control.last().map(|(_, control)| control);
        let compared_in_part = |control: &Control| {
            let (active, latest) = (control.active, control.latest);
            (active, latest, control.building, control.previous)
        };
        let admitted = if self.planted(Bug::ControlComparedInPart) {
            current.map(compared_in_part) == expected.map(compared_in_part)
        } else {
            current == expected
        };
        if !admitted {
            return Ok(Written::Refused);
        }
        let before = current.cloned();
        self.control.push((step, control.clone()));
        let heads = self.streams.each_ref().map(|stream| stream.truth.head());
        if let Some(building) = control.building
            && before
                .as_ref()
                .is_none_or(|before| before.building != Some(building))
            && let Some(build) = self.build_mut(building)
        {
            build.heads_when_begun = heads;
            build.software.clone_from(&control.building_software);
        }
        if let Some(active) = self.build_mut(control.active) {
            active.promoted = true;
        }
        let Some(before) = before.filter(|before| before.active != control.active) else {
            return Ok(Written::Done);
        };
        let Some(promoted) = self.build(control.active) else {
            return Ok(Written::Done);
        };
        // One that is brought back is not scanned for anew, but shows no less than what it takes the place of: an event that
        // neither has, since the stream lost it and the index is behind, is the reconciler's to find.
        let replaced = if before.brings_back {
            self.build(before.active)
        } else {
            None
        };
        let views = promoted.views.iter().zip(promoted.heads_when_begun).enumerate();
        for ((patient, (view, head)), stream) in views.zip(&self.streams) {
            let shown = replaced.and_then(|build| build.views.get(patient));
            let shown = shown.map_or(u64::MAX, |view| view.applied().get());
            if view.applied().get() < head.min(stream.truth.applicable()).min(shown) {
                return Err(Violation::new(
                    "I8",
                    format!(
                        "{} is promoted with p-{patient} at version {}, who was at {head} when the build began",
                        control.active,
                        view.applied()
                    ),
                ));
            }
        }
        Ok(Written::Done)
    }
}

fn index(generation: Generation) -> Option<usize> {
    usize::try_from(generation.get().checked_sub(1)?).ok()
}

fn check_event(truth: &Truth, event: &StoredEvent, says: &Fact) -> Result<(), Violation> {
    let broken = |what: &str| {
        Err(Violation::new(
            "I1",
            format!("event {} of {}: {what}", event.version, event.patient_id),
        ))
    };
    if event.version.get() != truth.head() + 1 {
        return broken("there is none before it");
    }
    if truth.facts().iter().any(|fact| fact.event_id == event.event_id) {
        return broken("its id is in the stream already");
    }
    if truth.facts().iter().any(|fact| fact.body == says.body) {
        return broken("the same fact is in the stream under another id");
    }
    let latest: Option<Timestamp> = truth.facts().last().map(|fact| fact.recorded_at);
    if Some(event.recorded_at) < latest || event.recorded_at < event.occurred_at {
        return broken("recorded before it could be");
    }
    let previous = truth.facts().last().map(|fact| fact.hash);
    if event.previous_hash != previous.unwrap_or(domain::EventHash::GENESIS) {
        return broken("not chained to the one before it");
    }
    Ok(())
}

/// The ways in which an event can be such that nobody can apply it; the first two are those of newer software.
pub(crate) const KINDS_OF_POISON: usize = 5;

fn poison_of(kind: usize) -> Poison {
    match kind {
        0 | 1 => Poison::UntilNewerSoftware,
        _ => Poison::ForEver,
    }
}

fn spoil(image: &mut Item, kind: usize) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    match kind {
        0 => drop(image.insert("schema_version".to_owned(), AttributeValue::N("9".to_owned()))),
        1 => drop(image.insert("event_type".to_owned(), text("PatientMoved"))),
        2 => drop(image.insert(
            "data".to_owned(),
            AttributeValue::M(std::collections::HashMap::new()),
        )),
        3 => drop(image.insert("correlation_id".to_owned(), text("none"))),
        _ => {
            let body = std::collections::HashMap::from([("name".to_owned(), text("Somebody Else"))]);
            image.insert("event_type".to_owned(), text("PatientRegistered"));
            image.insert("data".to_owned(), AttributeValue::M(body));
        }
    }
}
