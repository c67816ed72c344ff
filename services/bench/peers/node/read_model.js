// The keys of the read model (docs/EVENTS.md).
import { createHash } from "node:crypto";

export const table = process.env.READ_MODEL_TABLE;

export const patientPk = (generation, patient) => `g${generation}#patient#${patient}`;

export const freshnessPk = (generation) => `g${generation}#freshness`;

export const rowSk = (occurredAt, version) => `checkin#${occurredAt}#${String(version).padStart(12, "0")}`;

export function shard(generation, patient) {
  const first = createHash("sha256").update(patient).digest()[0];
  return `g${generation}#${String(first % 8).padStart(2, "0")}`;
}

export const key = (pk, sk) => ({ pk: { S: pk }, sk: { S: sk } });
