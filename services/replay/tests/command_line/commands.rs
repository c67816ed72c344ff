//! Each command: what it prints, what its JSON is, and its exit code.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::Generation;
use serde_json::json;
use testbed::World;

use crate::program::{Ran, run, run_into};

async fn world() -> World {
    let world = World::new().await;
    for (patient, check_ins) in [("p-1", 7), ("p-2", 0), ("p-3", 30)] {
        world.patient(patient, check_ins).await;
    }
    world
}

#[track_caller]
fn check(ran: &Ran, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stdout.contains(stdout), "no {stdout:?} in {ran:?}");
    assert!(ran.stderr.contains(stderr), "no {stderr:?} in {ran:?}");
    assert!(
        !ran.stdout.contains("Canary") && !ran.stderr.contains("Canary"),
        "patient data: {ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn life_of_the_generations_from_the_command_line() {
    let world = world().await;
    check(
        &run(&world, &["verify"]).await,
        1,
        "",
        "nothing was projected yet",
    );
    check(
        &run(&world, &["promote"]).await,
        1,
        "",
        "no generation is being built",
    );
    check(
        &run(&world, &["rollback"]).await,
        1,
        "",
        "no generation to roll back to",
    );

    let built = run(&world, &["rebuild"]).await;
    check(
        &built,
        0,
        "generation g2 is active: 40 events of 3 patients in",
        "",
    );
    let verified = run(&world, &["verify"]).await;
    check(
        &verified,
        0,
        "generation g2 is what the events say: 40 events of 3 patients, 37 check-ins",
        "",
    );
    let verified = run(&world, &["verify", "--json", "--patient", "p-3"])
        .await
        .json();
    assert_eq!(
        (&verified["events"], &verified["findings"]),
        (&json!(31), &json!([]))
    );
    check(
        &run(&world, &["verify", "--patient", "p-9"]).await,
        1,
        "",
        "there is no event of p-9",
    );

    let dry = run(&world, &["rebuild", "--dry-run", "--json"]).await.json();
    assert_eq!((&dry["generation"], &dry["promoted"]), (&json!(3), &json!(false)));
    // The first generation was empty, and is not the active one.
    assert_eq!((&dry["active"], &dry["changed"]), (&json!(2), &json!(0)));
    let status = run(&world, &["status", "--json"]).await.json();
    let roles: Vec<_> = status["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| &line["role"])
        .collect();
    assert_eq!(roles, ["active", "verified", "previous"]);
    check(
        &run(&world, &["rollback"]).await,
        1,
        "",
        "generation g3 is being built",
    );
    let dry = run(&world, &["rebuild", "--dry-run"]).await;
    let instead = "generation g3, built by a dry run and not promoted, was given up for another";
    check(&dry, 0, instead, "");
    check(&run(&world, &["status"]).await, 0, "to-prune", "");
    check(
        &run(&world, &["promote"]).await,
        0,
        "generation g4 is active, in place of g2",
        "",
    );
    check(
        &run(&world, &["rollback"]).await,
        0,
        "generation g2 is active, in place of g4",
        "",
    );
    let again = run(&world, &["rollback"]).await;
    check(&again, 1, "", "to go forward to it again, name it with --to");
    let unknown = run(&world, &["verify", "--generation", "77"]).await;
    check(&unknown, 1, "", "there is no generation g77");
    check(
        &run(&world, &["prune"]).await,
        1,
        "",
        "g2 was promoted a moment ago: prune in",
    );
    let refused = run(&world, &["prune", "--json"]).await;
    check(&refused, 1, "", "a moment ago");
    assert!(refused.json()["error"].as_str().unwrap().contains("a moment ago"));
    world.assert_complete(Generation::new(2), "p-3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_patient_and_version_of_an_edited_event() {
    let world = world().await;
    check(&run(&world, &["rebuild"]).await, 0, "is active", "");
    let name = AttributeValue::M([("name".to_owned(), AttributeValue::S("Canary Other".to_owned()))].into());
    world.edit("p-3", 1, "data", name).await;
    let expected = "p-3: the hash chain is broken at event 1: edited";
    check(&run(&world, &["verify"]).await, 3, expected, "");
    check(
        &run(&world, &["verify", "--patient", "p-3"]).await,
        3,
        expected,
        "",
    );
    check(
        &run(&world, &["verify", "--patient", "p-1"]).await,
        0,
        "is what the events say",
        "",
    );
    let verified = run(&world, &["verify", "--json"]).await;
    check(&verified, 3, "", "");
    let findings = &verified.json()["findings"];
    let broken =
        json!({"kind": "brokenLink", "patientId": "p-3", "version": 1, "how": "edited", "applied": true});
    assert!(findings.as_array().unwrap().contains(&broken), "{findings}");
    let differs =
        json!({"kind": "differs", "patientId": "p-3", "version": 31, "differences": [{"field": "name"}]});
    assert!(findings.as_array().unwrap().contains(&differs), "{findings}");
    let shown = run(&world, &["verify", "--values"]).await;
    assert!(
        shown.stdout.contains("name (Canary p-3 instead of Canary Other)"),
        "{shown:?}"
    );

    let refused = run(&world, &["rebuild"]).await;
    check(&refused, 1, "", expected);
    check(&refused, 1, "", "and was given up");
    check(&refused, 1, "", "--accept-broken-chain PATIENT@VERSION");
    let refused = run(&world, &["rebuild", "--json"]).await;
    check(&refused, 1, "", "");
    let refused = refused.json();
    assert_eq!(
        (&refused["generation"], &refused["givenUp"]),
        (&json!(4), &json!(true))
    );
    assert!(
        refused["findings"].as_array().unwrap().contains(&broken),
        "{refused}"
    );
    assert!(refused["error"].as_str().unwrap().contains(expected), "{refused}");
    let blank = run(&world, &["rebuild", "--accept-broken-chain", "p-3"]).await;
    check(
        &blank,
        2,
        "",
        "it is not of the form PATIENT@VERSION, such as p-003@9",
    );
    let accepted = run(&world, &["rebuild", "--accept-broken-chain", "p-3@1"]).await;
    check(&accepted, 0, "is active", "");
    check(&run(&world, &["verify"]).await, 3, expected, "");
    let accepted = run(&world, &["verify", "--accept-broken-chain", "p-3@1"]).await;
    check(&accepted, 0, "is what the events say", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_that_would_show_less_does_not_advise_to_promote_as_it_is() {
    let world = world().await;
    check(&run(&world, &["rebuild"]).await, 0, "is active", "");
    world.remove("p-3", 31).await;
    let dry = run(&world, &["rebuild", "--dry-run"]).await;
    check(
        &dry,
        0,
        "`replay promote` will refuse it: it shows less than now, or other events, of 1 (p-3)",
        "",
    );
    check(&dry, 0, "`replay promote --accept-less p-3`", "");
    let refused = run(&world, &["promote", "--json"]).await;
    check(
        &refused,
        1,
        "",
        "would show less of p-3 (up to event 30) than is shown now; restore",
    );
    let refused = refused.json();
    assert_eq!(
        (&refused["generation"], &refused["showsLess"], &refused["givenUp"]),
        (&json!(3), &json!({"p-3": 30}), &json!(false))
    );
    let promoted = run(&world, &["promote", "--accept-less", "p-3"]).await;
    check(&promoted, 0, "generation g3 is active, in place of g2", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_and_tail_say_what_they_found() {
    let world = world().await;
    let sound = run(&world, &["redrive", "--patient", "p-3"]).await;
    check(&sound, 1, "", "p-3 is not quarantined");
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("99".to_owned()))
        .await;
    // Nobody is marked without a message, and there is no queue to put it on.
    let rebuilt = run(&world, &["rebuild"]).await;
    check(
        &rebuilt,
        1,
        "",
        "event 9 of p-3 can't be applied (unknown_schema_version), and nobody would learn of it: the quarantine queue is not known",
    );
    let projector = projector::Projector {
        log: world.log.clone(),
        store: world.store(),
        queue: &world.queue,
        concurrency: 4,
        software: projection::SOFTWARE,
        clock: || testbed::at(1_000),
    };
    let last = world
        .stream(None)
        .into_iter()
        .rfind(|record| record["eventName"] == "INSERT");
    let event = serde_json::from_value(json!({ "Records": [last] })).unwrap();
    projector.handle(event).await.unwrap();
    let redriven = run(&world, &["redrive", "--all"]).await;
    check(
        &redriven,
        1,
        "1 quarantined patients tried again, 0 events applied",
        "",
    );
    check(
        &redriven,
        1,
        "still quarantined, as the event can't be applied by this software: 1 patients",
        "",
    );
    check(
        &redriven,
        1,
        "quarantined: p-3 at event 9: unknown_schema_version",
        "",
    );
    check(
        &redriven,
        1,
        "",
        "neither queue was looked at, as they are not known: --sqs-endpoint-url",
    );
    let redriven = run(&world, &["redrive", "--patient", "p-3"]).await;
    let stays = "the message about this patient stays on the queue until `replay redrive --all`";
    check(&redriven, 0, stays, "");
    check(
        &redriven,
        0,
        "quarantined: p-3 at event 9: unknown_schema_version",
        "",
    );
    world
        .edit("p-3", 9, "schema_version", AttributeValue::N("1".to_owned()))
        .await;
    let redriven = run(&world, &["redrive", "--patient", "p-3", "--json"])
        .await
        .json();
    assert_eq!(
        (&redriven["events"], &redriven["quarantined"]),
        (&json!(23), &json!({}))
    );
    world.assert_complete(Generation::FIRST, "p-3").await;
    check(&run(&world, &["redrive"]).await, 2, "", "--all");

    let tail = run(&world, &["tail", "--once", "--from", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(tail.stdout.lines().count(), 40, "{tail:?}");
    check(&tail, 0, " p-3 31 PatientCheckedIn ", "");
    let tail = run(
        &world,
        &["tail", "--once", "--json", "--from", "2020-01-01T00:00:00Z"],
    )
    .await;
    let first: serde_json::Value = serde_json::from_str(tail.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["eventType"], "PatientRegistered");
    check(&run(&world, &["tail", "--once"]).await, 0, "", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_brings_what_the_stream_lost() {
    let world = world().await;
    let reconciled = run(&world, &["reconcile"]).await;
    check(
        &reconciled,
        0,
        " of them were behind, 40 events applied, 0 quarantined",
        "",
    );
    world.assert_complete(Generation::FIRST, "p-3").await;
    // These events were recorded long before the last sweep.
    world.check_in("p-2", 3).await;
    let reconciled = run(&world, &["reconcile"]).await;
    check(&reconciled, 0, "0 patients compared, 0 of them were behind", "");
    let reconciled = run(&world, &["reconcile", "--full", "--json"]).await.json();
    assert_eq!(
        (&reconciled["behind"], &reconciled["events"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild_that_was_killed_is_gone_on_with() {
    let world = world().await;
    // As one leaves it that was killed: the lease, and a generation that is being built.
    let first = run(&world, &["rebuild", "--dry-run"]).await;
    check(&first, 0, "g2 is built and verified", "");
    let put = world.client.put_item().table_name(embedded::READ_MODEL_TABLE);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    put.item("pk", text("replay"))
        .item("sk", text("lease"))
        .item("holder", text("killed"))
        .item("command", text("rebuild"))
        .item("since", text("2026-11-24T09:30:00.000Z"))
        .item("beat", AttributeValue::N("3".to_owned()))
        .send()
        .await
        .unwrap();
    let status = run(&world, &["status"]).await;
    check(
        &status,
        0,
        "`replay rebuild` was begun at 2026-11-24T09:30:00.000Z, and has not ended",
        "",
    );
    let next = run(&world, &["rebuild"]).await;
    check(
        &next,
        0,
        "generation g3 is active",
        "looking whether it is still at work",
    );
    let status = run(&world, &["status"]).await;
    assert!(!status.stdout.contains("has not ended"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_could_not_be_written_is_a_failure() {
    let world = world().await;
    check(&run(&world, &["rebuild"]).await, 0, "is active", "");
    let tail = ["tail", "--once", "--from", "2020-01-01T00:00:00Z"];
    for arguments in [
        &["verify", "--json"][..],
        &["status"],
        &["verify", "--patient", "p-1"],
        &tail,
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = run_into(&world, arguments, full.into()).await;
        check(
            &ran,
            1,
            "",
            "the output could not be written: No space left on device",
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        // Who reads no further has read enough.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        check(&run_into(&world, arguments, writer.into()).await, 0, "", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_finds_another_one_at_work_is_refused_even_if_that_ends_at_once() {
    let world = world().await;
    check(&run(&world, &["rebuild"]).await, 0, "is active", "");
    for _ in 0..20 {
        let (one, other) = tokio::join!(
            run(&world, &["rebuild", "--dry-run"]),
            run(&world, &["rebuild", "--dry-run"])
        );
        let (done, refused) = if one.code == 0 { (one, other) } else { (other, one) };
        check(&done, 0, "is built and verified", "");
        // One may have ended before the other began.
        if refused.code == 0 {
            continue;
        }
        assert_eq!(refused.code, 1, "{refused:?}");
        let told = ["is at work since", "ended just now: look at the status"];
        assert!(
            told.iter().any(|told| refused.stderr.contains(told)),
            "{refused:?}"
        );
        return;
    }
    panic!("they never met");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_address_is_said_to_be_unreachable() {
    // Nobody listens there, and nobody else can begin to.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let endpoint = format!("http://{}", socket.local_addr().unwrap());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(["status", "--endpoint-url", &endpoint])
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("replay: "), "{ran:?}");
}
