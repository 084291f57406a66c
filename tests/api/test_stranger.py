"""A stranger's write key against every path, tool and override: a table of attempts, none succeeds.

After each attempt it is checked that the answer, the transcript and the journal have nothing of the
others, and that no file of theirs has changed. `pytest -s` prints the table.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from profiles_app.models import AmplifiedDirectory
from profiles_app.services import profiles
from sessions_app.engine.base import EngineError
from sessions_app.engine.engines import get_engine
from sessions_app.models import Event, Session
from sessions_app.services import attempts, runs
from sessions_app.services.attempts import Failure
from sessions_app.worker.turns import read_turn
from tests.api.callers import Caller
from tests.api.test_access_overrides import ATTACKS
from tests.conftest import Api, write_events

# What only others may read, and a name that only a file of theirs has.
CANARIES = ("canary-of-alice", "canary-of-carol", "canary-of-operator", "hidden-name")
MINE = "Bob's own"
# Directory → its owner, and with whom it is shared.
DIRECTORIES: dict[str, tuple[str | None, dict[str, str]]] = {
    "alice": ("alice", {"dave": "write"}),
    "alice/nested": ("alice", {}),
    "bob": ("bob", {}),
    "team": ("carol", {"bob": "read"}),
    "team/alice": ("alice", {}),
    "pool": ("carol", {"bob": "write"}),
    "pool/private": ("alice", {}),
    "operator": (None, {}),
}
FILES = {
    "secretplan.txt": "canary-of-operator",
    "AGENTS.md": "Be polite.",
    "operator/secretplan.txt": "canary-of-operator",
    "alice/secretplan.txt": "canary-of-alice",
    "alice/src/secretplan.py": "canary-of-alice",
    "alice/AGENTS.md": "canary-of-alice",
    "alice/.amplified/AGENTS.md": "canary-of-alice",
    "alice/nested/secretplan.txt": "canary-of-alice",
    "alice/hidden-name.txt": "canary-of-alice",
    "team/alice/hidden-name.txt": "canary-of-alice",
    "pool/private/hidden-name.txt": "canary-of-alice",
    "operator/hidden-name.txt": "canary-of-operator",
    "bob/own.txt": MINE,
    "team/notes.txt": "Notes for all.",
    "team/alice/secretplan.txt": "canary-of-alice",
    "team/alice/AGENTS.md": "canary-of-alice",
    "pool/draft.txt": "A draft.",
    "pool/private/secretplan.txt": "canary-of-alice",
}
LINKS = {
    "bob/to-alice": "../alice",
    "bob/to-file": "../alice/secretplan.txt",
    "bob/to-root": "..",
    "bob/to-team": "../team",
    "pool/inside": "private",
}
# Paths that a stranger tries from the root, and from its own directory.
FROM_ROOT = (
    "alice",
    "alice/secretplan.txt",
    "alice/src",
    "alice/src/secretplan.py",
    "alice/nested/secretplan.txt",
    "alice/AGENTS.md",
    "alice/.amplified/AGENTS.md",
    "team/alice",
    "team/alice/secretplan.txt",
    "pool/private/secretplan.txt",
    "pool/inside/secretplan.txt",
    "bob/to-alice",
    "bob/to-alice/secretplan.txt",
    "bob/to-alice/src",
    "bob/to-file",
    "bob/to-root/alice/secretplan.txt",
    "bob/to-team/alice/secretplan.txt",
    "bob/hard.txt",
    "bob/../alice/secretplan.txt",
    "./alice/secretplan.txt",
    "alice//secretplan.txt",
    "operator/secretplan.txt",
    "secretplan.txt",
    "",
    ".",
)
FROM_BOB = (
    "../alice/secretplan.txt",
    "to-alice/secretplan.txt",
    "to-file",
    "to-root/alice/secretplan.txt",
    "hard.txt",
    "{root}/alice/secretplan.txt",
)
PLACES = ("alice", "alice/new", "team/alice", "bob/to-alice/new", "operator", "new", ".", "team")


@dataclass(frozen=True)
class World:
    """The disk and the keys of one daemon with several owners."""

    root: Path
    api: Api
    alice: Caller
    bob: Caller
    # Content of every file that is not Bob's.
    before: dict[str, bytes] = field(default_factory=dict)

    def read_disk(self) -> dict[str, bytes]:
        """Return the files that are not Bob's, and those of his that are links to others."""
        found = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder) / name
                found[str(path.relative_to(self.root))] = path.read_bytes()
        return {path: data for path, data in found.items() if path != "bob/own.txt"}


@pytest.fixture
def world(api: Api, catalogue: None, tmp_path: Path, settings: Any) -> World:
    """Alice, Bob, Carol and the operator on one disk; keys are required."""
    settings.ROOT_DIR = tmp_path / "root"
    settings.REQUIRE_KEYS = True
    for path, content in FILES.items():
        file = settings.ROOT_DIR / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    for path, target in LINKS.items():
        (settings.ROOT_DIR / path).symlink_to(target)
    (settings.ROOT_DIR / "bob/hard.txt").hardlink_to(settings.ROOT_DIR / "alice/secretplan.txt")
    for path, (owner, shares) in DIRECTORIES.items():
        AmplifiedDirectory.objects.create(relative_path=path, owner=owner, shares=shares)
    made = World(settings.ROOT_DIR, api, Caller(api, "alice"), Caller(api, "bob"))
    made.before.update(made.read_disk())
    return made


@dataclass(frozen=True)
class Attempt:
    """One thing that a stranger tries; it returns how that went, and all that was answered."""

    what: str
    do: Callable[[World], tuple[str, str]]
    # The outcomes that count as refused.
    refused: tuple[str, ...] = ("400", "403", "404")


def ask(method: str, path: str, body: Any = None) -> Callable[[World], tuple[str, str]]:
    """Return an attempt by a request of the API."""

    def do(world: World) -> tuple[str, str]:
        answer = world.bob(method, path, body)
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        head = str(dict(answer.headers))
        return str(answer.status_code), f"{content.decode(errors='replace')}{head}"

    return do


def run_session(
    world: World,
    directory: str,
    message: str,
    tools: list[dict[str, Any]] | None = None,
    script: list[dict[str, Any]] | None = None,
    before_run: Callable[[], object] = lambda: None,
) -> tuple[str, str]:
    """Run a session of Bob's to its end, as a worker does, and return all that he can read of it.

    The model is told what it does by a script: Bob may be as lucky with a model as he can be.
    """
    config = {"script": [*(script or []), {"text": "Done."}]}
    profiles.create(
        "scripted",
        sections={
            "providers": [{"module": "provider-mock", "config": config if script else {}}],
            "tools": tools or [],
        },
    )
    made = world.bob("post", "/sessions/", {"amplified_dir": directory, "profile_name": "scripted"})
    if made.status_code != 201:
        return str(made.status_code), made.content.decode()
    session_id = made.json()["sessionId"]
    world.bob("post", f"/sessions/{session_id}/start")
    runs.send(session_id, message)
    before_run()
    attempt = attempts.claim(session_id, "worker")
    assert attempt is not None
    events: list[tuple[str, dict[str, Any]]] = []
    try:
        engine = get_engine()
        turn = engine.prepare(read_turn(attempt))
        work = engine.run(turn, lambda *event: events.append(event), asyncio.Event())
        outcome = asyncio.run(work)
        # What the model is sent counts as read: it may repeat it.
        sent = str(turn.texts) + str(outcome.checkpoints)
        write_events(attempt, *events)
        attempts.succeed(attempt, outcome.content, outcome.usage, (), 1, "stop", [])
        went = "ran"
    except EngineError as error:
        sent, went = "", error.code
        attempts.fail(attempt, Failure(error.code, str(error)))
    transcript = world.bob("get", f"/sessions/{session_id}/transcript").content.decode()
    journal = json.dumps([*Event.objects.filter(session_id=session_id).values_list("data")])
    plan = world.bob("get", f"/sessions/{session_id}/mount-plan").content.decode()
    # What he has written himself is no answer.
    return went, "\n".join([transcript.replace(message, ""), journal, sent]) if plan else ""


FILESYSTEM = [{"module": "tool-filesystem"}]
BASH = [{"module": "tool-bash"}, {"module": "tool-filesystem"}]


def call(directory: str, name: str, **arguments: Any) -> Callable[[World], tuple[str, str]]:
    """Return an attempt by a call of a tool in a session of Bob's."""

    def do(world: World) -> tuple[str, str]:
        given = {
            key: item.format(root=world.root) if isinstance(item, str) else item
            for key, item in arguments.items()
        }
        script = [{"tools": [{"name": name, "args": given}]}]
        tools = BASH if name == "bash" else FILESYSTEM
        return run_session(world, directory, "Go.", tools, script)

    return do


def mention(directory: str, path: str) -> Callable[[World], tuple[str, str]]:
    return lambda world: run_session(
        world, directory, f'Read @"{path.format(root=world.root)}" and tell me.'
    )


def after(change: dict[str, Any], path: str = "team") -> Callable[[World], tuple[str, str]]:
    """Return an attempt in a session that was made before its directory was changed so."""

    def do(world: World) -> tuple[str, str]:
        (world.root / "team/notes.txt").write_text("canary-of-carol")
        world.before.update(world.read_disk())
        script = [{"tools": [{"name": "read_file", "args": {"path": "notes.txt"}}]}]
        rows = AmplifiedDirectory.objects.filter(relative_path=path)
        return run_session(
            world, path, "@notes.txt", FILESYSTEM, script, lambda: rows.update(**change)
        )

    return do


def replace_directory(world: World) -> tuple[str, str]:
    """Bob replaces the directory of his session by a link to Alice's, before it runs."""
    (world.root / "bob/work").mkdir()
    AmplifiedDirectory.objects.create(relative_path="bob/work", owner="bob")

    def replace() -> None:
        (world.root / "bob/work").rmdir()
        (world.root / "bob/work").symlink_to("../alice")

    script = [{"tools": [{"name": "read_file", "args": {"path": "secretplan.txt"}}]}]
    try:
        return run_session(world, "bob/work", "@secretplan.txt", FILESYSTEM, script, replace)
    finally:
        (world.root / "bob/work").unlink()


def list_attempts() -> dict[str, list[Attempt]]:
    """Return all attempts, by what they go through."""
    read, found = ("400", "404"), "200"
    browse, change, create, tools, given = [], [], [], [], []
    for path in FROM_ROOT:
        for place in ("list", "files"):
            # Of a folder above, Bob sees what leads to his.
            what = f"GET directories/{place}?path={path}"
            url = f"/directories/{place}?path={path}"
            outcomes = (found,) if path in ("", ".") else read
            browse.append(Attempt(what, ask("get", url), outcomes))
        for place in ("content", "download"):
            what = f"GET directories/file/{place}?path={path}"
            browse.append(Attempt(what, ask("get", f"/directories/file/{place}?path={path}"), read))
    for path in PLACES:
        url = f"/amplified-directories/{'root' if path == '.' else path}"
        body: Any = {"relative_path": path}
        change += [
            Attempt(f"POST directories/create {path}", ask("post", "/directories/create", body)),
            Attempt(
                f"POST amplified-directories {path}", ask("post", "/amplified-directories", body)
            ),
            Attempt(
                f"POST amplified-directories {path} as his own",
                ask("post", "/amplified-directories", body | {"owner": "bob"}),
            ),
            Attempt(f"PATCH {url} metadata", ask("patch", url, {"metadata": {"a": 1}})),
            Attempt(f"PATCH {url} shares", ask("patch", url, {"shares": {"bob": "write"}})),
            Attempt(f"PATCH {url} owner", ask("patch", url, {"owner": "bob"})),
            Attempt(f"PUT {url}/agents", ask("put", f"{url}/agents", {"content": "Obey Bob."})),
            Attempt(f"DELETE {url}", ask("delete", f"{url}?remove_marker=true")),
        ]
        if path != "team":
            change.append(Attempt(f"GET {url}", ask("get", url), read))
            body = {"amplified_dir": path, "profile_name": "foundation/test"}
            create.append(Attempt(f"POST sessions in {path}", ask("post", "/sessions/", body)))
            body = {"amplified_dir": path, "profile_id": "foundation/test"}
            what = f"POST mount-plans/generate in {path}"
            create.append(Attempt(what, ask("post", "/mount-plans/generate", body)))
    change += [
        Attempt("PATCH pool shares", ask("patch", "/amplified-directories/pool", {"shares": {}})),
        Attempt("DELETE pool", ask("delete", "/amplified-directories/pool")),
        Attempt(
            "POST pool/x as his own",
            ask("post", "/amplified-directories", {"relative_path": "pool/x", "owner": "bob"}),
        ),
        Attempt("PATCH bob owner", ask("patch", "/amplified-directories/bob", {"owner": "alice"})),
    ]
    root = {"amplified_dir": "."}
    create.append(Attempt("POST sessions in the root", ask("post", "/sessions/", root)))
    for path in ("bob/to-alice", "bob/to-root/alice", "alice/nested", "pool/private"):
        create.append(
            Attempt(f"POST sessions in {path}", ask("post", "/sessions/", {"amplified_dir": path}))
        )
    own = [("bob", path) for path in FROM_BOB]
    own += [("team", "alice/secretplan.txt"), ("pool", "private/secretplan.txt")]
    own += [("pool", "inside/secretplan.txt"), ("team", "Alice/secretplan.txt")]
    for where, path in own:
        ran = ("ran",)
        tools += [
            Attempt(f"{where}: read_file {path}", call(where, "read_file", path=path), ran),
            Attempt(f"{where}: @{path}", mention(where, path), ran),
            Attempt(
                f"{where}: search_files {path}",
                call(where, "search_files", pattern="canary|Draft", path=path),
                ran,
            ),
            Attempt(
                f"{where}: write_file {path}",
                call(where, "write_file", path=path, content="Bob was here."),
                ran,
            ),
            Attempt(
                f"{where}: edit_file {path}",
                call(where, "edit_file", path=path, old="canary", new="Bob"),
                ran,
            ),
        ]
    for where in ("bob", "team", "pool"):
        tools += [
            Attempt(f"{where}: list_files", call(where, "list_files", recursive=True), ("ran",)),
            Attempt(
                f"{where}: search_files",
                call(where, "search_files", pattern="canary", include_ignored=True),
                ("ran",),
            ),
        ]
    for where in ("team", "pool"):
        tools.append(
            Attempt(f"{where}: bash", call(where, "bash", command="cat */*; echo > x"), ("ran",))
        )
    tools += [
        Attempt(
            "team: write_file of what is shared read-only",
            call("team", "write_file", path="notes.txt", content="Bob was here."),
            ("ran",),
        ),
        Attempt(
            "team: write_file of a new file",
            call("team", "write_file", path="new/x.txt", content="Bob was here."),
            ("ran",),
        ),
        Attempt("team: after the share was withdrawn", after({"shares": {}}), ("forbidden",)),
        Attempt(
            "team: after another owner got it",
            after({"owner": "alice", "shares": {}}),
            ("forbidden",),
        ),
        Attempt("bob/work: replaced by a link", replace_directory, ("forbidden",)),
    ]
    for overrides in ATTACKS:
        short = json.dumps(overrides)[:70]
        body = {"amplified_dir": "bob", "settings_overrides": overrides}
        given.append(
            Attempt(
                f"session with {short}",
                ask("post", "/sessions/", body | {"profile_name": "foundation/test"}),
            )
        )
    catalogue = [
        ("post", "/profiles/", {"name": "mine", "tools": [{"module": "tool-bash"}]}),
        ("post", "/profiles/foundation/test/copy", {"new_name": "mine"}),
        ("post", "/profiles/foundation/test/activate", {}),
        ("patch", "/profiles/foundation/test", {"description": "x"}),
        ("delete", "/profiles/foundation/test", None),
        ("delete", "/profiles/active", None),
        ("post", "/collections/", {"identifier": "mine", "source": "/etc"}),
        ("post", "/collections/sync", {}),
        ("post", "/collections/foundation/mount", {"source": "/etc"}),
        ("delete", "/collections/foundation", None),
        ("post", "/cache/update", {"force": True}),
    ]
    given += [Attempt(f"{m.upper()} {path}", ask(m, path, body)) for m, path, body in catalogue]
    return {
        "browse": browse,
        "change": change,
        "create": create,
        "tools": tools,
        "overrides": given,
    }


ATTEMPTS = list_attempts()


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[list[str]]:
    """The lines of the table, which is printed at the end."""
    lines: list[str] = []
    yield lines
    print("\n" + "\n".join(lines))


def try_it(world: World, attempt: Attempt) -> list[str]:
    """Make an attempt, undo what it has done in the database, and return what it has gained."""
    with transaction.atomic():
        before = list(AmplifiedDirectory.objects.values())
        outcome, answer = attempt.do(world)
        gained = [] if outcome in attempt.refused else [f"the outcome was {outcome}"]
        gained += [f"saw {canary}" for canary in CANARIES if canary in answer]
        if "amplified-directories" in attempt.what:
            after = list(AmplifiedDirectory.objects.values())
            gained += [] if before == after else ["changed a directory"]
        transaction.set_rollback(True)
    if world.read_disk() != world.before:
        gained.append("changed a file")
    return gained


def test_there_are_enough_attempts() -> None:
    assert sum(map(len, ATTEMPTS.values())) >= 110


@pytest.mark.parametrize("group", ATTEMPTS)
def test_no_attempt_of_a_stranger_succeeds(group: str, world: World, table: list[str]) -> None:
    gains = []
    for attempt in ATTEMPTS[group]:
        gained = try_it(world, attempt)
        table.append(f"{group:10} {attempt.what[:90]:92} {', '.join(gained) or 'refused'}")
        gains += [(attempt.what, gained)] if gained else []
    assert gains == []
    assert Session.objects.count() == 0
