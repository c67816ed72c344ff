//! Check-ins, stored and projected as others do it. What is measured is between `ready` and `done` on stdout: the benchmark
//! looks at its clock, and at this process's CPU time, at both.

mod adapter;
mod cqrs;
mod tables;
mod transactions;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use tokio::io::{AsyncBufReadExt, BufReader};


type Error = Box<dyn std::error::Error + Send + Sync>;

/// How much is to be done.
#[derive(Clone, Copy)]
struct Work {
    patients: usize,
    /// Of each patient, after the registration.
    check_ins: usize,
}

impl Work {
    fn patient_ids(self) -> impl Iterator<Item = String> {
        (0..self.patients).map(|number| format!("p-{number:05}"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let way = arguments.next().ok_or("which way?")?;
    let mut number = || -> Result<usize, Error> { Ok(arguments.next().ok_or("how many?")?.parse()?) };
    let work = Work {
        patients: number()?,
        check_ins: number()?,
    };
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let client = Client::new(&config);
    match way.as_str() {
        "event-store-adapter" => adapter::run(&client, work).await,
        "cqrs-es" => cqrs::run(&client, work, false).await,
        "cqrs-es-with-view" => cqrs::run(&client, work, true).await,
        "transactions" => transactions::run(&client, work).await,
        _ => Err("no such way".into()),
    }
}

/// Waits until the benchmark has looked.
async fn ready() -> Result<(), Error> {
    println!("ready");
    wait_for_line().await
}

/// Says what it came to, and stays until the benchmark has looked.
async fn done(events: usize) -> Result<(), Error> {
    println!("{}", serde_json::json!({ "events": events }));
    wait_for_line().await
}

async fn wait_for_line() -> Result<(), Error> {
    BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    Ok(())
}
