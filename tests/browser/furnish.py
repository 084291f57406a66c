"""What the scene needs beside its sessions: profiles, directories, keys; made by the API."""

import json
from typing import Any

from tests.browser.console import manage
from tests.browser.conversations import REVIEWER, WRITER
from tests.harness.daemon import Daemon

DIRECTORIES = ("importer", "reports", "site", "site/letters")
PROFILES: dict[str, dict[str, Any]] = {
    REVIEWER: {
        "description": "Reads code, runs the tests, and says what it would change and why.",
        "instruction": "You review code. Say what is wrong, how bad it is, and show the change.",
        "agents": {"planner": "Divide the work.", "critic": "Find the flaw."},
    },
    WRITER: {
        "description": "Writes plainly, in the reader's language.",
        "instruction": "You write for people who are in a hurry.",
    },
}
# What the reviewer is told in its second version.
STRICTER = (
    "You review code. Say what is wrong, how bad it is, show the change, and how it is tested."
)
MOCK = {"module": "provider-mock", "source": None, "config": {"temperature": 0.2}}


def furnish(daemon: Daemon) -> dict[str, str]:
    """Make all of the scene in a scratch daemon; return the ids of its sessions by their names."""
    for full_name, wanted in PROFILES.items():
        body = {"name": full_name.split("/")[1], "version": "1.0.0", "providers": [MOCK], **wanted}
        daemon.ask("POST", "/profiles/", body)
    daemon.ask("PATCH", f"/profiles/{REVIEWER}", {"instruction": STRICTER, "version": "1.1.0"})
    for path in DIRECTORIES:
        daemon.ask("POST", "/amplified-directories/", {"relative_path": path})
    for name, owner in (("nightly jobs", "studio"), ("notebooks", "ada")):
        manage(daemon, "apikeys", "create", name, "--owner", owner)
    return scene(daemon)


def scene(daemon: Daemon, *what: str) -> dict[str, str]:
    """Play the scene, or what else is named; return the ids of its sessions by their names."""
    return dict(json.loads(manage(daemon, "-m", "tests.browser.scene", *what)))
