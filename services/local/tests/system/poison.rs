//! An event that nobody can read stops its own patient, visibly, and no other.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Timestamp;
use serde_json::{Value, json};

use crate::append::now;
use crate::check::{queries_see_exactly, streams};
use crate::http;
use crate::system::{System, never, wait_until};

/// Appends an event to a patient's stream whose body nobody can read. Gives its version.
pub(crate) fn append_poison(system: &System, patient: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = embedded::client(&system.dynamodb);
    loop {
        let version = streams(system)[patient].len() as u64 + 1;
        let appended = runtime.block_on(async {
            let first = client
                .get_item()
                .table_name(embedded::EVENT_TABLE)
                .key("patient_id", AttributeValue::S(patient.to_owned()))
                .key("version", AttributeValue::N("1".to_owned()))
                .send()
                .await
                .unwrap();
            let mut item = first.item.unwrap();
            let text = |value: &str| AttributeValue::S(value.to_owned());
            item.insert("version".to_owned(), AttributeValue::N(version.to_string()));
            item.insert(
                "event_id".to_owned(),
                text("00000000-0000-5000-8000-000000000000"),
            );
            item.insert("event_type".to_owned(), text("PatientCheckedIn"));
            item.insert(
                "data".to_owned(),
                AttributeValue::M([("checkin_id".to_owned(), text("broken"))].into()),
            );
            client
                .put_item()
                .table_name(embedded::EVENT_TABLE)
                .set_item(Some(item))
                .condition_expression("attribute_not_exists(version)")
                .send()
                .await
        });
        match appended {
            Ok(_) => return version,
            // A tick was faster.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// The messages in the quarantine queue, which stay there.
fn quarantine_messages(system: &System) -> Vec<String> {
    let queue = format!("{}/000000000000/{}", system.sqs, local::QUARANTINE_QUEUE);
    let request = json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0 });
    let answer = http::post_json(
        system.sqs.trim_start_matches("http://"),
        "AmazonSQS.ReceiveMessage",
        &request.to_string(),
    );
    let Value::Array(messages) = answer["Messages"].clone() else {
        return Vec::new();
    };
    messages
        .iter()
        .map(|message| message["Body"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn poison_event_of_one_patient_leaves_the_others_flowing() {
    // The reconciler may find the same event at the same moment, and report it as well.
    let quiet = ["--reconcile-every", never()];
    let system = System::start(&[["--every", "50ms"], ["--checkins-per-tick", "3"], quiet].concat());
    let patient = "p-001";
    let name = system.get(&format!("/patients/{patient}")).json()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = now();
    let poison = append_poison(&system, patient);

    wait_until("the poison is reported", || {
        !quarantine_messages(&system).is_empty()
    });
    let reported = quarantine_messages(&system);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains(patient) && reported[0].contains("invalid_data"),
        "{reported:?}"
    );
    assert!(!reported[0].contains(&name), "{reported:?}");
    wait_until("the status tells of it", || {
        system.status().contains("quarantined 1 ")
    });

    let answer = system.get(&format!("/patients/{patient}")).json();
    let since: Timestamp = serde_json::from_value(answer["quarantinedSince"].clone()).unwrap();
    assert!((before..=now()).contains(&since), "{answer}");
    let of_checkins = system
        .get(&format!("/patients/{patient}/checkins?limit=1"))
        .json();
    assert_eq!(of_checkins["quarantinedSince"], answer["quarantinedSince"]);

    wait_until("more is appended to the poisoned stream", || {
        streams(&system)[patient].len() as u64 > poison + 1
    });
    let mut streams = streams(&system);
    streams
        .get_mut(patient)
        .unwrap()
        .retain(|event| event.version < poison);
    queries_see_exactly(&system, &streams, &[patient]);
    let after = system.get(&format!("/patients/{patient}")).json();
    assert_eq!(after["version"], poison - 1, "what follows the poison waits");
    assert_eq!(after, answer, "as of the same version");

    // Of what waits, and the projector has seen by now, nothing is reported.
    wait_until("later events of the patient were delivered", || {
        let log = system.log_of("projector");
        let of_the_patient = |field: &str, line: &Value| line[field].as_u64().unwrap_or_default();
        log.iter()
            .filter(|line| of_the_patient("quarantined", line) + of_the_patient("waiting", line) > 0)
            .count()
            >= 3
    });
    assert_eq!(quarantine_messages(&system), reported);
}
