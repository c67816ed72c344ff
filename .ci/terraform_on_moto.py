#!/usr/bin/env python3
"""Applies both Terraform stages to moto, an emulator of AWS's APIs, and takes them down again:

    terraform_on_moto.py TREE

TREE is a copy of this repository, in which both stages are initialised. Shown are: both stages apply, with and without
what is optional; a second plan is empty, but for what moto itself loses (DRIFT, by attribute); what was made is what
was meant, as its own API tells it; what exists and the state does not know is adopted, as deploy.sh does it; the event
table can't be deleted by mistake; and after destroy nothing is left.
Not shown, since moto has none of it: that IAM policies allow what they should, streams, schedules, image functions.
"""

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import boto3
import requests
from moto.apigateway.models import Account
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
NAME = "checkin"
DIGEST = "sha256:" + "0123456789abcdef" * 4
TIMEOUT = 600

# What a plan finds changed although nothing was: (address, attribute) -> why that is moto's own doing. `moto_loses`
# shows it without Terraform. An entry that is not needed any more fails the run, so that the list stays true.
DRIFT: dict[tuple[str, str], str] = {
    (f'application: aws_lambda_function.this["{service}"]', "kms_key_arn"): "moto does not keep a function's KMSKeyArn"
    for service in ("backend", "checkin", "projector", "reconciler")
}

# What can't be created anew where it exists already, or would be made twice: terraform/adoption.sh looks for it.
ADOPTED = {
    "aws_api_gateway_rest_api", "aws_api_gateway_stage", "aws_cloudwatch_event_rule", "aws_cloudwatch_log_group",
    "aws_dynamodb_table", "aws_ecr_repository", "aws_iam_role", "aws_kms_alias", "aws_kms_key",
    "aws_lambda_event_source_mapping", "aws_lambda_function", "aws_lambda_permission", "aws_sns_topic", "aws_sqs_queue",
    "aws_wafv2_web_acl",
}

# deploy.sh's own plan of a stage, with the AWS CLI's questions. An old CLI has an endpoint of its own for SQS.
ADOPTION = r"""
set -euo pipefail
. terraform/deployment.sh
. terraform/adoption.sh
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
catch_the_end
log=$LOG new=""
plan "$STAGE" $OPTIONS || [ $? -eq 2 ]
cp "$scratch/$STAGE.plan" "$PLAN"
"""

began = time.monotonic()


def say(text: str) -> None:
    print(f"    [{time.monotonic() - began:4.0f} s] {text}", flush=True)


def fail(text: str) -> None:
    sys.exit(f"terraform on moto: {text}")


class Stage:
    """One of the two configurations, with its state beside it."""

    def __init__(self, tree: Path, name: str, environment: dict[str, str]):
        self.name = name
        self.folder = tree / "terraform" / name
        self.environment = environment

    def terraform(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess:
        command = ["terraform", f"-chdir={self.folder}", *arguments]
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            fail(f"{self.name}: terraform {arguments[0]} took more than {TIMEOUT} s")
        if done.returncode not in codes:
            fail(f"{self.name}: terraform {' '.join(arguments)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done

    def apply(self, variables: dict) -> dict:
        self.terraform("apply", "-auto-approve", "-input=false", "-no-color", *arguments(variables))
        outputs = json.loads(self.terraform("output", "-json").stdout)
        return {name: output["value"] for name, output in outputs.items()}

    def drift(self, variables: dict) -> set[tuple[str, str]]:
        """What a plan would change: addresses and top-level attributes."""
        plan = self.folder / "second.tfplan"
        done = self.terraform(
            "plan", "-detailed-exitcode", "-input=false", "-no-color", f"-out={plan}", *arguments(variables), codes=(0, 2)
        )
        if done.returncode == 0:
            return set()
        shown = json.loads(self.terraform("show", "-json", str(plan)).stdout)
        found = set()
        for change in shown["resource_changes"]:
            before, after = change["change"]["before"] or {}, change["change"]["after"] or {}
            unknown = change["change"]["after_unknown"] or {}
            if change["change"]["actions"] in (["no-op"], ["read"]):
                continue
            names = {name for name in {*before, *after} if before.get(name) != after.get(name)}
            names |= {name for name, is_unknown in unknown.items() if is_unknown}
            if not before or not after:
                names = {"/".join(change["change"]["actions"])}
            found |= {(change["address"], name) for name in names}
        for name, change in shown.get("output_changes", {}).items():
            if change["actions"] != ["no-op"]:
                found.add((f"output.{name}", "value"))
        return found

    def destroy(self, variables: dict) -> None:
        self.terraform("destroy", "-auto-approve", "-input=false", "-no-color", *arguments(variables))
        left = self.terraform("state", "list").stdout.split()
        if left:
            fail(f"{self.name}: after destroy the state still has {left}")


    def adopt(self, tree: Path, settings: dict[str, str], variables: dict) -> None:
        """Forgets the whole state, and has deploy.sh plan with what is there. Nothing is changed, the state comes back."""
        known = self.terraform("state", "list").stdout.split("\n")
        state, aside, log = (self.folder / name for name in ("terraform.tfstate", "aside.tfstate", "adoption.log"))
        state.rename(aside)
        plan = self.folder / "adoption.tfplan"
        options = " ".join(arguments(variables))
        done = subprocess.run(
            ["bash", "-c", ADOPTION], cwd=tree, capture_output=True, text=True, timeout=TIMEOUT,
            env=self.environment | settings | {"STAGE": self.name, "PLAN": str(plan), "LOG": str(log), "OPTIONS": options},
        )
        if done.returncode != 0:
            fail(f"{self.name}: adoption\n{done.stderr[-6000:]}\n{log.read_text()[-6000:]}")
        changes = json.loads(self.terraform("show", "-json", str(plan)).stdout)["resource_changes"]
        aside.rename(state)
        imported = {change["address"] for change in changes if "importing" in change["change"]}
        expect(f"what is adopted of {self.name}", sorted(imported), sorted(a for a in known if a.split(".")[0] in ADOPTED))
        expect("what would be removed", [c["address"] for c in changes if "delete" in c["change"]["actions"]], [])


    def keeps(self, kept: set[str], variables: dict) -> None:
        """That everything else can be destroyed, as destroy.sh does it, and nothing of `kept` depends on it."""
        plan = self.folder / "destroy.tfplan"
        known = {a for a in self.terraform("state", "list").stdout.split() if not a.startswith("data.")}
        targets = [f"-target={address}" for address in sorted(known - kept)]
        self.terraform("plan", "-destroy", "-input=false", "-no-color", f"-out={plan}", *targets, *arguments(variables))
        changes = json.loads(self.terraform("show", "-json", str(plan)).stdout)["resource_changes"]
        expect("what destroy.sh leaves", known - {c["address"] for c in changes if c["change"]["actions"] == ["delete"]}, kept)


def arguments(variables: dict) -> list[str]:
    return [f"-var={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in variables.items()]


def expect(what: str, found, expected) -> None:
    if found != expected:
        fail(f"{what} is {found!r}, and not {expected!r}")


def moto_loses(client, kms_key_arn: str) -> None:
    """That what DRIFT excuses is lost by moto, whoever puts it there."""
    told = client("lambda").update_function_configuration(FunctionName=f"{NAME}-backend", KMSKeyArn=kms_key_arn)
    asked = client("lambda").get_function_configuration(FunctionName=f"{NAME}-backend")
    if "KMSKeyArn" in told or "KMSKeyArn" in asked:
        fail("moto keeps a function's KMSKeyArn after all: excuse it no longer")


def let_moto_forget_the_logging_role() -> None:
    """The provider takes API Gateway's role back with a `replace` without a value, as AWS has it; moto wants one."""
    patch = Account.apply_patch_operations

    def with_a_value(self, operations):
        return patch(self, [{"value": None, **operation} for operation in operations])

    Account.apply_patch_operations = with_a_value


def everything(client) -> dict[str, list[str]]:
    """Every resource of a kind that the stages make, by kind."""

    def pages(service: str, operation: str, key: str, **arguments) -> list:
        api = client(service)
        if api.can_paginate(operation):
            found = [entry for page in api.get_paginator(operation).paginate(**arguments) for entry in page.get(key, [])]
        else:
            found = getattr(api, operation)(**arguments).get(key, [])
        return found

    aliases = pages("kms", "list_aliases", "Aliases")
    # AWS's own keys, which moto takes for a customer's.
    of_aws = {alias.get("TargetKeyId") for alias in aliases if alias["AliasName"].startswith("alias/aws/")}
    keys = [client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in pages("kms", "list_keys", "Keys")]
    account = client("apigateway").get_account()
    return {
        "tables": pages("dynamodb", "list_tables", "TableNames"),
        "queues": pages("sqs", "list_queues", "QueueUrls"),
        "functions": [f["FunctionName"] for f in pages("lambda", "list_functions", "Functions")],
        "mappings": [m["UUID"] for m in pages("lambda", "list_event_source_mappings", "EventSourceMappings")],
        "rules": [r["Name"] for r in pages("events", "list_rules", "Rules")],
        "log groups": [g["logGroupName"] for g in pages("logs", "describe_log_groups", "logGroups")],
        "roles": [r["RoleName"] for r in pages("iam", "list_roles", "Roles")],
        "policies": [p["PolicyName"] for p in pages("iam", "list_policies", "Policies", Scope="Local")],
        "APIs": [a["name"] for a in pages("apigateway", "get_rest_apis", "items")],
        "API Gateway's role": [account["cloudwatchRoleArn"]] if account.get("cloudwatchRoleArn") else [],
        "domains": [d["domainName"] for d in pages("apigateway", "get_domain_names", "items")],
        "topics": [t["TopicArn"] for t in pages("sns", "list_topics", "Topics")],
        "subscriptions": [s["SubscriptionArn"] for s in pages("sns", "list_subscriptions", "Subscriptions")],
        "alarms": [a["AlarmName"] for a in pages("cloudwatch", "describe_alarms", "MetricAlarms")],
        "dashboards": [d["DashboardName"] for d in pages("cloudwatch", "list_dashboards", "DashboardEntries")],
        "firewalls": [w["Name"] for w in client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"]],
        "repositories": [r["repositoryName"] for r in pages("ecr", "describe_repositories", "repositories")],
        "aliases": [a["AliasName"] for a in aliases if not a["AliasName"].startswith("alias/aws/")],
        # A deleted key waits for a while, so that it can be brought back.
        "keys": [k["KeyId"] for k in keys if k["KeyId"] not in of_aws and k["KeyState"] != "PendingDeletion"],
    }


def check_what_was_made(client, outputs: dict) -> None:
    """Some of what matters, as the emulated services tell it: what Terraform wrote in its state is not asked."""
    events = client("dynamodb").describe_table(TableName=f"{NAME}-events")["Table"]
    expect("the event table's deletion protection", events["DeletionProtectionEnabled"], True)
    expect("the stream", events["StreamSpecification"], {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"})
    expect("the event table's encryption", events["SSEDescription"]["SSEType"], "KMS")
    backups = client("dynamodb").describe_continuous_backups(TableName=f"{NAME}-events")
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    expect("point-in-time recovery", recovery["PointInTimeRecoveryStatus"], "ENABLED")
    guard = client("dynamodb").get_resource_policy(ResourceArn=events["TableArn"])
    expect("the event table's policy", {s["Effect"] for s in json.loads(guard["Policy"])["Statement"]}, {"Deny"})

    functions = {f["FunctionName"]: f for f in client("lambda").list_functions()["Functions"]}
    expect("the functions", sorted(functions), sorted(outputs["function_names"].values()))
    for service, name in outputs["function_names"].items():
        expect(f"the role of {name}", functions[name]["Role"].split("/")[-1], name)
        expect(f"the entry point of {name}", functions[name]["ImageConfigResponse"]["ImageConfig"]["EntryPoint"], [f"/{service}"])

    (mapping,) = client("lambda").list_event_source_mappings()["EventSourceMappings"]
    expect("the mapping's responses", mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])
    expect("the mapping's source", mapping["EventSourceArn"], events["LatestStreamArn"])

    api = client("apigateway")
    (rest_api,) = api.get_rest_apis()["items"]
    # moto takes the extension's name for that of a method.
    any_method = {"X-AMAZON-APIGATEWAY-ANY-METHOD": "ANY"}
    resources = {r["path"]: {any_method.get(m, m) for m in r.get("resourceMethods", {})} for r in api.get_resources(restApiId=rest_api["id"], limit=500)["items"]}
    contract = json.loads((TREE / "services/backend/openapi.json").read_text())
    for path, item in contract["paths"].items():
        methods = {method.upper() for method in item if method in ("get", "head", "options", "post", "put", "delete", "patch")}
        expect(f"the methods of {path}", resources.get(path, set()), methods | {"ANY"})
    expect("the methods of any other path", resources.get("/{proxy+}"), {"ANY"})
    stage = api.get_stage(restApiId=rest_api["id"], stageName="v1")
    logged = stage["accessLogSettings"]["format"]
    if re.search(r"\$context\.(path|identity\.apiKey|requestOverride)", logged):
        fail(f"the access log tells which patient was asked for: {logged}")
    expect("the patients' URL", outputs["patients_url"].endswith("/v1/patients"), True)

    try:
        client("dynamodb").delete_table(TableName=f"{NAME}-events")
        fail("the event table could be deleted")
    except client("dynamodb").exceptions.ClientError as refused:
        say(f"deleting the event table is refused: {refused.response['Error']['Code']}")


def run(tree: Path, environment: dict[str, str], client) -> None:
    before = everything(client)
    if any(before.values()):
        fail(f"there is something before anything was made: {before}")
    dependencies, application = (Stage(tree, name, environment) for name in ("dependencies", "application"))

    first = {"region": REGION}
    repository = dependencies.apply(first)
    say("dependencies applied")
    second = {
        "region": REGION,
        "image_uri": f"{repository['repository_url']}@{DIGEST}",
        "architecture": "arm64",
        "kms_key_arn": repository["kms_key_arn"],
    }
    outputs = application.apply(second)
    say("application applied")
    check_what_was_made(client, outputs)

    everything_optional = second | {
        "own_roster": True,
        "waf": True,
        "iam_authorization": True,
        "cors_allow_origin": "https://app.example.org",
        "alarm_email": "someone@example.org",
    }
    without_options = second | {
        "kms_key_arn": "",
        "name": "bare",
        "append_only": False,
        "deletion_protection": False,
        "recovery_days": 0,
        "schedule_enabled": False,
        "alarms": False,
        "dashboard": False,
        "api_gateway_account": False,
    }

    moto_loses(client, repository["kms_key_arn"])
    found = {(f"dependencies: {address}", name) for address, name in dependencies.drift(first)}
    found |= {(f"application: {address}", name) for address, name in application.drift(second)}
    say("second plans made")
    application.apply(everything_optional)
    found |= {(f"application: {address}", name) for address, name in application.drift(everything_optional)}
    say("everything optional applied, and planned again")
    image, digest = second["image_uri"].split("@")
    settings = {"name": NAME, "region": REGION, "account": "123456789012", "repository": image, "digest": digest,
                "key": repository["kms_key_arn"], "own_roster": "true", "AWS_DEFAULT_REGION": REGION}
    dependencies.adopt(tree, settings, {})
    application.adopt(tree, settings, {name: value for name, value in everything_optional.items() if name not in second})
    say("the states forgotten: everything is found, and adopted")
    application.keeps({"aws_dynamodb_table.events", "aws_dynamodb_resource_policy.events[0]"}, everything_optional)
    say("the event table and its policy can stay while all else goes")
    for address, name in sorted(found):
        say(f"drift: {address} {name}: {DRIFT.get((address, name), 'NOT EXCUSED')}")
    if found != set(DRIFT):
        fail(f"unexpected drift {sorted(found - set(DRIFT))}; excused without need {sorted(set(DRIFT) - found)}")

    refused = application.terraform("destroy", "-auto-approve", "-input=false", "-no-color", "-target=aws_dynamodb_table.events",
                                    *arguments(everything_optional), codes=(0, 1))
    if refused.returncode == 0 or f"{NAME}-events" not in client("dynamodb").list_tables()["TableNames"]:
        fail("destroy removed a protected event table")
    say("destroy is refused while the event table is protected")
    unprotected = everything_optional | {"deletion_protection": False}
    application.apply(unprotected)
    application.destroy(unprotected)
    say("application destroyed")

    # Everything off, in a second deployment beside the same first stage.
    application.apply(without_options)
    drift = application.drift(without_options)
    if {(f"application: {address}", name) for address, name in drift} - set(DRIFT):
        fail(f"without options, the second plan is not empty: {sorted(drift)}")
    application.destroy(without_options)
    say("without options: applied, planned, destroyed")

    dependencies.destroy(first)
    say("dependencies destroyed")
    left = {kind: names for kind, names in everything(client).items() if names}
    if left:
        fail(f"after destroy there is still {left}")
    say(f"nothing is left, of {len(before)} kinds of things")


def main() -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "TF_")) and name != "TF_PLUGIN_CACHE_DIR":
            del os.environ[name]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    let_moto_forget_the_logging_role()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    try:
        # Functions are not run: there is no Docker.
        requests.post(f"{url}/moto-api/config", json={"lambda": {"use_docker": False}}, timeout=60).raise_for_status()
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        os.environ |= credentials
        environment = os.environ | {
            "AWS_ENDPOINT_URL": url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }
        clients: dict = {}

        def client(service: str):
            return clients.setdefault(service, boto3.client(service, region_name=REGION, endpoint_url=url))

        run(TREE, environment, client)
    finally:
        server.stop()


if __name__ == "__main__":
    TREE = Path(sys.argv[1]).resolve()
    main()
