"""The rude server itself: its checks take what is right, and each behaviour does something."""

import json
from typing import Any

import pytest

from tests.harness import plain
from tests.harness.rude import checks
from tests.harness.rude.behaviours import BEHAVIOURS, parse
from tests.harness.rude.play import PROTOCOLS
from tests.harness.rude.request import Request
from tests.harness.rude.server import GEMINI, PATHS, RudeServer
from tests.harness.rude.wire import Answer, Call

parse("cut_by_length")
ALL = pytest.mark.parametrize("protocol", PROTOCOLS)
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
ARGUMENTS = {"path": "a.txt"}


def bodies(id_: str = "call_0") -> dict[str, dict[str, Any]]:
    """A good request in each protocol: a question, a call, its result, a question."""
    chat_call = {"name": "read_file", "arguments": json.dumps(ARGUMENTS)}
    use = {"type": "tool_use", "id": id_, "name": "read_file", "input": ARGUMENTS}
    result = {"type": "tool_result", "tool_use_id": id_, "content": "text"}
    response = {"functionResponse": {"name": "read_file", "response": {"result": "text"}}}
    declared = {"name": "read_file", "parametersJsonSchema": SCHEMA}
    return {
        "chat": {
            "model": "fake",
            "stream": True,
            "tools": [
                {"type": "function", "function": {"name": "read_file", "parameters": SCHEMA}}
            ],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Read."},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": id_, "type": "function", "function": chat_call}],
                },
                {"role": "tool", "tool_call_id": id_, "content": "text"},
                {"role": "assistant", "content": "Read."},
                {"role": "user", "content": "And now, for ever?"},
            ],
        },
        "responses": {
            "model": "fake",
            "stream": True,
            "instructions": "Be brief.",
            "tools": [{"type": "function", "name": "read_file", "parameters": SCHEMA}],
            "input": [
                {"role": "user", "content": "Read."},
                {"type": "function_call", "call_id": id_, **chat_call},
                {"type": "function_call_output", "call_id": id_, "output": "text"},
                {"role": "assistant", "content": "Read."},
                {"role": "user", "content": "And now, for ever?"},
            ],
        },
        "messages": {
            "model": "fake",
            "stream": True,
            "max_tokens": 100,
            "system": "Be brief.",
            "tools": [{"name": "read_file", "description": "x", "input_schema": SCHEMA}],
            "messages": [
                {"role": "user", "content": "Read."},
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [result]},
                {"role": "assistant", "content": "Read."},
                {"role": "user", "content": "And now, for ever?"},
            ],
        },
        "gemini": {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [{"functionDeclarations": [declared]}],
            "contents": [
                {"role": "user", "parts": [{"text": "Read."}]},
                {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "read_file", "args": ARGUMENTS}}],
                },
                {"role": "user", "parts": [response]},
                {"role": "model", "parts": [{"text": "Read."}]},
                {"role": "user", "parts": [{"text": "And now, for ever?"}]},
            ],
        },
    }


HEADERS = {"anthropic-version": "2023-06-01", "authorization": "Bearer sk-good"}


def path_of(protocol: str) -> str:
    named = {name: path for path, name in PATHS.items()}
    return named.get(protocol, f"{GEMINI}fake:streamGenerateContent")


def request(protocol: str, body: dict[str, Any], number: int = 1) -> Request:
    return Request(protocol, path_of(protocol), HEADERS, json.dumps(body).encode(), number)


@ALL
def test_the_checks_take_a_good_request(protocol: str) -> None:
    assert checks.check(request(protocol, bodies()[protocol])) is None


@ALL
def test_a_call_without_its_result_is_refused(protocol: str) -> None:
    given = bodies()[protocol]
    key = {"responses": "input", "gemini": "contents"}.get(protocol, "messages")
    place = 3 if protocol == "chat" else 2
    del given[key][place]
    refused = checks.check(request(protocol, given))
    assert refused is not None
    assert refused.status == 400


@ALL
def test_a_lone_surrogate_is_refused(protocol: str) -> None:
    given = json.loads(json.dumps(bodies()[protocol]).replace("Be brief.", "\\ud83d"))
    refused = checks.check(request(protocol, given))
    assert refused is not None
    assert refused.status == 400


@ALL
def test_the_conversation_is_read_from_each_protocol(protocol: str) -> None:
    given = request(protocol, bodies()[protocol])
    assert given.messages[0].text == "Be brief."
    assert given.last_user == "And now, for ever?"
    assert [name for each in given.talk for _, name, _ in each.calls] == ["read_file"]
    assert "text" in "".join(text for each in given.talk for _, text in each.results)
    assert list(given.tools) == ["read_file"]
    assert given.key == "sk-good"


# Behaviours that only some protocols have: Gemini's arguments are always objects.
ONLY = {
    "failed_response": ("responses",),
    "surrogates_in_arguments": ("chat", "responses", "messages"),
    "broken_arguments_forever": ("chat", "responses", "messages"),
    # The Responses API has no word for it but a status.
    "finished_by": ("chat", "messages", "gemini"),
}


@ALL
def test_no_behaviour_makes_a_mistake_of_its_own(protocol: str) -> None:
    body = bodies("functions.read:0")[protocol]
    named = [name for name in BEHAVIOURS if protocol in ONLY.get(name, PROTOCOLS)]
    replies = {name: BEHAVIOURS[name](request(protocol, body)) for name in named}
    wrong = [name for name, reply in replies.items() if reply and not reply.status]
    assert wrong == []
    assert len([name for name, reply in replies.items() if reply]) > 60


def test_every_behaviour_says_who_does_it() -> None:
    words = ("overflow_",)
    silent = [name for name, each in BEHAVIOURS.items() if len(each.__doc__ or "") < 20]
    assert [name for name in silent if not name.startswith(words)] == []


@ALL
def test_a_script_is_answered_in_its_order(protocol: str) -> None:
    script = (Answer(calls=(Call("read_file", ARGUMENTS),)), Answer(("Well", " said.")))
    with RudeServer("", *script) as server:
        url = server.root + path_of(protocol)
        texts = [plain.post(url, json=bodies()[protocol], headers=HEADERS).text for _ in range(3)]
    assert ["read_file" in text for text in texts] == [True, False, False]
    assert all(" said." in text for text in texts[1:])
    assert [each.number for each in server.requests] == [1, 2, 3]
