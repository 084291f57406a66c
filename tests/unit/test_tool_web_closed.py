"""What is not public is never connected to by tool-web, however it is asked."""

import asyncio
from collections.abc import Iterator

import pytest

from sessions_app.engine.tools.base import ToolError
from tests.harness.sites import leads, says, site
from tests.harness.web_tool import CLOSED, OPEN, Network, fetch, fetch_from, watched

ADDRESSES = [
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "127.0.0.1..",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7F.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "localhost",
    "LocalHost",
    "localhost.",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "0xA9FEA9FE",
    "2852039166",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[fe80::1]",
    "[fe80::1%lo]",
    "[fe80::1%25lo]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "closed.test",
    "CLOSED.test.",
    "mixed.test",
]
URLS = [
    *(f"http://{address}:{{port}}/secret" for address in ADDRESSES),
    "https://127.0.0.1:{port}/secret",
    "http://user:word@127.0.0.2:{open}/",
    "http://user@127.0.0.2:{open}/",
    "http://:word@127.0.0.2:{open}/",
    "http://127.0.0.2:{open}@127.0.0.1:{port}/secret",
    "http://127.0.0.2:{open}\\@127.0.0.1:{port}/secret",
    "http:\\\\127.0.0.1:{port}/secret",
    "http:127.0.0.1:{port}/secret",
    "http:///127.0.0.1:{port}/secret",
    "//127.0.0.1:{port}/secret",
    "127.0.0.1:{port}/secret",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:{port}/_GET%20/secret",
    "ftp://127.0.0.1:{port}/secret",
    "ws://127.0.0.1:{port}/secret",
    "data:text/plain,secret",
    "javascript:secret",
    "view-source:http://127.0.0.1:{port}/secret",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/secret",
    "http://127.0.0.1:{port}\r\nHost: 127.0.0.2/secret",
    "http://127.0.0.2:99999/",
    "http://",
    "",
]


@pytest.fixture(autouse=True)
def network() -> Iterator[Network]:
    with watched() as made:
        yield made


async def escaped(url: str, *, by_redirect: bool) -> list[str]:
    """What the closed site was asked for by a call that tries to get there, and fails."""
    async with site({"/secret": says("secret")}, CLOSED) as closed, site({}, OPEN) as here:
        url = url.format(port=closed.port, open=here.port)
        here.answers |= {"/": says("open"), "/away": leads(url)}
        tried = f"{here.url}/away" if by_redirect else url
        with pytest.raises(ToolError):
            await fetch(tried, allow_private=[OPEN], allow_ports=[80, 443, closed.port, here.port])
        return closed.asked


@pytest.mark.parametrize("url", URLS)
def test_what_is_closed_is_not_connected_to(url: str, network: Network) -> None:
    assert asyncio.run(escaped(url, by_redirect=False)) == []
    assert network.connected == []


@pytest.mark.parametrize("url", [url for url in URLS if url.isprintable()])
def test_no_redirect_leads_to_what_is_closed(url: str, network: Network) -> None:
    assert asyncio.run(escaped(url, by_redirect=True)) == []
    assert set(network.connected) == {OPEN}


def test_a_name_that_changes_its_meaning_leads_to_what_was_checked(network: Network) -> None:
    async def run() -> tuple[str, list[str]]:
        async with site({"/": says("open")}, OPEN) as here:
            url = f"http://rebound.test:{here.port}/"
            given = {"allow_private": [OPEN], "allow_ports": [here.port]}
            first = await fetch(url, **given)
            with pytest.raises(ToolError, match="not on the public internet"):
                await fetch(url, **given)
            return first, here.asked

    first, asked = asyncio.run(run())
    assert (first, len(asked)) == ("open", 1)
    assert (network.looked_up, network.connected) == (["rebound.test"] * 2, [OPEN])


def test_a_name_is_checked_anew_after_a_redirect_to_itself(network: Network) -> None:
    async def run() -> None:
        async with site({"/": leads("/secret"), "/secret": says("secret")}, OPEN) as here:
            url = f"http://rebound.test:{here.port}/"
            with pytest.raises(ToolError, match="not on the public internet"):
                await fetch(url, allow_private=[OPEN], allow_ports=[here.port])

    asyncio.run(run())
    assert network.connected == [OPEN]


def test_only_the_ports_of_the_web_are_open_by_default(network: Network) -> None:
    with pytest.raises(ToolError, match=r"Port 8080 is closed; open are 80, 443\."):
        asyncio.run(fetch("http://open.test:8080/", allow_private=[OPEN]))
    with pytest.raises(ToolError, match=r"Port 443 is closed; open are 8080\."):
        asyncio.run(fetch("https://open.test/", allow_private=[OPEN], allow_ports=[8080]))
    assert network.looked_up == []


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("docs.test", True),
        ("DOCS.test.", True),
        ("a.wild.test", True),
        ("a.b.wild.test", True),
        ("xn--bcher-kva.test", True),
        ("wild.test", False),
        ("awild.test", False),
        ("docs.test.evil", False),
        ("sub.docs.test", False),
        ("evil.test", False),
    ],
)
def test_where_hosts_are_named_there_are_no_others(
    host: str, is_allowed: bool, network: Network
) -> None:
    allowed = ["Docs.test", "*.wild.test", "bücher.test"]
    with pytest.raises(ToolError) as caught:
        asyncio.run(fetch(f"http://{host}/", allow_hosts=allowed))
    # None of them exists: those that are allowed are looked up.
    assert ("not found" if is_allowed else "not among those") in str(caught.value)
    assert bool(network.looked_up) is is_allowed


def test_a_redirect_leaves_the_named_hosts_no_more_than_a_url() -> None:
    async def run(*allowed: str) -> None:
        async with site({"/": leads("http://evil.test/")}, OPEN) as here:
            await fetch_from(here, "/", allow_ports=[80, here.port], allow_hosts=[OPEN, *allowed])

    with pytest.raises(ToolError, match="not among those"):
        asyncio.run(run())
    with pytest.raises(ToolError, match="not found"):
        asyncio.run(run("evil.test"))


def test_a_network_is_opened_without_its_neighbours() -> None:
    async def run(opened: str) -> str:
        async with site({"/": says("there")}, OPEN) as here:
            return await fetch_from(here, "/", allow_private=[opened])

    assert asyncio.run(run("127.0.0.2/31")) == "there"
    with pytest.raises(ToolError, match="not on the public internet"):
        asyncio.run(run("127.0.0.4/30"))


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[str, list[str]]:
        async with site({}, CLOSED) as proxy, site({"/": says("there")}, OPEN) as here:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            return await fetch_from(here, "/"), proxy.asked

    assert asyncio.run(run()) == ("there", [])
