"""Windows that are too small, models that go round in circles, places where no model is."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sessions_app.models import Message
from sessions_app.services import attempts, checkpoints
from sessions_app.worker import turns
from tests.conftest import claimed
from tests.harness.rude.play import FILES, PROTOCOLS, Played, Talk, goes_on, provider
from tests.harness.rude.server import RudeServer
from tests.harness.rude.wire import Call, say, want

ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


def success(turn: Played, server: RudeServer) -> str:
    assert turn.error is None, (turn.error, server.refusals[-1:])
    return turn.text


# D1


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Five files of 50 kB."""
    for number in range(5):
        text = "".join(f"{number} line {line:04} of the file\n" for line in range(1900))
        (tmp_path / f"{number}.txt").write_text(text)
    return tmp_path


@ALL
@pytest.mark.parametrize("dies_after", [0, 4])
def test_results_that_fill_the_window_within_a_turn_are_shortened(
    dies_after: int, protocol: str, large: Path
) -> None:
    reads = [want(Call("read_file", {"path": f"{n}.txt"}, f"call_{n}")) for n in range(5)]
    with RudeServer("overflow_above_bytes=200000", *reads, say("All read.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=large)
        turn = talk.say("Read all five.", dies_after=dies_after)
        assert success(turn, server).endswith("All read.")
        # The newest is there as a whole.
        assert "4 line 1899" in server.requests[-1].raw.decode()
        assert "Read all five." in server.requests[-1].raw.decode()
        goes_on(talk, server)
        assert len(server.refusals) <= 3


@ALL
def test_results_that_come_all_at_once_are_shortened(protocol: str, large: Path) -> None:
    read = want(*(Call("read_file", {"path": f"{n}.txt"}, f"call_{n}") for n in range(5)))
    with RudeServer("overflow_above_bytes=120000", read, say("All read.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=large)
        assert success(talk.say("Read all five."), server).endswith("All read.")
        goes_on(talk, server)


def posted(talk: Talk) -> None:
    """Have what somebody pasted in the history: an answer failed for it, or a client posted it."""
    talk.say("A pasted line. " * 10_000)


def answered(talk: Talk) -> None:
    talk.post("user", "Write a book.")
    talk.post("assistant", "It was a dark night. " * 8_000)


def instructed(talk: Talk) -> None:
    talk.post("system", "Another rule. " * 10_000)


@ALL
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("put", [posted, answered, instructed])
def test_one_message_larger_than_the_window_bricks_no_session(
    put: Any, known: bool, protocol: str
) -> None:
    config = {"context_window": 25_000} if known else {}
    with RudeServer("strict_roles+overflow_above_bytes=100000") as server:
        talk = Talk(provider(server, protocol, **config))
        put(talk)
        goes_on(talk, server)
        goes_on(talk, server)


@ALL
@pytest.mark.parametrize("dies_after", [0, 3])
def test_arguments_that_fill_the_window_are_shortened_for_the_model_alone(
    dies_after: int, protocol: str, tmp_path: Path
) -> None:
    text = "line\n" * 8_000
    writes = [
        want(Call("write_file", {"path": f"{n}.txt", "content": text}, f"call_{n}"))
        for n in range(4)
    ]
    with RudeServer("overflow_above_bytes=100000", *writes, say("Written.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=tmp_path)
        turn = talk.say("Write four.", dies_after=dies_after)
        assert success(turn, server).endswith("Written.")
        assert all((tmp_path / f"{n}.txt").read_text() == text for n in range(4))
        goes_on(talk, server)


# D2

OVERFLOWS = (
    "overflow_openai",
    "overflow_anthropic",
    "overflow_gemini",
    "overflow_llama_cpp",
    "overflow_413",
    "overflow_vllm",
    "overflow_sglang",
    "overflow_bedrock",
    "overflow_mistral",
    "overflow_groq",
    "overflow_kimi",
    "overflow_lm_studio",
    "overflow_anthropic_output",
    "overflow_cohere",
    "overflow_500",
)


def long_talk(server: RudeServer, protocol: str, **config: Any) -> Talk:
    """A conversation of 48 kB."""
    talk = Talk(provider(server, protocol, **config))
    for number in range(12):
        talk.post(("user", "assistant")[number % 2], f"message {number} " * 400)
    return talk


@ALL
@pytest.mark.parametrize("words", OVERFLOWS)
def test_an_overflow_is_known_in_every_server_s_words(words: str, protocol: str) -> None:
    with RudeServer(f"{words}=40000") as server:
        talk = long_talk(server, protocol)
        assert success(talk.say("And now?"), server) == "Well said."
        assert "And now?" in server.requests[-1].last_user
        assert 1 <= len(server.refusals) <= 2
        goes_on(talk, server)


def test_an_overflow_that_is_told_in_the_stream_is_known() -> None:
    with RudeServer("overflow_in_stream=40000") as server:
        talk = long_talk(server, "chat")
        assert success(talk.say("And now?"), server) == "Well said."
        goes_on(talk, server)


# D3


@ALL
@pytest.mark.parametrize("known", [True, False])
def test_an_instruction_that_fits_into_no_window_is_one_clear_error(
    known: bool, protocol: str
) -> None:
    config = {"context_window": 10_000} if known else {}
    with RudeServer("overflow_above_bytes=40000") as server:
        talk = Talk(provider(server, protocol, **config), instruction="Be brief. " * 10_000)
        for number in range(4):
            before = len(server.requests)
            code, message = talk.say(f"Question {number}.").failure
            assert code == "too_long"
            assert "instruction" in message
            assert len(server.requests) - before <= 2
        assert talk.summary == ""
        talk.instruction = "Be brief."
        goes_on(talk, server)


# D5


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ("same_tool_forever", 100),
        ("two_tools_forever", 250),
        ("unknown_tool_forever", 250),
        ("broken_arguments_forever", 250),
    ],
)
def test_a_model_that_goes_round_in_circles_is_stopped(
    spec: str, most: int, tmp_path: Path
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text\n")
    with RudeServer(spec) as server:
        talk = Talk(provider(server), tools=(FILES,), directory=tmp_path)
        turn = talk.say("Go on for ever.")
        assert len(server.requests) <= most
        if turn.error is not None:
            code, message = turn.failure
            assert code not in ("internal", "provider_error", "timeout")
            assert len(message) < 500
        goes_on(talk, server)


# F9


@pytest.mark.parametrize(
    "spec",
    ["html_404", "json_404", "plain_404", "page_instead", "html_405", "redirects_to_login"],
)
@ALL
def test_a_place_without_a_model_is_named(spec: str, protocol: str) -> None:
    with RudeServer(spec) as server, RudeServer() as right:
        talk = Talk(provider(server, protocol))
        code, message = talk.say("Hello?").failure
        assert code in ("provider_error", "bad_answer", "bad_config")
        assert "base_url" in message
        assert "<" not in message
        assert len(message) < 500
        assert len(server.requests) == 1
        talk.providers = [provider(right, protocol)]
        goes_on(talk, right)


def test_a_base_url_without_its_version_is_named() -> None:
    with RudeServer() as server:
        talk = Talk(provider(server, base_url=server.root))
        code, message = talk.say("Hello?").failure
        assert (code, "base_url" in message, "<" in message) == ("provider_error", True, False)
        assert "/v1" in message
        talk.providers = [provider(server)]
        goes_on(talk, server)


@ALL
def test_pages_of_gateways_are_not_told(protocol: str) -> None:
    with RudeServer("bad_gateway") as server, RudeServer() as right:
        talk = Talk(provider(server, protocol))
        code, message = talk.say("Hello?").failure
        assert (code, "502" in message, "<" in message) == ("provider_error", True, False)
        assert len(message) < 500
        talk.providers = [provider(right, protocol)]
        goes_on(talk, right)


@ALL
def test_a_wrong_key_is_told_and_not_tried_again(protocol: str) -> None:
    key = "sk-wrong-0123456789"
    with RudeServer("refuses_key") as server:
        talk = Talk(provider(server, protocol, api_key=key))
        code, message = talk.say("Hello?").failure
        assert (code, "api_key" in message) == ("provider_error", True)
        assert key not in message
        assert len(server.requests) == 1
        talk.providers = [provider(server, protocol)]
        goes_on(talk, server)


# D4


@pytest.mark.django_db
def test_what_a_turn_reads_depends_on_what_the_model_is_told(session: Any) -> None:
    """Forty runs with 200 kB of results each stand behind a summary."""
    results = {"role": "tool", "results": [{"id": "c", "name": "n", "content": "x" * 200_000}]}
    upto = 0
    for number in range(40):
        attempt = claimed(session, f"question {number}")
        checkpoints.keep(attempt, 1, [results], {})
        if number == 39:
            checkpoints.keep_summary(attempt, upto, "They counted.", {})
        attempts.succeed(attempt, "well", {})
        upto = Message.objects.in_session(session.pk).last().seq
    attempt = claimed(session, "And now?")
    # The first turn of a process loads the providers, which is no part of what a turn costs.
    turns.read_turn(attempt)
    tracemalloc.start()
    turn = turns.read_turn(attempt)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert turn.summary == "They counted."
    assert [each.content for each in turn.history] == ["question 39", "well"]
    assert peak < 2_000_000, f"{peak:,} bytes for a turn of 200 kB"


@pytest.mark.django_db
def test_what_is_not_sent_is_not_read(session: Any) -> None:
    """Thirty runs with 1 MB of results each: the newest alone fills the context."""
    results = {"role": "tool", "results": [{"id": "c", "name": "n", "content": "x" * 1_000_000}]}
    for number in range(30):
        attempt = claimed(session, f"question {number}")
        checkpoints.keep(attempt, 1, [results], {})
        attempts.succeed(attempt, "well", {})
    attempt = claimed(session, "And now?")
    turns.read_turn(attempt)
    tracemalloc.start()
    turn = turns.read_turn(attempt)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [each.content for each in turn.history] == ["question 29", "well"]
    assert peak < 6_000_000, f"{peak:,} bytes for a turn of 1 MB"


# F1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_down_is_named_by_its_variable(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://user:secret9876@127.0.0.1:9")
    with RudeServer() as server:
        away = provider(server, base_url="https://llm.example.com/v1", max_retries=0)
        code, message = Talk(away).say("Hello?").failure
        assert (code, "HTTPS_PROXY" in message) == ("provider_error", True)
        assert "secret9876" not in message
        assert success(Talk(away, provider(server)).say("Hello?"), server)
