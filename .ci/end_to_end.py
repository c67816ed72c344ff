#!/usr/bin/env python3
"""Runs a build of `local` as a stranger would, with every command that README.md and docs/API.md show, and the program that
docs/EVENTS.md shows.

    end_to_end.py LOCAL REPLAY     the two programs

Each block of commands in them that is marked `<!-- try -->` is run as it stands, but for the addresses: the port
8080 of the README, its DynamoDB address and that of its queues are replaced by those that this run was given by the system. If a block of
JSON follows, the answer must have the same shape; if one of text follows, the output must be the same but for its numbers.
"""

import ast
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCAL, REPLAY = (pathlib.Path(program).resolve() for program in sys.argv[1:3])


def say(text):
    print(f"  {text}", flush=True)


def wait_for(what, condition, seconds):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            say(f"{what}: after {seconds - (deadline - time.monotonic()):.1f} s")
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Local:
    """A running system, on ports that it chose itself."""

    started = []

    def __init__(self, data, *arguments):
        self.log = pathlib.Path(data) / "logs" / "local.log"
        self.output = pathlib.Path(data).with_suffix(".out")
        with open(self.output, "wb") as output:
            self.child = subprocess.Popen(
                [LOCAL, "--port", "0", "--data", data, *arguments], stdout=output, stderr=output
            )
        Local.started.append(self.child)
        wait_for("ready", lambda: self.printed("logs"), 30)
        self.url = self.printed("patients")
        self.dynamodb = self.printed("dynamodb")
        self.sqs = self.printed("sqs")

    def printed(self, label):
        assert self.child.poll() is None, self.output.read_text()
        found = re.search(rf"^{label} +(\S+)", self.output.read_text(), re.M)
        return found and found[1]

    def get(self, path=""):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def patients(self, limit=20):
        found, cursor = [], ""
        while cursor is not None:
            page = self.get(f"?limit={limit}{cursor and '&cursor=' + cursor}")
            found += page["patients"]
            cursor = page["nextCursor"]
        return found

    def checkins(self, patient):
        return self.get(f"/{patient}/checkins?limit=100")["checkins"]

    def children(self):
        """The processes of its functions that are running, of this one and of those before on the same folder."""
        # One line may be half written.
        logged = [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]
        pids = [str(line["pid"]) for line in logged if line["message"] == "started"]
        listed = subprocess.run(
            ["ps", "-ww", "-o", "stat=,args=", "-p", ",".join(pids)], capture_output=True, text=True
        )
        # Not one that has ended and that nobody has collected yet, nor another program with the same number.
        running = [line for line in listed.stdout.splitlines() if not line.startswith("Z")]
        return [line for line in running if f"{LOCAL} service" in line]

    def ask_dynamodb(self, action, request):
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{action}",
            "X-Amz-Date": "20260101T000000Z",
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }
        request = urllib.request.Request(self.dynamodb, json.dumps(request).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def replay(self, *arguments):
        """What a command of `replay` says in JSON."""
        where = ["--endpoint-url", self.dynamodb, "--sqs-endpoint-url", self.sqs, "--json"]
        return json.loads(subprocess.run([REPLAY, *arguments, *where], check=True, capture_output=True).stdout)

    def stop(self, with_signal):
        self.child.send_signal(with_signal)
        return self.child.wait(timeout=20)


def same_shape(one, other):
    """Whether both are JSON of one kind: the same fields, down to texts, numbers and nulls. An empty list is any list."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_shape(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return not one or not other or same_shape(one[0], other[0])
    return not isinstance(one, (dict, list)) and not isinstance(other, (dict, list))


def without_numbers(text):
    """The same for two texts that differ in numbers only, and in how much space these take."""
    return re.sub(r" *\d+", " 0", text).strip()


def shown_blocks(document):
    """The commands that are marked, each with `json` or nothing, and the block of it that is shown below, if any."""
    text = (ROOT / document).read_text()
    pattern = r"<!-- try -->\n```sh\n(.*?)```(?:\n\n?```(json|)\n(.*?)```)?"
    blocks = re.findall(pattern, text, re.S)
    assert len(blocks) == text.count("<!-- try -->") > 0
    return blocks


def shell(commands, folder=ROOT, **environment):
    """What the commands print. Whose machine it is must not change it: to whom they belong on AWS is set there."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, env=mine | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "no output"
    return done.stdout


def try_shown(system, document):
    for commands, kind, expected in shown_blocks(document):
        base = system.url.removesuffix("/patients")
        shown = commands.replace("http://127.0.0.1:8080", base).replace("http://127.0.0.1:PORT", system.dynamodb)
        shown = shown.replace("http://127.0.0.1:QUEUES", system.sqs)
        shown = shown.replace("cargo run -p replay --", str(REPLAY))
        say("$ " + commands.strip().replace("\n", "\n    "))
        output = shell(shown)
        if kind == "json":
            same = same_shape(json.loads(output), json.loads(expected))
        else:
            same = not expected or without_numbers(output) == without_numbers(expected)
        assert same, f"{document} shows something else than\n{output}"


def verify_as_shown(system, folder, patient):
    """The program of docs/EVENTS.md, called as it says itself, finds a stream intact; and one that was edited not."""
    document = (ROOT / "docs/EVENTS.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", document, re.S)
    (pathlib.Path(folder) / "verify.py").write_text(program)
    commands = ast.get_docstring(ast.parse(program)).replace("TABLE", "checkin-events").replace("p-001", patient)
    query, verify = commands.split(" | ")
    where = {"AWS_ENDPOINT_URL": system.dynamodb, "AWS_DEFAULT_REGION": "us-east-1"}
    where |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    say(shell(commands, folder, **where).strip())
    stream = json.loads(shell(query, folder, **where))
    assert len(stream["Items"]) > 1, stream

    def verdict():
        done = subprocess.run(verify.split(), cwd=folder, input=json.dumps(stream), capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    count = len(stream["Items"])
    assert verdict() == (0, f"{count} events, intact\n"), verdict()
    stream["Items"][-1]["recorded_at"]["S"] = "2000-01-01T00:00:00.000Z"
    assert verdict() == (1, f"broken at version {count}\n"), verdict()


def quarantine_and_redrive(system, patient):
    """An event of this patient comes that only newer software can read; and then there is newer software."""
    stream = system.ask_dynamodb(
        "Query",
        {
            "TableName": "checkin-events",
            "KeyConditionExpression": "patient_id = :patient",
            "ExpressionAttributeValues": {":patient": {"S": patient}},
            "ScanIndexForward": False,
            "Limit": 1,
        },
    )
    event = stream["Items"][0]
    event["version"] = {"N": str(int(event["version"]["N"]) + 1)}
    event["event_id"] = {"S": "00000000-0000-5000-8000-000000000000"}
    current, event["schema_version"] = event["schema_version"], {"N": "99"}
    table = {"TableName": "checkin-events"}
    system.ask_dynamodb("PutItem", table | {"Item": event, "ConditionExpression": "attribute_not_exists(version)"})
    key = {name: event[name] for name in ("patient_id", "version")}

    def shown():
        return system.get(f"/{patient}")

    wait_for("the API says who is quarantined", lambda: shown()["quarantinedSince"], 60)
    count = shown()["checkinCount"]
    version = int(event["version"]["N"])
    still = {patient: {"version": version, "reason": "unknown_schema_version"}}
    for _ in range(2):
        # What stays on the queue is there for the next run, too.
        redriven = system.replay("redrive", "--all")
        told = {name: redriven[name] for name in ("tried", "events", "settled", "unsettled", "quarantined")}
        assert told == {"tried": 1, "events": 0, "settled": 0, "unsettled": 1, "quarantined": still}, redriven
    change = {"UpdateExpression": "SET schema_version = :v", "ExpressionAttributeValues": {":v": current}}
    system.ask_dynamodb("UpdateItem", table | {"Key": key} | change)
    redriven = system.replay("redrive", "--all")
    told = {name: redriven[name] for name in ("tried", "settled", "unsettled", "quarantined", "failed")}
    assert told == {"tried": 1, "settled": 1, "unsettled": 0, "quarantined": {}, "failed": {}}, redriven
    # The patient may have checked in again meanwhile.
    assert redriven["events"] >= 1, redriven
    assert shown()["quarantinedSince"] is None and shown()["checkinCount"] > count, shown()


def main():
    folder = tempfile.mkdtemp(prefix="end-to-end-")
    data = folder + "/data"
    try:
        print("a new system lists everybody, and nobody has checked in", flush=True)
        system = Local(data, "--every", "24h")
        everybody = system.patients()
        assert len(everybody) == 50 == len({patient["id"] for patient in everybody})
        assert all(patient["lastCheckinAt"] is None for patient in everybody)
        assert system.stop(signal.SIGINT) == 0

        print("patients check in, more and more of them", flush=True)
        system = Local(data)

        def checked_in():
            return [patient for patient in system.patients() if patient["lastCheckinAt"]]

        first = len(wait_for("somebody checked in", checked_in, 30))
        wait_for("more have checked in", lambda: len(checked_in()) > first, 30)
        patient = checked_in()[0]
        rows = system.checkins(patient["id"])
        assert rows and rows == sorted(rows, key=lambda row: row["occurredAt"], reverse=True)

        for document in ["README.md", "docs/API.md"]:
            print(f"what {document} shows", flush=True)
            try_shown(system, document)

        print("a stream, verified by the program that docs/EVENTS.md shows", flush=True)
        verify_as_shown(system, folder, patient["id"])

        print("quarantined, and redriven", flush=True)
        quarantine_and_redrive(system, patient["id"])

        print("killed, and started again on the same folder", flush=True)
        # On one page, as whoever checks in meanwhile moves to the front.
        before = {patient["id"]: patient["checkinCount"] for patient in system.patients(limit=100)}
        assert len(before) == 50 and sum(before.values()) > 0
        system.stop(signal.SIGKILL)
        wait_for("no child is left", lambda: not system.children(), 10)
        system = Local(data, "--every", "200ms")
        after = {patient["id"]: patient["checkinCount"] for patient in system.patients(limit=100)}
        assert all(after[known] >= count for known, count in before.items())
        assert after[patient["id"]] >= len(rows) and system.checkins(patient["id"])[-len(rows):] == rows
        seen = sum(after.values())
        wait_for("it goes on", lambda: sum(p["checkinCount"] for p in system.patients(limit=100)) > seen, 60)

        print("it ends, and its children with it", flush=True)
        assert system.children()
        assert system.stop(signal.SIGINT) == 0
        wait_for("no child is left", lambda: not system.children(), 10)
    finally:
        for child in Local.started:
            child.kill()
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print("end to end: all as it should be", flush=True)


main()
