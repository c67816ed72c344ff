//! One story with one fault, up to the one reconcile after which everything must be right.

use std::fmt;

use crate::call::Call;
use crate::converged::check_converged;
use crate::proxy::{Fault, Way};
use crate::run::Run;
use crate::system::Retries;
use crate::tables::Tables;
use crate::violation::{Violation, ensure};

/// Which story, with which fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) retries: Retries,
    /// Whether there is a reconcile in the end. Without one, what the stream lost stays lost.
    pub(crate) reconciled: bool,
}

/// What came of a schedule.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Every call of the story, but for those of the last reconcile.
    pub(crate) calls: Vec<Call>,
    /// How often a service failed, so that whoever had invoked it did so again.
    pub(crate) failed_invocations: usize,
    /// What happened, for people.
    pub(crate) history: Vec<String>,
    /// The first promise that was not kept.
    pub(crate) result: Result<(), Violation>,
}

impl Schedule {
    /// The story of this seed, without a fault.
    pub(crate) fn without_fault(seed: u64) -> Schedule {
        Schedule {
            seed,
            fault: None,
            retries: Retries::Off,
            reconciled: true,
        }
    }

    /// Runs it, on tables that nobody else uses meanwhile.
    ///
    /// Calls of one invocation that are under way at the same time may come back in another order than when the story was told
    /// without a fault, so that the call that was to fail is not made. Such a run shows nothing, and is made again.
    pub(crate) async fn run(&self, tables: &Tables) -> Outcome {
        const RUNS: usize = 5;
        for _ in 1..RUNS {
            let (outcome, met_its_fault) = self.run_once(tables).await;
            if met_its_fault {
                return outcome;
            }
        }
        self.run_once(tables).await.0
    }

    /// Also says whether it is a run with the fault, which one that ends earlier is, too.
    async fn run_once(&self, tables: &Tables) -> (Outcome, bool) {
        tables.empty();
        let mut run = Run::start(&tables.dynamodb, self.seed, self.retries, self.fault.clone()).await;
        let result = self.to_the_end(&mut run).await;
        let met_its_fault = result != Err(self.no_such_call());
        let outcome = Outcome {
            calls: run.calls,
            failed_invocations: run.failed_invocations,
            history: run.history,
            result,
        };
        (outcome, met_its_fault)
    }

    async fn to_the_end(&self, run: &mut Run) -> Result<(), Violation> {
        run.tell().await?;
        if run.system.proxy.fault_to_come().is_some() {
            return Err(self.no_such_call());
        }
        if self.retries == Retries::On && !self.is_mistaken() {
            ensure(run.failed_invocations == 0, || {
                "the SDK called again, and yet an invocation failed".to_owned()
            })?;
        }
        if self.reconciled {
            run.reconcile().await?;
        }
        check_converged(run).await
    }

    fn no_such_call(&self) -> Violation {
        let call = self.fault.as_ref().map(|fault| fault.call.to_string());
        Violation(format!("there was no call {}", call.unwrap_or_default()))
    }

    fn is_mistaken(&self) -> bool {
        self.fault
            .as_ref()
            .is_some_and(|fault| fault.way == Way::Swallowed)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, the SDK's retries {}, ", self.seed, self.retries)?;
        match &self.fault {
            None => f.write_str("no fault"),
            Some(Fault { call, way }) => write!(f, "{call}: {way}"),
        }
    }
}
