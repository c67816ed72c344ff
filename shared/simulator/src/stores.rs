//! Production's own seams, on the simulated tables. Every call waits for its turn, so that any other task can come
//! first, and may meet a fault.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};

use domain::{
    CheckinRow, EventShard, Generation, ListingShard, PatientId, PatientState, StoredEntry, StoredEvent,
    StreamVersion, Timestamp,
};
use event_log::{EventLog, LogPage, LogPosition, LogUnavailable, RecordedKey, Segment};
use event_store::{AppendLog, InsertError, TailEntry};
use projection::{
    PatientRow, ProjectionStore, ProjectionUnavailable, PutControlError, PutStateError, QuarantineNotice,
    QuarantineQueue, QueueUnavailable, SWEEP_OVERLAP_MILLIS, StateChange, SweepStore,
};
use read_model::{
    Consistency, Control, Freshness, Page, Progress, ReadModelStore, ReadModelUnavailable, RecentEntry,
    RowKey, RowRange, StoredState, Sweep, item,
};

use crate::people::{Person, people, place_of};
use crate::plan::Fault;
use crate::planted::Bug;
use crate::replay_stores::Taken;
use crate::tables::{By, Mailbox, Write, Written};
use crate::time::clock;
use crate::violation::Violation;
use crate::workers::OLDER;
use crate::world::{Failed, Fate, World, lock};

/// Most entries of a page of the event table.
const LOG_PAGE: usize = 2;

/// How many of a thousand puts of the control item are late, if any are: there are few of these, and much depends on each.
const LATE_CONTROLS: u16 = 200;

/// What a worker reaches the tables by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stores<'w> {
    world: &'w Mutex<World>,
    /// Which software the worker is of.
    pub(crate) software: &'static str,
    pub(crate) quarantined: Taken<'w>,
    pub(crate) given_up: Taken<'w>,
}

impl<'w> Stores<'w> {
    pub(crate) fn new(world: &'w Mutex<World>, software: &'static str) -> Stores<'w> {
        Stores {
            world,
            software,
            quarantined: Taken::new(world, Mailbox::Quarantined),
            given_up: Taken::new(world, Mailbox::GivenUp),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'w, World> {
        lock(self.world)
    }

    pub(crate) fn planted(&self, bug: Bug) -> bool {
        cfg!(feature = "planted-bugs") && self.world().planted(bug)
    }

    /// Waits until it is this call's turn, and gives it the world.
    pub(crate) fn turn(&self) -> Turn<'w> {
        Turn {
            world: self.world,
            call: None,
        }
    }

    async fn crash<T>(&self, name: &str, how: &str) -> T {
        {
            let mut world = self.world();
            world.note(|_| format!("{name}: {how}"));
            world.crashed = true;
        }
        pending().await
    }

    /// A read of anything.
    pub(crate) async fn read<T>(
        &self,
        name: &'static str,
        answer: impl FnOnce(&mut World) -> T,
        shown: impl FnOnce(&T) -> String,
    ) -> Result<T, Failed> {
        let crash = {
            let mut world = self.turn().await;
            match world.fate() {
                // Nobody refuses a read.
                Fate::Proceeds | Fate::IsRefused => {
                    let answer = answer(&mut world);
                    world.note(|_| format!("{name} -> {}", shown(&answer)));
                    return Ok(answer);
                }
                Fate::IsThrottled | Fate::LosesReply | Fate::TakesEffectLater => {
                    world.note(|_| format!("{name}: fails"));
                    return Err(Failed);
                }
                Fate::CrashesBefore => "crashes before that",
                Fate::CrashesAfter => "crashes after that",
            }
        };
        self.crash(name, crash).await
    }

    /// A call that changes what it answers with, as a receive hides its messages: whoever does not get the answer has done
    /// that all the same.
    pub(crate) async fn take<T>(
        &self,
        name: &'static str,
        answer: impl Fn(&mut World) -> T,
        shown: impl Fn(&T) -> String,
    ) -> Result<T, Failed> {
        let crash = {
            let mut world = self.turn().await;
            match world.fate() {
                Fate::Proceeds => {
                    let answer = answer(&mut world);
                    world.note(|_| format!("{name} -> {}", shown(&answer)));
                    return Ok(answer);
                }
                Fate::IsThrottled => {
                    world.note(|_| format!("{name}: fails"));
                    return Err(Failed);
                }
                Fate::LosesReply | Fate::TakesEffectLater => {
                    let lost = answer(&mut world);
                    world.note(|_| format!("{name} -> {}, but the reply is lost", shown(&lost)));
                    return Err(Failed);
                }
                // Nobody refuses it, so the SDK's repetition is answered: with something else.
                Fate::IsRefused => {
                    let lost = answer(&mut world);
                    let answer = answer(&mut world);
                    world.note(|_| {
                        let (lost, got) = (shown(&lost), shown(&answer));
                        format!("{name} -> {lost}, which is lost; when the SDK repeats it {got}")
                    });
                    return Ok(answer);
                }
                Fate::CrashesBefore => "crashes before that".to_owned(),
                Fate::CrashesAfter => {
                    let lost = answer(&mut world);
                    format!("{}, and crashes after that", shown(&lost))
                }
            }
        };
        self.crash(name, &crash).await
    }

    /// A write of one item.
    pub(crate) async fn write(&self, write: Write) -> Result<Written, Failed> {
        let (name, crash) = {
            let mut world = self.turn().await;
            let name = if world.is_recorded() {
                shown(&write)
            } else {
                String::new()
            };
            let late =
                matches!(write, Write::Control { .. }) && world.strikes(Fault::LateControl, LATE_CONTROLS);
            world.faults_met += u32::from(late);
            let fate = if late {
                Fate::TakesEffectLater
            } else {
                world.fate()
            };
            match fate {
                Fate::Proceeds => {
                    let written = world.apply(&write);
                    world.note(|_| match written {
                        Written::Done => name,
                        Written::Refused => format!("{name}: refused"),
                    });
                    return Ok(written);
                }
                Fate::IsThrottled => {
                    world.note(|_| format!("{name}: fails"));
                    return Err(Failed);
                }
                Fate::LosesReply => {
                    let written = world.apply(&write);
                    world.note(|_| format!("{name}: {written:?}, but the reply is lost"));
                    return Err(Failed);
                }
                Fate::IsRefused => {
                    let written = world.apply(&write);
                    world.note(|_| format!("{name}: {written:?}, and refused when the SDK repeats it"));
                    return Ok(if write.is_conditional() {
                        Written::Refused
                    } else {
                        written
                    });
                }
                Fate::TakesEffectLater => {
                    world.defer(write);
                    world.note(|_| format!("{name}: fails, and takes effect later"));
                    return Err(Failed);
                }
                Fate::CrashesBefore => (name, "crashes before that"),
                Fate::CrashesAfter => {
                    let written = world.apply(&write);
                    world.note(|_| format!("{name}: {written:?}"));
                    (name, "crashes after that")
                }
            }
        };
        self.crash(&name, crash).await
    }
}

impl Stores<'_> {
    /// Writes different items by one call, each of which takes effect or not by itself, and says what became of each.
    async fn write_together(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failed>>, Failed> {
        let (name, crash) = {
            let mut world = self.turn().await;
            let name = if world.is_recorded() {
                let names: Vec<String> = writes.iter().map(shown).collect();
                format!("together: {}", names.join("; "))
            } else {
                String::new()
            };
            match world.fate() {
                Fate::Proceeds => {
                    let written = writes.iter().map(|write| {
                        let is_throttled = world.strikes(Fault::Throttle, 60);
                        (!is_throttled).then(|| world.apply(write)).ok_or(Failed)
                    });
                    let written: Vec<_> = written.collect();
                    world.note(|_| format!("{name}: {written:?}"));
                    return Ok(written);
                }
                Fate::IsThrottled => {
                    world.note(|_| format!("{name}: fails"));
                    return Err(Failed);
                }
                Fate::LosesReply => {
                    let done = world.apply_some(writes);
                    world.note(|_| format!("{name}: {done:?}, but the reply is lost"));
                    return Err(Failed);
                }
                Fate::IsRefused => {
                    let written: Vec<_> = writes.iter().map(|write| world.apply(write)).collect();
                    world.note(|_| format!("{name}: {written:?}, and refused when the SDK repeats it"));
                    let repeated = writes.iter().zip(written).map(|(write, written)| {
                        Ok(if write.is_conditional() {
                            Written::Refused
                        } else {
                            written
                        })
                    });
                    return Ok(repeated.collect());
                }
                Fate::TakesEffectLater => {
                    writes.iter().for_each(|write| world.defer(write.clone()));
                    world.note(|_| format!("{name}: fails, and takes effect later"));
                    return Err(Failed);
                }
                Fate::CrashesBefore => (name, "crashes before that"),
                Fate::CrashesAfter => {
                    let done = world.apply_some(writes);
                    world.note(|_| format!("{name}: {done:?}"));
                    (name, "crashes after that")
                }
            }
        };
        self.crash(&name, crash).await
    }
}

/// A write, as a history shows it.
pub(crate) fn shown(write: &Write) -> String {
    match write {
        Write::Event(event) => format!(
            "insert event {} of {}: {} (fact {:.8})",
            event.version,
            event.patient_id,
            event.event_type,
            event.event_id.to_string()
        ),
        Write::Row {
            generation,
            patient,
            row,
        } => {
            format!("put row {} of p-{patient} in {generation}", row.version)
        }
        Write::State {
            generation,
            patient,
            expected,
            state,
            by: _,
        } => format!(
            "put state of p-{patient} in {generation}: from {expected} to {}{}",
            state.applied,
            state
                .quarantine
                .as_ref()
                .map_or(String::new(), |mark| format!(", quarantined at {}", mark.version))
        ),
        Write::Control { control, .. } => format!(
            "put control: active {}, building {}",
            control.active,
            control
                .building
                .map_or("none".to_owned(), |building| building.to_string())
        ),
        Write::Progress { generation, .. } => format!("put progress of {generation}"),
        Write::Sweep { generation, sweep } => format!("put sweep of {generation}: to {}", sweep.swept_to),
        Write::Checkpoint {
            generation,
            pass,
            index,
            checkpoint,
        } => format!(
            "put checkpoint {generation} {pass} segment {index}: {} events",
            checkpoint.events
        ),
        Write::Begun { generation, .. } => format!("put how {generation} was begun"),
        Write::Verification { generation, .. } => format!("put verification of {generation}"),
        Write::Removal(key) => format!("remove {} {}", key.pk, key.sk),
        Write::Settled(letter) => format!("remove message {letter}"),
        Write::Hidden { letter, steps } => format!("hide message {letter} for {steps} steps"),
        Write::Notice(QuarantineNotice::Event {
            generation,
            patient_id,
            quarantine,
        }) => format!(
            "put on the queue: event {} of {patient_id} in {generation}, {}",
            quarantine.version,
            quarantine.reason.code()
        ),
        Write::Notice(QuarantineNotice::Record { sequence_number, .. }) => {
            format!("put on the queue: stream record {sequence_number}")
        }
    }
}

/// Waits until it is a call's turn.
pub(crate) struct Turn<'w> {
    world: &'w Mutex<World>,
    call: Option<u32>,
}

impl<'w> Future for Turn<'w> {
    type Output = MutexGuard<'w, World>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<MutexGuard<'w, World>> {
        let mut world = lock(self.world);
        match self.call {
            None => {
                self.call = Some(world.begin_call(context.waker().clone()));
                Poll::Pending
            }
            Some(call) if world.granted == Some(call) => {
                world.granted = None;
                self.call = None;
                Poll::Ready(world)
            }
            Some(_) => Poll::Pending,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            lock(self.world).end_call(call);
        }
    }
}

fn place(patient: &PatientId) -> usize {
    place_of(patient).unwrap_or(usize::MAX)
}

fn log_unavailable(failed: Failed) -> LogUnavailable {
    LogUnavailable(failed.into())
}

impl AppendLog for Stores<'_> {
    async fn tail(
        &self,
        patient: &PatientId,
        before: Option<StreamVersion>,
        limit: u16,
    ) -> Result<Vec<TailEntry>, LogUnavailable> {
        self.read(
            "read tail",
            |world| {
                let stream = world.tables.streams.get(place(patient));
                let rows = stream.into_iter().flat_map(|stream| stream.rows.iter().rev());
                let limit = if world.planted(Bug::LookBackOfOne) {
                    1
                } else {
                    limit
                };
                rows.map(|row| row.tail)
                    .filter(|entry| before.is_none_or(|before| entry.version < before))
                    .take(limit.into())
                    .collect::<Vec<_>>()
            },
            |tail| {
                let head = tail.first().map_or(StreamVersion::EMPTY, |entry| entry.version);
                format!("{patient} ends at {head}")
            },
        )
        .await
        .map_err(log_unavailable)
    }

    async fn insert(&self, event: &StoredEvent) -> Result<(), InsertError> {
        let mut inserted = Box::new(event.clone());
        if self.planted(Bug::RandomEventId) {
            let nonce = self.world().rng.below(usize::MAX).to_string();
            inserted.event_id = domain::EventId::derive("random", &[&nonce]);
        }
        let mut written = self.write(Write::Event(inserted)).await;
        if self.planted(Bug::VersionBumpedOnConflict) && written == Ok(Written::Refused) {
            written = self.write(Write::Event(self.with_next_version(event))).await;
        }
        match written {
            Ok(Written::Done) => Ok(()),
            Ok(Written::Refused) => Err(InsertError::Occupied),
            Err(failed) => Err(InsertError::Unavailable(failed.into())),
        }
    }
}

impl Stores<'_> {
    /// The event as if it had been placed at the end of its stream.
    fn with_next_version(&self, event: &StoredEvent) -> Box<StoredEvent> {
        let mut event = Box::new(event.clone());
        let world = self.world();
        let stream = world.tables.streams.get(place(&event.patient_id));
        if let Some(last) = stream.and_then(|stream| stream.rows.last()) {
            event.version = last.tail.version.next();
            event.previous_hash = last.tail.hash.unwrap_or(event.previous_hash);
            event.recorded_at = last
                .tail
                .recorded_at
                .max(Some(event.recorded_at))
                .unwrap_or(event.recorded_at);
        }
        event
    }
}

impl EventLog for Stores<'_> {
    async fn read(
        &self,
        patient: &PatientId,
        after: StreamVersion,
        limit: u16,
    ) -> Result<Vec<StoredEntry>, LogUnavailable> {
        Stores::read(
            self,
            "read events",
            |world| {
                let old = world.planted(Bug::OldEventsRead) && world.rng.chance(500);
                let Some(stream) = world.tables.streams.get(place(patient)) else {
                    return Vec::new();
                };
                let there = stream.rows.len() - usize::from(old && !stream.rows.is_empty());
                let rows = stream.rows.iter().take(there);
                rows.filter(|row| row.tail.version > after)
                    .take(LOG_PAGE.min(limit.into()))
                    .map(|row| stream.stored(row))
                    .collect()
            },
            |entries: &Vec<StoredEntry>| format!("{patient} after {after}: {} events", entries.len()),
        )
        .await
        .map_err(log_unavailable)
    }

    async fn head(&self, patient: &PatientId) -> Result<StreamVersion, LogUnavailable> {
        Stores::read(
            self,
            "read head",
            |world| {
                let stream = world.tables.streams.get(place(patient));
                StreamVersion::new(stream.map_or(0, |stream| stream.truth.head()))
            },
            |head| format!("{patient} ends at {head}"),
        )
        .await
        .map_err(log_unavailable)
    }

    async fn scan(
        &self,
        segment: Segment,
        after: Option<LogPosition>,
    ) -> Result<LogPage<StoredEntry>, LogUnavailable> {
        let after = after.map(|position| (place(&position.patient_id), position.version));
        Stores::read(
            self,
            "scan events",
            |world| {
                let streams = world.tables.streams.iter().enumerate();
                let page: Vec<StoredEntry> = streams
                    .filter(|(place, _)| {
                        place % usize::from(segment.total.max(1)) == usize::from(segment.index)
                    })
                    .flat_map(|(place, stream)| stream.rows.iter().map(move |row| (place, stream, row)))
                    .filter(|(place, _, row)| after.is_none_or(|after| (*place, row.tail.version) > after))
                    .map(|(_, stream, row)| stream.stored(row))
                    .take(LOG_PAGE)
                    .collect();
                // As DynamoDB does, a full page may name a place that nothing comes after.
                let next = page
                    .last()
                    .filter(|_| page.len() == LOG_PAGE)
                    .map(|last| LogPosition {
                        patient_id: last.patient_id.clone(),
                        version: last.version,
                        recorded_at: None,
                    });
                LogPage { entries: page, next }
            },
            |page| format!("segment {}: {} events", segment.index, page.entries.len()),
        )
        .await
        .map_err(log_unavailable)
    }

    async fn recorded_since(
        &self,
        shard: EventShard,
        from: Timestamp,
        after: Option<LogPosition>,
    ) -> Result<LogPage<RecordedKey>, LogUnavailable> {
        let order = |key: &RecordedKey| (key.recorded_at, place(&key.patient_id), key.version);
        let after = after.and_then(|position| {
            Some((
                position.recorded_at?,
                place(&position.patient_id),
                position.version,
            ))
        });
        Stores::read(
            self,
            "read index by_recorded_at",
            |world| {
                let step = world.step;
                let mut keys: Vec<RecordedKey> = people()
                    .iter()
                    .zip(&world.tables.streams)
                    .filter(|(person, _)| person.event_shard == shard)
                    .flat_map(|(person, stream)| stream.rows.iter().map(move |row| (person, row)))
                    .filter(|(_, row)| row.indexed_at <= step)
                    .filter_map(|(person, row)| {
                        Some(RecordedKey {
                            patient_id: person.id.clone(),
                            version: row.tail.version,
                            recorded_at: row.tail.recorded_at.filter(|at| *at >= from)?,
                        })
                    })
                    .filter(|key| after.is_none_or(|after| order(key) > after))
                    .collect();
                keys.sort_by_key(order);
                let more = keys.len() > LOG_PAGE && !world.planted(Bug::SweepNotPaged);
                keys.truncate(LOG_PAGE);
                let next = keys.last().filter(|_| more).map(|last| LogPosition {
                    patient_id: last.patient_id.clone(),
                    version: last.version,
                    recorded_at: Some(last.recorded_at),
                });
                LogPage { entries: keys, next }
            },
            |page| {
                let whose = shard_of(|person| person.event_shard == shard);
                format!("{whose}: {} events", page.entries.len())
            },
        )
        .await
        .map_err(log_unavailable)
    }
}

fn projection_unavailable(failed: Failed) -> ProjectionUnavailable {
    ProjectionUnavailable(failed.into())
}

impl Stores<'_> {
    /// What one software builds, no other one writes to, until queries read it.
    fn check_software(&self, generation: Generation) {
        let mut world = self.world();
        let built_by = world.tables.build(generation).and_then(|build| build.built_by());
        if built_by.is_some_and(|software| software != self.software) {
            let how = format!("software that folds otherwise writes to {generation}, which is being built");
            world.violate(Violation::new("I8", how));
        }
    }
}

impl ProjectionStore for Stores<'_> {
    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<Vec<Option<PatientState>>, ProjectionUnavailable> {
        self.read(
            "read states",
            |world| {
                let state = |patient| world.tables.view(generation, place(patient))?.state().cloned();
                patients.iter().map(state).collect::<Vec<_>>()
            },
            |states| shown_states(generation, patients, states),
        )
        .await
        .map_err(projection_unavailable)
    }

    async fn put_rows(
        &self,
        generation: Generation,
        rows: &[PatientRow],
    ) -> Result<(), ProjectionUnavailable> {
        self.check_software(generation);
        // The parts of a batch take effect one by one, in any order, and anybody may look in between.
        let offset = self.world().rng.below(rows.len());
        let (first, second) = rows.split_at(offset);
        for row in second.iter().chain(first) {
            let write = Write::Row {
                generation,
                patient: place(&row.patient_id),
                row: row.row,
            };
            if self.planted(Bug::RowsAfterState) {
                self.world().defer(write);
                continue;
            }
            self.write(write).await.map_err(projection_unavailable)?;
        }
        Ok(())
    }

    async fn put_state(
        &self,
        generation: Generation,
        patient: &PatientId,
        expected: StreamVersion,
        state: &PatientState,
    ) -> Result<(), PutStateError> {
        self.check_software(generation);
        let patient = place(patient);
        let mut state = state.clone();
        if self.planted(Bug::CountAddedTwice) {
            let world = self.world();
            let there = world
                .tables
                .view(generation, patient)
                .and_then(|view| view.state());
            if let Some((there, known)) = there.zip(state.patient.as_mut())
                && let Some(known_there) = &there.patient
            {
                let more = expected.behind(state.applied);
                known.checkin_count = known_there.checkin_count + more;
                state.applied = state.applied.max(there.applied);
            }
        }
        if self.planted(Bug::PoisonSkipped)
            && let Some(poison) = state.quarantine.take()
        {
            state.applied = poison.version;
        }
        if self.planted(Bug::MarkNeverLifted) {
            let world = self.world();
            let there = world
                .tables
                .view(generation, patient)
                .and_then(|view| view.state());
            let there = there.and_then(|there| there.quarantine.clone());
            state.quarantine = state.quarantine.or(there);
        }
        let mark = state.quarantine.clone();
        let write = Write::State {
            generation,
            patient,
            expected,
            state,
            by: By::Item,
        };
        let written = self.write(write).await.map_err(projection_unavailable)?;
        if self.planted(Bug::MarkBeforeMessage)
            && let Some((quarantine, person)) = mark.zip(people().get(patient))
        {
            let notice = QuarantineNotice::Event {
                generation,
                patient_id: person.id.clone(),
                quarantine,
            };
            let _ = self.write(Write::Notice(notice)).await;
        }
        match written {
            Written::Done => Ok(()),
            Written::Refused => Err(PutStateError::Conflict),
        }
    }

    async fn put_states(
        &self,
        generation: Generation,
        changes: &[StateChange<'_>],
    ) -> Result<Vec<bool>, ProjectionUnavailable> {
        self.check_software(generation);
        let writes = changes.iter().map(|change| Write::State {
            generation,
            patient: place(change.patient_id),
            expected: change.expected,
            state: change.state.clone(),
            by: By::Statement,
        });
        let writes: Vec<Write> = writes.collect();
        let written = self
            .write_together(&writes)
            .await
            .map_err(projection_unavailable)?;
        let is_put = |written| match written {
            Ok(Written::Done) => true,
            Ok(Written::Refused) => self.planted(Bug::RefusedTakenForPut),
            Err(Failed) => false,
        };
        let mut put: Vec<bool> = written.into_iter().map(is_put).collect();
        if self.planted(Bug::OutcomesOutOfOrder) {
            put.reverse();
        }
        Ok(put)
    }

    async fn control(&self) -> Result<Option<Control>, ProjectionUnavailable> {
        self.read(
            "read control",
            |world| {
                let mut control = world.tables.control.last()?.1.clone();
                if self.software == OLDER && world.planted(Bug::BuildOfOthersApplied) {
                    control.building_software = None;
                }
                Some(control)
            },
            |control: &Option<Control>| shown_control(control.as_ref()),
        )
        .await
        .map_err(projection_unavailable)
    }

    async fn put_control(
        &self,
        expected: Option<&Control>,
        control: &Control,
    ) -> Result<(), PutControlError> {
        let write = Write::Control {
            expected: expected.cloned(),
            control: control.clone(),
        };
        match self.write(write).await.map_err(projection_unavailable)? {
            Written::Done => Ok(()),
            Written::Refused => Err(PutControlError::Conflict),
        }
    }

    async fn put_progress(
        &self,
        generation: Generation,
        progress: &Progress,
    ) -> Result<(), ProjectionUnavailable> {
        let progress = progress.clone();
        self.write(Write::Progress { generation, progress })
            .await
            .map(drop)
            .map_err(projection_unavailable)
    }
}

impl SweepStore for Stores<'_> {
    async fn last_sweep(&self, generation: Generation) -> Result<Option<Sweep>, ProjectionUnavailable> {
        let last = self
            .read(
                "read last sweep",
                |world| world.tables.build(generation)?.sweep.clone(),
                |last| {
                    last.as_ref()
                        .map_or("never".to_owned(), |last| last.swept_to.to_string())
                },
            )
            .await
            .map_err(projection_unavailable)?;
        if self.planted(Bug::SweepWithoutOverlap) {
            return Ok(last.map(|last| Sweep {
                swept_to: last.swept_to.plus_millis(SWEEP_OVERLAP_MILLIS),
                ..last
            }));
        }
        Ok(last)
    }

    async fn put_sweep(&self, generation: Generation, sweep: &Sweep) -> Result<(), ProjectionUnavailable> {
        let mut sweep = sweep.clone();
        if self.planted(Bug::SweptToItsEnd) {
            sweep.swept_to = clock();
        }
        self.write(Write::Sweep { generation, sweep })
            .await
            .map(drop)
            .map_err(projection_unavailable)
    }
}

impl QuarantineQueue for Stores<'_> {
    async fn put(&self, notice: &QuarantineNotice) -> Result<(), QueueUnavailable> {
        if self.planted(Bug::MarkBeforeMessage) {
            return Ok(());
        }
        if self.planted(Bug::PoisonFailsTheBatch) {
            return Err(QueueUnavailable(Failed.into()));
        }
        match self.write(Write::Notice(notice.clone())).await {
            Err(_) if self.planted(Bug::LostMessage) => Ok(()),
            Err(failed) => Err(QueueUnavailable(failed.into())),
            Ok(_) => Ok(()),
        }
    }
}

fn read_model_unavailable(failed: Failed) -> ReadModelUnavailable {
    ReadModelUnavailable(failed.into())
}

fn shown_states(generation: Generation, patients: &[PatientId], states: &[Option<PatientState>]) -> String {
    let shown = patients.iter().zip(states).map(|(patient, state)| {
        let applied = state.as_ref().map_or(StreamVersion::EMPTY, |state| state.applied);
        format!("{patient} at {applied}")
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() {
        return format!("{generation}: nobody");
    }
    format!("{generation}: {}", shown.join(", "))
}

/// A shard of an index, by the patients who are in it: most have nobody, and which they are tells nobody anything.
fn shard_of(is_in_it: impl Fn(&Person) -> bool) -> String {
    let ids: Vec<&str> = people()
        .iter()
        .filter(|person| is_in_it(person))
        .map(|person| person.id.as_str())
        .collect();
    if ids.is_empty() {
        "a shard of nobody".to_owned()
    } else {
        format!("the shard of {}", ids.join(" and "))
    }
}

fn shown_control(control: Option<&Control>) -> String {
    control.map_or("none".to_owned(), |control| {
        let building = control
            .building
            .map_or("none".to_owned(), |building| building.to_string());
        format!("active {}, building {building}", control.active)
    })
}

impl Stores<'_> {
    /// What a reader that does not insist on the newest finds of one patient.
    fn state_perhaps_old(world: &mut World, generation: Generation, patient: usize) -> Option<PatientState> {
        let values = world.tables.view(generation, patient)?.states.len();
        // Before the first one there was none.
        let since = |world: &World, place: usize| {
            let view = world.tables.view(generation, patient)?;
            match place.checked_sub(1) {
                None => Some(0),
                Some(place) => view.states.get(place).map(|(since, _)| *since),
            }
        };
        let found = world.stale(values + 1, since);
        let view = world.tables.view(generation, patient)?;
        view.states
            .get(found.checked_sub(1)?)
            .map(|(_, state)| state.clone())
    }
}

impl ReadModelStore for Stores<'_> {
    async fn control(&self) -> Result<Option<Control>, ReadModelUnavailable> {
        self.read(
            "read control, perhaps old",
            |world| {
                let values = world.tables.control.len();
                let since = |world: &World, place: usize| match place.checked_sub(1) {
                    None => Some(0),
                    Some(place) => world.tables.control.get(place).map(|(since, _)| *since),
                };
                let found = world.stale(values + 1, since).checked_sub(1)?;
                world
                    .tables
                    .control
                    .get(found)
                    .map(|(_, control)| control.clone())
            },
            |control| shown_control(control.as_ref()),
        )
        .await
        .map_err(read_model_unavailable)
    }

    async fn freshness(&self, generation: Generation) -> Result<Freshness, ReadModelUnavailable> {
        self.read(
            "read freshness",
            |world| {
                let build = world.tables.build(generation);
                Freshness {
                    progress: build.and_then(|build| build.progress.clone()),
                    sweep: build.and_then(|build| build.sweep.clone()),
                }
            },
            |_| generation.to_string(),
        )
        .await
        .map_err(read_model_unavailable)
    }

    async fn states(
        &self,
        generation: Generation,
        patients: &[PatientId],
        consistency: Consistency,
    ) -> Result<Vec<StoredState>, ReadModelUnavailable> {
        self.read(
            match consistency {
                Consistency::Strong => "read states",
                Consistency::Eventual => "read states, perhaps old",
            },
            |world| {
                world.touch(generation);
                let mut states = Vec::with_capacity(patients.len());
                for patient in patients {
                    let patient = place(patient);
                    states.push(match consistency {
                        Consistency::Strong => world
                            .tables
                            .view(generation, patient)
                            .and_then(|view| view.state().cloned()),
                        Consistency::Eventual => Stores::state_perhaps_old(world, generation, patient),
                    });
                }
                states
            },
            |states| shown_states(generation, patients, states),
        )
        .await
        .map(|states| states.into_iter().map(Ok).collect())
        .map_err(read_model_unavailable)
    }

    async fn rows(
        &self,
        generation: Generation,
        patient: &PatientId,
        range: RowRange,
        limit: u16,
    ) -> Result<Page<CheckinRow>, ReadModelUnavailable> {
        self.read(
            "read rows",
            |world| {
                let generation = match world.tables.active() {
                    Some(active) if world.planted(Bug::GenerationsMixed) => active,
                    _ => generation,
                };
                world.touch(generation);
                let Some(view) = world.tables.view(generation, place(patient)) else {
                    return Page {
                        items: Vec::new(),
                        more: false,
                    };
                };
                let wanted = |row: &&CheckinRow| {
                    range.from.is_none_or(|from| row.occurred_at >= from)
                        && range.to.is_none_or(|to| row.occurred_at < to)
                        && range.after.is_none_or(|after| match range.ascending {
                            true => RowKey::of(row) > after,
                            false => RowKey::of(row) < after,
                        })
                };
                let limit = usize::from(limit);
                let mut items: Vec<CheckinRow> = if range.ascending {
                    view.rows.iter().filter(wanted).take(limit + 1).copied().collect()
                } else {
                    view.rows
                        .iter()
                        .rev()
                        .filter(wanted)
                        .take(limit + 1)
                        .copied()
                        .collect()
                };
                let more = items.len() > limit && !world.planted(Bug::FirstPageTakenForAll);
                items.truncate(limit);
                Page { items, more }
            },
            |page| {
                let versions: Vec<String> = page.items.iter().map(|row| row.version.to_string()).collect();
                format!("{generation}, {patient}: [{}]", versions.join(" "))
            },
        )
        .await
        .map_err(read_model_unavailable)
    }

    async fn ids(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&PatientId>,
        limit: u16,
    ) -> Result<Page<PatientId>, ReadModelUnavailable> {
        self.read(
            "read index by_id",
            |world| {
                world.touch(generation);
                let step = world.step;
                let build = world.tables.build(generation);
                let mut ids: Vec<PatientId> = build
                    .into_iter()
                    .flat_map(|build| people().iter().zip(&build.views))
                    .filter(|(person, view)| person.listing_shard == shard && view.indexed(step).is_some())
                    .map(|(person, _)| &person.id)
                    .filter(|id| after.is_none_or(|after| *id > after))
                    .take(usize::from(limit) + 1)
                    .cloned()
                    .collect();
                let more = ids.len() > usize::from(limit);
                ids.truncate(limit.into());
                Page { items: ids, more }
            },
            |page| {
                let whose = shard_of(|person| person.listing_shard == shard);
                format!("{generation}, {whose}: {} patients", page.items.len())
            },
        )
        .await
        .map_err(read_model_unavailable)
    }

    async fn recent(
        &self,
        generation: Generation,
        shard: ListingShard,
        after: Option<&str>,
        limit: u16,
    ) -> Result<Page<RecentEntry>, ReadModelUnavailable> {
        self.read(
            "read index by_recent",
            |world| {
                world.touch(generation);
                let step = world.step;
                let build = world.tables.build(generation);
                let mut entries: Vec<RecentEntry> = build
                    .into_iter()
                    .flat_map(|build| people().iter().zip(&build.views))
                    .filter(|(person, _)| person.listing_shard == shard)
                    .filter_map(|(person, view)| {
                        let state = view.indexed(step)?.clone();
                        let last = state.patient.as_ref().and_then(|patient| patient.last_checkin_at);
                        Some(RecentEntry {
                            recent_key: item::recent_key(last, &person.id),
                            patient_id: person.id.clone(),
                            state,
                        })
                    })
                    .filter(|entry| after.is_none_or(|after| entry.recent_key.as_str() < after))
                    .collect();
                entries.sort_by(|one, other| other.recent_key.cmp(&one.recent_key));
                let more = entries.len() > usize::from(limit);
                entries.truncate(limit.into());
                Page { items: entries, more }
            },
            |page| {
                let whose = shard_of(|person| person.listing_shard == shard);
                format!("{generation}, {whose}: {} patients", page.items.len())
            },
        )
        .await
        .map_err(read_model_unavailable)
    }
}
