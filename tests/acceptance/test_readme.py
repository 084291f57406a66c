"""What README.md has people paste into a shell does what it says."""

import re
import subprocess

import pytest

from tests.harness.daemon import ROOT, Daemon
from tests.harness.sse import frames
from tests.harness.waiting import PATIENCE

pytestmark = pytest.mark.acceptance
ASKED = "What is the capital of France?"


def pasted(own: Daemon) -> str:
    """Return the first calls of README.md, with this daemon and its profile without a model."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if "send-message" in block]
    assert block.count("http://127.0.0.1:8420") == block.count("foundation/base") == 1
    own_block = block.replace("http://127.0.0.1:8420", own.url)
    return own_block.replace("foundation/base", "foundation/test")


def test_the_first_calls_pasted_whole_show_the_answer_and_how_it_came(running: Daemon) -> None:
    done = subprocess.run(
        ["bash"], input=pasted(running), capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    [session] = running.api.get("/sessions/?limit=1").json()
    _, answer = running.transcript(session["sessionId"])
    outcome, stream = done.stdout.split("id: ", 1)[0], done.stdout
    assert '"status":"succeeded"' in outcome.replace(" ", "")
    assert answer["content"] in outcome
    told = list(frames(iter(stream[stream.index("event: ") :].split("\n"))))
    assert [frame.event for frame in told][-1] == "session_ended"
    [complete] = [frame for frame in told if frame.event == "assistant_message_complete"]
    assert complete.data["content"] == answer["content"]
    assert ASKED in answer["content"]
