"""A profile with tools whose model calls none says so: shown, compiled, and in its first run."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from profiles_app.models import Profile
from sessions_app.engine.base import HistoryMessage, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.engine.messages import Request, Text
from sessions_app.engine.providers.local import Local
from sessions_app.engine.wire.events import Event, Finish, TextDelta
from tests.conftest import Api
from tests.harness.agents import DEADLINE, Events, register

KEY = "OPENAI_API_KEY"
DEV = "developer-expertise/dev"
LOCAL = {"module": "provider-local"}
HOSTED = {"module": "provider-openai", "config": {"default_model": "x", "priority": 9}}
MOCK = {"module": "provider-mock", "config": {"priority": 5}}
TOOLS = [{"module": "tool-todo"}, {"module": "tool-bash"}]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)


@pytest.mark.parametrize("name", [DEV, "developer-expertise/full"])
def test_the_shipped_profiles_with_tools_name_the_variable(
    api: Api, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shown = api("get", f"/profiles/{name}").json()
    compiled = api("post", f"/profiles/{name}/compile")
    assert compiled.status_code == 200
    assert compiled.json()["warnings"] == shown["warnings"]
    (warning,) = shown["warnings"]
    assert (warning["field"], warning["code"]) == ("tools", "tools_left_out")
    assert "provider-local cannot call tools" in warning["detail"]
    assert f"environment variable {KEY}, which is not set" in warning["detail"]
    monkeypatch.setenv(KEY, "canary-012345")
    assert api("get", f"/profiles/{name}").json()["warnings"] == []
    assert api("post", f"/profiles/{name}/compile").json()["warnings"] == []


@pytest.mark.parametrize(
    ("sections", "is_warned"),
    [
        ({"providers": [LOCAL], "tools": TOOLS}, True),
        ({"providers": [LOCAL, HOSTED], "tools": TOOLS}, True),
        ({"providers": [LOCAL, MOCK], "tools": TOOLS}, False),
        ({"providers": [LOCAL], "tools": []}, False),
        ({"providers": [MOCK], "tools": TOOLS}, False),
        ({"providers": [], "tools": TOOLS}, False),
        # Without any provider that can be used, that is the error.
        ({"providers": [HOSTED], "tools": TOOLS}, False),
    ],
)
def test_who_is_warned(api: Api, sections: dict[str, Any], is_warned: bool) -> None:
    made = api("post", "/profiles/", {"name": "mine", **sections}).json()
    assert [each["code"] for each in made["warnings"]] == ["tools_left_out"] * is_warned
    assert api("get", "/profiles/local/mine").json()["warnings"] == made["warnings"]
    for warning in made["warnings"]:
        assert "tool-todo, tool-bash" in warning["detail"] and KEY in warning["detail"]


def test_the_page_of_a_profile_says_so(api: Api, client: Client) -> None:
    client.force_login(User.objects.create_superuser("admin"))
    profile = Profile.objects.get(collection="developer-expertise", name="dev")
    text = client.get(f"/admin/profiles_app/profile/{profile.pk}/change/").content.decode()
    assert "cannot call tools" in text and KEY in text


def run(monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any], **options: Any) -> Events:
    """Return the events of a turn in which the local model says hello."""
    register(monkeypatch)

    @asynccontextmanager
    async def stream(self: Local, request: Request) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            yield TextDelta("Hello.")
            yield Finish("stop", (Text("Hello."),))

        assert request.tools == ()
        yield events()

    monkeypatch.setattr(Local, "stream", stream)
    events: Events = []

    async def play() -> None:
        async with asyncio.timeout(DEADLINE):
            turn = Turn(plan, "Hello?", directory=Path("/"), **options)
            await get_engine().run(turn, lambda *each: events.append(each), asyncio.Event())

    asyncio.run(play())
    return events


def notices(events: Events) -> Iterator[str]:
    return (data["message"] for kind, data in events if kind == "run_notice")


def test_the_first_run_of_a_session_says_so_and_later_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = {"providers": [HOSTED, LOCAL], "tools": [{"module": "tool-test"}]}
    (notice,) = notices(run(monkeypatch, plan))
    assert "provider-local cannot call tools" in notice and KEY in notice
    earlier = (HistoryMessage("user", "Hi.", 1), HistoryMessage("assistant", "Hello.", 2))
    assert list(notices(run(monkeypatch, plan, history=earlier, seq=3))) == []
    assert list(notices(run(monkeypatch, {"providers": [LOCAL]}))) == []
