// GET /patients/{id}/checkins: the newest check-ins of a patient.
import { createHash } from "node:crypto";
import { DynamoDBClient, GetItemCommand, QueryCommand } from "@aws-sdk/client-dynamodb";
import { freshnessPk, key, patientPk, table } from "./read_model.js";
import { run } from "./runtime.js";

const LIMIT = 50;
const MAX_LAG = 2 * 60_000;
const MAX_SILENCE = 2 * 60 * 60_000;

const client = new DynamoDBClient({});

async function get(pk, sk) {
  const { Item } = await client.send(new GetItemCommand({ TableName: table, Key: key(pk, sk) }));
  return Item;
}

function staleSince(progress, sweep) {
  const words = [];
  if (progress) {
    const at = Date.parse(progress.applied_at.S);
    words.push([at, at - Date.parse(progress.recorded_at.S)]);
  }
  if (sweep) {
    words.push([Date.parse(sweep.swept_to.S), Number(sweep.lag_millis?.N ?? 0)]);
  }
  if (words.length === 0) return null;
  const [, lag] = words.reduce((last, word) => (word[0] > last[0] ? word : last));
  const since = sweep ? sweep.swept_to.S : progress.recorded_at.S;
  return lag > MAX_LAG || Date.now() - Date.parse(since) > MAX_SILENCE ? since : null;
}

async function freshness(generation) {
  const { Items } = await client.send(
    new QueryCommand({
      TableName: table,
      KeyConditionExpression: "pk = :pk",
      ExpressionAttributeValues: { ":pk": { S: freshnessPk(generation) } },
    }),
  );
  const of = (sk) => Items.find((item) => item.sk.S === sk);
  return { progress: of("progress"), sweep: of("sweep") };
}

async function checkins(generation, patient) {
  const pk = patientPk(generation, patient);
  const summary = await get(pk, "summary");
  if (!summary?.name) return undefined;
  const applied = Number(summary.applied.N);
  const { Items } = await client.send(
    new QueryCommand({
      TableName: table,
      ConsistentRead: true,
      KeyConditionExpression: "pk = :pk AND begins_with(sk, :rows)",
      ProjectionExpression: "sk, checkin_id",
      ExpressionAttributeValues: { ":pk": { S: pk }, ":rows": { S: "checkin#" } },
      ScanIndexForward: false,
      Limit: LIMIT + 1,
    }),
  );
  const rows = Items.map((item) => {
    const [, occurredAt, version] = item.sk.S.split("#");
    return { id: item.checkin_id.S, occurredAt, version: Number(version) };
  }).filter((row) => row.version <= applied);
  return { quarantinedSince: summary.quarantine?.M.since.S ?? null, rows };
}

function answer(statusCode, body, headers) {
  const always = { "x-content-type-options": "nosniff", "referrer-policy": "no-referrer" };
  return { statusCode, headers: { ...always, ...headers }, body, isBase64Encoded: false };
}

async function handle(event) {
  const [, , patient] = event.path.split("/");
  const control = await get("control", "control");
  const generation = control?.active.N;
  const [found, { progress, sweep }] = await Promise.all([checkins(generation, patient), freshness(generation)]);
  if (!found) {
    const problem = { type: "urn:problem:patient-checkins:unknown-patient", status: 404 };
    return answer(404, JSON.stringify(problem), { "content-type": "application/problem+json" });
  }
  const body = JSON.stringify({
    patientId: patient,
    quarantinedSince: found.quarantinedSince,
    staleSince: staleSince(progress, sweep),
    checkins: found.rows.slice(0, LIMIT),
    nextCursor: null,
  });
  const half = createHash("sha256").update(body).digest().subarray(0, 16);
  const etag = `"${half.toString("base64url")}"`;
  console.log(JSON.stringify({ level: "INFO", message: "answered", status: 200 }));
  if (event.headers?.["If-None-Match"] === etag) return answer(304, null, { etag });
  return answer(200, body, { etag, "cache-control": "no-store", "content-type": "application/json" });
}

run(handle);
