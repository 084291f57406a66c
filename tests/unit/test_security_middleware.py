import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import OperationalError

from amplifierd.server.security import SecurityMiddleware

APP = "https://app.example.com"
OWN = "http://127.0.0.1:8420"
LIMIT = 100

Message = dict[str, Any]
Header = tuple[str, str]


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def code(self) -> str:
        return json.loads(self.body)["code"]

    @property
    def detail(self) -> str:
        return json.loads(self.body)["detail"]


async def echo(scope: Message, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def tell(scope: Message, receive: Any, send: Any) -> None:
    """Answer with what the application is told of where the request comes from."""
    forwarding = [name.decode() for name, _ in scope["headers"] if name.startswith(b"x-f")]
    told = {key: scope.get(key) for key in ("client", "scheme")} | {"headers": forwarding}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def ask(
    *headers: Header,
    method: str = "GET",
    path: str = "/api/v1/sessions/",
    root_path: str = "",
    pieces: Iterable[bytes] = (b"",),
    app: Any = echo,
    scheme: str = "http",
    behind_proxy: bool = False,
) -> Answer:
    """Send one request through a middleware that lets in APP; Host is ours unless given."""
    given = [(name.lower(), value) for name, value in headers]
    if not any(name == "host" for name, _ in given):
        given.append(("host", "127.0.0.1:8420"))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "scheme": scheme,
        "client": ["10.0.0.1", 1234],
        "headers": [(name.encode(), value.encode()) for name, value in given if value],
    }
    parts = list(pieces)
    incoming = [
        {"type": "http.request", "body": part, "more_body": index < len(parts)}
        for index, part in enumerate(parts, 1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    middleware = SecurityMiddleware(
        app,
        hosts=["127.0.0.1", "localhost", "[::1]"],
        origins=[APP],
        body_limit=LIMIT,
        behind_proxy=behind_proxy,
        hsts=600,
    )
    asyncio.run(middleware(scope, receive, send))
    start, *rest = sent
    answered = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Answer(start["status"], answered, b"".join(part["body"] for part in rest))


PAGE = {"path": "/admin/"}
TLS = {"scheme": "https"}
PROXY = {"behind_proxy": True}
ASKING = (("Origin", APP), ("Access-Control-Request-Method", "POST"))
LINK = (
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
)

HOST = ("Host", "evil.example")
EVIL = ("Origin", "https://evil.example")
SAME = ("Sec-Fetch-Site", "same-origin")

CASES: list[tuple[str, int, tuple[Header, ...], dict[str, Any]]] = [
    ("the daemon's address", 200, (), {}),
    ("a name without a port", 200, (("Host", "localhost"),), {}),
    ("a name in capitals", 200, (("Host", "LOCALHOST:8420"),), {}),
    ("a name with the root's dot", 200, (("Host", "localhost.:8420"),), {}),
    ("IPv6", 200, (("Host", "[::1]:8420"),), {}),
    ("IPv6 without a port", 200, (("Host", "[::1]"),), {}),
    ("IPv6 without brackets", 421, (("Host", "::1"),), {}),
    ("another IPv6 address", 421, (("Host", "[::2]:8420"),), {}),
    ("a rebound name", 421, (("Host", "evil.example"),), {}),
    ("a name that begins like ours", 421, (("Host", "localhost.evil.example"),), {}),
    ("credentials before the host", 421, (("Host", "evil@127.0.0.1"),), {}),
    ("a bad port", 421, (("Host", "127.0.0.1:evil"),), {}),
    ("no host", 421, (("Host", ""),), {}),
    ("two hosts", 421, (("Host", "127.0.0.1"), ("Host", "localhost")), {}),
    ("a prefix for daphne", 400, (("Daphne-Root-Path", "/x"),), {}),
    ("a prefix that daphne took", 400, (), {"root_path": "/x"}),
    ("a whole URL as target", 400, (), {"path": "http://evil.example/"}),
    ("our own page", 200, (("Origin", OWN),), {}),
    ("our own page behind TLS", 200, (("Origin", "https://127.0.0.1:8420"),), {}),
    ("our own page by IPv6", 200, (("Host", "[::1]:1"), ("Origin", "http://[::1]:1")), {}),
    ("our own page over TLS", 200, (("Origin", "https://127.0.0.1:8420"),), TLS),
    ("our page without TLS where there is TLS", 403, (("Origin", OWN),), TLS),
    (
        "our page without TLS before a proxy with TLS",
        403,
        (("Origin", OWN), ("X-Forwarded-Proto", "https")),
        PROXY,
    ),
    ("a proxy's word for another host", 421, (HOST, ("X-Forwarded-Host", "localhost")), PROXY),
    ("a stranger's word for another host", 421, (HOST, ("X-Forwarded-Host", "localhost")), {}),
    ("our host and a proxy's other one", 200, (("X-Forwarded-Host", "evil.example"),), PROXY),
    ("an address that is no name", 421, (("Host", "0.0.0.0:8420"),), {}),
    ("loopback by another number", 421, (("Host", "127.0.0.2:8420"),), {}),
    ("loopback in one number", 421, (("Host", "2130706433:8420"),), {}),
    ("a name that ends like ours", 421, (("Host", "evil-localhost"),), {}),
    ("a path behind the host", 421, (("Host", "localhost/evil"),), {}),
    ("a blank before the host", 421, (("Host", " localhost"),), {}),
    ("an origin without a scheme", 403, (("Origin", "127.0.0.1:8420"),), {}),
    ("an origin with a path", 403, (("Origin", f"{OWN}/"),), {}),
    ("an own origin with userinfo", 403, (("Origin", "http://x@127.0.0.1:8420"),), {}),
    ("an empty Sec-Fetch-Site and an unknown one", 403, (("Sec-Fetch-Site", "odd"),), {}),
    ("two Sec-Fetch-Site", 403, (SAME, ("Sec-Fetch-Site", "cross-site")), {}),
    ("an own origin from another site", 403, (("Origin", OWN), LINK[0]), {}),
    ("OPTIONS that asks nothing, from a foreign page", 403, (EVIL,), {"method": "OPTIONS"}),
    ("OPTIONS without an origin", 200, (), {"method": "OPTIONS"}),
    ("a foreign script", 403, (LINK[0], ("Sec-Fetch-Mode", "cors")), {}),
    ("a frame of the API", 403, (*LINK[:2], ("Sec-Fetch-Dest", "iframe")), {}),
    ("another port of this machine", 403, (("Origin", "http://127.0.0.1:3000"),), {}),
    ("another name of this machine", 403, (("Origin", "http://localhost:8420"),), {}),
    ("a foreign page", 403, (("Origin", "https://evil.example"),), {}),
    ("a sandboxed page", 403, (("Origin", "null"),), {}),
    ("two origins", 403, (("Origin", OWN), ("Origin", APP)), {}),
    ("a page that was let in", 200, (("Origin", APP), ("Sec-Fetch-Site", "cross-site")), {}),
    ("its name with a tail", 403, (("Origin", f"{APP}.evil.example"),), {}),
    ("its name without TLS", 403, (("Origin", "http://app.example.com"),), {}),
    ("its preflight", 204, ASKING, {"method": "OPTIONS"}),
    ("a foreign preflight", 403, (("Origin", "https://evil.example"),), {"method": "OPTIONS"}),
    ("a request of our page", 200, (("Sec-Fetch-Site", "same-origin"),), {}),
    ("a typed URL", 200, (("Sec-Fetch-Site", "none"),), {}),
    ("an image on a foreign page", 403, (("Sec-Fetch-Site", "cross-site"),), {}),
    ("an image on a neighbour's page", 403, (("Sec-Fetch-Site", "same-site"),), {}),
    ("an image in the admin's place", 403, (("Sec-Fetch-Site", "cross-site"),), PAGE),
    ("a link to the admin", 200, LINK, PAGE),
    ("a link to the API", 403, LINK, {}),
    ("a link to the API past a slash", 403, LINK, {"path": "//api/v1/sessions/"}),
    ("a form sent to the admin", 403, LINK, {**PAGE, "method": "POST"}),
    ("a frame around the admin", 403, (*LINK[:2], ("Sec-Fetch-Dest", "iframe")), PAGE),
    ("a body at the limit", 200, (("Content-Length", "100"),), {"pieces": [b"x" * 100]}),
    ("a body over the limit", 413, (("Content-Length", "101"),), {"pieces": [b"x" * 101]}),
    ("a length that is no number", 400, (("Content-Length", "-1"),), {}),
    ("pieces up to the limit", 200, (), {"pieces": [b"x" * 50] * 2}),
    ("pieces over the limit", 413, (), {"pieces": [b"x" * 50, b"x" * 50, b"x"]}),
]


@pytest.mark.parametrize(
    ("status", "headers", "request_"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_security_middleware_lets_in_or_refuses(
    status: int, headers: tuple[Header, ...], request_: dict[str, Any]
) -> None:
    assert ask(*headers, **request_).status == status


def test_browsers_that_came_over_tls_are_told_to_come_so_again_even_when_refused() -> None:
    for answer in (ask(**TLS), ask(("Host", "evil.example"), **TLS)):
        assert answer.all("strict-transport-security") == ["max-age=600"]
    assert ask().all("strict-transport-security") == []


def test_refusal_is_a_problem_that_says_what_to_do() -> None:
    host = ask(("Host", "evil.example"))
    page = ask(("Origin", "https://evil.example"))
    assert host.all("content-type") == ["application/problem+json"]
    assert host.code == "host_not_allowed"
    assert "AMPLIFIERD_ALLOWED_HOSTS" in host.detail
    assert page.code == "origin_not_allowed"
    assert "AMPLIFIERD_ALLOWED_ORIGINS" in page.detail


def test_foreign_page_gets_no_permission_to_read_its_refusal() -> None:
    answer = ask(("Origin", "https://evil.example"))
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]


def test_page_that_was_let_in_may_read_answers_with_credentials() -> None:
    answer = ask(("Origin", APP))
    assert answer.all("access-control-allow-origin") == [APP]
    assert answer.all("access-control-allow-credentials") == ["true"]
    assert answer.all("access-control-expose-headers") == [
        "Link, X-Total-Count, X-Search-Incomplete, Retry-After, Idempotent-Replayed, "
        "Preference-Applied, Journal-Epoch"
    ]
    assert answer.all("vary") == ["Origin"]


def test_page_that_was_let_in_may_read_errors_too() -> None:
    answer = ask(("Origin", APP), ("Content-Length", "101"))
    assert answer.status == 413
    assert answer.all("access-control-allow-origin") == [APP]


def test_preflight_allows_our_headers_and_does_not_reach_the_application() -> None:
    answer = ask(*ASKING, method="OPTIONS")
    assert answer.body == b""
    assert answer.all("access-control-allow-headers") == [
        "Authorization, Content-Type, Idempotency-Key, Journal-Epoch, Last-Event-ID, Prefer"
    ]
    assert "PATCH" in answer.all("access-control-allow-methods")[0]


def test_answers_are_not_guessed_at_and_differ_by_origin() -> None:
    answer = ask()
    assert answer.all("x-content-type-options") == ["nosniff"]
    assert answer.all("vary") == ["Origin"]


def test_every_answer_is_strict_and_for_its_caller_alone() -> None:
    for answer in (ask(), ask(HOST), ask(**PAGE)):
        assert answer.all("cache-control") == ["no-store"]
        assert answer.all("x-frame-options") == ["DENY"]
        assert answer.all("referrer-policy") == ["same-origin"]
        assert answer.all("cross-origin-resource-policy") == ["same-origin"]
        assert answer.all("cross-origin-opener-policy") == ["same-origin"]
        assert "default-src 'none'" in answer.all("content-security-policy")[0]
    assert ask(path="/static/admin/css/base.css").all("cache-control") == []


def test_nobody_s_word_counts_for_where_a_request_comes_from() -> None:
    said = (("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"), ("Forwarded", "x"))
    told = json.loads(ask(*said, app=tell).body)
    assert told == {"client": ["10.0.0.1", 1234], "scheme": "http", "headers": []}


def test_the_last_proxy_s_word_counts_behind_one() -> None:
    said = (
        ("X-Forwarded-For", "6.6.6.6, 1.2.3.4"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Proto", "https"),
    )
    told = json.loads(ask(*said, app=tell, **PROXY).body)
    assert told["client"] == ["1.2.3.4", 0]
    assert told["scheme"] == "https"
    assert told["headers"] == ["x-forwarded-proto"]


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("1.2.3.4:567", "1.2.3.4"),
        ("::1", "::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("unknown", "10.0.0.1"),
        ("1.2.3.4, ", "10.0.0.1"),
        ("'; DROP", "10.0.0.1"),
    ],
)
def test_only_an_address_is_taken_for_one(said: str, address: str) -> None:
    told = json.loads(ask(("X-Forwarded-For", said), app=tell, **PROXY).body)
    assert told["client"][0] == address


def test_header_of_the_application_is_not_doubled() -> None:
    async def careful(scope: Message, receive: Any, send: Any) -> None:
        headers = [(b"X-Content-Type-Options", b"nosniff")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    names = [name.lower() for name, _ in ask(app=careful).headers]
    assert names.count("x-content-type-options") == 1


def test_failure_before_the_response_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Message, receive: Any, send: Any) -> None:
        raise KeyError("secret")

    answer = ask(app=broken)
    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret" not in answer.body
    assert "GET /api/v1/sessions/ failed" in caplog.text


def test_absent_database_is_answered_as_unavailable() -> None:
    async def waiting(scope: Message, receive: Any, send: Any) -> None:
        raise OperationalError("connection refused")

    answer = ask(app=waiting)
    assert (answer.status, answer.code) == (503, "unavailable")
    assert answer.all("retry-after") == ["1"]


def test_failure_after_the_response_began_is_left_to_the_server() -> None:
    async def breaking(scope: Message, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        ask(app=breaking)


def test_websocket_is_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    middleware = SecurityMiddleware(echo, hosts=["*"], origins=[], body_limit=LIMIT)
    asyncio.run(middleware({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
