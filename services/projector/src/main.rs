//! Wiring only: the handler is a library function.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// An eighth to a fifth of a batch's CPU time is what the SDK's many allocations take longer with the C library's (docs/PERFORMANCE.md). It
/// costs memory, which this function has, and some of a cold start, which nobody waits for here.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    runtime::exit("projector", projector::run().await)
}
