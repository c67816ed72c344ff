//! Starting the program.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use testbed::World;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Starts the program on this system.
pub(crate) fn start(world: &World, arguments: &[&str]) -> Child {
    start_into(world, arguments, Stdio::piped())
}

fn start_into(world: &World, arguments: &[&str], stdout: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(arguments)
        .args(["--endpoint-url", &world.endpoint_url()])
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the program to its end, without stopping whatever else this test does meanwhile.
pub(crate) async fn run(world: &World, arguments: &[&str]) -> Ran {
    let child = start(world, arguments);
    end(child).await
}

/// The same, with another stdout.
pub(crate) async fn run_into(world: &World, arguments: &[&str], stdout: Stdio) -> Ran {
    let child = start_into(world, arguments, stdout);
    end(child).await
}

/// Waits for its end.
pub(crate) async fn end(child: Child) -> Ran {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    output.await.unwrap().into()
}
