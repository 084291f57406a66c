import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from amplifierd.server.fair_pool import identify_client
from amplifierd.server.wsgi_adapter import WAITING_PER_THREAD, Late, WSGIAdapter, environ, variable

Message = dict[str, Any]
# Seconds that no answer here takes.
PATIENCE = 30
# Seconds that an answer may take where none is to come in time: a thread is begun in less.
BRIEFLY = 0.3


def scope(**given: Any) -> Message:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "client": ["10.0.0.7", 4321],
        "server": ["127.0.0.1", 8420],
        **given,
    }


def serving(response: HttpResponseBase) -> Any:
    """Return the WSGI application that always gives this response, as Django would."""

    def application(variables: Message, start_response: Any) -> Any:
        start_response(f"{response.status_code} OK", list(response.items()))
        if getattr(response, "file_to_stream", None):
            response.file_to_stream.close = response.close
            return variables["wsgi.file_wrapper"](response.file_to_stream, 1)
        return response

    return application


class Client:
    """Both ends of one request: what the server would receive and send."""

    def __init__(self, *incoming: Message) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        for message in incoming or ({"type": "http.request", "body": b"", "more_body": False},):
            self.incoming.put_nowait(message)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


def exchange(application: Any, **given: Any) -> Client:
    """Have one request answered through an adapter."""

    async def main() -> Client:
        client = Client()
        await WSGIAdapter(application, 1, PATIENCE)(scope(**given), client.receive, client.send)
        return client

    return asyncio.run(main())


def closing(response: HttpResponseBase) -> tuple[HttpResponseBase, list[str]]:
    """Return the response, and a list that gets the name of the thread that closes it."""
    threads: list[str] = []
    close = response.close

    def note() -> None:
        threads.append(threading.current_thread().name)
        close()

    response.close = note  # type: ignore[method-assign]
    return response, threads


def test_response_in_memory_is_sent_in_one_piece() -> None:
    client = exchange(serving(HttpResponse([b"a", b"b"], headers={"X-Kind": "test"})))
    assert len(client.sent) == 2
    assert client.status == 200
    assert (b"x-kind", b"test") in client.sent[0]["headers"]
    assert client.body == b"ab"
    assert not client.sent[1]["more_body"]


def test_streamed_response_is_sent_piece_by_piece() -> None:
    client = exchange(serving(StreamingHttpResponse([b"a", b"b", b"c"])))
    assert [message["body"] for message in client.sent[1:]] == [b"a", b"b", b"c", b""]
    assert [message["more_body"] for message in client.sent[1:]] == [True, True, True, False]


def test_streamed_response_without_pieces_is_an_empty_one() -> None:
    client = exchange(serving(StreamingHttpResponse([])))
    assert (client.status, client.body) == (200, b"")
    assert not client.sent[-1]["more_body"]


def test_file_is_sent_in_large_pieces() -> None:
    content = bytes(150_000)
    client = exchange(serving(FileResponse(io.BytesIO(content))))
    assert client.body == content
    assert len(client.sent) == 1 + 3 + 1


@pytest.mark.parametrize("kind", [HttpResponse, StreamingHttpResponse])
def test_head_has_no_body_and_reads_none(kind: Callable[..., HttpResponseBase]) -> None:
    response, threads = closing(kind([b"body"]))
    client = exchange(serving(response), method="HEAD")
    assert (client.status, client.body) == (200, b"")
    assert len(threads) == 1


@pytest.mark.parametrize("kind", [HttpResponse, StreamingHttpResponse])
def test_response_is_closed_in_the_thread_of_its_view(
    kind: Callable[..., HttpResponseBase],
) -> None:
    response, closers = closing(kind([b"body"]))
    views: list[str] = []

    def application(variables: Message, start_response: Any) -> Any:
        views.append(threading.current_thread().name)
        return serving(response)(variables, start_response)

    exchange(application)
    assert closers == views
    assert closers[0].startswith("request")


def test_failure_of_the_application_is_the_callers() -> None:
    def broken(variables: Message, start_response: Any) -> Any:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        exchange(broken)


def test_failure_before_the_first_piece_leaves_the_response_unsent_and_closed() -> None:
    def pieces() -> Iterator[bytes]:
        raise KeyError("no rows")
        yield b""

    response, threads = closing(StreamingHttpResponse(pieces()))
    client = Client()

    async def main() -> None:
        await WSGIAdapter(serving(response), 1, PATIENCE)(scope(), client.receive, client.send)

    with pytest.raises(KeyError, match="no rows"):
        asyncio.run(main())
    assert client.sent == []
    assert len(threads) == 1


def test_failure_between_pieces_ends_without_a_last_piece() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        raise KeyError("no more rows")

    response, threads = closing(StreamingHttpResponse(pieces()))
    client = Client()

    async def main() -> None:
        await WSGIAdapter(serving(response), 1, PATIENCE)(scope(), client.receive, client.send)

    with pytest.raises(KeyError, match="no more rows"):
        asyncio.run(main())
    assert [message["more_body"] for message in client.sent[1:]] == [True]
    assert len(threads) == 1


def test_streaming_ends_when_the_client_leaves() -> None:
    client = Client()
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"piece"

    async def send(message: Message) -> None:
        client.leave()
        await asyncio.sleep(0)

    response, threads = closing(StreamingHttpResponse(endless()))
    adapter = WSGIAdapter(serving(response), 1, PATIENCE)
    asyncio.run(asyncio.wait_for(adapter(scope(), client.receive, send), 10))
    assert len(threads) == 1
    assert taken


def test_next_piece_waits_until_the_last_one_was_sent() -> None:
    made: list[int] = []
    counts: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            made.append(number)
            yield b"piece"

    async def send(message: Message) -> None:
        # A turn of the loop gives a thread that does not wait the chance to run ahead.
        await asyncio.sleep(0.01)
        if message["type"] == "http.response.body":
            counts.append(len(made))

    client = Client()
    adapter = WSGIAdapter(serving(StreamingHttpResponse(pieces())), 1, PATIENCE)
    asyncio.run(adapter(scope(), client.receive, send))
    assert counts == [1, 2, 3, 3]


@pytest.mark.parametrize("kind", ["file", "pages"])
def test_clients_that_read_slowly_take_no_thread_from_others(kind: str) -> None:
    class Pages(StreamingHttpResponse):
        releases_thread = True

    responses: list[tuple[HttpResponseBase, list[str]]] = []

    def application(variables: Message, start_response: Any) -> Any:
        response: HttpResponseBase = HttpResponse(b"quick")
        if variables["PATH_INFO"] == "/slow":
            content = io.BytesIO(bytes(150_000))
            response = FileResponse(content) if kind == "file" else Pages([b"a", b"b"])
            responses.append(closing(response))
        return serving(response)(variables, start_response)

    async def main() -> list[int]:
        adapter, reads = WSGIAdapter(application, 1, PATIENCE), asyncio.Event()
        slow, begun = [Client() for _ in range(3)], asyncio.Semaphore(0)

        async def send(client: Client, message: Message) -> None:
            client.sent.append(message)
            if message["type"] == "http.response.body":
                begun.release()
                await reads.wait()

        tasks = [
            asyncio.create_task(adapter(scope(path="/slow"), c.receive, partial(send, c)))
            for c in slow
        ]
        for _ in slow:
            await begun.acquire()
        quick = Client()
        await asyncio.wait_for(adapter(scope(), quick.receive, quick.send), PATIENCE)
        assert quick.body == b"quick"
        reads.set()
        await asyncio.gather(*tasks)
        await asyncio.to_thread(adapter.pool.shutdown)
        assert not adapter.work
        return [len(client.body) for client in slow]

    assert asyncio.run(main()) == [150_000 if kind == "file" else 2] * 3
    assert [len(threads) for _, threads in responses] == [1, 1, 1]


def test_pieces_that_come_after_their_503_are_closed() -> None:
    async def main() -> list[str]:
        client, release = Client(), threading.Event()

        def pieces() -> Iterator[bytes]:
            release.wait(10)
            yield b"a"

        response, threads = closing(StreamingHttpResponse(pieces()))
        response.releases_thread = True  # type: ignore[attr-defined]
        adapter = WSGIAdapter(serving(response), 1, BRIEFLY)
        await adapter(scope(), client.receive, client.send)
        assert (client.status, threads) == (503, [])
        release.set()
        await asyncio.to_thread(adapter.pool.shutdown)
        return threads

    assert len(asyncio.run(main())) == 1


def test_request_beyond_those_that_may_wait_is_refused_at_once() -> None:
    release = threading.Event()

    def slow(variables: Message, start_response: Any) -> Any:
        release.wait(10)
        return serving(HttpResponse(b"done"))(variables, start_response)

    async def main() -> tuple[Client, list[Client]]:
        adapter = WSGIAdapter(slow, 2, PATIENCE)
        clients = [Client() for _ in range(2 * (1 + WAITING_PER_THREAD))]
        tasks = [asyncio.create_task(adapter(scope(), c.receive, c.send)) for c in clients]
        await asyncio.sleep(0)
        refused = Client()
        await adapter(scope(), refused.receive, refused.send)
        release.set()
        await asyncio.gather(*tasks)
        return refused, clients

    refused, clients = asyncio.run(main())
    assert refused.status == 503
    assert (b"retry-after", b"1") in refused.sent[0]["headers"]
    assert {client.status for client in clients} == {200}


def bearer(key: str) -> Message:
    return scope(headers=[(b"authorization", f"Bearer {key}".encode())], path=f"/{key}")


def test_a_client_with_many_slow_requests_has_neither_all_threads_nor_all_places() -> None:
    release, done = threading.Event(), []

    def application(variables: Message, start_response: Any) -> Any:
        if variables["PATH_INFO"] == "/greedy":
            release.wait(10)
        done.append(variables["PATH_INFO"])
        return serving(HttpResponse(b"done"))(variables, start_response)

    async def main() -> list[int]:
        adapter = WSGIAdapter(application, 2, PATIENCE, is_fair=True)
        clients = [Client() for _ in range(adapter.most)]
        tasks = [asyncio.create_task(adapter(bearer("greedy"), c.receive, c.send)) for c in clients]
        await asyncio.sleep(0)
        for _ in range(3):
            other = Client()
            await asyncio.wait_for(adapter(bearer("other"), other.receive, other.send), PATIENCE)
            assert other.body == b"done"
        assert done == ["/other"] * 3
        release.set()
        await asyncio.gather(*tasks)
        return [client.status for client in clients]

    statuses = asyncio.run(main())
    places = (1 + WAITING_PER_THREAD) * 2
    assert (statuses.count(200), statuses.count(429)) == (places - places // 8, places // 8)


def test_clients_take_turns_for_a_thread() -> None:
    release, served = threading.Event(), []

    def application(variables: Message, start_response: Any) -> Any:
        release.wait(10)
        served.append(variables["PATH_INFO"])
        return serving(HttpResponse(b""))(variables, start_response)

    async def main() -> None:
        adapter = WSGIAdapter(application, 1, PATIENCE, is_fair=True)
        order = [*["a"] * 3, *["b"] * 3, "c"]
        clients = [(bearer(key), Client()) for key in order]
        tasks = [asyncio.create_task(adapter(given, c.receive, c.send)) for given, c in clients]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    # The first one found the thread free.
    assert "".join(served).replace("/", "") == "aabcabb"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("authorization: Bearer k", "authorization: bearer   k ", True),
        ("authorization: Bearer k", "authorization: Bearer l", False),
        ("cookie: sessionid=a", "cookie: x=1; sessionid=a; y=2", True),
        ("cookie: sessionid=a", "cookie: sessionid=b", False),
        ("x: y", "cookie: x=2", True),
        ("x: y", "authorization: Bearer k", False),
    ],
)
def test_a_client_is_known_by_what_it_authenticates_with(one: str, other: str, same: bool) -> None:
    first, second = (
        identify_client(scope(headers=[tuple(part.encode() for part in each.split(": ", 1))]))
        for each in (one, other)
    )
    assert (first == second) is same


def held(release: threading.Event) -> tuple[Any, threading.Event]:
    """Return an application that answers once it is released, and what tells that it began."""
    begun = threading.Event()

    def application(variables: Message, start_response: Any) -> Any:
        begun.set()
        release.wait(10)
        return serving(HttpResponse(b"late"))(variables, start_response)

    return application, begun


def test_answer_that_does_not_come_is_503_and_its_thread_ends_by_itself() -> None:
    release = threading.Event()
    application, begun = held(release)

    async def main() -> tuple[Client, WSGIAdapter]:
        adapter, client = WSGIAdapter(application, 1, BRIEFLY), Client()
        await adapter(scope(), client.receive, client.send)
        assert begun.is_set()
        assert len(adapter.work) == 1, "the place is taken until the thread is through"
        release.set()
        await asyncio.to_thread(adapter.pool.shutdown)
        return client, adapter

    client, adapter = asyncio.run(main())
    assert client.status == 503
    assert (b"retry-after", b"5") in client.sent[0]["headers"]
    assert json.loads(client.body)["code"] == "unavailable"
    assert len(client.sent) == 2
    assert not adapter.work


def test_request_that_waits_too_long_for_a_thread_is_never_begun() -> None:
    release = threading.Event()
    calls: list[str] = []

    def application(variables: Message, start_response: Any) -> Any:
        calls.append(variables["PATH_INFO"])
        release.wait(10)
        return serving(HttpResponse(b"late"))(variables, start_response)

    async def main() -> list[int]:
        adapter, clients = WSGIAdapter(application, 1, BRIEFLY), [Client(), Client()]
        await asyncio.gather(
            *(adapter(scope(path=f"/{n}"), c.receive, c.send) for n, c in enumerate(clients))
        )
        assert len(adapter.work) == 1
        release.set()
        await asyncio.to_thread(adapter.pool.shutdown)
        return [client.status for client in clients]

    assert asyncio.run(main()) == [503, 503]
    assert calls == ["/0"]


def test_stream_that_has_begun_may_take_its_time() -> None:
    async def main() -> Client:
        client, release = Client(), threading.Event()

        def pieces() -> Iterator[bytes]:
            yield b"a"
            release.wait(10)
            yield b"b"

        adapter = WSGIAdapter(serving(StreamingHttpResponse(pieces())), 1, BRIEFLY)
        task = asyncio.create_task(adapter(scope(), client.receive, client.send))
        # Longer than the answer may take to begin.
        await asyncio.sleep(2 * BRIEFLY)
        release.set()
        await task
        return client

    client = asyncio.run(main())
    assert (client.status, client.body) == (200, b"ab")


def test_stream_that_begins_too_late_sends_nothing_after_its_503() -> None:
    async def main() -> Client:
        client, release = Client(), threading.Event()

        def pieces() -> Iterator[bytes]:
            release.wait(10)
            yield b"a"
            yield b"b"

        adapter = WSGIAdapter(serving(StreamingHttpResponse(pieces())), 1, BRIEFLY)
        await adapter(scope(), client.receive, client.send)
        release.set()
        await asyncio.to_thread(adapter.pool.shutdown)
        return client

    client = asyncio.run(main())
    assert client.status == 503
    assert len(client.sent) == 2


def test_call_that_does_not_return_in_time_is_late() -> None:
    release = threading.Event()

    async def main() -> None:
        adapter = WSGIAdapter(serving(HttpResponse(b"")), 1, BRIEFLY)
        with pytest.raises(Late):
            await adapter.call(partial(release.wait, 10))
        assert len(adapter.work) == 1
        release.set()
        await asyncio.to_thread(adapter.pool.shutdown)
        assert not adapter.work

    asyncio.run(main())


def test_timeout_of_the_application_itself_is_the_callers() -> None:
    def application(variables: Message, start_response: Any) -> Any:
        raise TimeoutError("of the view")

    with pytest.raises(TimeoutError, match="of the view"):
        exchange(application)


def test_close_drops_what_waits_and_tells_of_a_busy_thread() -> None:
    started, release = threading.Event(), threading.Event()

    def slow(variables: Message, start_response: Any) -> Any:
        started.set()
        release.wait(10)
        return serving(HttpResponse(b"done"))(variables, start_response)

    async def main() -> tuple[bool, bool]:
        adapter = WSGIAdapter(slow, 1, PATIENCE)
        clients = [Client(), Client()]
        tasks = [asyncio.create_task(adapter(scope(), c.receive, c.send)) for c in clients]
        await asyncio.to_thread(started.wait, 10)
        while_busy = adapter.close()
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()
        return while_busy, adapter.close()

    assert asyncio.run(main()) == (False, True)


def test_client_that_leaves_before_its_body_came_is_not_served() -> None:
    async def main() -> Client:
        first = {"type": "http.request", "body": b"{", "more_body": True}
        client = Client(first, {"type": "http.disconnect"})
        await WSGIAdapter(serving(HttpResponse(b"")), 1, PATIENCE)(
            scope(), client.receive, client.send
        )
        return client

    assert asyncio.run(main()).sent == []


def test_body_in_pieces_reaches_django_with_its_length() -> None:
    seen: list[bytes] = []

    def application(variables: Message, start_response: Any) -> Any:
        seen.append(WSGIRequest(variables).body)
        return serving(HttpResponse(b""))(variables, start_response)

    async def main() -> None:
        client = Client(
            {"type": "http.request", "body": b"one ", "more_body": True},
            {"type": "http.request", "body": b"two", "more_body": False},
        )
        given = scope(method="POST", headers=[(b"transfer-encoding", b"chunked")])
        await WSGIAdapter(application, 1, PATIENCE)(given, client.receive, client.send)

    asyncio.run(main())
    assert seen == [b"one two"]


def test_django_finds_the_request_in_the_environment() -> None:
    headers = [
        (b"host", b"localhost:8420"),
        (b"accept", b"text/html"),
        (b"accept", b"text/plain"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"content-type", b"application/json"),
    ]
    given = scope(path="/Grüße/a b", query_string=b"q=%C3%BC", headers=headers)
    request = WSGIRequest(environ(given, b""))
    assert request.path == "/Grüße/a b"
    assert request.GET["q"] == "ü"
    assert request.get_host() == "localhost:8420"
    assert request.headers["Accept"] == "text/html,text/plain"
    assert request.COOKIES == {"a": "1", "b": "2"}
    assert request.content_type == "application/json"
    assert request.META["REMOTE_ADDR"] == "10.0.0.7"
    assert request.META["SERVER_PORT"] == "8420"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"x-request-id", "HTTP_X_REQUEST_ID"),
        (b"content-type", "CONTENT_TYPE"),
        (b"content-length", ""),
        (b"transfer-encoding", ""),
        (b"x_request_id", ""),
    ],
)
def test_headers_become_variables(header: bytes, name: str) -> None:
    assert variable(header) == name
