"""The agents of the driver: what they may do, what each does with a message, and where."""

import uuid
from pathlib import Path
from typing import Any

from tests.harness.agents import calls
from tests.harness.daemon import Daemon

# An edit of the ledger adds one of these before its end.
MARK, END = "x", "|"
LEDGER, BEATS = "ledger.txt", "beats.txt"
WRITTEN = ("one.txt", "two.txt", "three.txt")
EDIT = calls("edit_file", path=LEDGER, old=END, new=MARK + END)
WRITES = [calls("write_file", path=path, content="done") for path in WRITTEN]
# It takes a moment in which its worker may die.
BEAT = calls("bash", command=f"sleep 0.3; printf {MARK} >> {BEATS}")
SLOW = "BENCH tokens=30 delay_ms=20"
BROKEN = "BENCH tokens=30 delay_ms=10 fail_after=5"


def delegated(profile: str, message: str) -> dict[str, Any]:
    """A call that gives a message to a sub-session."""
    return calls("delegate", profile=profile, message=message)


CLERK, BOSS, COUNTER = "clerk", "boss", "counter"
TOOLS: dict[str, list[dict[str, Any]]] = {
    CLERK: [{"module": "tool-filesystem", "config": {"require_approval": ["write_file"]}}],
    BOSS: [{"module": "tool-task", "config": {"profiles": ["foundation/test", f"local/{CLERK}"]}}],
    COUNTER: [{"module": "tool-filesystem"}, {"module": "tool-bash"}],
}
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    CLERK: [
        {"text": "I look.", "tools": [calls("list_files", path=".")]},
        {"text": "I write.", "tools": [WRITES[0], EDIT, WRITES[1]]},
        {"tools": [WRITES[2]]},
        {"text": "It is done."},
    ],
    BOSS: [
        {"text": "I delegate.", "tools": [delegated("foundation/test", SLOW)]},
        {"tools": [delegated(f"local/{CLERK}", "Write."), delegated("foundation/test", BROKEN)]},
        {"text": "It was done."},
    ],
    COUNTER: [
        {"text": "I count.", "tools": [EDIT, EDIT]},
        {"tools": [BEAT, calls("read_file", path=LEDGER)]},
        {"text": "I counted."},
    ],
}


def make_profiles(own: Daemon) -> None:
    """Make the agents' profiles, while nothing is wrong."""
    for name, script in SCRIPTS.items():
        provider = {"module": "provider-mock", "config": {"script": script}}
        body = {"name": name, "description": "An agent.", "instruction": "Do what you are told."}
        own.ask("POST", "/profiles/", {**body, "providers": [provider], "tools": TOOLS[name]})


def make_folder(own: Daemon) -> Path:
    """Make a folder with a ledger in which a session may work; it is not amplified yet."""
    folder = own.home / "root" / f"work-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    (folder / LEDGER).write_text(END)
    return folder
