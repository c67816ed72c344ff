#!/usr/bin/env python3
"""Changes the fold, and has `replay rebuild --dry-run` tell what that would change for readers.

    changed_projection.py LOCAL     the program, built from the tree as it is

In a copy of the tree the fold keeps the first check-in of a patient where it should keep the last. A `replay` built from
that copy has to name this field of exactly those patients who checked in more than once, and nothing else, while check-ins go
on, and the projector applies them as it always did. What it has built is not promoted beside that projector.
"""

import json
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
LOCAL = pathlib.Path(sys.argv[1]).resolve()
FOLD = "shared/domain/src/patient_state.rs"
AS_IT_IS = "patient.last_checkin_at = patient.last_checkin_at.max(Some(recorded.occurred_at));"
CHANGED = "patient.last_checkin_at = patient.last_checkin_at.or(Some(recorded.occurred_at));"


def changed_replay(folder):
    """A `replay` with another fold."""
    tree = folder / "tree"
    tree.mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    fold = tree / FOLD
    text = fold.read_text()
    assert text.count(AS_IT_IS) == 1, f"{FOLD} no longer has the line that is changed here"
    fold.write_text(text.replace(AS_IT_IS, CHANGED))
    build = ["cargo", "build", "--locked", "--quiet", "-p", "replay", "--target-dir", folder / "target"]
    subprocess.run(build, cwd=tree, check=True)
    return folder / "target/debug/replay"


class Local:
    """A running system on the data of `folder`."""

    def __init__(self, folder, every):
        self.output = folder / "local.out"
        with open(self.output, "wb") as output:
            arguments = ["--port", "0", "--data", folder / "data", "--every", every]
            self.child = subprocess.Popen([LOCAL, *arguments], stdout=output, stderr=output)
        self.patients_url, self.dynamodb = self.printed("patients"), self.printed("dynamodb")

    def printed(self, label):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.child.poll() is None, self.output.read_text()
            # Up to the end of the line: it may be half written.
            found = re.search(rf"^{label} +(\S+)\n", self.output.read_text(), re.M)
            if found:
                return found[1]
            time.sleep(0.05)
        raise AssertionError(f"not printed within 30 s: {label}")

    def get(self, path):
        with urllib.request.urlopen(self.patients_url + path, timeout=60) as answer:
            return json.load(answer)

    def often(self):
        """When each patient checked in who did so more than once, in order."""
        times = {}
        for patient in self.get("?limit=100")["patients"]:
            if patient["checkinCount"] > 1:
                rows = self.get(f"/{patient['id']}/checkins?limit=100&order=asc")["checkins"]
                times[patient["id"]] = [row["occurredAt"] for row in rows]
        return times

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        assert self.child.wait(timeout=20) == 0


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="changed-projection-"))
    system = None
    try:
        replay = changed_replay(folder)
        system = Local(folder, "50ms")
        deadline = time.monotonic() + 60
        while len(system.often()) < 10:
            assert time.monotonic() < deadline, "ten patients did not check in twice within a minute"
            time.sleep(0.2)

        # Check-ins go on, and the projector, which folds as before, applies them.
        before = system.often()
        command = [replay, "rebuild", "--dry-run", "--values", "--json", "--endpoint-url", system.dynamodb]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        after = system.often()
        assert sum(map(len, after.values())) > sum(map(len, before.values())), "nobody checked in meanwhile"

        found = {change["patientId"]: change["differences"] for change in answer["changes"]}
        assert not answer["promoted"] and answer["changed"] == len(found), answer
        assert set(before) <= set(found) <= set(after), f"expected {sorted(before)}, found {sorted(found)}"
        for patient, differences in found.items():
            times = after[patient]
            (difference,) = differences
            # The first check-in instead of the last one, as of some moment of the run.
            last = difference["expected"]
            assert difference == {"field": "lastCheckinAt", "found": times[0], "expected": last}, (patient, differences)
            assert last in times and last >= before.get(patient, times[:2])[-1], (patient, differences)
        for patient, times in after.items():
            assert system.get(f"/{patient}")["lastCheckinAt"] >= times[-1], "the dry run was promoted"
        print(f"{len(found)} of {answer['patients']} patients differ, each in lastCheckinAt and nothing else")

        # The projector would go on in it by the old rules.
        command = [replay, "promote", "--endpoint-url", system.dynamodb]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and "deploy the projector" in done.stderr, (done.returncode, done.stderr)
        print("and it is not promoted beside the projector as it is")
        system.stop()
    finally:
        if system and system.child.poll() is None:
            system.child.kill()
        shutil.rmtree(folder)


main()
