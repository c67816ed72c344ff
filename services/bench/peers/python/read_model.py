"""The keys of the read model (docs/EVENTS.md)."""

import hashlib
import os

TABLE = os.environ["READ_MODEL_TABLE"]


def patient_pk(generation, patient):
    return f"g{generation}#patient#{patient}"


def freshness_pk(generation):
    return f"g{generation}#freshness"


def row_sk(occurred_at, version):
    return f"checkin#{occurred_at}#{version:012}"


def shard(generation, patient):
    first = hashlib.sha256(patient.encode()).digest()[0]
    return f"g{generation}#{first % 8:02}"


def key(pk, sk):
    return {"pk": {"S": pk}, "sk": {"S": sk}}
