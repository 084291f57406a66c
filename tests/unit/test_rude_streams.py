"""Model servers that stream badly: what is said is read, what is broken off is told as that."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.rude.play import FILES, PROTOCOLS, Played, Talk, goes_on, provider
from tests.harness.rude.reply import Reply
from tests.harness.rude.request import Request
from tests.harness.rude.server import RudeServer
from tests.harness.rude.wire import Answer, Call, Chat, event, say, want

ALL = pytest.mark.parametrize("protocol", PROTOCOLS)


@contextmanager
def played(
    spec: str, *script: Answer, protocol: str = "chat", folder: Path | None = None, **config: Any
) -> Iterator[tuple[Played, RudeServer]]:
    """Play a turn; when the test has looked at it, one more plain message works."""
    with RudeServer(spec, *script) as server:
        tools = (FILES,) if folder else ()
        talk = Talk(provider(server, protocol, **config), tools=tools, directory=folder)
        yield talk.say("Say something."), server
        goes_on(talk, server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"This is {name}.\n")
    return tmp_path


def success(turn: Played) -> str:
    assert turn.error is None, turn.error
    assert turn.outcome is not None
    assert turn.outcome.content == turn.text
    return turn.text


# A4


@ALL
def test_halves_of_a_pair_are_joined_and_what_stays_alone_is_replaced(protocol: str) -> None:
    with played("split_surrogates", protocol=protocol) as (turn, _):
        assert success(turn) == "Look: \U0001f600 and a half \ufffd."


@ALL
def test_halves_are_joined_in_thinking(protocol: str) -> None:
    with played("split_surrogates_in_thinking", protocol=protocol) as (turn, _):
        assert success(turn) == "Seen."
        assert turn.thoughts == "Hm \U0001f600 \ufffd."


@pytest.mark.parametrize("protocol", ["chat", "responses", "messages"])
def test_a_call_with_halves_in_its_arguments_is_made(protocol: str, folder: Path) -> None:
    with played("surrogates_in_arguments", protocol=protocol, folder=folder) as (turn, _):
        success(turn)
        assert (folder / "a.txt").read_text() == "\U0001f600 \U0001f600 \ufffd."


def test_halves_in_text_and_thinking_do_not_meet() -> None:
    with played("surrogates_across_kinds") as (turn, _):
        assert (success(turn), turn.thoughts) == ("\ufffd done", "so \ufffd")


@ALL
def test_nul_in_text_is_replaced_or_left_out(protocol: str) -> None:
    with played("nul_in_text", protocol=protocol) as (turn, _):
        assert success(turn).replace("\ufffd", "") == "onetwo"


@ALL
def test_nul_in_arguments_loses_no_call(protocol: str, folder: Path) -> None:
    with played("nul_in_arguments", protocol=protocol, folder=folder) as (turn, _):
        success(turn)
        assert len(turn.told("post")) == 1
        assert "\0" not in str(turn.events)


@ALL
def test_a_stream_that_comes_byte_by_byte_is_read(protocol: str) -> None:
    with played("torn_bytes", protocol=protocol) as (turn, _):
        assert success(turn) == "Zürich - 東京 😀"


# B1


@pytest.mark.parametrize(
    "spec",
    [
        "two_calls_same_index",
        "calls_without_index",
        "calls_with_null_index",
        "calls_with_one_id",
        "calls_without_id",
        "same_id_twice",
        "index_from_one",
    ],
)
def test_two_calls_are_two(spec: str, folder: Path) -> None:
    with played(f"unique_call_ids+{spec}", folder=folder) as (turn, server):
        success(turn)
        paths = [told["tool_input"]["path"] for told in turn.told("pre")]
        assert sorted(paths) == ["a.txt", "b.txt"]
        assert len({told["tool_call_id"] for told in turn.told("pre")}) == 2
        results = "".join(server.requests[-1].results)
        assert "This is a.txt." in results
        assert "This is b.txt." in results


@pytest.mark.parametrize(
    "spec",
    [
        "head_in_each_delta",
        "empty_id_later",
        "arguments_as_object",
        "calls_told_as_stop",
        "call_in_last_chunk",
    ],
)
def test_a_call_is_made_however_it_is_told(spec: str, folder: Path) -> None:
    with played(spec, folder=folder) as (turn, _):
        success(turn)
        (told,) = turn.told("post")
        assert "This is a.txt." in told["tool_response"]
        assert turn.finish_reason == "stop"


# B2


@pytest.mark.parametrize(
    "spec",
    [
        "running_usage",
        "usage_in_choice",
        "usage_beside_text",
        "usage_told_twice",
        "odd_usage",
    ],
)
def test_usage_is_counted_once(spec: str) -> None:
    with played(spec) as (turn, _):
        success(turn)
        usage = turn.outcome.usage
        assert (usage["input_tokens"], usage["output_tokens"]) == (100, 50)
        assert usage["requests"] == 1


# B3


@ALL
def test_an_answer_that_was_cut_says_so(protocol: str) -> None:
    with played("cut_by_length", protocol=protocol) as (turn, _):
        assert success(turn) == "Half of an answer"
        assert turn.finish_reason == "length"


@ALL
def test_a_whole_answer_says_so(protocol: str) -> None:
    with played("", protocol=protocol) as (turn, _):
        assert (success(turn), turn.finish_reason) == ("Well said.", "stop")


@pytest.mark.parametrize(
    ("protocol", "word", "reason"),
    [
        ("chat", "max_tokens", "length"),
        ("chat", "model_length", "length"),
        ("chat", "eos", "stop"),
        ("chat", "end_turn", "stop"),
        ("chat", "stop_sequence", "stop"),
        ("messages", "model_context_window_exceeded", "length"),
        ("messages", "stop_sequence", "stop"),
        ("messages", "refusal", "content_filter"),
        ("gemini", "SAFETY", "content_filter"),
        ("gemini", "RECITATION", "content_filter"),
        ("gemini", "PROHIBITED_CONTENT", "content_filter"),
    ],
)
def test_a_finish_has_one_of_our_names(protocol: str, word: str, reason: str) -> None:
    with played(f"finished_by={word}", protocol=protocol) as (turn, _):
        assert turn.text == "Half of it"
        if turn.error is None:
            assert turn.finish_reason == reason
        else:
            # What was filtered may also be told as an error, with the words that it has.
            assert reason == "content_filter"
            assert turn.failure[0] != "internal"


# B4


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("spec", ["ends_without_finish", "closed_in_answer", "reset_in_answer"])
def test_what_has_no_end_is_no_success(spec: str, protocol: str) -> None:
    with played(spec, protocol=protocol) as (turn, server):
        code, _ = turn.failure
        assert code == "provider_error"
        assert turn.text == "Half"
        assert len(server.requests) == 1


def test_empty_finish_reasons_and_a_closed_connection_are_no_success() -> None:
    with played("empty_finish_then_close") as (turn, _):
        assert turn.failure[0] == "provider_error"
        assert turn.text == "".join(f"{n} " for n in range(10))


@pytest.mark.parametrize("protocol", ["chat", "responses", "messages"])
def test_a_call_that_is_broken_off_is_not_made(protocol: str, folder: Path) -> None:
    with played("ends_in_arguments", protocol=protocol, folder=folder) as (turn, _):
        assert turn.told("post") == [] or turn.error is None
        if turn.error is None:
            # Nothing had been said: it may ask again.
            assert turn.text == "Well said."


def test_a_finish_reason_is_an_end_without_done() -> None:
    with played("finish_without_done") as (turn, _):
        assert (success(turn), turn.finish_reason) == ("Well said.", "stop")


@pytest.mark.parametrize("protocol", ["chat", "responses", "messages"])
def test_an_answer_ends_although_its_connection_does_not(protocol: str) -> None:
    limits = {"next_token_timeout": 5, "run_timeout": 20}
    with played("open_after_done", protocol=protocol, **limits) as (turn, _):
        assert success(turn) == "Well said."


# B5


@pytest.mark.parametrize("spec", ["split_think_tags", "think_tag_in_one_piece"])
def test_think_tags_are_thinking(spec: str) -> None:
    with played(spec) as (turn, _):
        assert (success(turn).strip(), turn.thoughts.strip()) == ("Three.", "I add.")


def test_think_tags_in_prose_are_prose() -> None:
    with played("think_tags_in_prose") as (turn, _):
        assert success(turn) == "Put it into `<think>` and `</think>`, please."


def test_thinking_that_is_cut_is_no_content() -> None:
    with played("think_tags_unclosed") as (turn, _):
        assert success(turn) == ""
        assert (turn.thoughts, turn.finish_reason) == ("I add", "length")


@pytest.mark.parametrize("spec", ["thinking_by_two_names", "content_in_parts"])
def test_thinking_is_told_once(spec: str) -> None:
    with played(spec) as (turn, _):
        assert (success(turn), turn.thoughts) == ("Three.", "I add.")


# B6


@ALL
def test_an_error_after_text_fails_with_its_message(protocol: str) -> None:
    with played("error_event_after_text", protocol=protocol) as (turn, server):
        code, message = turn.failure
        assert code == "provider_error"
        assert "CUDA is out of memory" in message
        assert turn.text == "Half"
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("protocol", "spec"),
    [
        ("chat", "named_error_after_text"),
        ("responses", "named_error_after_text"),
        ("messages", "named_error_after_text"),
        ("gemini", "named_error_after_text"),
        ("chat", "error_as_text"),
        ("chat", "error_of_vllm"),
        ("chat", "error_as_plain_text"),
        ("messages", "error_as_plain_text"),
        ("chat", "error_in_choice"),
        ("responses", "failed_response"),
    ],
)
def test_an_error_in_any_words_fails_with_its_message(protocol: str, spec: str) -> None:
    with played(spec, protocol=protocol) as (turn, _):
        code, message = turn.failure
        assert code == "provider_error"
        assert "CUDA is out of memory" in message
        assert turn.text == "Half"


@ALL
def test_an_error_first_is_asked_again_and_told(protocol: str) -> None:
    with played("error_event_first", protocol=protocol) as (turn, server):
        assert success(turn) == "Well said."
        (retry,) = [data for kind, data in turn.events if kind == "provider_retry"]
        assert "The engine is overloaded" in str(retry)
        assert len(server.requests) == 2


@ALL
@pytest.mark.parametrize("spec", ["error_as_body", "unavailable", "rate_limited"])
def test_a_refusal_that_passes_is_asked_again(spec: str, protocol: str) -> None:
    with played(spec, protocol=protocol) as (turn, server):
        assert success(turn) == "Well said."
        assert len(server.requests) == 2


def test_an_error_that_stays_is_told_with_its_message() -> None:
    with RudeServer("error_event_first") as server:
        talk = Talk(provider(server, max_retries=0))
        code, message = talk.say("Say something.").failure
        assert (code, "The engine is overloaded" in message) == ("provider_error", True)
        goes_on(talk, server)


# B7


@ALL
def test_signs_of_life_count_before_the_first_token(protocol: str) -> None:
    limits = {"first_token_timeout": 0.6, "next_token_timeout": 0.6}
    with played("keepalives_then_answer", protocol=protocol, **limits) as (turn, server):
        assert success(turn) == "Here I am."
        assert len(server.requests) == 1


@pytest.mark.parametrize("spec", ["empty_chunks_first", "blank_lines_first", "pings_in_answer"])
def test_other_signs_of_life_count(spec: str) -> None:
    limits = {"first_token_timeout": 0.6, "next_token_timeout": 0.6}
    with played(spec, **limits) as (turn, server):
        assert success(turn) == "Here I am."
        assert len(server.requests) == 1


@ALL
def test_signs_of_life_count_up_to_the_limit_of_the_run(protocol: str) -> None:
    limits = {"first_token_timeout": 0.5, "next_token_timeout": 0.5, "run_timeout": 1}
    with played("keepalives_forever", protocol=protocol, **limits) as (turn, _):
        code, message = turn.failure
        assert (code, "run_timeout" in message) == ("timeout", True)


# B8


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ("refuses_unknown_field", {}),
        ("refuses_unknown_field=max_completion_tokens", {"max_tokens": 50}),
        ("refuses_unknown_field=max_tokens", {"max_tokens": 50}),
        ("unsupported_parameter=max_tokens", {"max_tokens": 50}),
        ("unsupported_value=temperature", {"temperature": 0.2}),
        ("unrecognized_argument=stream_options", {}),
        ("extra_inputs=temperature", {"temperature": 0.2}),
        ("refuses_unknown_field+refuses_unknown_field=seed", {"seed": 7}),
    ],
)
def test_a_field_that_is_refused_is_left_out_and_that_is_remembered(
    spec: str, config: dict[str, Any]
) -> None:
    with played(spec, **config) as (turn, server):
        assert success(turn) == "Well said."
        before = len(server.refusals)
        assert before <= spec.count("+") + 1
    assert len(server.refusals) == before, "the next message was refused for the same field"


# B9


@ALL
@pytest.mark.parametrize("spec", ["empty_after_tools", "blank_after_tools"])
def test_nothing_after_tools_is_a_success(spec: str, protocol: str, folder: Path) -> None:
    spec = f"strict_roles+{spec}" if protocol == "chat" else spec
    with RudeServer(spec) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=folder)
        turn = talk.say("Look.")
        assert success(turn).strip() == ""
        assert (turn.finish_reason, len(turn.told("post"))) == ("stop", 1)
        assert len(server.requests) == 2
        goes_on(talk, server)


def test_thinking_alone_after_tools_is_a_success(folder: Path) -> None:
    with played("thought_only_after_tools", folder=folder) as (turn, server):
        assert (success(turn), turn.thoughts) == ("", "Done already.")
        assert turn.finish_reason == "stop"
        assert len(server.requests) == 2


@ALL
def test_nothing_at_all_bricks_no_session(protocol: str) -> None:
    with played("nothing_at_all+no_blank_messages", protocol=protocol) as (turn, _):
        assert turn.error is None or turn.failure[0] in ("bad_answer", "provider_error")


# B11


@ALL
@pytest.mark.parametrize(
    "spec", ["json_label", "no_label", "text_label", "frames_in_another_style", "data_in_lines"]
)
def test_a_body_is_read_however_it_is_labelled_and_laid_out(spec: str, protocol: str) -> None:
    with played(spec, protocol=protocol) as (turn, server):
        assert success(turn) == "Read me."
        assert len(server.requests) == 1


@ALL
def test_line_separators_within_json_are_text(protocol: str) -> None:
    with played("raw_u2028", protocol=protocol) as (turn, _):
        assert success(turn) == "one\u2028two\u2029three\x85four end"


# Others of the same kinds


def first_frames(server: RudeServer, *frames: bytes) -> None:
    """Have the server answer its first request with these frames."""

    def answer(request: Request) -> Reply | None:
        return Reply([*frames]) if request.number == 1 else None

    server.behaviours.insert(1, answer)


def played_frames(*frames: bytes) -> Played:
    """Play a turn whose first answer are these frames; one more plain message works."""
    with RudeServer() as server:
        first_frames(server, *frames)
        talk = Talk(provider(server, max_retries=0))
        turn = talk.say("Say something.")
        goes_on(talk, server)
    return turn


def test_a_finish_reason_that_is_the_word_null_is_none() -> None:
    chunks = [Chat().chunk({"content": piece}, "null") for piece in ("Half", " of")]
    code, message = played_frames(*chunks).failure
    assert (code, "broke off" in message) == ("provider_error", True)


def test_an_answer_that_was_cut_stays_cut_when_a_gateway_adds_a_stop() -> None:
    chat = Chat()
    cut = [chat.chunk({"content": "Half"}), chat.chunk({}, "length")]
    turn = played_frames(*cut, chat.chunk({}, "stop"), chat.done)
    assert (success(turn), turn.finish_reason) == ("Half", "length")


def test_usage_in_a_field_of_the_service_is_counted() -> None:
    chat = Chat()
    last = chat.chunk({}, "stop", x_groq={"usage": chat.usage(100, 50)})
    turn = played_frames(chat.chunk({"content": "One"}), last, chat.done)
    assert turn.outcome is not None
    usage = turn.outcome.usage
    assert (usage["input_tokens"], usage["output_tokens"]) == (100, 50)


def test_an_error_in_a_list_is_told() -> None:
    error = event({"errors": [{"message": "CUDA is out of memory"}]})
    _, message = played_frames(Chat().chunk({"content": "Half"}), error).failure
    assert "CUDA is out of memory" in message


@pytest.mark.parametrize("id_", ["functions.read:0", "x" * 300])
@pytest.mark.parametrize("protocol", ["chat", "responses", "messages"])
def test_each_call_is_made_once_whatever_its_id(protocol: str, id_: str, folder: Path) -> None:
    calls = (Call("read_file", {"path": path}, id_) for path in ("a.txt", "b.txt"))
    with RudeServer("unique_call_ids", want(*calls), say("Read.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=folder)
        turn = talk.say("Read both.")
        assert success(turn) == "Read."
        # They are made side by side.
        paths = sorted(each["tool_input"]["path"] for each in turn.told("post"))
        assert paths == ["a.txt", "b.txt"]
        assert not any(each.get("error") for each in turn.told("post"))
        goes_on(talk, server)
        assert server.refusals == []
