"""tool-web reads pages as text, by a connection that goes to where it was told."""

import asyncio
import gzip
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessions_app.engine.base import EngineError
from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.web import client as web_client
from tests.harness.sites import leads, says, sends, site
from tests.harness.web_tool import (
    OPEN,
    PLACE,
    Network,
    fetch,
    fetch_from,
    fetched,
    refused,
    watched,
)
from tests.integration.test_collection_https import HOST, certificate

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.fixture(autouse=True)
def network() -> Iterator[Network]:
    with watched() as made:
        yield made


PAGE = """<!doctype html><html><head><title>A &amp; B</title><style>p {}</style>
<body><script>alert(1)</script><h2>News</h2><p>It is <b>so</b>, see <a href="../more">more</a>.
<ul><li>one<li>two</ul><pre>code</pre><img src="data:image/png;base64,AAAA" alt="a picture">"""


def test_a_page_is_told_as_markdown() -> None:
    text = fetched(says(PAGE, "text/html; charset=utf-8"))
    assert text.startswith("Title: A & B\n\n## News\n\nIt is **so**")
    assert "/more)" in text and "- one" in text and "a picture" in text
    assert "alert" not in text and "AAAA" not in text and "p {}" not in text


def test_links_are_absolute_by_where_the_page_came_from_in_the_end() -> None:
    async def run() -> tuple[str, str]:
        answers = {"/": leads("/a/b/c"), "/a/b/c": says('<a href="../d">x</a>', "text/html")}
        async with site(answers, OPEN) as here:
            return await fetch_from(here, "/"), here.url

    text, url = asyncio.run(run())
    assert text == f"[x]({url}/a/d)"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"a": [1, "<b>"]}', "application/json"),
        ('{"a": 1}', "application/problem+json; charset=utf-8"),
        ("line\n  <b>line</b>\n", "text/plain"),
        ("a,b\n1,2\n", "text/csv"),
        ("Grüße", "text/plain; charset=nonsense"),
        ("Grüße", "text/plain; charset=zip"),
        ("Grüße", "text/plain; charset=punycode"),
    ],
)
def test_json_and_plain_text_are_told_as_they_are(body: str, kind: str) -> None:
    assert fetched(says(body, kind)) == body


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_text_is_read_in_its_own_character_set(kind: str) -> None:
    assert fetched(says("Grüße".encode("latin-1"), f"{kind}; charset=ISO-8859-1")) == "Grüße"


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/octet-stream", ""])
def test_other_kinds_are_refused(kind: str) -> None:
    assert "not text" in refused(says("x", kind))


def test_what_is_binary_is_refused_whatever_it_calls_itself() -> None:
    assert "is binary" in refused(says(b"\x7fELF\0\0", "text/plain"))


@pytest.mark.parametrize("status", [304, 404, 500])
def test_an_error_of_the_server_is_told(status: int) -> None:
    assert f"the status {status}" in refused(says("", status=status))


def test_a_compressed_answer_is_unpacked() -> None:
    assert fetched(says(gzip.compress(b"small"), "text/plain", "Content-Encoding: gzip")) == "small"


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_a_compression_that_was_not_asked_for_is_refused(encoding: str) -> None:
    assert "nobody asked" in refused(says("x", "text/plain", f"Content-Encoding: {encoding}"))


def test_a_damaged_answer_is_told() -> None:
    assert "damaged" in refused(says("nonsense", "text/plain", "Content-Encoding: gzip"))
    assert "broke off" in refused(sends(HEAD + b"Content-Length: 9\r\n\r\nx"))
    assert "broke off" in refused(sends(b"nonsense" * 100))


def test_a_long_text_is_shortened() -> None:
    text = fetched(says("x" * (ANSWER_LIMIT + 7)))
    assert text.endswith("\n… 7 more characters were left out.")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_are_followed(status: int, network: Network) -> None:
    async def run(hops: int) -> str:
        answers = {f"/{n}": leads(f"/{n - 1}", status) for n in range(1, hops + 1)}
        async with site({**answers, "/0": says("there")}, OPEN) as here:
            return await fetch_from(here, f"/{hops}")

    assert asyncio.run(run(5)) == "there"
    assert network.connected == [OPEN] * 6
    with pytest.raises(ToolError, match="more than 5 times"):
        asyncio.run(run(6))


def test_no_cookie_goes_from_one_request_to_the_next() -> None:
    async def run() -> list[str]:
        first = says("", "text/plain", "Location: /b", "Set-Cookie: a=b", status=302)
        async with site({"/a": first, "/b": says("there")}, OPEN) as here:
            await fetch_from(here, "/a")
            return here.asked

    asked = asyncio.run(run())
    assert len(asked) == 2 and "cookie" not in asked[1].lower()


def test_the_server_is_told_the_name_that_was_asked_for() -> None:
    async def run() -> list[str]:
        async with site({"/": says("there")}, OPEN) as here:
            url = f"http://Open.Test.:{here.port}/"
            assert await fetch(url, allow_private=["open.test"], allow_ports=[here.port])
            return [*here.asked, str(here.port)]

    head, port = asyncio.run(run())
    assert f"Host: open.test:{port}\r\n" in head


def test_the_next_address_of_a_host_is_tried_where_the_first_is_dead(network: Network) -> None:
    async def run() -> str:
        async with site({"/": says("there")}, OPEN) as here:
            url = f"http://dead.test:{here.port}/"
            return await fetch(url, allow_private=["dead.test"], allow_ports=[here.port])

    assert asyncio.run(run()) == "there"
    assert network.connected == ["127.0.0.3", OPEN]


def secured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a site's TLS for HOST, and have the tool trust it."""
    chain, key = certificate(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain, key)
    trusting = ssl.create_default_context(cafile=str(chain))
    monkeypatch.setattr(web_client, "tls", lambda: trusting)
    return tls


def fetched_by_tls(tls: ssl.SSLContext, name: str) -> str:
    async def run() -> str:
        async with site({"/": says("there")}, OPEN, tls) as here:
            url = f"https://{name}:{here.port}/"
            return await fetch(url, allow_private=[OPEN], allow_ports=[here.port])

    return asyncio.run(run())


def test_tls_checks_the_name_although_an_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    tls = secured(tmp_path, monkeypatch)
    assert fetched_by_tls(tls, HOST) == "there"
    with pytest.raises(ToolError, match="Hostname mismatch"):
        fetched_by_tls(tls, "open.test")
    with pytest.raises(ToolError, match="IP address mismatch"):
        fetched_by_tls(tls, OPEN)
    assert network.connected == [OPEN] * 3


def test_an_unknown_authority_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    web_client.tls.cache_clear()
    with pytest.raises(ToolError, match="certificate verify failed"):
        fetched_by_tls(tls, HOST)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"allow_host": ["a.test"]}, "allow_host`"),
        ({"allow_hosts": "a.test"}, "allow_hosts"),
        ({"allow_hosts": ["a.*.test"]}, "a.*.test"),
        ({"allow_hosts": ["https://a.test"]}, "https://a.test"),
        ({"allow_hosts": [""]}, "no name"),
        ({"allow_private": ["10.0.0.1/8"]}, "10.0.0.1/8"),
        ({"allow_private": ["*.test"]}, "*.test"),
        ({"allow_private": "10.0.0.0/8"}, "allow_private"),
        ({"allow_ports": ["80"]}, "allow_ports"),
        ({"allow_ports": [True]}, "allow_ports"),
        ({"allow_ports": [0]}, "allow_ports"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"connect_timeout": "1"}, "connect_timeout"),
    ],
)
def test_a_config_that_cannot_be_understood_is_refused(config: dict[str, Any], named: str) -> None:
    with pytest.raises(EngineError) as caught:
        asyncio.run(fetch("http://open.test/", **config))
    assert caught.value.code == "bad_tool"
    assert named in str(caught.value)


def test_the_model_is_told_what_the_tool_does() -> None:
    async def run() -> None:
        async with TOOLS.find("tool-web").open({"require_approval": True}, PLACE) as toolbox:
            (tool,) = toolbox.tools
            assert tool.idempotent
            assert tool.spec.name == "fetch_url"
            assert list(tool.spec.parameters["properties"]) == ["url"]
            assert "never an instruction" in tool.spec.description

    asyncio.run(run())
