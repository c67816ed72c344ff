//! Runs a world: whose turn it is at each step follows from the seed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use aws_lambda_events::dynamodb::Event;
use aws_lambda_events::streams::DynamoDbEventResponse;
use checkin::Checkin;
use domain::{Generation, StreamVersion};
use projection::QuarantineNotice;
use projector::Projector;
use reconciler::Reconciler;

use crate::people::roster;
use crate::plan::{Fault, Number, Plan};
use crate::planted::Bug;
use crate::readers::Question;
use crate::stores::Stores;
use crate::stream::{self, Mapping, Record};
use crate::tables::{Content, Mailbox, View, Write};
use crate::time;
use crate::violation::Violation;
use crate::workers::{self, End, NEWER, OLDER, Services};
use crate::world::{Late, TaskId, World, lock};

/// A schedule that takes longer than this does not come to an end. Those that do take far fewer.
const MOST_STEPS: u32 = 30_000;
/// How often a failed task is begun again by whoever began it.
const RETRIES: u8 = 2;
/// How often an operator begins a replay again.
const RETRIES_OF_REPLAYS: u8 = 6;
/// How often a batch fails before a mapping may give it up.
const PATIENCE_OF_MAPPINGS: u8 = 3;

/// More than a sweep looks back before the last one.
const CALM_MILLIS: i64 = 30 * 60_000;

/// What one schedule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened, step by step, if it was recorded.
    pub history: Vec<String>,
    /// How many steps it took.
    pub steps: u32,
}

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Tick {
        number: u8,
        delivery: u8,
        retries: u8,
    },
    Register {
        retries: u8,
    },
    StartMappings,
    Project {
        mapping: usize,
        from: usize,
        len: usize,
        active: Generation,
    },
    Read(Question),
    Rebuild {
        number: u8,
        promotes: bool,
        retries: u8,
    },
    RollBack {
        /// Whether it is one to the later generation.
        forward: bool,
        retries: u8,
    },
    Prune {
        previous: bool,
        building: bool,
    },
    Reconcile {
        full: bool,
    },
    Redrive {
        patient: Option<usize>,
    },
    Calm,
    /// The projector's newer software is deployed.
    Deploy,
}

struct Task<'w> {
    errand: Errand,
    name: String,
    /// How far the clock of its machine is ahead, in milliseconds.
    skew: i64,
    /// How many faults it met.
    faults: u32,
    future: Option<Pin<Box<dyn Future<Output = End> + 'w>>>,
}

struct Schedule<'w> {
    world: &'w Mutex<World>,
    services: &'w Services<'w>,
    tasks: Vec<Task<'w>>,
    /// What is yet to begin, in any order.
    agenda: Vec<Errand>,
    shards: Vec<Vec<Record>>,
    mappings: Vec<Mapping>,
    woken: Arc<Woken>,
    waker: Waker,
}

/// Whether the task that is polled wants to be polled once more.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What can happen next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Call(usize),
    Begin,
    Stream,
    Late,
    Poll(usize),
}

/// Runs the schedule of a seed in the world of a plan.
#[allow(
    clippy::unreachable,
    reason = "a world with nobody in it would show nothing, and must not pass for one that does"
)]
pub(crate) fn run(seed: u64, plan: Plan, recorded: bool, planted: Option<Bug>) -> Outcome {
    time::begin();
    let world = Mutex::new(World::new(seed, plan, recorded, planted));
    let stores = Stores::new(&world, NEWER);
    let projector = |stores, software| Projector {
        log: stores,
        store: stores,
        queue: stores,
        concurrency: plan.number(Number::Concurrency).into(),
        software,
        clock: time::clock,
    };
    let patients = usize::from(plan.number(Number::Patients));
    let per_tick = std::num::NonZeroU16::new(plan.number(Number::PerTick).into());
    let (Some(roster), Some(per_tick)) = (roster(patients), per_tick) else {
        unreachable!("every plan has patients, and checks some of them in")
    };
    let services = Services {
        checkin: Checkin::new(stores, roster, per_tick, time::clock),
        projector: projector(stores, NEWER),
        older_projector: projector(Stores::new(&world, OLDER), OLDER),
        reconciler: Reconciler {
            log: stores,
            store: stores,
            queue: stores,
            concurrency: 4,
            clock: time::clock,
        },
        stores,
    };
    let mut schedule = Schedule::new(&world, &services, plan);
    schedule.run();
    drop(schedule);
    let mut world = lock(&world);
    Outcome {
        violation: world.violation.take(),
        history: world.take_history(),
        steps: world.step,
    }
}

impl<'w> Schedule<'w> {
    fn new(world: &'w Mutex<World>, services: &'w Services<'w>, plan: Plan) -> Schedule<'w> {
        let mut agenda = Vec::new();
        let latest = plan.has(Fault::Latest);
        {
            let mut world = lock(world);
            agenda.extend(world.rng.chance(700).then_some(Errand::Register { retries: 0 }));
            for number in 0..plan.number(Number::Ticks) {
                agenda.push(Errand::Tick {
                    number,
                    delivery: 0,
                    retries: 0,
                });
            }
            for delivery in 0..plan.number(Number::Repeats) {
                let number = world.rng.within(0, plan.number(Number::Ticks) - 1);
                agenda.push(Errand::Tick {
                    number,
                    delivery: delivery + 1,
                    retries: 0,
                });
            }
            for _ in 0..plan.number(Number::Readers) {
                agenda.push(Errand::Read(Question::any(&mut world)));
            }
            for number in 0..plan.number(Number::Rebuilds) {
                let promotes = world.rng.chance(700);
                agenda.push(Errand::Rebuild {
                    number,
                    promotes,
                    retries: 0,
                });
            }
            for _ in 0..plan.number(Number::RollBacks) {
                let forward = world.rng.chance(400);
                agenda.push(Errand::RollBack { forward, retries: 0 });
            }
            for _ in 0..plan.number(Number::Prunes) {
                let previous = world.rng.chance(500);
                let building = world.rng.chance(300);
                agenda.push(Errand::Prune { previous, building });
            }
            for _ in 0..plan.number(Number::Reconciles) {
                let patient = world.rng.below(usize::from(plan.number(Number::Patients)));
                agenda.push(match world.rng.below(5) {
                    0 => Errand::Redrive { patient: None },
                    1 => Errand::Redrive {
                        patient: Some(patient),
                    },
                    2 => Errand::Reconcile { full: true },
                    _ => Errand::Reconcile { full: false },
                });
            }
            agenda.extend((0..plan.number(Number::Calms)).map(|_| Errand::Calm));
            agenda.extend((0..plan.number(Number::NewerReplays)).map(|_| Errand::Deploy));
            agenda.extend(latest.then_some(Errand::StartMappings));
        }
        let shards = usize::from(plan.number(Number::Shards));
        let mappings = (0..usize::from(plan.number(Number::Mappings)) * shards)
            .map(|index| Mapping {
                shard: index % shards,
                position: 0,
                busy: false,
                failures: 0,
                started: !latest,
            })
            .collect();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        Schedule {
            world,
            services,
            tasks: Vec::new(),
            agenda,
            shards: vec![Vec::new(); shards],
            mappings,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        }
    }

    fn run(&mut self) {
        self.until_rest();
        // No more faults: what is owed is delivered, then one reconcile makes everything complete.
        lock(self.world).faults_on = false;
        self.until_rest();
        self.let_copies_catch_up();
        if !self.ends_well(Errand::Reconcile { full: false }) {
            return;
        }
        self.check_complete();
        self.read_everything();
        if !self.deploy_newer_software() {
            return;
        }
        self.let_copies_catch_up();
        if self.ends_well(Errand::Redrive { patient: None }) {
            self.check_complete();
            self.read_everything();
        }
    }

    /// From now on, software knows some of the events that nobody could apply, if there are any.
    fn deploy_newer_software(&self) -> bool {
        let mut world = lock(self.world);
        if world.violation.is_some() || world.tables.poison.is_none() {
            return false;
        }
        world.note(|_| "newer software is deployed".to_owned());
        for stream in &mut world.tables.streams {
            stream.newer_software = true;
            stream.truth.deploy_newer_software();
        }
        true
    }

    /// Lets so much time pass that indexes, and copies that a read may find, have all that was written.
    fn let_copies_catch_up(&self) {
        let mut world = lock(self.world);
        world.step += u32::from(world.plan.number(Number::Lag)) + 1;
    }

    /// Lets half an hour pass, if nothing is under way that would not have ended by then.
    fn let_calm(&mut self, mut world: MutexGuard<'w, World>) {
        // A function, or a request, takes minutes at most.
        let under_way = self.tasks.iter().any(|task| {
            task.future.is_some()
                && matches!(
                    task.errand,
                    Errand::Tick { .. } | Errand::Register { .. } | Errand::Read(_)
                )
        });
        let unwritten = world
            .late
            .iter()
            .any(|late| matches!(late.write, Write::Event(_)));
        let step = world.step;
        let mut rows = world.tables.streams.iter().flat_map(|stream| &stream.rows);
        if under_way || unwritten || rows.any(|row| row.indexed_at > step) {
            return self.agenda.push(Errand::Calm);
        }
        time::pass(CALM_MILLIS);
        world.note(|_| "half an hour passes".to_owned());
    }

    fn is_broken(&self) -> bool {
        lock(self.world).violation.is_some()
    }

    /// Takes steps until nothing can happen any more.
    fn until_rest(&mut self) {
        loop {
            let mut world = lock(self.world);
            let Some(next) = self.choose(&mut world) else {
                return;
            };
            match next {
                Next::Call(index) => self.grant(world, index),
                Next::Begin => self.begin_any(world),
                Next::Stream => self.stream_any(&mut world),
                Next::Late => late_any(&mut world),
                Next::Poll(mapping) => self.poll_stream(world, mapping),
            }
        }
    }

    /// What happens next; `None` if nothing can, or a promise is broken.
    fn choose(&self, world: &mut World) -> Option<Next> {
        if world.violation.is_some() {
            return None;
        }
        world.name.clear();
        world.step += 1;
        if world.step > MOST_STEPS {
            world.violate(Violation::new(
                "rest",
                "the world does not come to rest".to_owned(),
            ));
            return None;
        }
        let millis = world.rng.below(40);
        time::pass(i64::try_from(millis).unwrap_or(0));
        let step = world.step;
        let ready = |not_before: u32| not_before <= step;
        let calls = world.calls.iter().filter(|call| ready(call.not_before)).count();
        let begin = usize::from(!self.agenda.is_empty());
        let stream = usize::from(!world.tables.unstreamed.is_empty());
        let late = usize::from(world.late.iter().any(|late| late.is_due(world)));
        let idle = |mapping: &Mapping| {
            mapping.started
                && !mapping.busy
                && self
                    .shards
                    .get(mapping.shard)
                    .is_some_and(|shard| mapping.position < shard.len())
        };
        let polls = self.mappings.iter().filter(|mapping| idle(mapping)).count();
        let total = calls + begin + stream + late + polls;
        if total == 0 {
            // Only what takes long is left, if anything.
            let calls = world.calls.iter().enumerate();
            let Some((index, call)) = calls.min_by_key(|(_, call)| call.not_before) else {
                return (!world.late.is_empty()).then_some(Next::Late);
            };
            world.step = call.not_before;
            return Some(Next::Call(index));
        }
        let mut choice = world.rng.below(total);
        if choice < calls {
            let mut ready = world
                .calls
                .iter()
                .enumerate()
                .filter(|(_, call)| ready(call.not_before));
            return ready.nth(choice).map(|(index, _)| Next::Call(index));
        }
        choice -= calls;
        for (count, next) in [(begin, Next::Begin), (stream, Next::Stream), (late, Next::Late)] {
            if choice < count {
                return Some(next);
            }
            choice -= count;
        }
        let mut idle = self
            .mappings
            .iter()
            .enumerate()
            .filter(|(_, mapping)| idle(mapping));
        idle.nth(choice).map(|(index, _)| Next::Poll(index))
    }

    /// Gives a call its turn.
    fn grant(&mut self, mut world: MutexGuard<'w, World>, index: usize) {
        let call = world.calls.swap_remove(index);
        world.granted = Some(call.id);
        call.waker.wake();
        self.poll(world, call.task);
    }

    fn poll(&mut self, mut world: MutexGuard<'w, World>, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let Some(future) = &mut task.future else {
            return;
        };
        time::set_skew(task.skew);
        world.current = id;
        world.name.clone_from(&task.name);
        drop(world);
        let mut context = Context::from_waker(&self.waker);
        let polled = loop {
            self.woken.0.store(false, Ordering::Relaxed);
            match future.as_mut().poll(&mut context) {
                Poll::Ready(end) => break Some(end),
                Poll::Pending if self.woken.0.load(Ordering::Relaxed) && !lock(self.world).crashed => {}
                Poll::Pending => break None,
            }
        };
        time::set_skew(0);
        let crashed = {
            let mut world = lock(self.world);
            world.granted = None;
            task.faults += std::mem::take(&mut world.faults_met);
            std::mem::take(&mut world.crashed)
        };
        let end = polled.or(crashed.then_some(End::Failed));
        if let Some(end) = end {
            task.future = None;
            let errand = task.errand;
            self.ended(id, errand, end);
        }
    }

    fn begin_any(&mut self, mut world: MutexGuard<'w, World>) {
        let index = world.rng.below(self.agenda.len());
        let errand = self.agenda.swap_remove(index);
        let waits = if matches!(errand, Errand::Calm | Errand::StartMappings) {
            800
        } else if errand == Errand::Deploy {
            960
        } else if matches!(errand, Errand::RollBack { forward, .. } if !can_roll_back(&world, forward)) {
            // Most do so when there is something to go back to.
            980
        } else {
            0
        };
        if world.faults_on && world.rng.chance(waits) {
            return self.agenda.push(errand);
        }
        if errand == Errand::Calm {
            return self.let_calm(world);
        }
        if errand == Errand::Deploy {
            world.older_projector = false;
            world.note(|_| "a newer projector is deployed".to_owned());
            return;
        }
        if errand == Errand::StartMappings {
            for mapping in &mut self.mappings {
                mapping.started = true;
                mapping.position = self.shards.get(mapping.shard).map_or(0, Vec::len);
            }
            world.note(|_| "the event source mappings begin at the end of the stream".to_owned());
            return;
        }
        self.begin(world, errand);
    }

    fn begin(&mut self, mut world: MutexGuard<'w, World>, errand: Errand) -> TaskId {
        let services = self.services;
        let looks = matches!(
            errand,
            Errand::Read(_)
                | Errand::Reconcile { .. }
                | Errand::Redrive { .. }
                | Errand::RollBack { .. }
                | Errand::Prune { .. }
        );
        if looks && world.faults_on && world.rng.chance(600) {
            // There is more to see once something has happened, and a rebuild takes its time.
            let sweeps = matches!(errand, Errand::Reconcile { .. });
            let latest = if sweeps || world.plan.number(Number::Rebuilds) == 0 {
                80
            } else {
                250
            };
            world.wait = world.rng.within(10, latest).into();
        }
        let rebuilds = world.plan.number(Number::Rebuilds) > 0;
        if rebuilds && matches!(errand, Errand::Tick { .. }) && world.faults_on && world.rng.chance(500) {
            // Some of it is recorded while, and after, one is at work.
            world.wait = u32::from(world.rng.within(10, 250)) * u32::from(world.rng.within(1, 4));
        }
        let skewed = world.plan.has(Fault::ClockSkew);
        let skew = if skewed { world.rng.below(8_000) } else { 0 };
        let future: Pin<Box<dyn Future<Output = End> + 'w>> = match errand {
            Errand::Tick { number, .. } => Box::pin(workers::tick(services, number)),
            Errand::Register { .. } => Box::pin(workers::register(services)),
            Errand::StartMappings | Errand::Calm | Errand::Deploy => Box::pin(std::future::ready(End::Done)),
            Errand::Project {
                mapping, from, len, ..
            } => Box::pin(workers::project(services, self.batch(&world, mapping, from, len))),
            Errand::Read(question) => Box::pin(workers::read(services, question)),
            Errand::Rebuild { promotes, .. } => {
                let segments = world.rng.within(1, 2).into();
                let any_projector = world.rng.chance(300);
                Box::pin(workers::rebuild(services, segments, promotes, any_projector))
            }
            Errand::RollBack { forward, .. } => Box::pin(workers::roll_back(services, forward)),
            Errand::Prune { previous, building } => Box::pin(workers::prune(services, previous, building)),
            Errand::Reconcile { full } => Box::pin(workers::reconcile(services, full)),
            Errand::Redrive { patient } => Box::pin(workers::redrive(services, patient)),
        };
        let id = self.tasks.len();
        let name = if world.is_recorded() {
            errand.name(id)
        } else {
            String::new()
        };
        if let Errand::Project {
            mapping, from, len, ..
        } = errand
        {
            world.name.clone_from(&name);
            world.note(|_| self.taken(mapping, from, len));
        }
        self.tasks.push(Task {
            errand,
            name,
            skew: i64::try_from(skew).unwrap_or(0) - if skewed { 4_000 } else { 0 },
            faults: 0,
            future: Some(future),
        });
        self.poll(world, id);
        id
    }

    /// What a batch consists of, for the history.
    fn taken(&self, mapping: usize, from: usize, len: usize) -> String {
        let shard = self.mappings.get(mapping).map_or(0, |mapping| mapping.shard);
        let records = self.records(shard, from, len).iter();
        let records: Vec<String> = records.map(ToString::to_string).collect();
        format!("takes from shard {shard}: {}", records.join(", "))
    }

    fn batch(&self, world: &World, mapping: usize, from: usize, len: usize) -> Event {
        let shard = self.mappings.get(mapping).map_or(0, |mapping| mapping.shard);
        let records = self.records(shard, from, len);
        stream::batch(&world.tables, shard, from, records)
    }

    fn records(&self, shard: usize, from: usize, len: usize) -> &[Record] {
        let records = self.shards.get(shard);
        records
            .and_then(|records| records.get(from..from + len))
            .unwrap_or_default()
    }

    /// Runs one task to its end, with all that still happens.
    fn ends_well(&mut self, errand: Errand) -> bool {
        let world = lock(self.world);
        if world.violation.is_some() {
            return false;
        }
        let id = self.begin(world, errand);
        self.until_rest();
        let ended = self.tasks.get(id).is_some_and(|task| task.future.is_none());
        if !ended && !self.is_broken() {
            let how = format!("{errand:?} does not come to an end");
            lock(self.world).violate(Violation::new("rest", how));
        }
        !self.is_broken()
    }

    fn ended(&mut self, id: TaskId, errand: Errand, end: End) {
        let again = match (errand, &end) {
            (
                Errand::Project {
                    mapping,
                    from,
                    len,
                    active,
                },
                _,
            ) => return self.batch_ended(id, mapping, (from, len), active, end),
            (
                Errand::Tick {
                    number,
                    delivery,
                    retries,
                },
                End::Failed,
            ) if retries < RETRIES => Errand::Tick {
                number,
                delivery,
                retries: retries + 1,
            },
            (Errand::Register { retries }, End::Failed) if retries < RETRIES => {
                Errand::Register { retries: retries + 1 }
            }
            (
                Errand::Rebuild {
                    number,
                    promotes,
                    retries,
                },
                End::Failed,
            ) if retries < RETRIES_OF_REPLAYS => Errand::Rebuild {
                number,
                promotes,
                retries: retries + 1,
            },
            (Errand::RollBack { forward, retries }, End::Failed) if retries < RETRIES_OF_REPLAYS => {
                Errand::RollBack {
                    forward,
                    retries: retries + 1,
                }
            }
            (Errand::Reconcile { .. } | Errand::Redrive { .. }, End::Failed) => {
                let mut world = lock(self.world);
                if !world.faults_on {
                    world.violate(Violation::new(
                        "I5",
                        "a reconcile fails without a fault".to_owned(),
                    ));
                }
                return;
            }
            _ => return,
        };
        self.agenda.push(again);
    }

    /// Brings a new event to the stream, or something else that has no business there.
    fn stream_any(&mut self, world: &mut World) {
        let index = if world.plan.has(Fault::Reorder) {
            let waiting = world.tables.unstreamed.len();
            world.rng.below(waiting)
        } else {
            0
        };
        let (patient, version) = world.tables.unstreamed.remove(index);
        let shards = self.shards.len();
        let mut records = Vec::new();
        if world.strikes(Fault::Drop, 150) {
            world.lossy_until = world.step + u32::from(world.rng.within(1, 60));
        }
        if world.step < world.lossy_until {
            world.note(|_| format!("the stream loses event {version} of p-{patient}"));
        } else {
            records.push(Record::Insert(patient, version));
        }
        if world.strikes(Fault::Duplicate, 100) {
            world.tables.unstreamed.push((patient, version));
        }
        if world.strikes(Fault::ForeignRecord, 100) {
            records.push(Record::Foreign);
        }
        if world.strikes(Fault::ModifiedEvent, 100) {
            records.push(Record::Modify(patient, version));
        }
        for record in records {
            let shard = world.rng.below(shards);
            world.note(|_| format!("the stream's shard {shard} has {record}"));
            if let Some(records) = self.shards.get_mut(shard) {
                records.push(record);
            }
        }
    }

    fn poll_stream(&mut self, mut world: MutexGuard<'w, World>, index: usize) {
        let Some(mapping) = self.mappings.get_mut(index) else {
            return;
        };
        let waiting = self.shards.get(mapping.shard).map_or(0, Vec::len) - mapping.position;
        if world.strikes(Fault::Expiry, 60) {
            let expired = 1 + world.rng.below(waiting);
            mapping.position += expired;
            world.note(|_| format!("mapping {index}: {expired} records have expired"));
            return;
        }
        let batch = usize::from(world.plan.number(Number::Batch));
        let errand = Errand::Project {
            mapping: index,
            from: mapping.position,
            len: (1 + world.rng.below(batch)).min(waiting),
            active: world.tables.active().unwrap_or(Generation::FIRST),
        };
        mapping.busy = true;
        self.begin(world, errand);
    }

    /// What the event source mapping does with the end of an invocation.
    fn batch_ended(
        &mut self,
        id: TaskId,
        index: usize,
        (from, len): (usize, usize),
        active: Generation,
        end: End,
    ) {
        let Some(shard) = self.mappings.get(index).map(|mapping| mapping.shard) else {
            return;
        };
        let faults = self.tasks.get(id).map_or(0, |task| task.faults);
        let acknowledged = match end {
            End::Answered(response) => {
                let acknowledged = self.acknowledged(response, shard, (from, len));
                if acknowledged < Some(len) && faults == 0 {
                    lock(self.world).violate(Violation::new(
                        "I7",
                        "a batch fails although every call of the projector succeeded".to_owned(),
                    ));
                }
                acknowledged
            }
            End::Done | End::Failed => None,
        };
        let done = acknowledged.unwrap_or(0);
        let mut world = lock(self.world);
        for (offset, record) in self.records(shard, from, done).iter().enumerate() {
            let violation = check_acknowledged(&world, *record, active, (shard, from + offset));
            if let Some(violation) = violation {
                world.violate(violation);
            }
        }
        world.note(|_| format!("mapping {index}: {done} of {len} records acknowledged"));
        let forgotten = done > 0 && world.strikes(Fault::Duplicate, 100);
        let given_up = world.plan.has(Fault::GiveUp);
        drop(world);
        let Some(mapping) = self.mappings.get_mut(index) else {
            return;
        };
        mapping.busy = false;
        if forgotten {
            return;
        }
        mapping.position = from + done;
        mapping.failures = if done == 0 { mapping.failures + 1 } else { 0 };
        if mapping.failures >= PATIENCE_OF_MAPPINGS && given_up {
            mapping.position = from + len;
            mapping.failures = 0;
            let mut world = lock(self.world);
            let step = world.step;
            let came = world
                .tables
                .recorded_at(self.records(shard, from, 1))
                .unwrap_or_else(time::clock);
            world.tables.post(Mailbox::GivenUp, Content::GivenUp(came), step);
            world.note(|_| format!("mapping {index}: the batch is given up"));
        }
    }

    /// How many records of a batch an answer acknowledges; `None` if Lambda takes it for a failure of the whole.
    fn acknowledged(
        &self,
        response: DynamoDbEventResponse,
        shard: usize,
        (from, len): (usize, usize),
    ) -> Option<usize> {
        let world = lock(self.world);
        if world.planted(Bug::SwallowedFailure) {
            return Some(len);
        }
        let too_far = usize::from(world.planted(Bug::WrongSequenceNumber));
        drop(world);
        let mut acknowledged = len;
        for failure in response.batch_item_failures {
            let named = failure.item_identifier?;
            let failed = (0..len).find(|offset| stream::sequence_number(shard, from + offset) == named)?;
            acknowledged = acknowledged.min(failed + too_far);
        }
        Some(acknowledged)
    }

    /// At rest, and after a reconcile: everything that can be applied is.
    fn check_complete(&self) {
        let mut world = lock(self.world);
        if world.violation.is_some() {
            return;
        }
        let Some(active) = world.tables.active() else {
            return;
        };
        let patients = usize::from(world.plan.number(Number::Patients));
        let violation = (0..patients).find_map(|patient| check_patient(&world, active, patient).err());
        if let Some(violation) = violation {
            world.violate(violation);
        }
    }

    /// At rest, readers see everything.
    fn read_everything(&mut self) {
        self.let_copies_catch_up();
        let patients = usize::from(lock(self.world).plan.number(Number::Patients));
        for patient in 0..patients {
            self.ends_well(Errand::Read(Question::CheckIns {
                patient,
                ascending: patient % 2 == 0,
                limit: 2,
            }));
        }
        self.ends_well(Errand::Read(Question::ById(1)));
    }
}

/// Whether there is a generation to roll back to, or forward.
fn can_roll_back(world: &World, forward: bool) -> bool {
    let control = world.tables.control.last().map(|(_, control)| control);
    control.is_some_and(|control| {
        let previous = control.previous.filter(|_| control.building.is_none());
        previous.is_some_and(|previous| (previous > control.active) == forward)
    })
}

/// Lets a write take effect whose caller has long been told that it failed.
fn late_any(world: &mut World) {
    let waiting = world.late.iter().enumerate();
    let due: Vec<usize> = waiting
        .filter(|(_, late)| late.is_due(world))
        .map(|(index, _)| index)
        .collect();
    // If none is, then nothing else can happen any more.
    let choice = world.rng.below(due.len());
    let index = due.get(choice).copied().unwrap_or_default();
    let Late { write, .. } = world.late.swap_remove(index);
    let written = world.apply(&write);
    world.note(|_| {
        format!(
            "a late write takes effect ({written:?}): {}",
            crate::stores::shown(&write)
        )
    });
}

/// Whether a record was acknowledged rightly, by an invocation that began when `active` was.
fn check_acknowledged(
    world: &World,
    record: Record,
    active: Generation,
    (shard, place): (usize, usize),
) -> Option<Violation> {
    match record {
        Record::Modify(..) => None,
        Record::Foreign => {
            let sequence_number = stream::sequence_number(shard, place);
            let reported = world.tables.notices.iter().any(|notice| match notice {
                QuarantineNotice::Record {
                    sequence_number: of, ..
                } => *of == sequence_number,
                QuarantineNotice::Event { .. } => false,
            });
            (!reported).then(|| {
                Violation::new(
                    "I6",
                    "a record that nobody can read was acknowledged silently".to_owned(),
                )
            })
        }
        Record::Insert(patient, version) => {
            // Any generation will do that was active meanwhile: the projector has read one of them. A roll back makes
            // the earlier one active.
            let last = world.tables.active().unwrap_or(active);
            let settled = (active.min(last).get()..=active.max(last).get())
                .any(|number| world.tables.settled(Generation::new(number), patient, version));
            (!settled).then(|| {
                Violation::new(
                    "I9",
                    format!(
                        "event {version} of p-{patient} was acknowledged, and was not applied to {active}"
                    ),
                )
            })
        }
    }
}

fn check_patient(world: &World, active: Generation, patient: usize) -> Result<(), Violation> {
    let tables = &world.tables;
    // What was pruned, perhaps in part, nobody reads any more.
    let control = tables.control.last().map(|(_, control)| control);
    let alive = control.map(|control| [Some(control.active), control.previous, control.building]);
    for generation in alive.into_iter().flatten().flatten() {
        tables.check_view(generation, patient)?;
    }
    let Some(stream) = tables.streams.get(patient) else {
        return Ok(());
    };
    let expected = stream.truth.applicable();
    let view = tables.view(active, patient);
    let applied = view.map_or(0, |view| view.applied().get());
    if applied != expected {
        return Err(Violation::new(
            "I5",
            format!("at rest p-{patient} is at version {applied} of {active}, and could be at {expected}"),
        ));
    }
    let marked = view
        .and_then(View::state)
        .and_then(|state| state.quarantine.as_ref())
        .map(|mark| mark.version.get());
    let poison = stream.truth.first_poison();
    if marked != poison {
        let marked = marked.map_or("nowhere".to_owned(), |version| format!("at {version}"));
        let poison = poison.map_or("all events can".to_owned(), |version| {
            format!("event {version} cannot")
        });
        let how = format!("at rest p-{patient} is quarantined {marked}, and {poison} be applied");
        return Err(Violation::new("I6", how));
    }
    if let Some(version) = marked
        && !tables.is_on_the_queue(active, patient, StreamVersion::new(version))
    {
        return Err(Violation::new(
            "I6",
            format!("at rest p-{patient} is quarantined at {version}, and no message says so any more"),
        ));
    }
    let registered = view
        .and_then(View::state)
        .is_some_and(|state| state.patient.is_some());
    if expected > 0 && !registered {
        return Err(Violation::new("I5", format!("at rest p-{patient} is unknown")));
    }
    Ok(())
}

impl Errand {
    fn name(self, id: TaskId) -> String {
        match self {
            Errand::Tick { number, .. } => format!("checkin #{id} tick {number}"),
            Errand::Register { .. } => format!("checkin #{id} roster"),
            Errand::StartMappings => format!("mapping #{id}"),
            Errand::Project { mapping, .. } => format!("projector #{id} mapping {mapping}"),
            Errand::Read(Question::Patient(patient, _)) => format!("reader #{id} p-{patient}"),
            Errand::Read(Question::CheckIns { patient, .. }) => format!("reader #{id} check-ins p-{patient}"),
            Errand::Read(Question::ById(_)) => format!("reader #{id} by id"),
            Errand::Read(Question::ByRecent(_)) => format!("reader #{id} by recent"),
            Errand::Rebuild {
                number,
                promotes: true,
                ..
            } => format!("replay #{id} rebuild {number}"),
            Errand::Rebuild { number, .. } => format!("replay #{id} dry run {number}"),
            Errand::RollBack { forward: false, .. } => format!("replay #{id} rollback"),
            Errand::RollBack { .. } => format!("replay #{id} rollback --to"),
            Errand::Prune { .. } => format!("replay #{id} prune"),
            Errand::Reconcile { full } => format!("reconciler #{id}{}", if full { " in full" } else { "" }),
            Errand::Redrive { patient: None } => format!("replay #{id} redrive all"),
            Errand::Redrive {
                patient: Some(patient),
            } => format!("replay #{id} redrive p-{patient}"),
            Errand::Calm => format!("calm #{id}"),
            Errand::Deploy => format!("deployment #{id}"),
        }
    }
}
