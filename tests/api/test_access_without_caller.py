"""Code that does not say for whom it works sees nothing."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from amplifierd.common import pagination
from amplifierd.common.callers import Caller, Everyone, Nobody, Owner
from sessions_app import search, traces
from sessions_app.api.viewsets import find_session, require_session
from sessions_app.exceptions import SessionNotFound
from sessions_app.models import Approval, Session
from sessions_app.services import clone_fork, sessions
from sessions_app.streaming.feed import channels_of
from sessions_app.streaming.journal_reader import Epoch, JournalReader
from tests.conftest import MOCK
from tests.harness.streams import Client, run, serving
from tests.integration.test_stream_tree import TreeClient

# What reads sessions for a caller, and has to be told for whom.
READERS = [
    Session.objects.visible_to,
    Approval.objects.visible_to,
    sessions.find_removable,
    clone_fork.clone,
    traces.tree_events,
    JournalReader.find_tree,
    channels_of,
]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("reader", READERS, ids=lambda each: each.__qualname__)
def test_there_is_no_default_for_whom_is_read(reader: Callable[..., Any]) -> None:
    sees = inspect.signature(reader).parameters["sees"]
    assert sees.default is inspect.Parameter.empty


def test_a_caller_of_whom_nothing_is_known_sees_and_may_do_nothing() -> None:
    assert Caller().sees == Nobody()
    assert not Caller().is_authenticated


@pytest.mark.django_db
def test_none_is_not_everyone(session: Session) -> None:
    with pytest.raises(TypeError, match="Visibility"):
        Session.objects.visible_to(None)
    with pytest.raises(TypeError):
        Session.objects.visible_to()
    with pytest.raises(TypeError):
        sessions.find_removable()


@pytest.mark.django_db
def test_what_each_sees(make: Callable[..., Session]) -> None:
    open_to_all, hers = make("active"), make("active", owner="ada")

    def seen(sees: Any) -> set[str]:
        return set(Session.objects.visible_to(sees).values_list("id", flat=True))

    assert seen(Everyone()) == {open_to_all.id, hers.id}
    assert seen(Owner("ada")) == {hers.id}
    assert seen(Owner("")) == {open_to_all.id}
    assert seen(Nobody()) == set()


@pytest.mark.django_db
def test_nobody_finds_nothing(make: Callable[..., Session]) -> None:
    session = make("active", name="amber")
    nothing = Session.objects.visible_to(Nobody())
    words = search.parse_words("amber")
    assert words is not None
    assert search.find(nothing, words).hits == []
    assert pagination.count_total(nothing) == 0
    assert not nothing.is_held(session.id)
    assert sessions.find_removable(Nobody(), 0).count() == 0
    assert channels_of(Nobody()) == set()


@pytest.mark.django_db
def test_a_sub_session_needs_a_parent_that_its_caller_sees(make: Callable[..., Session]) -> None:
    parent = make("active")
    with pytest.raises(SessionNotFound):
        sessions.create(profile_name=MOCK, parent_session_id=parent.id)


@pytest.mark.django_db
def test_a_view_without_authentication_finds_no_session(session: Session) -> None:
    request: Any = SimpleNamespace(user=AnonymousUser())
    with pytest.raises(SessionNotFound):
        find_session(request, session.id)
    with pytest.raises(SessionNotFound):
        require_session(request, session.id)


@pytest.mark.django_db(transaction=True)
def test_a_stream_without_authentication_has_no_session(make: Callable[..., Session]) -> None:
    session = make("active")

    async def test() -> list[int]:
        async with serving():
            clients = [Client(session.id), TreeClient(f"session={session.id}")]
            for client in clients:
                del client.scope["caller"]
                async with client:
                    await client.complete()
        return [client.start["status"] for client in clients]

    assert run(test()) == [404, 404]
    assert run(_tree(session.id, Nobody())) == []
    assert run(_tree(session.id, Everyone())) == [session.id]


async def _tree(session_id: str, sees: Any) -> list[str]:
    journal = JournalReader(1, Epoch(lambda: None))
    try:
        return await journal.find_tree(session_id, sees)
    finally:
        await journal.close()


def test_access_control_asks_for_no_attribute_that_may_be_missing() -> None:
    places = ("amplifierd/auth", "sessions_app/api", "sessions_app/streaming", "profiles_app/api")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for place in places
        for path in (ROOT / place).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "getattr"
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in ("user", "caller", "sees", "owner", "maker", "scope", "name")
    ]
    assert found == []
