"""Streams are let in by the rules of requests, and end with the key that let them in."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.test import Client as Browser
from django.urls import URLPattern
from django.utils import timezone
from rest_framework.exceptions import NotAuthenticated

from amplifierd import asgi
from amplifierd.auth import keys
from amplifierd.auth.callers import ANYBODY
from amplifierd.auth.streams import KeyWatch, StreamAuthentication, recheck
from amplifierd.common.callers import Everyone
from amplifierd.server.security import SecurityMiddleware
from amplifierd.server.wsgi_adapter import WSGIAdapter
from amplifierd.wsgi import application as wsgi
from sessions_app.models import Session
from sessions_app.streaming import consumer, feed
from tests.harness import streams
from tests.harness.streams import append, call, run, until

pytestmark = pytest.mark.django_db(transaction=True)

Make = Callable[..., Session]


@pytest.fixture
def adapter() -> Iterator[WSGIAdapter]:
    """Threads in which callers are looked up."""
    adapter = WSGIAdapter(wsgi, 2, seconds=30)
    yield adapter
    adapter.close()


@pytest.fixture
def demanded(settings: Any) -> None:
    settings.REQUIRE_KEYS = True


class Client(streams.Client):
    """A client before the stream authentication, with a key or a cookie."""

    def __init__(self, adapter: WSGIAdapter, path: str, **headers: str) -> None:
        super().__init__("", **headers, host="localhost")
        self.scope |= {
            "path": path,
            "root_path": "",
            "http_version": "1.1",
            "server": ("localhost", 80),
        }
        self.authentications = [
            StreamAuthentication(route.callback, adapter) for route in consumer.urlpatterns
        ]

    async def __aenter__(self) -> "Client":
        routes = zip(consumer.urlpatterns, self.authentications, strict=True)
        router = URLRouter(
            [URLPattern(route.pattern, authentication) for route, authentication in routes]
        )
        for authentication in self.authentications:
            authentication.watch = KeyWatch(authentication.adapter, recheck, interval=0.05)
        secured = SecurityMiddleware(router, hosts=["localhost"], origins=[], body_limit=100)
        self._inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.task = asyncio.create_task(secured(self.scope, self._inbox.get, self._send))
        return self

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and code of what was answered instead of a stream."""
        return self.start["status"], json.loads(self.body)["code"]


def stream(session: Session | str) -> str:
    return f"/api/v1/sessions/{getattr(session, 'id', session)}/stream"


def key_of(owner: str, **options: Any) -> tuple[keys.ApiKey, str]:
    made, key = keys.create(name=owner, owner=owner, **options)
    return made, f"Bearer {key}"


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Hub and feed for the length of a block."""
    async with streams.serving():
        try:
            yield
        finally:
            await feed.get_feed().close()


def test_the_daemon_authenticates_every_stream() -> None:
    router = asgi.application.app
    authentications = [
        route for route in router.routes if isinstance(route.callback, StreamAuthentication)
    ]
    assert [str(authentication.pattern) for authentication in authentications] == [
        str(route.pattern) for route in consumer.urlpatterns
    ]
    assert len(authentications) == 3


@pytest.mark.parametrize("path", [stream("session_0"), "/api/v1/events/stream"])
def test_a_stream_demands_a_key(adapter: WSGIAdapter, demanded: None, path: str) -> None:
    async def test() -> None:
        async with serving(), Client(adapter, path) as client:
            await client.complete()
            assert client.refusal == (401, "not_authenticated")
            assert client.headers["www-authenticate"] == "Bearer"

    run(test())


def test_a_bad_key_is_refused_where_none_is_demanded(adapter: WSGIAdapter, make: Make) -> None:
    path = stream(make("active"))

    async def test() -> None:
        async with serving(), Client(adapter, path, authorization="Bearer x") as client:
            await client.complete()
            assert client.refusal == (401, "not_authenticated")

    run(test())


def test_nothing_is_looked_up_where_nobody_asks(adapter: WSGIAdapter, make: Make) -> None:
    path = stream(make("active"))
    adapter.close()

    async def test() -> None:
        async with serving(), Client(adapter, path) as client:
            await client.connected()
            assert client.start["status"] == 200

    run(test())


def test_her_own_session_is_streamed_and_nobody_else_s(
    adapter: WSGIAdapter, make: Make, demanded: None
) -> None:
    session = make("active", owner="alice")
    (_, alice), (_, bob), (_, root) = (
        key_of("alice", scope="read"),
        key_of("bob"),
        key_of("root", scope="admin"),
    )

    async def test() -> None:
        async with serving():
            for key in (alice, root):
                async with Client(adapter, stream(session), authorization=key) as client:
                    await client.connected()
                    assert client.start["status"] == 200
            async with Client(adapter, stream(session), authorization=bob) as client:
                await client.complete()
                detail = json.loads(client.body)["detail"]
                assert client.refusal == (404, "not_found")
            async with Client(adapter, stream("session_0"), authorization=alice) as client:
                await client.complete()
                nowhere = json.loads(client.body)["detail"]
            assert detail.replace(session.id, "session_0") == nowhere

    run(test())


def test_a_nul_in_an_id_is_no_failure(adapter: WSGIAdapter, demanded: None) -> None:
    _, key = key_of("alice")

    async def test() -> None:
        async with serving(), Client(adapter, stream("a\0b"), authorization=key) as client:
            await client.complete()
            assert client.refusal == (404, "not_found")

    run(test())


def test_a_stream_ends_when_its_key_is_revoked_and_others_go_on(
    adapter: WSGIAdapter, make: Make, demanded: None
) -> None:
    session = make("active", owner="alice")
    (made, hers), (_, other) = key_of("alice"), key_of("alice")

    async def test() -> None:
        async with (
            serving(),
            Client(adapter, stream(session), authorization=hers) as ending,
            Client(adapter, stream(session), authorization=other) as staying,
        ):
            for client in (ending, staying):
                await client.connected()
            await call(keys.revoke, made.prefix)
            await ending.complete()
            last = await append(session.id, "more")
            await until(lambda: last in staying.ids)
            assert last not in ending.ids
            assert not staying.is_complete

    run(test())


def test_a_stream_ends_when_its_key_expires(
    adapter: WSGIAdapter, make: Make, demanded: None
) -> None:
    session = make("active", owner="alice")
    _, key = key_of("alice", expires_at=timezone.now() + timedelta(seconds=1))

    async def test() -> None:
        async with serving(), Client(adapter, stream(session), authorization=key) as client:
            await client.connected()
            await client.complete()

    run(test())


def test_a_look_that_fails_ends_nothing(adapter: WSGIAdapter, make: Make, demanded: None) -> None:
    asked = []

    def away(scope: Any) -> None:
        asked.append(scope)
        raise OSError("no database")

    async def test() -> None:
        watch = KeyWatch(adapter, away)
        with watch.over({"headers": [(b"authorization", b"Bearer x")]}) as ended:
            await watch.check_once()
            assert len(asked) == 1
            assert not ended.is_set()

    run(test())


def test_a_stream_that_ends_during_a_look_ends_no_watch(adapter: WSGIAdapter) -> None:
    refused = []

    def refuse(scope: Any) -> None:
        refused.append(scope)
        raise NotAuthenticated

    async def test() -> None:
        watch = KeyWatch(adapter, refuse)
        with contextlib.ExitStack() as stack:
            first, last = (
                stack.enter_context(watch.over({"headers": [(b"authorization", key)]}))
                for key in (b"one", b"three")
            )
            with watch.over({"headers": [(b"authorization", b"two")]}):
                look = asyncio.create_task(watch.check_once())
                await asyncio.sleep(0)
            await look
        assert first.is_set()
        assert last.is_set()

    run(test())
    assert len(refused) == 2


def test_streams_with_the_same_key_are_looked_up_once(adapter: WSGIAdapter) -> None:
    asked = []

    async def test() -> None:
        watch = KeyWatch(adapter, asked.append)
        with contextlib.ExitStack() as stack:
            for key in (b"one", b"one", b"two"):
                stack.enter_context(watch.over({"headers": [(b"authorization", key)]}))
            await watch.check_once()
        assert len(asked) == 2

    run(test())


def test_the_console_s_login_opens_streams_until_it_ends(
    adapter: WSGIAdapter, make: Make, demanded: None
) -> None:
    session, browser = make("active", owner="alice"), Browser()
    browser.force_login(User.objects.create_superuser("root"))
    cookie = f"sessionid={browser.cookies['sessionid'].value}"

    async def test() -> None:
        async with serving(), Client(adapter, stream(session), cookie=cookie) as client:
            await client.connected()
            assert client.start["status"] == 200
            await call(browser.logout)
            await client.complete()

    run(test())


def test_who_needs_no_key_sees_all(adapter: WSGIAdapter) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["caller"])

    async def test() -> None:
        await StreamAuthentication(app, adapter)({"headers": []}, None, None)

    run(test())
    assert seen == [ANYBODY]
    assert ANYBODY.sees == Everyone()
