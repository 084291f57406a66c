"""tool-web among sites of this machine, watched for where it goes."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sessions_app.engine.registry import TOOLS
from sessions_app.engine.tools.base import ToolError, Workplace
from tests.harness.sites import Answer, Site, site
from tests.harness.tools import as_function
from tests.integration.test_collection_https import HOST

DEADLINE = 30
PLACE = Workplace(Path("/"))
# A place that the operator has opened, and one that stays closed: no test is to get there.
OPEN, CLOSED = "127.0.0.2", "127.0.0.1"
# What the names of these tests mean, in turn at each look-up; the last one for good.
NAMES = {
    "open.test": [[OPEN]],
    "closed.test": [[CLOSED]],
    "mixed.test": [[OPEN, CLOSED]],
    "rebound.test": [[OPEN], [CLOSED]],
    "dead.test": [["127.0.0.3", OPEN]],
    HOST: [[OPEN]],
}


class Network:
    """What was looked up, and what was connected to."""

    def __init__(self) -> None:
        self.looked_up: list[str] = []
        self.connected: list[str] = []
        self.connect = anyio.connect_tcp
        self.resolve = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, *others: Any, **options: Any) -> list[Any]:
        if others:
            # Not the resolver: a thread that a test before has left behind connects again.
            return self.resolve(host, port, *others, **options)
        turn = self.looked_up.count(host)
        self.looked_up.append(host)
        if host in NAMES:
            answers = NAMES[host]
            found = answers[min(turn, len(answers) - 1)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]
        numeric = 0 if host == "localhost" else socket.AI_NUMERICHOST
        return self.resolve(host, port, type=socket.SOCK_STREAM, flags=numeric)

    async def connect_tcp(self, remote_host: str, *arguments: Any, **options: Any) -> Any:
        self.connected.append(remote_host)
        assert remote_host.startswith("127."), "this would have left the machine"
        return await self.connect(remote_host, *arguments, **options)


@contextmanager
def watched() -> Iterator[Network]:
    """Have the tool look names up among these, and connect within this machine alone."""
    made = Network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", made.getaddrinfo)
        patch.setattr(anyio, "connect_tcp", made.connect_tcp)
        yield made


async def fetch(url: str, **config: Any) -> str:
    async with TOOLS.find("tool-web").open(config, PLACE) as toolbox, asyncio.timeout(DEADLINE):
        return await as_function(toolbox.tools[0])(url)


async def fetch_from(here: Site, path: str, **config: Any) -> str:
    given = {"allow_private": [OPEN], "allow_ports": [here.port], **config}
    return await fetch(f"{here.url}{path}", **given)


def fetched(answer: Answer, **config: Any) -> str:
    """What the tool says of a page in the open place."""

    async def run() -> str:
        async with site({"/page": answer}, OPEN) as here:
            return await fetch_from(here, "/page", **config)

    return asyncio.run(run())


def refused(answer: Answer, **config: Any) -> str:
    """The sentence with which the tool refuses a page in the open place."""
    with pytest.raises(ToolError) as caught:
        fetched(answer, **config)
    return str(caught.value)
