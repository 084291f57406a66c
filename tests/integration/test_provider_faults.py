"""The executor with a provider that fails: the run ends, the session goes on."""

import asyncio
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from amplifierd.common.outage import call_service
from sessions_app.engine.engines import get_engine
from sessions_app.models import Event, Message, Run, Session
from sessions_app.services import runs
from sessions_app.states import RunStatus, SessionStatus
from sessions_app.worker.executor import Executor
from tests.harness.profiles import local_profile
from tests.harness.providers import (
    HEAD,
    ONE,
    Answer,
    FakeProvider,
    breaks_off,
    chunk,
    event,
    fake_provider,
    floods,
    refuses,
    sends,
    streams,
)
from tests.harness.turns import advance_all
from tests.integration.workers import until

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 30
CONFIG = {
    "default_model": "gpt-fake",
    # Known only when the provider has its port.
    "base_url": "${FAKE_PROVIDER_URL}",
    "priority": 100,
    "retry_delay": 0.01,
    "first_token_timeout": 3,
    "next_token_timeout": 1,
    "max_characters": 1000,
}
well = streams("All", " is", " well")


@pytest.fixture
def session(make: Callable[..., Session]) -> Iterator[Session]:
    """An active session on the fake provider; in the end nothing in the database is wrong."""
    provider = {"module": "provider-openai-compatible", "config": CONFIG}
    yield make(SessionStatus.ACTIVE, profile_name=local_profile("faulty", provider))
    call_command("check_invariants", stdout=StringIO(), stderr=StringIO())


@pytest.fixture
def execute(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`execute(*answers)`: execute the session's runs with a provider that gives these answers."""

    async def run(answers: tuple[Answer, ...], beside: Callable[..., Any] | None) -> None:
        executor = Executor(get_engine(), "worker-1")
        async with fake_provider(*answers) as fake, asyncio.timeout(DEADLINE):
            monkeypatch.setenv("FAKE_PROVIDER_URL", fake.url)
            sides = [executor.writer.run(), executor.watch_leases()]
            tasks = [asyncio.create_task(side) for side in sides]
            try:
                others = [beside(fake)] if beside else []
                await asyncio.gather(advance_all(executor, session.id), *others)
            finally:
                for task in tasks:
                    task.cancel()

    return lambda *answers, beside=None: asyncio.run(run(answers, beside))


def journal(run: Run, kind: str) -> list[dict[str, Any]]:
    events = Event.objects.in_session(run.session_id).filter(type=kind, run_id=run.id)
    return list(events.values_list("data", flat=True))


def assert_well(run: Run) -> None:
    """The run was answered, and its session is open for more."""
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED
    assert Message.objects.get(run=run, role="assistant").content == "All is well"
    assert Session.objects.get(pk=run.session_id).status == SessionStatus.ACTIVE


@pytest.mark.parametrize(
    ("faults", "code", "said"),
    [
        ([refuses(401)], "provider_error", ""),
        ([refuses(503)] * 4, "provider_error", ""),
        ([sends(b"")] * 4, "provider_error", ""),
        ([breaks_off("One")], "provider_error", "One"),
        ([sends(ONE)], "provider_error", "One"),
        ([sends(waits=True)], "timeout", ""),
        ([sends(ONE, waits=True)], "timeout", "One"),
        ([sends(HEAD)], "bad_answer", ""),
        ([sends(ONE + event(b"{broken"))], "bad_answer", "One"),
        ([refuses(400, "no \0 \ud800")], "provider_error", ""),
        ([floods(ONE, chunk("x" * 997))], "too_long_answer", "One" + "x" * 997),
        ([floods(ONE + b"data:", b"x" * 10_000)], "too_long_answer", "One"),
    ],
    ids=[
        *["key refused", "away", "hung up", "broken off", "cut", "silent", "fell silent"],
        *["empty", "no JSON", "unfit words", "endless", "endless piece"],
    ],
)
def test_a_fault_fails_the_run_with_what_was_said_and_the_next_message_is_answered(
    session: Session, execute: Callable[..., None], faults: list[Answer], code: str, said: str
) -> None:
    run, _ = runs.send(session.id, "one")
    following, _ = runs.send(session.id, "two")
    execute(*faults, well)
    run.refresh_from_db()
    assert (run.status, run.error_code) == (RunStatus.FAILED, code)
    (error,) = journal(run, "execution_error")
    assert (error["code"], error["error"]) == (code, run.error)
    assert "".join(data["content"] for data in journal(run, "content")) == said
    (end,) = journal(run, "assistant_message_complete")
    assert (end["content"], end["outcome"]) == (said, "failed")
    assert len(journal(run, "provider_retry")) == len(faults) - 1
    assert_well(following)


def test_retries_are_told_in_the_journal_before_the_answer(
    session: Session, execute: Callable[..., None]
) -> None:
    run, _ = runs.send(session.id, "one")
    execute(refuses(429, "slow down"), refuses(503, "busy"), well)
    first, second = journal(run, "provider_retry")
    assert (first["attempt"], first["status"], second["attempt"]) == (1, 429, 2)
    assert (first["runId"], first["provider"]) == (run.id, "provider-openai-compatible")
    assert "slow down" in first["error"]
    kinds = list(Event.objects.in_session(session.id).values_list("type", flat=True))
    assert kinds.index("provider_retry") < kinds.index("content")
    assert_well(run)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(sends(ONE, waits=True), "One"), (sends(waits=True), "")],
    ids=["between pieces", "before the first"],
)
def test_a_cancel_from_outside_closes_the_connection_to_the_provider(
    session: Session, execute: Callable[..., None], answer: Answer, said: str
) -> None:
    run, _ = runs.send(session.id, "one")
    following, _ = runs.send(session.id, "two")

    async def cancel(fake: FakeProvider) -> None:
        await fake.waiting.wait()
        if said:
            await call_service(until, lambda: journal(run, "content"))
        await call_service(runs.cancel, session.id, run.id)
        await fake.disconnected.wait()

    execute(answer, well, beside=cancel)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    (end,) = journal(run, "assistant_message_complete")
    assert (end["content"], end["outcome"]) == (said, "cancelled")
    assert_well(following)
