"""The daemon against its own description: data made from it, valid and invalid, also in sequences.

AMPLIFIERD_FUZZ_CASES says how many cases the long run makes at least, AMPLIFIERD_FUZZ_SEED from
what they are drawn: the same cases for the same code, others with another seed.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from amplifierd import env
from tests.harness.daemon import Daemon, daemon

pytestmark = pytest.mark.acceptance
ROOT = settings.BASE_DIR
CASES = env.number("AMPLIFIERD_FUZZ_CASES", 10_000)
SEED = env.number("AMPLIFIERD_FUZZ_SEED", 1)
# Random cases of an operation; about seventy operations have more than a few to give.
PER_OPERATION = max(1, CASES // 70)
# What is answered is looked at, and not how fast: a busy machine is no finding.
PATIENT = {"AMPLIFIERD_ANSWER_SECONDS": "100", "AMPLIFIERD_STATEMENT_TIMEOUT": "60"}
CONFIG = """
hooks = "tests.acceptance.fuzz_hooks"
# A stream is left after its first frame.
max-stream-events = 1
request-timeout = 120
continue-on-failure = true
# They measure how fast cases are made: on a busy machine they fail, whatever the daemon answers.
suppress-health-check = ["all"]

[generation]
database = "none"
# That NUL and lone surrogates are refused is tested elsewhere; no schema can say it shortly.
allow-x00 = false

# As by default, and 410: of two things that are wrong with a cursor, its epoch may be told first.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 428, 429, "5xx"]

[phases.stateful]
max-steps = 12

[dictionaries.names]
values = ["foundation/base", "base", "foundation", "developer-expertise", "local/mine", "mine"]

[dictionaries.directories]
values = ["root", "projects/app", "projects"]

[parameters]
"path.name" = { dictionary = "names", probability = 0.6 }
"path.collection" = { dictionary = "names", probability = 0.6 }
"path.path" = { dictionary = "directories", probability = 0.6 }
"""


def schemathesis(at: Daemon, folder: Path, *options: str) -> tuple[str, int]:
    """Run schemathesis with all checks; return what it printed and how many cases it made."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    tool = Path(sys.executable).with_name("schemathesis")
    command = [tool, "--config-file", config, "run", ROOT / "docs" / "openapi.json"]
    command += ["--url", at.url, "--checks", "all", "--no-color", *options]
    # An answer may wait for that of the local model.
    command += ["--max-response-time", "120"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**at.environment, "PYTHONPATH": str(ROOT), "AMPLIFIERD_FUZZ_URL": at.url},
        capture_output=True,
        text=True,
    )
    found = re.search(r"(\d+) generated", done.stdout)
    assert done.returncode == 0, failures(done.stdout) + done.stderr
    assert found, done.stdout
    return done.stdout, int(found[1])


def failures(printed: str) -> str:
    """What schemathesis found, without its progress before and its hints after."""
    begin = re.search("= (ERRORS|FAILURES) =", printed)
    return printed[begin.start() if begin else 0 :].partition("= WARNINGS =")[0]


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of the test's own that takes its time."""
    with daemon(tmp_path / "home", **PATIENT) as own:
        yield own


def test_examples_and_some_sequences_are_answered_as_described(
    patient: Daemon, tmp_path: Path
) -> None:
    phases = ("--phases", "examples,stateful", "-n", "1", "--seed", "1")
    printed, cases = schemathesis(patient, tmp_path, *phases, "--generation-deterministic")
    print(f"{cases} cases")
    assert cases >= 100, printed


@pytest.mark.long
def test_thousands_of_cases_are_answered_as_described(patient: Daemon, tmp_path: Path) -> None:
    drawn = ("-n", str(PER_OPERATION), "--seed", str(SEED))
    printed, cases = schemathesis(patient, tmp_path, *drawn)
    print(printed[printed.find("= SUMMARY =") :])
    assert cases >= CASES
    assert "Traceback" not in patient.log.read_text()
