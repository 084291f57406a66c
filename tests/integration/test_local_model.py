"""provider-local, with the real model in this process."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings

from sessions_app.engine.base import Cancelled, EngineError, HistoryMessage, Outcome, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.engine.model_files import SMOLLM2, download, fetch
from sessions_app.engine.providers import local
from sessions_app.engine.providers.local import SLOTS, LocalServer, local_server


@pytest.fixture(scope="module")
def model_path() -> Path:
    """The model's file, fetched if `make setup` has not done so."""
    fetch(settings.MODELS_DIR, SMOLLM2, download)
    return settings.MODELS_DIR / SMOLLM2.name


@pytest.fixture(scope="module")
def server(model_path: Path) -> LocalServer:
    return local_server(model_path)


def turn(prompt: str, history: tuple[HistoryMessage, ...] = (), **config: Any) -> Turn:
    provider = {"module": "provider-local", "config": {"max_tokens": 16, **config}}
    return Turn({"providers": [provider], "instruction": "Answer briefly."}, prompt, history)


def ask(*turns: Turn) -> list[tuple[Outcome, list[str]]]:
    """Answer all turns at once."""

    async def answer(each: Turn) -> tuple[Outcome, list[str]]:
        pieces: list[str] = []
        outcome = await get_engine().run(
            each, lambda kind, data: pieces.append(data["content"]), asyncio.Event()
        )
        return outcome, pieces

    async def answers() -> list[tuple[Outcome, list[str]]]:
        return await asyncio.gather(*map(answer, turns))

    return asyncio.run(answers())


def refusal(prompt: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        ask(turn(prompt))
    return caught.value


def test_an_answer_comes_in_pieces_that_join_to_it(server: LocalServer) -> None:
    [(outcome, pieces)] = ask(turn("What is the capital of France?"))
    assert len(pieces) > 1
    assert "".join(pieces) == outcome.content
    assert outcome.model == "SmolLM2-135M-Instruct"


def test_usage_is_what_the_model_counted(server: LocalServer) -> None:
    [(outcome, _)] = ask(turn("Write a long story.", max_tokens=5))
    assert outcome.usage["output_tokens"] == 5
    assert outcome.usage["input_tokens"] > 10
    assert outcome.usage["requests"] == 1


def test_an_answer_ends_by_itself_without_a_mark_of_the_template(server: LocalServer) -> None:
    [(outcome, _)] = ask(turn("Say hello.", max_tokens=250, temperature=0))
    assert outcome.usage["output_tokens"] < 250
    assert "<|" not in outcome.content


def test_more_turns_at_once_than_slots_are_all_answered(server: LocalServer) -> None:
    turns = [turn(f"Tell me about {number}.", max_tokens=6) for number in range(SLOTS + 3)]
    answers = ask(*turns)
    assert len(answers) == SLOTS + 3
    assert all(outcome.content for outcome, _ in answers)


def test_after_cancelled_turns_the_next_is_answered(server: LocalServer) -> None:
    async def run() -> None:
        cancel = asyncio.Event()
        with pytest.raises(Cancelled):
            await get_engine().run(
                turn("Write a long story.", max_tokens=2000), lambda *_: cancel.set(), cancel
            )

    for _ in range(SLOTS + 1):
        asyncio.run(run())
    assert ask(turn("Say hello."))[0][0].content


def test_the_oldest_turns_of_a_long_session_are_forgotten(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MEMORY", 200)
    pair = (
        HistoryMessage("user", "Tell me more. " * 8),
        HistoryMessage("assistant", "It is so. " * 8),
    )
    [(alone, _), (long, _)] = ask(
        turn("Say hello.", max_tokens=2), turn("Say hello.", pair * 100, max_tokens=2)
    )
    assert 100 < long.usage["input_tokens"] - alone.usage["input_tokens"] <= 200


def test_a_session_that_became_very_long_is_still_answered(server: LocalServer) -> None:
    pair = (
        HistoryMessage("user", "Tell me more. " * 8),
        HistoryMessage("assistant", "It is so. " * 8),
    )
    history = (HistoryMessage("user", "word " * 80_000), *pair * 8)
    [(outcome, _)] = ask(turn("Say hello.", history, max_tokens=2))
    assert outcome.content


def test_a_message_longer_than_the_context_is_refused(server: LocalServer) -> None:
    error = refusal("word " * 5000)
    assert error.code == "too_long"
    assert "Shorten" in str(error)


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/slots", "/v1/chat/completions"])
def test_who_does_not_know_the_key_is_refused(server: LocalServer, path: str) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    assert server.key not in repr(server)
    with httpx.Client(trust_env=False) as client:
        assert client.post(server.url + path, json={}).status_code in (401, 404)
        assert client.get(server.url + path).status_code in (401, 404)


def test_without_its_file_the_way_to_it_is_told(tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    error = refusal("hello")
    assert error.code == "model_missing"
    assert str(tmp_path / SMOLLM2.name) in str(error)
    assert "fetch_model" in str(error)


def test_a_damaged_file_is_not_loaded(tmp_path: Path, settings: Any) -> None:
    settings.MODELS_DIR = tmp_path
    (tmp_path / SMOLLM2.name).write_bytes(b"GGUF")
    error = refusal("hello")
    assert (error.code, "damaged" in str(error)) == ("model_missing", True)


ONE_TURN = """
import asyncio, sys
from pathlib import Path
from django.conf import settings
from sessions_app.engine.base import Turn
from sessions_app.engine.providers import local
from sessions_app.engine.engines import get_engine
settings.configure(MODELS_DIR=Path(sys.argv[1]), OUTBOUND_HOSTS=[], REQUIRE_KEYS=False)
plan = {"providers": [{"module": "provider-local", "config": {"max_tokens": 3}}]}
asyncio.run(get_engine().run(Turn(plan, "hello"), lambda *_: None, asyncio.Event()))
"""


def test_it_writes_nothing_to_the_terminal_and_lets_its_process_end(model_path: Path) -> None:
    command = [sys.executable, "-c", ONE_TURN, str(model_path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
