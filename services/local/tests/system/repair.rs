//! What the stream lost, the reconciler finds.

use aws_sdk_dynamodb::types::AttributeValue;

use crate::check::queries_see_exactly_the_events;
use crate::system::{System, never, wait_until};

/// Takes a patient's summary away, as if none of the patient's stream records had ever arrived.
fn forget(system: &System, patient: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        embedded::client(&system.dynamodb)
            .delete_item()
            .table_name(embedded::READ_MODEL_TABLE)
            .key("pk", AttributeValue::S(format!("g1#patient#{patient}")))
            .key("sk", AttributeValue::S("summary".to_owned()))
            .send()
            .await
            .unwrap()
    });
}

#[test]
fn a_patient_whose_records_were_lost_is_found_by_the_reconciler() {
    let system = System::start(&["--every", never(), "--reconcile-every", "5s"]);
    forget(&system, "p-007");
    wait_until("the patient is back", || {
        system.get("/patients/p-007").status == 200
    });
    queries_see_exactly_the_events(&system);
}
