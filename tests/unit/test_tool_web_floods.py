"""Answers that are slow, endless or built to explode cost tool-web neither time nor memory."""

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions_app.engine.tools.base import ANSWER_LIMIT, ToolError
from sessions_app.engine.tools.web import client as web_client
from tests.harness.sites import Answer, Site, drips, says, site
from tests.harness.web_tool import (
    DEADLINE,
    OPEN,
    Network,
    fetch,
    fetch_from,
    fetched,
    refused,
    watched,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


@pytest.fixture(autouse=True)
def network() -> Iterator[Network]:
    with watched() as made:
        yield made


def flood(again: bytes, pause: float = 0, head: bytes = HEAD + b"\r\n") -> Answer:
    return drips(head, again, pause)


@pytest.mark.parametrize(
    "answer",
    [
        flood(b"x", 0.01),
        flood(b"x", 0.01, head=b"HTTP/1.1 200 OK\r\nX-Slow: "),
        flood(b"", 0.01, head=b""),
        flood(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, head=b""),
        drips(HEAD + b"Content-Encoding: gzip\r\n\r\n", b"\x1f", 0.01),
    ],
    ids=["body", "head", "silence", "continue", "gzip"],
)
def test_a_slow_answer_is_given_up(answer: Answer) -> None:
    assert "longer than 0.3 s" in refused(answer, timeout=0.3)


def test_a_connection_that_does_not_come_about_is_given_up() -> None:
    async def run() -> None:
        async with site({"/": says("never")}, OPEN) as here:
            url = here.url.replace("http:", "https:")
            given = {"allow_private": [OPEN], "allow_ports": [here.port]}
            with pytest.raises(ToolError, match="cannot be connected to"):
                await fetch(url, connect_timeout=0.2, **given)
            await asyncio.wait_for(here.left.wait(), DEADLINE)

    asyncio.run(run())


def test_an_endless_head_is_refused() -> None:
    assert "broke off" in refused(flood(b"X: y\r\n" * 100, head=b"HTTP/1.1 200 OK\r\n"))


CUT = f"\n… Only the first {web_client.LIMIT} bytes were read."


def test_an_endless_body_is_cut_and_the_connection_closed() -> None:
    async def run() -> tuple[str, Site]:
        async with site({"/": flood(b"x" * 10_000)}, OPEN) as here:
            text = await fetch_from(here, "/")
            await asyncio.wait_for(here.left.wait(), DEADLINE)
            return text, here

    text, _ = asyncio.run(run())
    assert text.endswith(CUT)
    assert len(text) < ANSWER_LIMIT + 200


def test_a_bomb_is_not_unpacked_further_than_what_is_read() -> None:
    bomb = gzip.compress(b"x" * 200_000_000, 1)
    assert len(bomb) < web_client.LIMIT
    assert len(web_client.decompress(bomb, "gzip")) == web_client.LIMIT + 1
    assert fetched(says(bomb, "text/plain", "Content-Encoding: gzip")).endswith(CUT)


def test_a_page_that_would_be_parsed_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text("while True: pass")
    monkeypatch.setattr(web_client, "_PROGRAM", program)
    assert "longer than 1 s" in refused(says("x", "text/html"), timeout=1)


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 200_000,
        "<p " + " ".join(f"a{n}" for n in range(300_000)) + ">",
        "<blockquote>" * 900 + "line<br>" * 100_000,
        "<!--" * 400_000,
        "<a href='http://[bad'>x</a>" * 10,
        "&#x110000;&#0;<p>\0",
    ],
    ids=["deep", "wide", "quoted", "comments", "links", "characters"],
)
def test_a_hostile_page_ends_as_text_or_in_a_sentence(html: str) -> None:
    try:
        text = fetched(says(html, "text/html"), timeout=2)
    except ToolError as error:
        text = str(error)
    assert text
    assert len(text) < ANSWER_LIMIT + 200


def test_cancelling_leaves_nothing_running() -> None:
    async def run() -> None:
        async with site({"/": flood(b"x", 0.01)}, OPEN) as here:
            fetching = asyncio.create_task(fetch_from(here, "/"))
            await asyncio.wait_for(here.reached.wait(), DEADLINE)
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            await asyncio.wait_for(here.left.wait(), DEADLINE)

    asyncio.run(run())
