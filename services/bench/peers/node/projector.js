// Stream records to the read model: rows first, then each patient's summary on condition.
import {
  BatchGetItemCommand,
  BatchWriteItemCommand,
  ConditionalCheckFailedException,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";
import { freshnessPk, key, patientPk, rowSk, shard, table } from "./read_model.js";
import { run } from "./runtime.js";

const AT_ONCE = 16;

const client = new DynamoDBClient({});

function chunks(list, size) {
  const found = [];
  for (let start = 0; start < list.length; start += size) found.push(list.slice(start, start + size));
  return found;
}

async function eachOf(list, work) {
  const rest = list[Symbol.iterator]();
  const worker = async () => {
    for (const entry of rest) await work(entry);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

async function summaries(generation, patients) {
  const found = new Map();
  await eachOf(chunks(patients, 100), async (some) => {
    let wanted = {
      [table]: {
        ConsistentRead: true,
        Keys: some.map((patient) => key(patientPk(generation, patient), "summary")),
      },
    };
    while (Object.keys(wanted).length > 0) {
      const answer = await client.send(new BatchGetItemCommand({ RequestItems: wanted }));
      for (const item of answer.Responses[table] ?? []) found.set(item.patient_id.S, item);
      wanted = answer.UnprocessedKeys ?? {};
    }
  });
  return found;
}

async function putRows(rows) {
  await eachOf(chunks(rows, 25), async (some) => {
    let left = { [table]: some.map((Item) => ({ PutRequest: { Item } })) };
    while (Object.keys(left).length > 0) {
      const answer = await client.send(new BatchWriteItemCommand({ RequestItems: left }));
      left = answer.UnprocessedItems ?? {};
    }
  });
}

// Folds the events that follow the summary, in order.
function fold(generation, patient, before, events) {
  const pk = patientPk(generation, patient);
  const state = {
    applied: Number(before?.applied.N ?? 0),
    name: before?.name?.S,
    registeredAt: before?.registered_at?.S,
    count: Number(before?.checkin_count?.N ?? 0),
    last: before?.last_checkin_at?.S,
  };
  const rows = [];
  events.sort((one, other) => one.version - other.version);
  for (const event of events) {
    if (event.version <= state.applied) continue;
    if (event.version !== state.applied + 1) return { gap: true };
    if (event.type === "PatientRegistered") {
      state.name = event.data.name.S;
      state.registeredAt = event.occurredAt;
    } else {
      state.count += 1;
      if (!state.last || event.occurredAt > state.last) state.last = event.occurredAt;
      rows.push({
        ...key(pk, rowSk(event.occurredAt, event.version)),
        checkin_id: { S: event.data.checkin_id.S },
      });
    }
    state.applied = event.version;
  }
  const summary = {
    ...key(pk, "summary"),
    shard: { S: shard(generation, patient) },
    patient_id: { S: patient },
    recent_key: { S: `${state.last ?? "-"}#${patient}` },
    applied: { N: String(state.applied) },
    name: { S: state.name },
    registered_at: { S: state.registeredAt },
    checkin_count: { N: String(state.count) },
  };
  if (state.last) summary.last_checkin_at = { S: state.last };
  return { rows, summary, before: Number(before?.applied.N ?? 0) };
}

async function putSummary({ summary, before }) {
  const condition = before === 0 ? "attribute_not_exists(pk) OR applied = :before" : "applied = :before";
  await client.send(
    new PutItemCommand({
      TableName: table,
      Item: summary,
      ConditionExpression: condition,
      ExpressionAttributeValues: { ":before": { N: String(before) } },
    }),
  );
}

async function handle(event) {
  const control = await client.send(
    new GetItemCommand({ TableName: table, Key: key("control", "control"), ConsistentRead: true }),
  );
  const generation = control.Item.active.N;
  const patients = new Map();
  let newest = "";
  for (const [index, record] of event.Records.entries()) {
    if (record.eventName !== "INSERT") continue;
    const image = record.dynamodb.NewImage;
    const patient = image.patient_id.S;
    if (!patients.has(patient)) patients.set(patient, { first: index, events: [] });
    patients.get(patient).events.push({
      version: Number(image.version.N),
      type: image.event_type.S,
      occurredAt: image.occurred_at.S,
      data: image.data.M,
    });
    if (image.recorded_at.S > newest) newest = image.recorded_at.S;
  }
  const known = await summaries(generation, [...patients.keys()]);
  const failed = [];
  const steps = [];
  for (const [patient, { first, events }] of patients) {
    const step = fold(generation, patient, known.get(patient), events);
    if (step.gap) failed.push(first);
    else if (Number(step.summary.applied.N) > step.before) steps.push({ first, ...step });
  }
  await putRows(steps.flatMap((step) => step.rows));
  await eachOf(steps, async (step) => {
    try {
      await putSummary(step);
    } catch (error) {
      if (!(error instanceof ConditionalCheckFailedException)) throw error;
      failed.push(step.first);
    }
  });
  const progress = { recorded_at: { S: newest }, applied_at: { S: new Date().toISOString() } };
  const Item = { ...key(freshnessPk(generation), "progress"), ...progress };
  await client.send(new PutItemCommand({ TableName: table, Item }));
  const records = event.Records.length;
  console.log(JSON.stringify({ level: "INFO", message: "batch applied", records, failed: failed.length }));
  if (failed.length === 0) return { batchItemFailures: [] };
  const lowest = event.Records[Math.min(...failed)].dynamodb.SequenceNumber;
  return { batchItemFailures: [{ itemIdentifier: lowest }] };
}

run(handle);
