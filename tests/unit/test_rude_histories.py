"""Servers that refuse histories: no fault of one turn makes the next one impossible."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Api
from tests.harness.rude.play import FILES, PROTOCOLS, Played, Talk, goes_on, mcp, provider
from tests.harness.rude.server import RudeServer
from tests.harness.rude.wire import Call, say, want

ALL = pytest.mark.parametrize("protocol", PROTOCOLS)
READ = want(Call("read_file", {"path": "a.txt"}))
# All checks of histories at once: nobody is as strict, and what passes here passes everywhere.
STRICT = "+".join(
    [
        "strict_roles",
        "leading_system_only",
        "one_system_message",
        "user_speaks_first",
        "user_speaks_last",
        "no_user_after_tool",
        "no_tool_blocks_without_tools",
        "id_pattern",
        "unique_call_ids",
        "tool_name_pattern",
        "arguments_are_objects",
        "no_blank_messages",
        "strict_schemas",
    ]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("This is a.txt.\n")
    return tmp_path


def success(turn: Played, server: RudeServer | None = None) -> str:
    assert turn.error is None, (turn.error, server and server.refusals)
    return turn.text


# C1


@ALL
def test_a_message_that_failed_does_not_break_the_order_of_roles(protocol: str) -> None:
    with RudeServer("refuses_once+strict_roles") as server:
        talk = Talk(provider(server, protocol))
        assert talk.say("One.").failure[0] == "provider_error"
        assert success(talk.say("Two."), server) == "Well said."
        goes_on(talk, server)
        for text in ("One.", "Two."):
            assert text in server.requests[-1].raw.decode()


@ALL
@pytest.mark.parametrize(
    "fault",
    [
        "refuses_once",
        "error_event_first",
        "error_event_after_text",
        "closed_in_answer",
        "cut_by_length",
        "nothing_at_all",
        "empty_after_tools",
        "blank_after_tools",
        "thinks_and_calls",
        "calls_that_break_histories",
        "calls_all_tools",
        "nul_in_text",
    ],
)
def test_after_every_fault_the_strictest_server_takes_the_next_message(
    fault: str, protocol: str, folder: Path
) -> None:
    with RudeServer(f"{STRICT}+{fault}") as server:
        talk = Talk(provider(server, protocol, max_retries=0), tools=(FILES,), directory=folder)
        first = talk.say("Begin.")
        assert first.error is None or first.failure[0] != "internal"
        expected = 1 if fault == "refuses_once" else 0
        assert len(server.refusals) == expected, server.refusals
        goes_on(talk, server)
        talk.tools = []
        goes_on(talk, server)
        assert len(server.refusals) == expected, server.refusals


@ALL
def test_a_run_that_died_after_a_call_goes_on_at_the_strictest_server(
    protocol: str, folder: Path
) -> None:
    with RudeServer(STRICT, READ, READ, say("Read.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=folder)
        assert success(talk.say("Read it.", dies_after=1), server).endswith("Read.")
        assert server.refusals == []
        goes_on(talk, server)


@ALL
def test_what_broke_off_in_the_middle_of_its_tools_is_no_burden(
    protocol: str, folder: Path
) -> None:
    with RudeServer(STRICT + "+gone_after=1", READ) as first, RudeServer(STRICT) as second:
        talk = Talk(provider(first, protocol, max_retries=0), tools=(FILES,), directory=folder)
        assert talk.say("Read it.").failure[0] == "provider_error"
        talk.providers = [provider(second, protocol)]
        goes_on(talk, second)
        assert "This is a.txt." in second.requests[-1].raw.decode()
        assert second.refusals == []


# C2


@ALL
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_system_message_between_turns_is_told_where_the_server_takes_it(
    before: int, protocol: str
) -> None:
    with RudeServer("leading_system_only+one_system_message+strict_roles") as server:
        talk = Talk(provider(server, protocol))
        for number in range(before):
            success(talk.say(f"Question {number}."))
        talk.post("system", "From now on answer in metric units.")
        success(talk.say("How far is it?"), server)
        assert "metric units" in server.requests[-1].raw.decode()
        assert "Be brief." in server.requests[-1].messages[0].text
        assert server.refusals == []
        goes_on(talk, server)


def test_messages_of_every_role_in_any_order_are_taken() -> None:
    with RudeServer(STRICT) as server:
        talk = Talk(provider(server))
        for role in ("assistant", "tool", "system", "user", "user", "tool", "assistant"):
            talk.post(role, f"From the {role}.")
        goes_on(talk, server)
        assert "From the tool." in server.requests[-1].raw.decode()


# C3


@ALL
def test_a_profile_without_tools_takes_over_from_one_with(protocol: str, folder: Path) -> None:
    with RudeServer("no_tool_blocks_without_tools", READ, say("Read.")) as server:
        talk = Talk(provider(server, protocol), tools=(FILES,), directory=folder)
        success(talk.say("Read it."), server)
        talk.tools = []
        goes_on(talk, server)
        assert "This is a.txt." in server.requests[-1].raw.decode()
        assert server.refusals == []


# C4


@pytest.mark.parametrize("id_", ["functions.read:0", "x" * 100, "call 1/ä", "", "chatcmpl-tool-1"])
@pytest.mark.parametrize(
    ("protocol", "pattern"),
    [
        ("messages", "[a-zA-Z0-9_-]{1,64}"),
        ("chat", "[a-zA-Z0-9_-]{1,40}"),
        ("responses", "[a-zA-Z0-9_-]{1,64}"),
    ],
)
def test_ids_of_one_service_are_told_to_another_in_its_alphabet(
    id_: str, protocol: str, pattern: str, folder: Path
) -> None:
    call = want(Call("read_file", {"path": "a.txt"}, id_))
    with (
        RudeServer("", call, say("Read.")) as first,
        RudeServer(f"unique_call_ids+id_pattern={pattern}") as second,
    ):
        talk = Talk(provider(first), tools=(FILES,), directory=folder)
        turn = talk.say("Read it.")
        success(turn)
        (pre,), (post,) = turn.told("pre"), turn.told("post")
        assert pre["tool_call_id"] == post["tool_call_id"] != ""
        talk.providers = [provider(second, protocol)]
        goes_on(talk, second)
        assert second.refusals == []


def test_ids_of_nine_characters_are_had_by_a_setting(folder: Path) -> None:
    pattern = "[a-zA-Z0-9]{9}"
    call = want(Call("read_file", {"path": "a.txt"}, "functions.read:0"))
    with (
        RudeServer("", call, say("Read.")) as first,
        RudeServer(f"unique_call_ids+id_pattern={pattern}") as second,
    ):
        talk = Talk(provider(first), tools=(FILES,), directory=folder)
        success(talk.say("Read it."))
        success(talk.say("Again."))
        talk.providers = [provider(second, capabilities={"call_id_pattern": pattern})]
        goes_on(talk, second)
        assert second.refusals == []


def fallback(first: RudeServer, second: RudeServer, protocol: str) -> list[dict[str, Any]]:
    return [
        provider(first, priority=9, max_retries=0),
        provider(second, protocol, priority=1),
    ]


@ALL
def test_the_next_provider_takes_over_in_the_middle_of_a_run(protocol: str, folder: Path) -> None:
    call = want(Call("read_file", {"path": "a.txt"}, "functions.read:0"))
    with (
        RudeServer("gone_after=1", call) as first,
        RudeServer(STRICT, say("I took over.")) as second,
    ):
        talk = Talk(*fallback(first, second, protocol), tools=(FILES,), directory=folder)
        turn = talk.say("Read it.")
        assert success(turn, second).endswith("I took over.")
        assert len(turn.told("post")) == 1
        assert any("This is a.txt." in each for each in second.requests[-1].results)
        goes_on(talk, second)
        assert second.refusals == []


@ALL
def test_names_of_tools_are_told_in_the_alphabet_and_called_by_their_own(
    protocol: str, folder: Path
) -> None:
    names = ("files.read", "namespace/with:signs and blanks", "a" * 100)
    with RudeServer("tool_name_pattern+calls_all_tools") as server:
        talk = Talk(provider(server, protocol), tools=(mcp(*names),), directory=folder)
        turn = talk.say("Call them all.")
        success(turn, server)
        told = "\n".join(str(each) for each in turn.told("post"))
        for name in names:
            assert f"done: {name}" in told
        assert len(server.requests[-1].tools) == 3
        goes_on(talk, server)
        assert server.refusals == []


# C5


@pytest.mark.parametrize("content", ["", " ", "\n\t \r\n", "\xa0\u3000"])
@pytest.mark.parametrize("path", ["messages", "send-message"])
@pytest.mark.django_db
def test_a_message_of_blanks_is_refused_before_a_provider_gets_it(
    api: Api, session: Any, path: str, content: str
) -> None:
    answer = api("post", f"/sessions/{session.pk}/{path}", {"content": content})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"


@ALL
@pytest.mark.parametrize("blank", ["\u200b", "\ufeff\u2060", " ", ""])
def test_a_blank_message_in_the_history_is_no_burden(blank: str, protocol: str) -> None:
    with RudeServer("no_blank_messages+strict_roles") as server:
        talk = Talk(provider(server, protocol))
        for role in ("user", "assistant", "system", "user"):
            talk.post(role, blank)
        goes_on(talk, server)
        assert server.refusals == []


@ALL
def test_zero_width_characters_alone_are_no_request_that_is_refused(protocol: str) -> None:
    with RudeServer("no_blank_messages") as server:
        talk = Talk(provider(server, protocol))
        turn = talk.say("\u200b\ufeff")
        assert server.refusals == []
        assert turn.error is None or turn.failure[0] in ("bad_config", "provider_error")
        goes_on(talk, server)


@ALL
def test_blank_results_of_mcp_tools_are_told_as_something(protocol: str, folder: Path) -> None:
    with RudeServer("no_blank_messages+calls_all_tools") as server:
        talk = Talk(
            provider(server, protocol),
            tools=(mcp("blank", "nothing", "zero_width"),),
            directory=folder,
        )
        turn = talk.say("Call them.")
        success(turn, server)
        assert len(turn.told("post")) == 3
        goes_on(talk, server)
        assert server.refusals == []


# C6

SCHEMAS = (
    "plain",
    "array",
    "nested_array",
    "nullable_array",
    "any_of",
    "all_of",
    "one_of",
    "no_type",
    "empty",
    "refs",
    "recursive",
    "undeclared",
    "true_property",
)


@ALL
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_refused_as_it_is_is_made_safe(
    name: str, protocol: str, folder: Path
) -> None:
    with RudeServer("strict_schemas+calls_all_tools") as server:
        talk = Talk(provider(server, protocol), tools=(mcp(name),), directory=folder)
        success(talk.say("Call it."), server)
        assert server.refusals == []
        (schema,) = server.requests[0].tools.values()
        given = {"array": "ids", "any_of": "text", "refs": "at", "recursive": "root"}
        assert name not in given or given[name] in schema["properties"]
        assert any(f"done: {name}" in each for each in server.requests[-1].results)
        goes_on(talk, server)


@ALL
def test_one_tool_without_a_schema_is_left_out_and_that_is_told(
    protocol: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("plain", "array", "no_schema", "refs", "empty")
    with RudeServer("strict_schemas") as server:
        talk = Talk(provider(server, protocol), tools=(mcp(*names),), directory=folder)
        turn = talk.say("Hello.")
        success(turn, server)
        assert sorted(server.requests[0].tools) == sorted(set(names) - {"no_schema"})
        assert "no_schema" in f"{turn.events}{caplog.text}{server.requests[0].raw}"


# B10, A2


@pytest.mark.parametrize("second", ["refuses_foreign_reasoning", "wants_own_reasoning"])
def test_reasoning_goes_back_only_to_the_service_that_it_came_from(
    second: str, folder: Path
) -> None:
    with RudeServer("thinks_and_calls") as one, RudeServer(second) as other:
        talk = Talk(provider(one), tools=(FILES,), directory=folder)
        success(talk.say("Look."))
        talk.providers = [provider(other)]
        goes_on(talk, other)
        assert other.refusals == []
        assert "I look. " not in other.requests[-1].raw.decode()


def test_reasoning_does_not_go_to_the_provider_that_takes_over(folder: Path) -> None:
    with (
        RudeServer("thinks_and_calls+gone_after=1") as one,
        RudeServer("refuses_foreign_reasoning") as other,
    ):
        talk = Talk(*fallback(one, other, "chat"), tools=(FILES,), directory=folder)
        success(talk.say("Look."), other)
        assert other.refusals == []
        goes_on(talk, other)


def test_reasoning_goes_back_to_its_own_service_with_the_call(folder: Path) -> None:
    with RudeServer("thinks_and_calls+wants_own_reasoning") as server:
        talk = Talk(provider(server), tools=(FILES,), directory=folder)
        success(talk.say("Look."), server)
        assert server.refusals == []
        goes_on(talk, server)


def test_a_service_that_refuses_its_own_reasoning_is_asked_without_it(folder: Path) -> None:
    with RudeServer("thinks_and_calls+refuses_foreign_reasoning") as server:
        talk = Talk(provider(server), tools=(FILES,), directory=folder)
        success(talk.say("Look."), server)
        assert len(server.refusals) <= 1
        goes_on(talk, server)
        assert len(server.refusals) <= 1


@pytest.mark.parametrize("dies_after", [0, 1])
@pytest.mark.parametrize("protocol", ["responses", "messages", "gemini"])
def test_what_is_signed_comes_back_byte_for_byte(
    protocol: str, dies_after: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The thinking has a secret of the profile in it, which is hidden from people only.
    monkeypatch.setenv("RUDE_SECRET", "look.   Twice")
    with RudeServer("thinks_and_calls+signature_checked") as server:
        config = {"api_key": "${RUDE_SECRET}", "max_retries": 0}
        talk = Talk(provider(server, protocol, **config), tools=(FILES,), directory=folder)
        turn = talk.say("Look.", dies_after=dies_after)
        success(turn, server)
        assert server.refusals == []
        goes_on(talk, server)


@pytest.mark.parametrize("protocol", ["responses", "messages", "gemini"])
def test_what_is_signed_goes_to_nobody_else(protocol: str, folder: Path) -> None:
    with RudeServer("thinks_and_calls") as one, RudeServer(STRICT) as other:
        talk = Talk(provider(one, protocol), tools=(FILES,), directory=folder)
        success(talk.say("Look."), one)
        talk.providers = [provider(other, protocol)]
        goes_on(talk, other)
        assert "c2lnbmVk+//+" not in other.requests[-1].raw.decode()


@pytest.mark.parametrize("with_tools", [True, False])
@pytest.mark.parametrize("protocol", ["chat", "responses", "messages", "gemini"])
def test_what_people_do_not_see_the_model_is_told_as_it_said_it(
    with_tools: bool, protocol: str, folder: Path
) -> None:
    key = "sk-good-0123456789abcdef"
    calls = (want(Call("read_file", {"path": "a.txt"})),) if with_tools else ()
    with RudeServer("", *calls, say(f"It is {key}."), say("Yes.")) as server:
        entry = provider(server, protocol, api_key="${RUDE_KEY}")
        talk = Talk(entry, tools=(FILES,) if with_tools else (), directory=folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RUDE_KEY", key)
            assert success(talk.say("What is it?")) == "It is ***."
            success(talk.say("Is it?"))
        raw = server.requests[-1].raw.decode()
        assert raw.count(f"It is {key}.") == 1
        assert "***" not in raw
