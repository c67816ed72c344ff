"""GET /patients/{id}/checkins: the newest check-ins of a patient."""

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone

import boto3

from read_model import TABLE, freshness_pk, key, patient_pk
from runtime import run

LIMIT = 50
MAX_LAG = timedelta(minutes=2)
MAX_SILENCE = timedelta(hours=2)
ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

client = boto3.client("dynamodb")


def get(pk, sk):
    return client.get_item(TableName=TABLE, Key=key(pk, sk)).get("Item")


def freshness(generation):
    found = client.query(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": freshness_pk(generation)}},
    )["Items"]
    by_sk = {item["sk"]["S"]: item for item in found}
    return by_sk.get("progress"), by_sk.get("sweep")


def as_checkin(row):
    _, occurred_at, version = row["sk"]["S"].split("#")
    return {"id": row["checkin_id"]["S"], "occurredAt": occurred_at, "version": int(version)}


def moment(attribute):
    return datetime.fromisoformat(attribute["S"])


def stale_since(progress, sweep):
    words = []
    if progress:
        applied_at = moment(progress["applied_at"])
        words.append((applied_at, applied_at - moment(progress["recorded_at"])))
    if sweep:
        lag = int(sweep.get("lag_millis", {"N": "0"})["N"])
        words.append((moment(sweep["swept_to"]), timedelta(milliseconds=lag)))
    if not words:
        return None
    _, lag = max(words)
    since = sweep["swept_to"] if sweep else progress["recorded_at"]
    late = lag > MAX_LAG or datetime.now(timezone.utc) - moment(since) > MAX_SILENCE
    return since["S"] if late else None


def answer(status, body, headers):
    return {"statusCode": status, "headers": ALWAYS | headers, "body": body, "isBase64Encoded": False}


def unknown():
    problem = {"type": "urn:problem:patient-checkins:unknown-patient", "status": 404}
    return answer(404, json.dumps(problem), {"content-type": "application/problem+json"})


def handle(event):
    patient = event["path"].split("/")[2]
    control = get("control", "control")
    if not control:
        return unknown()
    generation = control["active"]["N"]
    pk = patient_pk(generation, patient)
    summary = get(pk, "summary")
    if not summary or "name" not in summary:
        return unknown()
    rows = client.query(
        TableName=TABLE,
        ConsistentRead=True,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :rows)",
        ExpressionAttributeValues={":pk": {"S": pk}, ":rows": {"S": "checkin#"}},
        ProjectionExpression="sk, checkin_id",
        ScanIndexForward=False,
        Limit=LIMIT + 1,
    )["Items"]
    progress, sweep = freshness(generation)
    applied = int(summary["applied"]["N"])
    checkins = [checkin for checkin in map(as_checkin, rows) if checkin["version"] <= applied]
    quarantine = summary.get("quarantine")
    listed = {
        "patientId": patient,
        "quarantinedSince": quarantine["M"]["since"]["S"] if quarantine else None,
        "staleSince": stale_since(progress, sweep),
        "checkins": checkins[:LIMIT],
        "nextCursor": None,
    }
    body = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    half = hashlib.sha256(body.encode()).digest()[:16]
    etag = '"' + base64.urlsafe_b64encode(half).decode().rstrip("=") + '"'
    print(json.dumps({"level": "INFO", "message": "answered", "status": 200}), flush=True)
    if (event.get("headers") or {}).get("If-None-Match") == etag:
        return answer(304, None, {"etag": etag})
    return answer(
        200, body, {"etag": etag, "cache-control": "no-store", "content-type": "application/json"}
    )


run(handle)
