//! The whole system: what is started in which order, when it is ready, and how it ends.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use embedded::stream::Stream;
use embedded::{EVENT_TABLE, EmbeddedDynamoDb, EmbeddedError, READ_MODEL_TABLE};
use read_model::ReadModelTable;
use runtime::clock::{Clock, system_clock};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::data_folder::{DataFolder, DataFolderError};
use crate::event_source_mapping::{Checkpoints, EventSourceMapping, Progress, Settings};
use crate::function::{Function, FunctionDefinition, Invoke};
use crate::local_table::LocalTable;
use crate::options::{Options, Service};
use crate::pipeline::{Pipeline, SetUp};
use crate::queues::Queues;
use crate::recent_events::RecentEvents;
use crate::schedule::Rule;
use crate::sqs_endpoint::SqsEndpoint;
use crate::status::{self, Sources};
use crate::stopping::Stopping;
use crate::{gateway, schedule};

/// Queue of what the projector could not apply.
pub const QUARANTINE_QUEUE: &str = "checkin-quarantine";
/// Queue of the stream records that the event source mapping gave up.
pub const STREAM_FAILURE_QUEUE: &str = "checkin-stream-failures";

/// How long the system has to become ready. A large backlog from the last run can take a while.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long requests that were begun have to be answered when the system ends.
const GRACE: Duration = Duration::from_secs(2);

/// Why the system does not run: one line for whoever started it.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Choose another port, or 0.
    #[error("cannot listen on 127.0.0.1:{port} ({option} 0 takes any that is free)")]
    Port {
        /// The option that chose the port.
        option: &'static str,
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// Choose another folder.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// Correct the roster.
    #[error("the roster file {}", file.display())]
    Roster {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        source: runtime::BoxError,
    },
    /// Choose another folder: what is in this one can't be used.
    #[error("cannot use the --data folder")]
    Data(#[source] EmbeddedError),
    /// The embedded DynamoDB did not start.
    #[error(transparent)]
    NoDatabase(EmbeddedError),
    /// The embedded DynamoDB does not answer. Start again.
    #[error("the embedded DynamoDB does not answer")]
    Database(#[source] runtime::BoxError),
    /// The operating system refused something that it normally gives.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// The patients could not be registered. The logs say more.
    #[error("cannot register the patients (logs in {})", logs.display())]
    Registration {
        /// Where the logs are.
        logs: PathBuf,
        /// What happened.
        source: runtime::BoxError,
    },
    /// The logs say why.
    #[error("not ready within {} s (logs in {})", READY_WITHIN.as_secs(), logs.display())]
    NotReady {
        /// Where the logs are.
        logs: PathBuf,
    },
}

/// Runs the whole system until SIGINT or SIGTERM.
///
/// # Errors
/// [`SystemError`] if it does not become ready; whatever was started has been ended again.
pub async fn run(options: &Options) -> Result<(), SystemError> {
    let mut termination = Termination::expect()?;
    let mut system = System::start(options, system_clock).await?;
    let ready = tokio::select! {
        ready = system.becomes_ready() => ready,
        () = termination.wait() => {
            system.stop().await;
            return Ok(());
        }
    };
    if ready.is_ok() {
        // Nobody may be reading it: the system runs all the same.
        let _ = system.introduce(options);
        system.begin_ticking(options);
        termination.wait().await;
    }
    system.stop().await;
    ready
}

/// Everything that runs. The fields are dropped in this order, the folder last.
struct System {
    tasks: Tasks,
    api_address: SocketAddr,
    checkin: Arc<Function>,
    projector: Arc<Function>,
    backend: Arc<Function>,
    reconciler: Arc<Function>,
    progress: watch::Receiver<Progress>,
    sources: Arc<Sources>,
    sqs: SqsEndpoint,
    dynamodb: EmbeddedDynamoDb,
    folder: DataFolder,
    clock: Clock,
}

/// What runs until it is told to stop.
#[derive(Default)]
struct Tasks {
    check_ins: Option<Task>,
    reconciles: Option<Task>,
    status: Option<Task>,
    gateway: Option<Task>,
    mapping: Option<Task>,
}

impl System {
    /// Starts everything but the schedules.
    async fn start(options: &Options, clock: Clock) -> Result<System, SystemError> {
        // First what can be wrong with the command line, so that nothing has to be ended again.
        let taken = |source| SystemError::Port {
            option: "--port",
            port: options.port,
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .await
            .map_err(taken)?;
        let api_address = listener.local_addr().map_err(taken)?;
        let roster = options.roster.as_deref().map(checked_roster).transpose()?;
        let folder = DataFolder::open(options.data.as_deref())?;
        begin_logging(&folder)?;

        let dynamodb =
            EmbeddedDynamoDb::start_on(options.dynamodb_port, &folder.database(), folder.durability())
                .await
                .map_err(|error| not_started(error, &folder))?;
        let table = LocalTable::open(dynamodb.client()).await.map_err(no_answer)?;
        let queues = Queues::new(table.clone());
        for queue in [QUARANTINE_QUEUE, STREAM_FAILURE_QUEUE] {
            queues.create(queue).await.map_err(no_answer)?;
        }
        let sqs = SqsEndpoint::start(queues.clone(), clock)
            .await
            .map_err(|source| SystemError::System {
                what: "listen on loopback",
                source,
            })?;

        let program = std::env::current_exe().map_err(|source| SystemError::System {
            what: "find this program to run it again",
            source,
        })?;
        let function = |service: Service, timeout, instances, settings: Vec<(&'static str, String)>| {
            let mut environment = vec![
                ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint_url()),
                ("AWS_ENDPOINT_URL_SQS", sqs.endpoint_url()),
                ("LOG_LEVEL", "info".to_owned()),
            ];
            environment.extend(settings);
            let definition = FunctionDefinition {
                name: service.name(),
                program: program.clone(),
                arguments: vec!["service".to_owned(), service.name().to_owned()],
                environment,
                log: folder.log(service.name()),
                timeout,
                instances,
            };
            Arc::new(Function::start(definition, clock))
        };
        let event_table = || ("EVENT_TABLE", EVENT_TABLE.to_owned());
        let read_model_table = || ("READ_MODEL_TABLE", READ_MODEL_TABLE.to_owned());
        let mut checkin_settings = vec![
            event_table(),
            ("CHECKINS_PER_TICK", options.checkins_per_tick.to_string()),
        ];
        checkin_settings.extend(roster.map(|file| ("ROSTER_FILE", file)));
        let checkin = function(Service::Checkin, Duration::from_secs(60), 1, checkin_settings);
        let projection_settings = || {
            vec![
                event_table(),
                read_model_table(),
                ("QUARANTINE_QUEUE_URL", sqs.queue_url(QUARANTINE_QUEUE)),
            ]
        };
        let projector = function(
            Service::Projector,
            Duration::from_secs(60),
            1,
            projection_settings(),
        );
        let reconciler = function(
            Service::Reconciler,
            Duration::from_secs(300),
            1,
            projection_settings(),
        );
        let mut backend_settings = vec![read_model_table()];
        let allow_origin = options.cors_allow_origin.as_ref();
        let allow_origin = allow_origin.map(backend::AllowOrigin::as_header).cloned();
        // It was read from text.
        let as_text = allow_origin.as_ref().and_then(|origin| origin.to_str().ok());
        backend_settings.extend(as_text.map(|origin| ("CORS_ALLOW_ORIGIN", origin.to_owned())));
        let backend = function(Service::Backend, Duration::from_secs(10), 2, backend_settings);

        let recent = RecentEvents::default();
        let mapping = EventSourceMapping {
            stream: Stream::open(dynamodb.database()).map_err(no_answer)?,
            function: projector.clone(),
            checkpoints: Checkpoints::new(table),
            queues,
            failure_queue: STREAM_FAILURE_QUEUE,
            recent: recent.clone(),
            settings: Settings::default(),
            clock,
        };
        let (report, progress) = watch::channel(Progress::default());
        let sources = Arc::new(Sources {
            events: dynamodb.event_counter(),
            read_model: ReadModelTable::new(dynamodb.client(), READ_MODEL_TABLE),
            mapping: progress.clone(),
        });
        let set_up = SetUp {
            every_millis: options.every.millis(),
            patients_per_tick: options.checkins_per_tick,
            dynamodb: dynamodb.endpoint_url(),
        };
        let pipeline = Pipeline::new(set_up, sources.clone(), recent);
        let tasks = Tasks {
            mapping: Some(Task::spawn(|stopping| mapping.run(report, stopping))),
            gateway: Some(Task::spawn(|stopping| {
                gateway::run(listener, backend.clone(), pipeline, allow_origin, clock, stopping)
            })),
            ..Tasks::default()
        };
        Ok(System {
            tasks,
            api_address,
            checkin,
            projector,
            backend,
            reconciler,
            progress,
            sources,
            sqs,
            dynamodb,
            folder,
            clock,
        })
    }

    /// Registers the patients, and waits until the API lists them.
    async fn becomes_ready(&self) -> Result<(), SystemError> {
        let logs = || self.folder.logs();
        let ready = async {
            let register = Bytes::from_static(br#"{"command":"register-roster"}"#);
            self.checkin
                .invoke(register)
                .await
                .map_err(|error| SystemError::Registration {
                    logs: logs(),
                    source: error.into(),
                })?;
            let registered_at = Instant::now();
            // It fails only if the mapping has ended.
            let _ = self
                .progress
                .clone()
                .wait_for(|progress| progress.caught_up_at.is_some_and(|at| at >= registered_at))
                .await;
            Ok(())
        };
        timeout(READY_WITHIN, ready)
            .await
            .unwrap_or_else(|_| Err(SystemError::NotReady { logs: logs() }))
    }

    /// Says where everything is.
    fn introduce(&self, options: &Options) -> std::io::Result<()> {
        let patients = match options.checkins_per_tick {
            1 => "One patient checks in".to_owned(),
            count => format!("{count} patients check in"),
        };
        let removed = if self.folder.is_temporary() {
            "  (removed at the end)"
        } else {
            ""
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "page      http://{}/", self.api_address)?;
        writeln!(out, "patients  http://{}/patients", self.api_address)?;
        writeln!(out, "dynamodb  {}", self.dynamodb.endpoint_url())?;
        writeln!(out, "sqs       {}", self.sqs.endpoint_url())?;
        writeln!(out, "data      {}{removed}", self.folder.path().display())?;
        writeln!(out, "logs      {}", self.folder.logs().display())?;
        writeln!(out, "\n{patients} every {}. Ctrl-C ends it.\n", options.every)?;
        out.flush()
    }

    /// Starts the schedules and the status line.
    fn begin_ticking(&mut self, options: &Options) {
        // What was compared when the last run was killed may be long ago.
        if !self.folder.is_temporary() {
            let reconciler = self.reconciler.clone();
            tokio::spawn(async move { reconciler.invoke(Bytes::from_static(b"{}")).await });
        }
        let begin = |function: &Arc<Function>, name, period| {
            let (function, rule, clock) = (function.clone(), Rule { name, period }, self.clock);
            Some(Task::spawn(|stopping| {
                schedule::run(function, rule, clock, stopping)
            }))
        };
        self.tasks.check_ins = begin(&self.checkin, "checkin-tick", options.every);
        self.tasks.reconciles = begin(&self.reconciler, "reconcile-tick", options.reconcile_every);
        let sources = self.sources.clone();
        self.tasks.status = Some(Task::spawn(|stopping| status::run(sources, stopping)));
    }

    /// Ends everything, what gives work before what does it.
    async fn stop(self) {
        let Tasks {
            check_ins,
            reconciles,
            status,
            gateway,
            mapping,
        } = self.tasks;
        for task in [check_ins, reconciles, status, gateway, mapping]
            .into_iter()
            .flatten()
        {
            task.stop().await;
        }
        tokio::join!(
            self.checkin.stop(),
            self.projector.stop(),
            self.backend.stop(),
            self.reconciler.stop()
        );
    }
}

/// A task that ends when it is told to.
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

impl Task {
    fn spawn<F: Future<Output = ()> + Send + 'static>(task: impl FnOnce(Stopping) -> F) -> Task {
        let (stop, stopping) = watch::channel(false);
        let handle = tokio::spawn(task(Stopping::new(stopping)));
        Task { stop, handle }
    }

    /// Tells the task to end, and waits a little until it has.
    async fn stop(mut self) {
        self.stop.send_replace(true);
        if timeout(GRACE, &mut self.handle).await.is_err() {
            self.handle.abort();
        }
    }
}

/// SIGINT, which is Ctrl-C, and SIGTERM.
struct Termination {
    interrupt: Signal,
    terminate: Signal,
}

impl Termination {
    fn expect() -> Result<Termination, SystemError> {
        let refused = |source| SystemError::System {
            what: "listen for signals",
            source,
        };
        Ok(Termination {
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn not_started(error: EmbeddedError, folder: &DataFolder) -> SystemError {
    match error {
        EmbeddedError::Listen { port, source } => SystemError::Port {
            option: "--dynamodb-port",
            port,
            source,
        },
        EmbeddedError::Folder { .. } | EmbeddedError::Database { .. } if folder.is_temporary() => {
            SystemError::NoDatabase(error)
        }
        EmbeddedError::Folder { .. } | EmbeddedError::Database { .. } => SystemError::Data(error),
    }
}

fn no_answer(error: impl Into<runtime::BoxError>) -> SystemError {
    SystemError::Database(error.into())
}

/// The absolute path of a roster that the producer will be able to read.
fn checked_roster(file: &Path) -> Result<String, SystemError> {
    let wrong = |source| SystemError::Roster {
        file: file.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.into()))?;
    checkin::Roster::parse(&text).map_err(|error| wrong(error.into()))?;
    let path = std::path::absolute(file).map_err(|error| wrong(error.into()))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| wrong("the path is not UTF-8".into()))
}

/// Our own log, next to those of the functions: standard output is for people.
fn begin_logging(folder: &DataFolder) -> Result<(), SystemError> {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.log("local"))
        .map_err(|source| folder.not_writable(source))?;
    // It fails only where a log is kept already.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::sync::Mutex::new(file))
        .try_init();
    Ok(())
}
