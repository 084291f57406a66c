"""What writing pays for searching: with the indexes of words and metadata, and without."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from tests.bench.figures import Figures
from tests.bench.fill import PROFILE
from tests.bench.operations import SESSIONS, Operation, measure
from tests.bench.throwaway import Daemon

# Sessions that are written to; each takes few runs.
ACTIVE = """
SELECT id FROM sessions_app_session WHERE status = 'active' ORDER BY created_at DESC LIMIT 2000
"""
BARE = """
ALTER TABLE sessions_app_message DROP COLUMN words;
DROP INDEX session_by_words, session_by_metadata;
"""
# About two hundred characters, and twenty thousand, none said before.
SHORT, LONG = 30, 3000


@dataclass(frozen=True)
class Written:
    """One operation that writes, with what searching needs and without."""

    indexed: Figures
    bare: Figures


def measure_writes(
    daemon: Daemon, connections: int, seconds: float, say: Callable[[str], None]
) -> list[Written]:
    """Return what each operation does per second before and after the indexes are dropped.

    The daemon has no worker, and can no longer search afterwards.
    """
    with psycopg.connect(daemon.conninfo) as connection:
        found = [f"{SESSIONS}{row[0]}" for row in connection.execute(ACTIVE).fetchall()]
    rounds = []
    for is_bare in (False, True):
        say(f"Measuring writes {'without' if is_bare else 'with'} the indexes of searching")
        if is_bare:
            with psycopg.connect(daemon.conninfo) as connection:
                connection.execute(BARE)
        rounds.append([measure(o, daemon, connections, seconds) for o in operations(found)])
    return [Written(*pair) for pair in zip(*rounds, strict=True)]


def operations(paths: list[str]) -> list[Operation]:
    """Return what is measured."""
    creation = {"profile_name": PROFILE, "name": "A name", "metadata": {"team": 1}}
    appended = [f"{path}/messages" for path in paths]
    sent = [f"{path}/send-message" for path in paths]
    return [
        Operation("create", "", "POST", [SESSIONS], 201, body_of(creation)),
        Operation("append, 30 words", "", "POST", appended, 201, message(SHORT)),
        Operation("append, 3,000 words", "", "POST", appended, 201, message(LONG)),
        Operation("send-message, 30 words", "", "POST", sent, 202, message(SHORT)),
    ]


def message(words: int) -> bytes:
    """Return a message of so many words."""
    return body_of({"content": " ".join(f"{number * 7919 % 99991:x}" for number in range(words))})


def body_of(data: dict[str, object]) -> bytes:
    """Return the JSON of a request."""
    return json.dumps(data).encode()
