//! Runs many schedules, or one.

#![allow(clippy::print_stdout, reason = "this is a command line tool")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use simulator::{Failure, LEGEND, Outcome, Plan, run};

/// Runs many schedules of the simulated system, or one of them again.
#[derive(Debug, Parser)]
struct Options {
    /// How many schedules.
    #[arg(long, default_value_t = 100_000)]
    schedules: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// On how many threads. By default as many as there are processors.
    #[arg(long)]
    threads: Option<u64>,
    /// Repeats the schedule of this seed, and shows its history.
    #[arg(long, conflicts_with = "schedules")]
    seed: Option<u64>,
    /// The world, where it is not the seed's own: patients=1,ticks=2,faults=drop+throttle
    #[arg(long, long_help = plan_help())]
    plan: Option<Plan>,
    /// With a deliberate mistake.
    #[cfg(feature = "planted-bugs")]
    #[arg(long)]
    bug: Option<simulator::Bug>,
}

fn plan_help() -> String {
    format!("The world, where it is not the seed's own. {}", Plan::explained())
}

impl Options {
    fn run(&self, seed: u64, plan: Plan, recorded: bool) -> Outcome {
        #[cfg(feature = "planted-bugs")]
        if let Some(bug) = self.bug {
            return simulator::run_with(bug, seed, plan, recorded);
        }
        run(seed, plan, recorded)
    }

    /// The command that repeats a failure, from the build that this is.
    fn command(&self, failure: &Failure) -> String {
        let profile = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.file_name()?.to_str()?.to_owned()))
            .filter(|profile| profile != "debug")
            .map_or(String::new(), |profile| format!(" --profile {profile}"));
        #[cfg(feature = "planted-bugs")]
        if let Some(bug) = self.bug {
            let arguments = failure.arguments();
            return format!(
                "cargo run{profile} -p simulator --features planted-bugs -- --bug {bug} {arguments}"
            );
        }
        format!("cargo run{profile} -p simulator -- {}", failure.arguments())
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => repeat(&options, seed),
        None => run_many(&options),
    }
}

/// Runs one schedule, and shows what happens.
fn repeat(options: &Options, seed: u64) -> ExitCode {
    let plan = options.plan.unwrap_or_else(|| Plan::of_seed(seed));
    let outcome = options.run(seed, plan, true);
    println!("seed {seed} in the world {plan}");
    show(&outcome.history);
    match outcome.violation {
        None => {
            println!("all promises are kept; {} steps", outcome.steps);
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn show(history: &[String]) {
    println!("\n{LEGEND}\n");
    for line in history {
        println!("{line}");
    }
    println!();
}

/// Runs many schedules, until one breaks a promise.
fn run_many(options: &Options) -> ExitCode {
    let threads = options
        .threads
        .or_else(|| u64::try_from(thread::available_parallelism().ok()?.get()).ok())
        .unwrap_or(1)
        .max(1);
    let last = options.first_seed.saturating_add(options.schedules);
    println!(
        "seeds {} to {} on {threads} threads",
        options.first_seed,
        last.saturating_sub(1)
    );
    let began = Instant::now();
    let (done, steps, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let worker = &|first: u64| {
        let mut seed = options.first_seed.saturating_add(first);
        while seed < last && !stop.load(Ordering::Relaxed) {
            let plan = options.plan.unwrap_or_else(|| Plan::of_seed(seed));
            let outcome = options.run(seed, plan, false);
            done.fetch_add(1, Ordering::Relaxed);
            steps.fetch_add(outcome.steps.into(), Ordering::Relaxed);
            if let Some(violation) = outcome.violation {
                stop.store(true, Ordering::Relaxed);
                return Some(Failure {
                    seed,
                    plan,
                    violation,
                });
            }
            seed = seed.saturating_add(threads);
        }
        None
    };
    let failure = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || worker(first)))
            .collect();
        let mut failure = None;
        let mut shown = Instant::now();
        for worker in workers {
            while !worker.is_finished() {
                thread::sleep(Duration::from_millis(20));
                if shown.elapsed() > Duration::from_secs(10) {
                    println!(
                        "{}",
                        progress(done.load(Ordering::Relaxed), options.schedules, began)
                    );
                    shown = Instant::now();
                }
            }
            failure = failure.or(worker.join().ok().flatten());
        }
        failure
    });
    println!(
        "{} schedules, {} steps, {:.1} s",
        done.into_inner(),
        steps.into_inner(),
        began.elapsed().as_secs_f64()
    );
    let Some(failure) = failure else {
        println!("all promises are kept");
        return ExitCode::SUCCESS;
    };
    println!("seed {}: {}", failure.seed, failure.violation);
    println!("repeat it: {}", options.command(&failure));
    println!("\nthe smallest failure like it:");
    let shrunk = failure.shrunk(|seed, plan| options.run(seed, plan, false));
    show(&options.run(shrunk.seed, shrunk.plan, true).history);
    println!("{}", shrunk.violation);
    println!("repeat it: {}", options.command(&shrunk));
    ExitCode::FAILURE
}

fn progress(done: u64, of: u64, began: Instant) -> String {
    let seconds = began.elapsed().as_secs();
    let left = done
        .checked_div(seconds)
        .and_then(|rate| of.saturating_sub(done).checked_div(rate))
        .map_or(String::new(), |left| format!(", some {left} s left"));
    format!("{done} of {of} schedules{left}")
}
