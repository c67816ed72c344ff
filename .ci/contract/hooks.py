"""What schemathesis cannot know from a schema: which refusals of well-formed requests are right."""

import schemathesis
from schemathesis.generation import GenerationMode

PREFIX = "urn:problem:patient-checkins:"


@schemathesis.check
def refusals_have_a_reason(ctx, response, case):
    """A 503 is of a version that is not there yet, and a 400 to a well-formed request is of a cursor that was made up,
    or of two parameters that contradict each other."""
    if response.status_code not in (400, 503) or case.method.upper() not in ("GET", "HEAD"):
        return
    query = case.query or {}
    if response.status_code == 503:
        assert "minVersion" in query, "503 without a version to wait for"
    if case.method.upper() == "HEAD":
        return
    problem = response.json()
    kind, parameter = problem["type"].removeprefix(PREFIX), problem.get("parameter")
    if response.status_code == 503:
        assert kind == "not-applied-yet", kind
    elif case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE:
        contradiction = (kind, parameter) in (("invalid-parameter", "from"), ("invalid-parameter", "minVersion"))
        assert kind == "invalid-cursor" and "cursor" in query or contradiction, (kind, parameter)
