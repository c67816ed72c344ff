//! The command line.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Parser, Subcommand};
use domain::{Generation, PatientId, Timestamp};
use projection::{ProjectionStore, SOFTWARE};
use runtime::clock::system_clock;
use runtime::telemetry::chain;
use serde_json::{Value, json};

use crate::accepted::{Accepted, KnownBreak};
use crate::bars::Bars;
use crate::builds::{Pass, Seen};
use crate::compare::Compare;
use crate::connection::{Connection, Target};
use crate::lease::{self, Lease, LeaseStore};
use crate::promote::{Promote, PromoteCommandError};
use crate::promotion::{Lost, PromotionError};
use crate::prune::Prune;
use crate::rebuild::{Rebuild, RebuildError};
use crate::reconcile::reconcile;
use crate::redrive::Redrive;
use crate::report::{Answer, DryRun};
use crate::roll_back::{RollBack, RollBackError};
use crate::tables::Tables as _;
use crate::tail::Tail;
use crate::verify::{Finding, Verify, VerifyError};
use crate::{report, status};

/// How often a tail looks for new events.
const TAIL_PAUSE: Duration = Duration::from_secs(1);

/// Rebuilds the read model from the events, next to live traffic; verifies, promotes and rolls back; tries again what
/// could not be applied; and shows how far everything has come.
///
/// Exit code: 0 if it did what it says; 1 if not, and why not is one line on stderr; 2 if the command line is wrong; 3 if
/// `verify` found something wrong. A redrive after which somebody is still quarantined did what it says; one that knows of no
/// queue to look at did not.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Pace {
    /// Into how many parts the event table is divided; all of them are read at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    segments: u16,
    /// How many calls each of them has under way at once, at most.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    concurrency: u8,
}

#[derive(Debug, Clone, clap::Args)]
struct BrokenChains {
    /// A broken link that is known, such as p-003@9, because the event was edited, or is the first after one that was lost. It
    /// is then neither a finding nor a reason to refuse. The chain is followed on behind it: any other broken link is both. May
    /// be repeated.
    #[arg(long, value_name = "PATIENT@VERSION")]
    accept_broken_chain: Vec<KnownBreak>,
}

#[derive(Debug, Clone, clap::Args)]
struct Less {
    /// A patient of whom less may be shown than now, because events are lost for ever. May be repeated.
    #[arg(long, value_name = "PATIENT")]
    accept_less: Vec<PatientId>,
}

#[derive(Debug, Clone, clap::Args)]
struct Unsound {
    /// A patient whose summary need not agree with their check-ins. May be repeated.
    #[arg(long, value_name = "PATIENT")]
    accept_unsound: Vec<PatientId>,
}

impl BrokenChains {
    fn accepted(self) -> Accepted {
        Accepted {
            broken_links: self.accept_broken_chain.into_iter().collect(),
            ..Accepted::default()
        }
    }

    fn and(self, less: Less) -> Accepted {
        Accepted {
            less: less.accept_less.into_iter().collect(),
            ..self.accepted()
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the next generation from all events while live traffic goes on, verify it, and promote it. One that was cut
    /// short goes on where it was, unless this program makes another read model of the events than the one that began it.
    /// Refused, and given up, if it is not what was appended, or would show less of a patient than is shown now.
    Rebuild {
        /// Build and verify, and show in which fields it would differ from what is shown now, without promoting it.
        #[arg(long)]
        dry_run: bool,
        /// Show the values too. They are patient data.
        #[arg(long, requires = "dry_run")]
        values: bool,
        /// Promote even if the projector that applied the last events was of other software than this program, as it is
        /// before the projector is deployed, and until it has applied an event.
        #[arg(long, conflicts_with = "dry_run")]
        any_projector: bool,
        #[command(flatten)]
        broken: BrokenChains,
        #[command(flatten)]
        less: Less,
        #[command(flatten)]
        pace: Pace,
    },
    /// Compare the hash chains, what queries see, and by which keys they find it, with the events. Only reads.
    Verify {
        /// Only this patient.
        #[arg(long)]
        patient: Option<PatientId>,
        /// This generation, instead of the active one.
        #[arg(long, value_name = "NUMBER")]
        generation: Option<u32>,
        /// Show the values too. They are patient data.
        #[arg(long)]
        values: bool,
        #[command(flatten)]
        broken: BrokenChains,
        #[command(flatten)]
        pace: Pace,
    },
    /// Make the generation that a dry run has built the active one. It is verified once more first, which takes as long as
    /// `verify` does; and it may show no less of any patient than is shown now. If it is refused, it stays as it is.
    Promote {
        /// Even if the projector that applied the last events was of other software than this program, as it is before the
        /// projector is deployed, and until it has applied an event.
        #[arg(long)]
        any_projector: bool,
        #[command(flatten)]
        broken: BrokenChains,
        #[command(flatten)]
        less: Less,
        #[command(flatten)]
        pace: Pace,
    },
    /// Bring the generation up to date that was active before, and make it the active one again. It is not compared with
    /// the events, as the reason to go back may be that they are applied wrongly now; but its summaries have to agree with
    /// its check-ins, and it may show no less of any patient than is shown now.
    Rollback {
        /// This generation; needed to go forward again to a later one.
        #[arg(long, value_name = "NUMBER")]
        to: Option<u32>,
        #[command(flatten)]
        less: Less,
        #[command(flatten)]
        unsound: Unsound,
    },
    /// Remove every generation but the active one, the previous one and the one that is being built.
    Prune {
        /// The previous one too: nobody can roll back any more.
        #[arg(long)]
        previous: bool,
        /// The one that is being built too.
        #[arg(long)]
        building: bool,
    },
    /// Show the generations, what they count, and what is not applied yet.
    Status,
    /// Try again what could not be applied. Exit code 0 even if somebody stays quarantined, who is named then, with the reason.
    #[command(group(ArgGroup::new("whom").required(true).args(["patient", "all"])))]
    Redrive {
        /// Only this patient. The message about it stays on the queue.
        #[arg(long)]
        patient: Option<PatientId>,
        /// All quarantined patients, and what the queues hold.
        #[arg(long)]
        all: bool,
    },
    /// Find the patients of whom the stream lost something, and repair them, as the reconciler does on its schedule.
    Reconcile {
        /// Compare everything that was ever recorded, instead of what was recorded since the last time.
        #[arg(long)]
        full: bool,
    },
    /// Follow the events of all patients as they are recorded; keys only, no patient data.
    Tail {
        /// From this time on, such as 2026-11-24T09:30:00Z; without it, from now on.
        #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_rfc3339)]
        from: Option<Timestamp>,
        /// Show what there is, and end.
        #[arg(long)]
        once: bool,
    },
}

impl Command {
    /// The name, if the command changes which generations there are, or what is in them: one such command at a time.
    const fn changes(&self) -> Option<&'static str> {
        match self {
            Command::Rebuild { .. } => Some("rebuild"),
            Command::Promote { .. } => Some("promote"),
            Command::Rollback { .. } => Some("rollback"),
            Command::Prune { .. } => Some("prune"),
            Command::Verify { .. }
            | Command::Status
            | Command::Redrive { .. }
            | Command::Reconcile { .. }
            | Command::Tail { .. } => None,
        }
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> ExitCode {
    let json = cli.json;
    match execute(cli).await {
        Ok(answer) => {
            let code = answer.exit_code();
            match print(&if json { answer.json } else { answer.text }) {
                Ok(_) => code,
                Err(failure) => {
                    warn(&failure.text);
                    ExitCode::FAILURE
                }
            }
        }
        Err(failure) => {
            if json && let Err(unprinted) = print(&failure.json.to_string()) {
                warn(&unprinted.text);
            }
            warn(&failure.text);
            ExitCode::FAILURE
        }
    }
}

/// Why a command did not do what it says.
#[derive(Debug)]
struct Failure {
    /// For people: one line.
    text: String,
    /// For scripts: the same, as `error`, and what the refusal of a generation is about.
    json: Value,
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        let json = json!({ "error": text });
        Failure { text, json }
    }
}

impl Failure {
    fn of(error: &(dyn std::error::Error + 'static)) -> Failure {
        chain(error).into()
    }

    /// With what a refusal is about, if it is one.
    fn refused(mut self, about: Option<Value>) -> Failure {
        if let (Some(Value::Object(about)), Value::Object(json)) = (about, &mut self.json) {
            json.extend(about);
        }
        self
    }
}

fn about_findings(generation: Generation, wrong: u64, findings: &[Finding], given_up: bool) -> Value {
    let findings = report::without_values(findings.to_vec());
    json!({ "generation": generation, "wrong": wrong, "findings": findings, "givenUp": given_up })
}

fn about_promotion(error: &PromotionError) -> Option<Value> {
    match error {
        PromotionError::WouldLoseData {
            generation,
            lost: Lost { behind, replaced },
            given_up,
        } => Some(json!({
            "generation": generation,
            "showsLess": behind,
            "showsOther": replaced,
            "givenUp": given_up,
        })),
        PromotionError::Unsound {
            generation,
            wrong,
            findings,
            given_up,
        } => Some(about_findings(*generation, *wrong, findings, *given_up)),
        PromotionError::OtherProjector { generation } => {
            Some(json!({ "generation": generation, "givenUp": false }))
        }
        PromotionError::Log(_)
        | PromotionError::ReadModel(_)
        | PromotionError::Store(_)
        | PromotionError::CatchUp(_)
        | PromotionError::Promote(_)
        | PromotionError::NotComparedAgain { .. } => None,
    }
}

impl From<RebuildError> for Failure {
    fn from(error: RebuildError) -> Failure {
        let about = match &error {
            RebuildError::Wrong {
                generation,
                wrong,
                findings,
                given_up,
            } => Some(about_findings(*generation, *wrong, findings, *given_up)),
            RebuildError::Promotion(error) => about_promotion(error),
            RebuildError::Begin(_)
            | RebuildError::Log(_)
            | RebuildError::Store(_)
            | RebuildError::Gate(_)
            | RebuildError::Abandon(_) => None,
        };
        Failure::of(&error).refused(about)
    }
}

impl From<PromoteCommandError> for Failure {
    fn from(error: PromoteCommandError) -> Failure {
        let about = match &error {
            PromoteCommandError::Wrong {
                generation,
                wrong,
                findings,
            } => Some(about_findings(*generation, *wrong, findings, false)),
            PromoteCommandError::Promotion(error) => about_promotion(error),
            PromoteCommandError::NothingBuilt
            | PromoteCommandError::BroughtBack { .. }
            | PromoteCommandError::NotVerified { .. }
            | PromoteCommandError::OtherSoftware { .. }
            | PromoteCommandError::Store(_)
            | PromoteCommandError::Gate(_) => None,
        };
        Failure::of(&error).refused(about)
    }
}

impl From<RollBackError> for Failure {
    fn from(error: RollBackError) -> Failure {
        let about = match &error {
            RollBackError::Promotion(error) => about_promotion(error),
            RollBackError::Begin(_) | RollBackError::Store(_) => None,
        };
        Failure::of(&error).refused(about)
    }
}

/// Prints a line; whether anybody wants more. Who closes the pipe has read enough, and that is no failure. (A stdout that is
/// closed from the beginning is `/dev/null` to a Rust program.)
fn print(text: &str) -> Result<bool, Failure> {
    if text.is_empty() {
        return Ok(true);
    }
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("the output could not be written: {error}").into()),
    }
}

fn warn(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "replay: {text}");
}

async fn execute(cli: Cli) -> Result<Answer, Failure> {
    let connection = cli.target.connect().await.map_err(|error| Failure::of(&error))?;
    let Some(name) = cli.command.changes() else {
        return act(&connection, cli.command, cli.json).await;
    };
    let since = system_clock();
    let lease = Lease {
        holder: format!("{} {since}", std::process::id()),
        command: name.to_owned(),
        since,
        beat: 0,
    };
    let on_wait = |held: &Lease| {
        warn(&format!(
            "`replay {}` was begun at {}: looking whether it is still at work",
            held.command, held.since
        ));
    };
    let command = act(&connection, cli.command, cli.json);
    let done = lease::alone(&connection.replay, lease, on_wait, command).await;
    done.map_err(|error| Failure::of(&error))?
}

async fn act(connection: &Connection, command: Command, json: bool) -> Result<Answer, Failure> {
    match command {
        Command::Rebuild {
            dry_run,
            values,
            any_projector,
            broken,
            less,
            pace,
        } => {
            let what = Rebuilding {
                dry_run: dry_run.then_some(values),
                any_projector,
                accepted: broken.and(less),
            };
            rebuild(connection, what, pace).await
        }
        Command::Verify {
            patient,
            generation,
            values,
            broken,
            pace,
        } => {
            let what = Verified {
                patient,
                generation: generation.map(Generation::new),
                values,
                accepted: broken.accepted(),
            };
            verify(connection, what, pace).await
        }
        Command::Promote {
            any_projector,
            broken,
            less,
            pace,
        } => {
            let promote = Promote {
                tables: connection,
                segments: pace.segments,
                concurrency: pace.concurrency.into(),
                accepted: &broken.and(less),
                software: SOFTWARE,
                any_projector,
                clock: system_clock,
            };
            let bars = bars_of_events(connection).await?;
            let on_events = |pass, seen| bars.count(pass, seen);
            let promoted = bars.watch(promote.run(&on_events), warn).await;
            Ok(report::promoted(&promoted?))
        }
        Command::Rollback { to, less, unsound } => {
            let accepted = Accepted {
                less: less.accept_less.into_iter().collect(),
                unsound: unsound.accept_unsound.into_iter().collect(),
                ..Accepted::default()
            };
            let roll_back = RollBack {
                tables: connection,
                to: to.map(Generation::new),
                accepted: &accepted,
                concurrency: CONCURRENCY,
                clock: system_clock,
            };
            let bars = bars_of_events(connection).await?;
            let on_pass = |pass, seen| bars.count(pass, seen);
            let rolled_back = bars.watch(roll_back.watched(&on_pass), warn).await;
            Ok(report::promoted(&rolled_back?))
        }
        Command::Prune { previous, building } => prune(connection, previous, building).await,
        Command::Status => {
            let status = status::status(connection, system_clock()).await;
            let mut status = status.map_err(|error| Failure::of(&error))?;
            status.at_work = connection
                .replay
                .lease()
                .await
                .map_err(|error| Failure::of(&error))?;
            Ok(report::status(&status))
        }
        Command::Redrive { patient, .. } => redrive(connection, patient.as_ref()).await,
        Command::Reconcile { full } => {
            let summary = reconcile(connection, full, CONCURRENCY).await;
            Ok(report::reconciled(&summary.map_err(|error| Failure::of(&error))?))
        }
        Command::Tail { from, once } => tail(connection, from, once, json).await,
    }
}

/// Calls under way at once, where it is not to be chosen.
const CONCURRENCY: usize = 32;

async fn bars_of_events(connection: &Connection) -> Result<Bars, Failure> {
    let events = connection.log.approximate_len().await.unwrap_or_default();
    Ok(Bars::of_events(events)?)
}

/// What is to be rebuilt, and how.
struct Rebuilding {
    /// Whether to show values, if it is a dry run.
    dry_run: Option<bool>,
    any_projector: bool,
    accepted: Accepted,
}

async fn rebuild(connection: &Connection, what: Rebuilding, pace: Pace) -> Result<Answer, Failure> {
    let started = Instant::now();
    let rebuild = Rebuild {
        tables: connection,
        segments: pace.segments,
        concurrency: pace.concurrency.into(),
        accepted: &what.accepted,
        software: SOFTWARE,
        promote: what.dry_run.is_none(),
        any_projector: what.any_projector,
        clock: system_clock,
    };
    let bars = bars_of_events(connection).await?;
    let work = async {
        let rebuilt = rebuild.run(&|pass, seen| bars.count(pass, seen)).await?;
        let Some(values) = what.dry_run else {
            return Ok((rebuilt, None));
        };
        bars.count(Pass::Compare, Seen::NOTHING);
        let control = connection.store.control().await;
        let control = control.map_err(|error| Failure::of(&error))?;
        let active = control.map_or(Generation::FIRST, |control| control.active);
        let compare = Compare {
            tables: connection,
            active,
            built: rebuilt.generation,
            concurrency: pace.concurrency.into(),
            clock: system_clock,
        };
        let mut changes = DryRun::new(active, values);
        let compared = compare.run(|change| changes.add(change)).await;
        compared.map_err(|error| Failure::of(&error))?;
        Ok::<_, Failure>((rebuilt, Some(changes)))
    };
    let (rebuilt, changes) = bars.watch(work, warn).await?;
    if rebuilt.segments != pace.segments {
        warn(&format!(
            "it went on in {} segments, as it was begun",
            rebuilt.segments
        ));
    }
    Ok(match changes {
        Some(changes) => report::dry_run(&rebuilt, &changes),
        None => report::rebuilt(&rebuilt, started.elapsed().as_secs_f64(), bars.seconds()),
    })
}

/// What is to be verified.
struct Verified {
    patient: Option<PatientId>,
    generation: Option<Generation>,
    /// Whether to show values.
    values: bool,
    accepted: Accepted,
}

async fn verify(connection: &Connection, what: Verified, pace: Pace) -> Result<Answer, Failure> {
    let patient = what.patient.as_ref();
    let control = connection
        .store
        .control()
        .await
        .map_err(|error| Failure::of(&error))?;
    let control = control.ok_or_else(|| VerifyError::NothingProjected.to_string())?;
    let generation = what.generation.unwrap_or(control.active);
    if ![Some(control.active), control.building, control.previous].contains(&Some(generation)) {
        return Err(VerifyError::NoSuchGeneration(generation).to_string().into());
    }
    let verify = Verify {
        tables: connection,
        generation,
        segments: pace.segments,
        concurrency: pace.concurrency.into(),
        accepted: &what.accepted,
        now: system_clock(),
    };
    let verified = match patient {
        Some(patient) => verify.patient(patient).await,
        None => {
            let bars = bars_of_events(connection).await?;
            let on_events = |events| bars.count(Pass::Verify, Seen::now(events));
            bars.watch(verify.all(&on_events), warn).await
        }
    };
    let verified = verified.map_err(|error| Failure::of(&error))?;
    if let (Some(patient), 0) = (patient, verified.events)
        && verified.wrong == 0
    {
        return Err(format!("there is no event of {patient}").into());
    }
    Ok(report::verified(verified, what.values))
}

async fn prune(connection: &Connection, previous: bool, building: bool) -> Result<Answer, Failure> {
    let prune = Prune {
        tables: connection,
        previous,
        building,
        segments: 4,
        clock: system_clock,
    };
    let bars = Bars::of_items()?;
    let on_items = |items| bars.count_items(items);
    let pruned = bars.watch(prune.run(&on_items), warn).await;
    Ok(report::pruned(&pruned.map_err(|error| Failure::of(&error))?))
}

async fn redrive(connection: &Connection, patient: Option<&PatientId>) -> Result<Answer, Failure> {
    let redrive = Redrive {
        tables: connection,
        concurrency: CONCURRENCY,
        clock: system_clock,
    };
    let redriven = match patient {
        Some(patient) => redrive.patient(patient).await,
        None => redrive.all().await,
    };
    let redriven = redriven.map_err(|error| Failure::of(&error))?;
    if let Some(patient) = patient
        && redriven.tried == 0
    {
        return Err(format!("{patient} is not quarantined").into());
    }
    if !redriven.failed.is_empty() {
        warn(&format!(
            "{} patients could not be advanced: run it again",
            redriven.failed.len()
        ));
    }
    let queues = (
        connection.quarantined().is_some(),
        connection.given_up().is_some(),
    );
    let unseen = match queues {
        _ if patient.is_some() => None,
        (true, true) => None,
        (false, true) => Some("the quarantine queue was not looked at, as it is not known"),
        (true, false) => Some("the queue of stream failures was not looked at, as it is not known"),
        (false, false) => Some("neither queue was looked at, as they are not known"),
    };
    if let Some(unseen) = unseen {
        warn(&format!("{unseen}: --sqs-endpoint-url, --deployment"));
    }
    let note = patient.map(|_| {
        "the message about this patient stays on the queue until `replay redrive --all`, which removes it if the event is applied"
    });
    Ok(report::redriven(&redriven, unseen, note))
}

/// Prints events until nobody reads them any more, or once.
async fn tail(
    connection: &Connection,
    from: Option<Timestamp>,
    once: bool,
    json: bool,
) -> Result<Answer, Failure> {
    let mut tail = Tail::new(&connection.log, from.unwrap_or_else(system_clock));
    loop {
        let mut printed = Ok(true);
        let on_event = |event| {
            printed = print(&report::tail_event(&event, json));
            matches!(printed, Ok(true))
        };
        let polled = tail.poll(system_clock(), on_event).await;
        printed?;
        match polled {
            Ok(true) => {}
            Ok(false) => return Ok(Answer::nothing()),
            Err(error) if once => return Err(Failure::of(&error)),
            Err(error) => warn(&chain(&error)),
        }
        if once {
            return Ok(Answer::nothing());
        }
        tokio::time::sleep(TAIL_PAUSE).await;
    }
}
