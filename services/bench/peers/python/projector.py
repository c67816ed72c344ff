"""Stream records to the read model: rows first, then each patient's summary on condition."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import boto3
from botocore.config import Config

from read_model import TABLE, freshness_pk, key, patient_pk, row_sk, shard
from runtime import run

AT_ONCE = 16

client = boto3.client("dynamodb", config=Config(max_pool_connections=AT_ONCE))
pool = ThreadPoolExecutor(AT_ONCE)


def chunks(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


def read_summaries(generation, patients):
    wanted = {
        TABLE: {
            "ConsistentRead": True,
            "Keys": [key(patient_pk(generation, patient), "summary") for patient in patients],
        }
    }
    found = {}
    while wanted:
        answer = client.batch_get_item(RequestItems=wanted)
        for item in answer["Responses"].get(TABLE, []):
            found[item["patient_id"]["S"]] = item
        wanted = answer.get("UnprocessedKeys")
    return found


def put_rows(rows):
    left = {TABLE: [{"PutRequest": {"Item": row}} for row in rows]}
    while left:
        left = client.batch_write_item(RequestItems=left).get("UnprocessedItems")


def put_summary(step):
    """Whether it was still as it was read."""
    summary, before = step["summary"], step["before"]
    try:
        client.put_item(
            TableName=TABLE,
            Item=summary,
            ConditionExpression="attribute_not_exists(pk) OR applied = :before" if before == 0 else "applied = :before",
            ExpressionAttributeValues={":before": {"N": str(before)}},
        )
        return True
    except client.exceptions.ConditionalCheckFailedException:
        return False


def fold(generation, patient, stored, events):
    """What the events that follow the summary come to; None if one is missing."""
    stored = stored or {}
    pk = patient_pk(generation, patient)
    before = int(stored["applied"]["N"]) if stored else 0
    applied = before
    name, registered_at = stored.get("name"), stored.get("registered_at")
    count = int(stored["checkin_count"]["N"]) if "checkin_count" in stored else 0
    last = stored["last_checkin_at"]["S"] if "last_checkin_at" in stored else None
    rows = []
    for version, image in sorted(events, key=lambda event: event[0]):
        if version <= applied:
            continue
        if version != applied + 1:
            return None
        occurred_at = image["occurred_at"]
        if image["event_type"]["S"] == "PatientRegistered":
            name, registered_at = image["data"]["M"]["name"], occurred_at
        else:
            count += 1
            last = max(last or "", occurred_at["S"])
            sk = row_sk(occurred_at["S"], version)
            rows.append(key(pk, sk) | {"checkin_id": image["data"]["M"]["checkin_id"]})
        applied = version
    summary = key(pk, "summary") | {
        "shard": {"S": shard(generation, patient)},
        "patient_id": {"S": patient},
        "recent_key": {"S": f"{last or '-'}#{patient}"},
        "applied": {"N": str(applied)},
        "name": name,
        "registered_at": registered_at,
        "checkin_count": {"N": str(count)},
    }
    if last:
        summary["last_checkin_at"] = {"S": last}
    return {"rows": rows, "summary": summary, "before": before, "moved": applied > before}


def handle(event):
    control = client.get_item(TableName=TABLE, Key=key("control", "control"), ConsistentRead=True)
    generation = control["Item"]["active"]["N"]
    records = event["Records"]
    patients, newest = {}, ""
    for index, record in enumerate(records):
        if record["eventName"] != "INSERT":
            continue
        image = record["dynamodb"]["NewImage"]
        _, events = patients.setdefault(image["patient_id"]["S"], (index, []))
        events.append((int(image["version"]["N"]), image))
        newest = max(newest, image["recorded_at"]["S"])
    known = {}
    for found in pool.map(lambda some: read_summaries(generation, some), chunks(list(patients), 100)):
        known |= found
    failed, steps = [], []
    for patient, (first, events) in patients.items():
        step = fold(generation, patient, known.get(patient), events)
        if step is None:
            failed.append(first)
        elif step["moved"]:
            steps.append((first, step))
    list(pool.map(put_rows, chunks([row for _, step in steps for row in step["rows"]], 25)))
    for (first, _), put in zip(steps, pool.map(put_summary, [step for _, step in steps])):
        if not put:
            failed.append(first)
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    progress = {"recorded_at": {"S": newest}, "applied_at": {"S": now}}
    client.put_item(TableName=TABLE, Item=key(freshness_pk(generation), "progress") | progress)
    told = {"level": "INFO", "message": "batch applied", "records": len(records), "failed": len(failed)}
    print(json.dumps(told), flush=True)
    if not failed:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": records[min(failed)]["dynamodb"]["SequenceNumber"]}]}


run(handle)
