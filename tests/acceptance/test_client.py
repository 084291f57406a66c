"""A typed client, generated from the committed description, drives a real daemon."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.conf import settings

from tests.harness.daemon import Daemon
from tests.harness.sse import frames
from tests.harness.waiting import until

pytestmark = pytest.mark.acceptance
NAME = "amplifierd_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the generated package, where it can be imported from."""
    place = tmp_path_factory.mktemp("client")
    (place / "config.yml").write_text("post_hooks: []\n")
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate"]
    command += ["--path", settings.BASE_DIR / "docs" / "openapi.json", "--meta", "none"]
    command += ["--output-path", place / NAME, "--config", place / "config.yml"]
    subprocess.run([*command, "--fail-on-warning"], check=True, capture_output=True)
    sys.path.insert(0, str(place))
    yield place
    sys.path.remove(str(place))


@pytest.fixture
def client(generated: Path, running: Daemon) -> Iterator[Any]:
    """A client of the running daemon, that raises for a status that is not described."""
    with part("client").Client(running.url, raise_on_unexpected_status=True) as made:
        yield made


def part(name: str) -> ModuleType:
    return importlib.import_module(f"{NAME}.{name}")


def test_a_session_is_led_through_its_life(client: Any) -> None:
    models = part("models")
    wanted = models.CreateSession(profile_name="foundation/test", name="typed")
    session = part("api.sessions.create_session").sync(client=client, body=wanted)
    assert isinstance(session, models.Session)
    assert session.status is models.SessionStatus.CREATED
    place = {"session_id": session.session_id, "client": client}
    assert part("api.sessions.start_session").sync_detailed(**place).status_code == 204

    message = models.SendMessage(content="hello")
    accepted = part("api.execution.send_message").sync(**place, body=message)
    assert isinstance(accepted, models.Accepted)
    run = {**place, "run_id": accepted.run_id}
    get_run = part("api.execution.get_run")
    until(lambda: get_run.sync(**run).status is models.RunStatus.SUCCEEDED, "the run to end")

    transcript = part("api.history.get_transcript").sync(**place)
    assert [line.role.value for line in transcript] == ["user", "assistant"]
    assert [line.seq for line in transcript] == [1, 2]
    events = part("api.history.list_events").sync(**place)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    started, *_, ended = events
    assert isinstance(started, models.SessionStartedEvent)
    assert isinstance(ended, models.AssistantMessageCompleteEvent)
    assert ended.data.run_id == accepted.run_id

    listed = part("api.sessions.list_sessions").sync_detailed(client=client, limit=1)
    assert listed.headers["X-Total-Count"].isdigit()
    assert [row.session_id for row in listed.parsed] == [session.session_id]


def test_a_stream_is_read_as_text_to_its_end(client: Any) -> None:
    models = part("models")
    session = part("api.sessions.create_session").sync(client=client, body=models.CreateSession())
    place = {"session_id": session.session_id, "client": client}
    part("api.sessions.start_session").sync_detailed(**place)
    part("api.sessions.complete_session").sync_detailed(**place)
    stream = part("api.streams.stream_session")
    text = stream.sync(**place, after=0)
    assert isinstance(text, str)
    found = [(frame.id, frame.event) for frame in frames(iter(text.split("\n")))]
    assert found == [(None, "connected"), (1, "session_started"), (2, "session_ended")]
    answer = stream.sync_detailed(**place, after=2)
    assert (answer.status_code, answer.parsed) == (204, None)
    assert (
        part("api.streams.stream_tree")
        .sync_detailed(client=client, session=session.session_id)
        .status_code
        == 204
    )
    with pytest.raises(httpx.ReadTimeout):
        hurried = client.with_timeout(httpx.Timeout(1))
        part("api.streams.stream_hints").sync(client=hurried)


def test_a_message_is_answered_in_one_call(client: Any) -> None:
    models = part("models")
    session = part("api.sessions.create_session").sync(
        client=client, body=models.CreateSession(profile_name="foundation/test")
    )
    place = {"session_id": session.session_id, "client": client}
    part("api.sessions.start_session").sync_detailed(**place)
    body = models.SendMessage(content="hello")
    outcome = part("api.execution.send_message").sync(**place, body=body, wait=60)
    assert isinstance(outcome, models.Outcome)
    assert (outcome.run.status, outcome.message.run_id) == ("succeeded", outcome.run.run_id)
    trace = part("api.history.get_execution_trace").sync(**place)
    assert [run.run_id for run in trace.runs] == [outcome.run.run_id]
    tree = part("api.history.list_events").sync(**place, include_children=True)
    assert isinstance(tree, models.TreeEvents)
    assert tree.total == len(tree.events)


def test_a_profile_is_read_by_its_full_name(client: Any) -> None:
    profile = part("api.profiles.get_profile").sync(name="foundation/base", client=client)
    assert (profile.collection_id, profile.name) == ("foundation", "base")
    assert profile.providers[0].module
    assert part("api.profiles.get_active_profile").sync(client=client) is None


def test_a_problem_is_a_typed_answer(client: Any) -> None:
    models = part("models")
    unknown = part("api.sessions.get_session").sync(session_id="session_none", client=client)
    assert isinstance(unknown, models.NotFoundProblem)
    assert "session_none" in unknown.detail
    session = part("api.sessions.create_session").sync(client=client, body=models.CreateSession())
    place = {"session_id": session.session_id, "client": client}
    conflict = part("api.sessions.complete_session").sync(**place)
    assert isinstance(conflict, models.ConflictProblem)
    assert (conflict.from_, conflict.to, conflict.allowed) == ("created", "completed", ["active"])
    wanted = models.CreateSession(name="x" * 201)
    invalid = part("api.sessions.create_session").sync(client=client, body=wanted)
    assert isinstance(invalid, models.InvalidProblem)
    assert [error.field for error in invalid.errors] == ["name"]
