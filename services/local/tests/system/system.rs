//! A running `local`.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A `local` that is ready. Dropping it kills it.
pub(crate) struct System {
    process: Child,
    /// `127.0.0.1:PORT` of the API.
    pub(crate) api: String,
    /// URL of the embedded DynamoDB.
    pub(crate) dynamodb: String,
    /// URL of the SQS endpoint.
    pub(crate) sqs: String,
    pub(crate) data: PathBuf,
    status: Arc<Mutex<String>>,
    /// Where it makes its temporary folder, which one that is killed can't remove.
    _temporary: TempDir,
}

/// A period that does not begin anew within the next hour: with it nobody checks in, or nothing is swept, whatever the time of
/// day.
pub(crate) fn never() -> &'static str {
    static PERIOD: LazyLock<String> = LazyLock::new(|| {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let mut periods = (2..=24).rev().map(|hours| hours * HOUR);
        let period = periods.find(|period| period - now % period > HOUR).unwrap();
        format!("{}h", period / HOUR)
    });
    &PERIOD
}

/// In seconds.
const HOUR: u64 = 3_600;

pub(crate) fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments);
    command
}

impl System {
    /// Starts one on a port that the system chooses, and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> System {
        let temporary = tempfile::tempdir().unwrap();
        let mut process = local(&["--port", "0"])
            .args(arguments)
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut introduced = |what: &str| {
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            match line.strip_prefix(what) {
                Some(value) => value.split_whitespace().next().unwrap().to_owned(),
                None => {
                    let mut errors = String::new();
                    process
                        .stderr
                        .take()
                        .unwrap()
                        .read_to_string(&mut errors)
                        .unwrap();
                    panic!("no {what} in {line:?}: {errors}")
                }
            }
        };
        introduced("page");
        let patients = introduced("patients");
        let api = patients
            .strip_prefix("http://")
            .unwrap()
            .strip_suffix("/patients")
            .unwrap()
            .to_owned();
        let dynamodb = introduced("dynamodb");
        let sqs = introduced("sqs");
        let data = introduced("data").into();
        let status = Arc::new(Mutex::new(String::new()));
        std::thread::spawn({
            let status = status.clone();
            move || {
                lines
                    .map_while(Result::ok)
                    .for_each(|line| *status.lock().unwrap() = line);
            }
        });
        let system = System {
            process,
            api,
            dynamodb,
            sqs,
            data,
            status,
            _temporary: temporary,
        };
        // It is ready as soon as somebody answers; another process may still be on its way.
        wait_until("all are running", || system.children().len() == 5);
        system
    }

    /// GETs a path of the API.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        http::get(&self.api, path).unwrap()
    }

    /// The last status line.
    pub(crate) fn status(&self) -> String {
        self.status.lock().unwrap().clone()
    }

    /// All patients, page by page.
    #[track_caller]
    pub(crate) fn patients(&self) -> Vec<Value> {
        self.list("/patients", "patients")
    }

    /// All check-ins of a patient, page by page, newest first.
    #[track_caller]
    pub(crate) fn checkins(&self, patient: &str) -> Vec<Value> {
        self.list(&format!("/patients/{patient}/checkins"), "checkins")
    }

    #[track_caller]
    fn list(&self, path: &str, field: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut query = "limit=20".to_owned();
        loop {
            let answer = self.get(&format!("{path}?{query}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut page = answer.json();
            items.append(page[field].as_array_mut().unwrap());
            match page["nextCursor"].as_str() {
                Some(cursor) => query = format!("limit=20&cursor={cursor}"),
                None => return items,
            }
        }
    }

    /// What `local` itself has logged so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log_of("local")
    }

    /// What a function has logged so far.
    pub(crate) fn log_of(&self, function: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.data.join(format!("logs/{function}.log")));
        // A function that has not started yet has none.
        let log = log.unwrap_or_default();
        log.lines()
            // The last line may be half written.
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The running processes of a function.
    pub(crate) fn processes(&self, function: &str) -> Vec<Pid> {
        self.log()
            .iter()
            .filter(|line| line["message"] == "started" && line["function"] == function)
            .filter_map(|line| Pid::from_raw(i32::try_from(line["pid"].as_i64()?).ok()?))
            .filter(|pid| is_alive(*pid))
            .collect()
    }

    /// The running processes of all functions: two of `backend`, and one of each other.
    pub(crate) fn children(&self) -> Vec<Pid> {
        ["checkin", "projector", "backend", "reconciler"]
            .map(|function| self.processes(function))
            .concat()
    }

    /// Sends a signal to all processes of a function.
    #[track_caller]
    pub(crate) fn signal(&self, function: &str, signal: Signal) {
        for pid in self.processes(function) {
            // One that has just ended is as good as one that gets the signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Makes all processes of a function hold still, and waits until they do.
    #[track_caller]
    pub(crate) fn hold(&self, function: &str) {
        wait_until("it holds still", || {
            self.signal(function, Signal::STOP);
            let states = self.processes(function).into_iter().map(state);
            states.into_iter().all(|state| matches!(state, None | Some('T')))
        });
    }

    /// Sends a signal to `local` itself, and waits until it has ended.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        kill_process(self.pid(), signal).unwrap();
        let process = &mut self.process;
        let mut status = None;
        wait_until("local has ended", || {
            status = process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().try_into().unwrap()).unwrap()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && !is_zombie(pid)
}

/// Where process 1 collects no orphans (in some containers), one that has ended stays as a zombie.
fn is_zombie(pid: Pid) -> bool {
    state(pid) == Some('Z')
}

/// The letter that Linux has for the state of a process; elsewhere, or if there is no such process, `None`.
fn state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
