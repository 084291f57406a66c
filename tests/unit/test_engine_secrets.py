"""Secrets that a provider repeats are masked: in errors, in the log, and in pieces of speech."""

import base64
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from sessions_app.engine import config
from sessions_app.engine.config import MASK, RedactingFormatter, StreamRedactor, redact_text
from tests.harness.providers import refuses, streams
from tests.harness.turns import play

KEY = "canary-8c1f/5e0d\nx"


@pytest.fixture(autouse=True)
def unseen() -> Iterator[None]:
    before = set(config.seen)
    yield
    config.seen.clear()
    config.seen.update(before)


@pytest.mark.parametrize(
    "said",
    [
        KEY,
        f"Bearer {KEY}",
        repr(KEY),
        repr(f"Bearer {KEY}".encode()),
        quote(KEY, safe=""),
        base64.b64encode(KEY.encode()).decode(),
    ],
)
def test_a_secret_is_masked_however_it_is_spelled(said: str) -> None:
    told = redact_text(f"before {said} after", {KEY})
    assert MASK in told
    assert not any(part in told for part in ("8c1f", "5e0d", "Y2FuYX"))
    assert told.startswith("before ") and told.endswith(" after")


def test_a_few_characters_are_no_secret() -> None:
    assert redact_text("10 of 100", {"10"}) == "10 of 100"


def test_the_log_masks_what_was_filled_in_also_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CANARY", "canary-123456")
    config.Resolver("m").resolve({"api_key": "${CANARY}"})
    try:
        raise RuntimeError("no canary-123456")
    except RuntimeError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "it was %s", ("canary-123456",), (type(error), error, None)
        )
    text = RedactingFormatter("{message}", style="{").format(record)
    assert "canary-123456" not in text
    assert text.count(MASK) == 2


def passed(redactor: StreamRedactor, *pieces: str) -> list[str]:
    return [*map(redactor.feed, pieces), redactor.flush()]


def test_speech_without_a_secret_is_passed_on_at_once() -> None:
    assert passed(StreamRedactor({"sk-123456"}), "Hello", " world", "!") == [
        "Hello",
        " world",
        "!",
        "",
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        ["It is sk-123456."],
        ["It is ", *"sk-123456", "."],
        ["It is s", "k-1", "23456."],
        ["It is sk", "-12345", "6", "."],
    ],
)
def test_a_secret_in_pieces_is_masked(pieces: list[str]) -> None:
    assert "".join(passed(StreamRedactor({"sk-123456"}), *pieces)) == f"It is {MASK}."


@pytest.mark.parametrize("pieces", [["a sk-1234", "x"], ["a sk-12345"], ["sk-sk-12345", "7"]])
def test_what_only_begins_like_a_secret_is_told_whole(pieces: list[str]) -> None:
    assert "".join(passed(StreamRedactor({"sk-123456"}), *pieces)) == "".join(pieces)


def test_an_answer_that_repeats_the_key_is_masked() -> None:
    played = play(streams("Your key is sk-", "1234567", "89!"), api_key="sk-123456789")
    assert played.content == played.text == f"Your key is {MASK}!"


def test_a_variable_that_is_no_secret_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "gpt-fake")
    played = play(streams("I am gpt-fake."), default_model="${MODEL}")
    assert played.content == "I am gpt-fake."


def test_an_error_that_repeats_the_key_is_masked() -> None:
    played = play(refuses(401, "Bad key sk-123456789"), api_key="sk-123456789")
    assert MASK in str(played.error)
    assert "sk-1234" not in str(played.error)
