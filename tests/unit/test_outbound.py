"""No address that somebody names leads to a private network: every spelling, by every way in.

`pytest -s` prints the table of attempts.
"""

import asyncio
import ipaddress
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import MagicMock

import anyio
import pytest

from amplifierd.common import outbound
from amplifierd.common.outbound import (
    AddressRefused,
    OutboundRules,
    normalize_host,
    parse_exceptions,
    rules_for_callers,
    rules_for_profiles,
)
from amplifierd.management.commands import run_worker
from profiles_app.exceptions import InvalidDefinition, InvalidSource, SourceUnreadable
from profiles_app.services import overrides
from profiles_app.services.mount_plans import list_modules
from profiles_app.sources import git
from profiles_app.sources.location import parse
from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.engine.registry import TOOLS, find_tool_errors
from sessions_app.engine.tools.base import ToolError, Workplace
from tests.harness.mcp_tools import opened
from tests.harness.providers import DONE, STOP, chunk
from tests.harness.tools import as_function
from tests.harness.web_tool import PLACE

DEADLINE = 60
# An address of the internet, and where the tests' internet really is.
PUBLIC, STAND_IN = "93.184.216.34", "127.0.0.2"
# The addresses of names, in turn for each look-up; the last ones from then on.
NAMES = {
    "public.test": [[PUBLIC]],
    "private.test": [["127.0.0.1"]],
    "lan.test": [["10.0.0.7"]],
    "mixed.test": [[PUBLIC, "127.0.0.1"]],
    "six.test": [["::1"]],
    "cloud.test": [["169.254.169.254"]],
    "rebound.test": [[PUBLIC], ["127.0.0.1"]],
    "dead.test": [["93.184.216.35", PUBLIC]],
}
SPELLINGS = [
    *("127.0.0.1", "127.1", "127.0.0.1.", "127.255.255.254", "2130706433", "0x7f000001"),
    *("0x7f.1", "0X7F.0.0.1", "0177.0.0.1", "017700000001", "0.0.0.0", "0"),
    *("localhost", "LocalHost", "localhost.", "10.0.0.1", "172.16.0.1", "192.168.0.1"),
    *("169.254.169.254", "0xA9FEA9FE", "2852039166", "169.254.170.2", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2001:db8::1]"),
    *("[fe80::1]", "[fe80::1%lo]", "[fe80::1%25lo]", "[fd00:ec2::254]", "[fd20:ce::254]"),
    *("[fc00::1]", "[fec0::1]", "[ff02::1]", "127。0。0。1", "private.test", "PRIVATE.test."),
    *("lan.test", "mixed.test", "six.test", "cloud.test", "metadata.google.internal"),
    *("metadata.goog", "instance-data", "user:word@127.0.0.1", "public.test@127.0.0.1"),
]
SECRET = "a secret of the private network"


class Internet:
    """The servers of a test, what was looked up, and where connections went."""

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self.connected: list[str] = []
        # Connections that the planted server got.
        self.planted = 0
        self.port = 0
        # What the stand-in was asked for, and what it answers with.
        self.asked: list[str] = []
        self.answer = b""
        self._look_up, self._connect = socket.getaddrinfo, anyio.connect_tcp

    def getaddrinfo(self, host: str, port: int, *others: Any, **options: Any) -> list[Any]:
        if others:
            # Not the resolver: a thread that a test before has left behind connects again.
            return self._look_up(host, port, *others, **options)
        name = host.lower().rstrip(".")
        turn = self.looked_up.count(name)
        self.looked_up.append(name)
        if name in NAMES:
            found = NAMES[name][min(turn, len(NAMES[name]) - 1)]
            family = socket.AF_INET6 if ":" in found[0] else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]
        numeric = 0 if name == "localhost" else socket.AI_NUMERICHOST
        return self._look_up(host, port, type=socket.SOCK_STREAM, flags=numeric)

    async def connect_tcp(self, remote_host: str, remote_port: int, **options: Any) -> Any:
        self.connected.append(remote_host)
        if remote_host == "93.184.216.35":
            raise ConnectionRefusedError("refused")
        remote_host = STAND_IN if remote_host == PUBLIC else remote_host
        assert remote_host.startswith("127."), f"{remote_host} would have left the machine"
        return await self._connect(remote_host, remote_port, **options)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Internet"]:
        """Plant a server on 127.0.0.1, and let the stand-in have the same port."""

        async def tell_secret(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.planted += 1
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{SECRET}".encode())
            writer.close()

        async def stand_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            size = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
            await reader.readexactly(int(size or 0))
            writer.write(self.answer)
            writer.close()

        async with (
            await asyncio.start_server(tell_secret, "127.0.0.1", 0) as planted,
            asyncio.timeout(DEADLINE),
        ):
            self.port = planted.sockets[0].getsockname()[1]
            async with await asyncio.start_server(stand_in, STAND_IN, self.port):
                yield self

    def respond(self, status: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"HTTP/1.1 {status}", *headers, "connection: close", "\r\n"]
        self.answer = "\r\n".join(lines).encode() + body


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    made = Internet()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    monkeypatch.setattr(anyio, "connect_tcp", made.connect_tcp)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return made


@pytest.fixture
def shared(settings: Any) -> Any:
    """The settings of a daemon that requires keys."""
    settings.REQUIRE_KEYS = True
    return settings


# --- The ways in: each tries an address, and returns the reason why it was refused. ---


async def answer_of(turn_plan: dict[str, Any]) -> str:
    """Run a turn; return the code and the text of its error, or the answer."""
    try:
        outcome = await get_engine().run(
            Turn(turn_plan, "Go.", directory=PLACE.directory), lambda *_: None, asyncio.Event()
        )
    except EngineError as error:
        return f"{error.code}: {error}"
    return f"ANSWER {outcome.content}"


def provider(module: str, key: str = "base_url", **more: Any) -> dict[str, Any]:
    quick = {"max_retries": 0, "default_model": "m", "deployment": "d", "api_key": "k"}
    return {"module": module, "config": {**quick, **more}} if key else {}


def by_provider(module: str, key: str = "base_url") -> Callable[[str, Internet], Awaitable[str]]:
    async def attempt(url: str, _: Internet) -> str:
        return await answer_of({"providers": [provider(module, **{key: f"{url}/v1"})]})

    return attempt


async def by_override(url: str, _: Internet) -> str:
    """A shared daemon takes no address from overrides; a session of earlier versions may have."""
    entry = {"module": "provider-openai-compatible", "config": {"base_url": url}}
    base = {"providers": [provider("provider-openai-compatible", base_url="http://public.test")]}
    try:
        overrides.apply(base, {"providers": [entry]})
    except InvalidDefinition:
        old = provider("provider-openai-compatible", base_url=url)
        return await answer_of({"providers": [{**old, "is_foreign": True}]})
    return "ANSWER taken"


def by_mcp(path: str) -> Callable[[str, Internet], Awaitable[str]]:
    async def attempt(url: str, _: Internet) -> str:
        try:
            async with opened({"url": f"{url}{path}", "timeout": 10}) as tools:
                return f"ANSWER {list(tools.all)}" if tools.all else str(tools.toolbox.notes)
        except EngineError as error:
            return f"{error.code}: {error}"

    return attempt


async def by_web(url: str, internet: Internet) -> str:
    ports = [80, 443, internet.port]
    # A profile opens nothing on a shared daemon.
    config = {"allow_ports": ports, "allow_private": ["127.0.0.0/8", "private.test"]}
    async with TOOLS.find("tool-web").open(config, Workplace(PLACE.directory)) as box:
        try:
            return f"ANSWER {await as_function(box.tools[0])(f'{url}/')}"
        except ToolError as error:
            return str(error)


def redirected(attempt: Callable[[str, Internet], Awaitable[str]]) -> Any:
    async def by_redirect(url: str, internet: Internet) -> str:
        internet.respond("307 Elsewhere", f"location: {url}/secret", "content-length: 0")
        return await attempt(f"http://public.test:{internet.port}", internet)

    return by_redirect


def by_collection(scheme: str) -> Callable[[str, Internet], Awaitable[str]]:
    async def attempt(url: str, _: Internet) -> str:
        try:
            location = parse(f"git+{scheme}{url.removeprefix('http')}/a")
            return f"ANSWER {await asyncio.to_thread(git.find_newest_commit, location)}"
        except (InvalidSource, SourceUnreadable) as error:
            return str(error)

    return attempt


async def by_source(url: str, _: Internet) -> str:
    """The `source` of a module is never fetched; overrides cannot set it."""
    entry = {"module": "tool-todo", "source": f"git+{url}/a"}
    with pytest.raises(InvalidDefinition, match="source"):
        overrides.apply({}, {"tools": [entry]})
    sections = overrides.apply({"tools": [entry], "providers": [{"module": "provider-mock"}]}, {})
    assert (await answer_of({**sections, "context": {}})).startswith("ANSWER")
    return "never fetched"


DOORS: dict[str, Callable[[str, Internet], Awaitable[str]]] = {
    "provider": by_provider("provider-openai-compatible"),
    "ollama": by_provider("provider-ollama"),
    "openai": by_provider("provider-openai"),
    "anthropic": by_provider("provider-anthropic"),
    "google": by_provider("provider-google"),
    "azure": by_provider("provider-azure-openai", "azure_endpoint"),
    "override": by_override,
    "MCP": by_mcp("/mcp"),
    "MCP, SSE": by_mcp("/sse"),
    "tool-web": by_web,
    "tool-web, redirect": redirected(by_web),
    "provider, redirect": redirected(by_provider("provider-openai-compatible")),
    "MCP, redirect": redirected(by_mcp("/mcp")),
    "git over https": by_collection("https"),
    "git over ssh": by_collection("ssh"),
    "source": by_source,
}
TABLE: Counter[tuple[str, str]] = Counter()


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    for (door, result), count in TABLE.items():
        print(f"\n{door:<20} {count:>4} {result}", end="")
    print(f"\n{'attempts':<20} {sum(TABLE.values()):>4}")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.usefixtures("shared")
def test_no_spelling_of_a_private_address_is_connected_to(door: str, internet: Internet) -> None:
    async def run() -> dict[str, str]:
        async with internet.serve():
            said = {}
            for spelling in SPELLINGS:
                said[spelling] = await DOORS[door](f"http://{spelling}:{internet.port}", internet)
            return said

    said = asyncio.run(run())
    TABLE.update((door, "refused" if "ANSWER" not in each else each) for each in said.values())
    assert internet.planted == 0
    # A redirect comes from a public server; besides that nothing was connected to.
    assert set(internet.connected) <= {PUBLIC} if "redirect" in door else not internet.connected
    assert not any("ANSWER" in each or SECRET in each for each in said.values()), said
    if door in ("provider", "ollama", "override", "MCP", "MCP, SSE"):
        refused = {each for each in SPELLINGS if "AMPLIFIERD_OUTBOUND_HOSTS" in said[each]}
        # The client of MCP takes this one for no URL at all.
        assert set(SPELLINGS) - refused <= ({"0177.0.0.1"} if "MCP" in door else set()), said


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("git over ssh", "source")])
def test_what_the_operator_lists_is_reached(door: str, internet: Internet, shared: Any) -> None:
    """Otherwise the attempts above would prove nothing."""

    async def run() -> None:
        async with internet.serve():
            shared.OUTBOUND_HOSTS = [f"127.0.0.1:{internet.port}", "public.test"]
            await DOORS[door](f"http://127.0.0.1:{internet.port}", internet)

    asyncio.run(run())
    # No provider and no MCP server is followed elsewhere; tool-web is, with the same check.
    follows = door == "tool-web, redirect" or "redirect" not in door
    assert (internet.planted > 0) is follows


# --- A name that changes its meaning ---


@pytest.mark.parametrize("door", ["provider", "openai", "MCP", "MCP, SSE", "tool-web"])
@pytest.mark.usefixtures("shared")
def test_a_name_is_resolved_once_and_the_connection_goes_there(
    door: str, internet: Internet
) -> None:
    async def run() -> str:
        async with internet.serve():
            internet.respond("404 No", "content-length: 0")
            return await DOORS[door](f"http://rebound.test:{internet.port}", internet)

    asyncio.run(run())
    # MCP makes several requests, each on a new connection: each is resolved once, the later
    # ones to the private address, which is refused.
    assert internet.connected == [PUBLIC]
    assert internet.planted == 0
    assert len(internet.looked_up) == (1 if "MCP" not in door else len(internet.looked_up))
    assert f"Host: rebound.test:{internet.port}" in internet.asked[0]


def test_git_is_bound_to_the_only_look_up(internet: Internet) -> None:
    options, _ = git.hosts.pin_addresses("https://rebound.test/a")
    assert options == ["-c", f"http.curloptResolve=rebound.test:443:{PUBLIC}"]
    with pytest.raises(SourceUnreadable, match="not on the public internet"):
        git.hosts.pin_addresses("https://rebound.test/a")
    assert internet.looked_up == ["rebound.test"] * 2


@pytest.mark.usefixtures("internet")
def test_a_git_that_would_look_the_name_up_again_is_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(git, "_find_version", lambda: (2, 30))
    monkeypatch.setattr(git, "run_git", MagicMock(side_effect=AssertionError))
    for read in (git.find_newest_commit, git.read_repository):
        with pytest.raises(SourceUnreadable, match=r"git 2\.37 or newer"):
            read(parse("https://public.test/a"))


def test_a_connection_that_is_kept_is_not_resolved_again(internet: Internet) -> None:
    """Two requests, one connection, one look-up."""
    text = chunk("One") + STOP + DONE

    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(size))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(f"content-length: {len(text)}\r\n\r\n".encode() + text)
            writer.close()

        async with await asyncio.start_server(serve, STAND_IN, 0) as server:
            port = server.sockets[0].getsockname()[1]
            for _ in range(2):
                said = await DOORS["provider"](f"http://public.test:{port}", internet)
                assert said == "ANSWER One"

    asyncio.run(run())
    assert (internet.looked_up, internet.connected) == (["public.test"], [PUBLIC])


def test_the_next_address_is_tried_if_one_is_dead(internet: Internet) -> None:
    async def run() -> str:
        async with internet.serve():
            internet.respond("200 OK", "content-type: text/event-stream", body=chunk("One") + STOP)
            return await DOORS["provider"](f"http://dead.test:{internet.port}", internet)

    assert asyncio.run(run()) == "ANSWER One"
    assert internet.connected == ["93.184.216.35", PUBLIC]


# --- Proxies ---


@pytest.mark.parametrize("name", ["private.test", "lan.test", "cloud.test", "mixed.test"])
@pytest.mark.usefixtures("shared")
def test_a_proxy_is_not_asked_for_what_is_private(
    name: str, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[str]:
        async with internet.serve():
            monkeypatch.setenv("HTTP_PROXY", f"http://{STAND_IN}:{internet.port}")
            internet.respond("404 No", "content-length: 0")
            known = [await DOORS[door](f"http://{name}", internet) for door in ("provider", "MCP")]
            assert internet.asked == []
            # A name that only the proxy knows is the proxy's to decide.
            await DOORS["provider"]("http://known-by-the-proxy.test", internet)
            return known

    assert all("AMPLIFIERD_OUTBOUND_HOSTS" in each for each in asyncio.run(run()))
    assert internet.planted == 0
    assert [head.split()[1] for head in internet.asked] == [
        "http://known-by-the-proxy.test/v1/chat/completions"
    ]


# --- One person's own machine ---


def test_without_keys_local_servers_need_no_setting(internet: Internet) -> None:
    async def run() -> dict[str, int]:
        reached = {}
        async with internet.serve():
            for door in ("provider", "ollama", "MCP", "tool-web", "git over https"):
                internet.planted = 0
                for host in ("127.0.0.1", "localhost", "private.test"):
                    await DOORS[door](f"http://{host}:{internet.port}", internet)
                reached[door] = internet.planted
        return reached

    reached = asyncio.run(run())
    assert min(reached[door] for door in ("provider", "ollama", "MCP")) >= 3
    # The profile allows these for tool-web; nobody does for git.
    assert (reached["tool-web"], reached["git over https"]) == (3, 0)


def test_tool_web_stays_closed_without_keys(internet: Internet) -> None:
    async def run() -> str:
        async with internet.serve():
            config = {"allow_ports": [internet.port]}
            async with TOOLS.find("tool-web").open(config, PLACE) as box:
                with pytest.raises(ToolError) as caught:
                    await as_function(box.tools[0])(f"http://127.0.0.1:{internet.port}/")
            return str(caught.value)

    assert "not on the public internet" in asyncio.run(run())
    assert internet.planted == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "cloud.test"])
@pytest.mark.parametrize("door", ["provider", "MCP"])
def test_a_metadata_service_is_closed_also_without_keys(
    door: str, host: str, internet: Internet
) -> None:
    async def run() -> str:
        return await DOORS[door](f"http://{host}", internet)

    assert "the metadata service of a cloud" in asyncio.run(run())
    assert internet.connected == []


@pytest.mark.parametrize(
    ("given", "supposes_keys"), [({}, True), ({"AMPLIFIERD_REQUIRE_KEYS": "0"}, False)]
)
def test_a_worker_on_its_own_supposes_that_others_may_call(
    given: dict[str, str], supposes_keys: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REQUIRE_KEYS = False
    found = []

    async def work() -> None:
        found.append(settings.REQUIRE_KEYS)

    monkeypatch.delenv("AMPLIFIERD_REQUIRE_KEYS", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("conceal", "favour_event_loop", "limit_idle_transactions", "schema", "notifier"):
        monkeypatch.setattr(run_worker, name, MagicMock())
    monkeypatch.setattr(run_worker, "work", work)
    run_worker.Command().handle()
    assert found == [supposes_keys]


@pytest.mark.usefixtures("shared")
def test_a_profile_with_a_private_mcp_server_says_so_when_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLACE", "http://127.1:9")
    mounts = [
        {"module": "tool-todo", "config": {}},
        {"module": "tool-mcp", "config": {"url": "${PLACE}/mcp", "approval_timeout": 9}},
        {"module": "tool-mcp", "config": {"url": "https://public.test/mcp"}},
        {"module": "tool-mcp", "config": {"url": "${NOT_SET}/mcp"}},
    ]
    [error] = find_tool_errors(mounts)
    assert (error.index, error.code) == (1, "bad_tool")
    assert "AMPLIFIERD_OUTBOUND_HOSTS" in error.detail


# --- What a caller gets to read of a server of its choice ---


@pytest.mark.parametrize(
    "answer",
    [
        ("500 No", f'{{"error": {{"message": "{SECRET}"}}}}'),
        ("200 OK", f'{{"error": {{"message": "{SECRET}"}}}}'),
        ("401 No", SECRET),
        (SECRET, ""),
        ("307 Elsewhere", ""),
    ],
)
def test_errors_do_not_repeat_what_a_server_of_an_override_sends(
    answer: tuple[str, str], internet: Internet
) -> None:
    base = {"providers": [provider("provider-openai-compatible", base_url="http://public.test")]}

    async def run(overridden: dict[str, Any]) -> str:
        sections = overrides.apply(base, overridden)
        mounts = [
            {"moduleType": "provider", "metadata": {k: each[k] for k in ("module", "config")}}
            for each in sections["providers"]
        ]
        plan = {"mountPoints": mounts, "session": {"settings": overridden}}
        return await answer_of({**list_modules(plan), "context": {}})

    async def both() -> tuple[str, str]:
        status, body = answer
        async with internet.serve():
            url = f"http://public.test:{internet.port}/v1"
            base["providers"][0]["config"]["base_url"] = url
            internet.respond(status, f"location: http://x/{SECRET}", body=body.encode())
            own = {"module": "provider-openai-compatible", "config": {"base_url": url}}
            return await run({}), await run({"providers": [own]})

    of_the_profile, of_the_caller = asyncio.run(both())
    assert SECRET.split()[1] in of_the_profile
    assert SECRET.split()[1] not in of_the_caller
    assert "its answer is not shown" in of_the_caller
    if answer[0][:3].isdigit() and answer[0] != "200 OK":
        assert f"HTTP {answer[0][:3]}" in of_the_caller


# --- The list of exceptions ---


@pytest.mark.parametrize(
    ("entry", "reached", "refused"),
    [
        ("lan.test", ["http://lan.test:1", "http://LAN.test."], ["http://10.0.0.7"]),
        ("lan.test:8000", ["http://lan.test:8000"], ["http://lan.test"]),
        ("*.test", ["http://lan.test", "http://six.test"], ["http://10.0.0.7"]),
        ("10.0.0.0/8", ["http://lan.test", "http://10.9.9.9"], ["http://127.0.0.1"]),
        ("10.0.0.7", ["http://lan.test", "http://10.0.0.7:9"], ["http://10.0.0.8"]),
        ("10.0.0.7:80", ["http://10.0.0.7"], ["http://10.0.0.7:81"]),
        ("127.0.0.0/8", ["http://127.1", "http://localhost", "http://[::ffff:7f00:1]"], []),
        ("[::1]:80", ["http://[::1]"], ["http://[::1]:81", "http://127.0.0.1"]),
        ("::1", ["http://six.test", "http://[0::1]:5"], ["http://[::2]"]),
        ("cloud.test", [], ["http://cloud.test"]),
        ("169.254.0.0/16", [], ["http://169.254.169.254"]),
        ("0.0.0.0/0", ["http://10.0.0.1"], ["http://169.254.169.254"]),
        ("169.254.169.254", ["http://169.254.169.254", "http://cloud.test"], []),
        ("*.internal", [], ["http://metadata.google.internal"]),
    ],
)
@pytest.mark.usefixtures("internet")
def test_an_entry_opens_what_it_says(
    entry: str, reached: list[str], refused: list[str], shared: Any
) -> None:
    shared.OUTBOUND_HOSTS = [entry]

    def may(url: str) -> bool:
        host, _, port = url.removeprefix("http://").rpartition(":")
        host, port = (host, port) if port.isdigit() and host else (url[7:], "80")
        try:
            assert rules_for_callers().resolve(host, int(port))
        except AddressRefused:
            return False
        return True

    assert [url for url in reached if not may(url)] == []
    assert [url for url in refused if may(url)] == []


@pytest.mark.parametrize(
    "entry",
    ["http://a.test", "a b", "10.0.0.1/8", "*", "a:99999", "a:0", "127.1", "a.*", "10.0.0.0/8:0"],
)
def test_an_entry_that_is_no_host_is_told(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        parse_exceptions((entry,))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "[2606:4700::1111]", "[64:ff9b::101:101]", "[::ffff:1.1.1.1]"],
)
@pytest.mark.usefixtures("shared", "internet")
def test_what_is_public_needs_no_entry(address: str) -> None:
    for rules in (OutboundRules(), rules_for_profiles(), rules_for_callers()):
        assert rules.resolve(address, 443)


def test_hosts_are_compared_in_one_form() -> None:
    assert normalize_host("BÜCHER.test.") == "xn--bcher-kva.test"
    assert json.dumps(normalize_host("[::1]")) == '"::1"'


def test_names_that_callers_choose_do_not_delay_those_of_profiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More slow look-ups than there are threads for them."""
    over = threading.Event()

    def look_up(host: str, port: int) -> list[outbound.Address]:
        if host.startswith("slow"):
            over.wait(30)
        return [ipaddress.ip_address("93.184.216.34")]

    async def run() -> bool:
        rules = rules_for_callers()
        slow = [
            asyncio.create_task(rules.resolve_async(f"slow{number}.example", 80))
            for number in range(40)
        ]
        await asyncio.sleep(0)
        await rules_for_profiles().resolve_async("api.example", 443)
        is_first = not any(task.done() for task in slow)
        over.set()
        await asyncio.gather(*slow)
        return is_first

    monkeypatch.setattr(outbound, "look_up", look_up)
    assert asyncio.run(run())
