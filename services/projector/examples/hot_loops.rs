//! The two loops that every event goes through, for `.ci/instructions` to count what they take: reading stream records, and
//! folding events.
//!
//!     hot_loops parse|fold TIMES     a batch of 100 records, or 100 events of one patient, so many times

#![allow(clippy::unwrap_used, clippy::panic, reason = "not part of the system")]

use domain::{PatientState, RecordedEvent};
use mimalloc::MiMalloc;
use projector::Batch;
use std::hint::black_box;

/// The projector's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap();
    let times: u32 = arguments.next().unwrap().parse().unwrap();
    let events = testbed::stream_of("5b1f6a0e-93a4-4d0c-8d5e-0a3f5a7c9e21", 99);
    let records = testbed::records("5b1f6a0e-93a4-4d0c-8d5e-0a3f5a7c9e21", 99);
    let batch = serde_json::json!({ "Records": records }).to_string();
    let recorded = events.into_iter().map(|event| event.decode().unwrap());
    let recorded: Vec<RecordedEvent> = recorded.collect();
    assert_eq!(recorded.len(), 100);
    for _ in 0..times {
        match what.as_str() {
            "parse" => {
                // As `lambda_runtime` does: it keeps track of where it is, to say where an error is.
                let json = &mut serde_json::Deserializer::from_slice(black_box(batch.as_bytes()));
                let batch = Batch::read(serde_path_to_error::deserialize(json).unwrap()).unwrap();
                assert_eq!(black_box(batch).unreadable.len(), 0);
            }
            "fold" => {
                let mut state = PatientState::default();
                for event in black_box(&recorded) {
                    state.apply(event).unwrap();
                }
                assert_eq!(black_box(state).applied, recorded.last().unwrap().version);
            }
            other => panic!("parse or fold, not {other}"),
        }
    }
}
