"""An agent's tools: journalled, allowed by a person, made once whatever is interrupted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sessions_app.engine.base import Call, Decision, HistoryMessage, Turn
from sessions_app.engine.messages import AssistantMessage, ToolMessage, UserMessage
from sessions_app.engine.transcript import INTERRUPTED, NEVER_MADE, transcript_messages
from tests.harness import agents
from tests.harness.agents import Ended, Memory, agent_turn, called, calls, play, register

PUSH = [{"text": "I push.", "tools": [calls("push", what="it")]}, {"text": "Done."}]
LOOK = [{"text": "I look.", "tools": [calls("look", at="it")]}, {"text": "Done."}]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def kinds(messages: list[Any]) -> list[type]:
    return [type(message) for message in messages]


def interrupted(ended: Ended, when: Callable[[dict[str, Any]], bool]) -> Turn:
    """The next attempt's turn, had the process died before it told of some calls."""
    turn = ended.next_turn()
    kept = {id_: call for id_, call in turn.calls.items() if when({"call": call})}
    return replace(turn, checkpoints=turn.checkpoints[:1], calls=kept)


def begun_only(ended: Ended) -> Turn:
    """The next attempt's turn, had the process died in the middle of each call."""
    turn = ended.next_turn()
    calls_ = {id_: Call(id_, call.tool) for id_, call in turn.calls.items()}
    return replace(turn, checkpoints=turn.checkpoints[:1], calls=calls_)


def test_a_call_is_told_before_and_after_and_the_answer_goes_on() -> None:
    ended = play(agent_turn(LOOK))
    kinds = [kind for kind, _ in ended.events]
    assert kinds.index("hook:tool:pre") < kinds.index("hook:tool:post")
    (pre,), (post,) = ended.told("pre"), ended.told("post")
    assert pre["tool_name"] == "look" and pre["tool_input"] == {"at": "it"}
    assert post["tool_response"] == "seen it"
    assert pre["tool_call_id"] == post["tool_call_id"]
    assert ended.text == ended.outcome.content == "I look.\n\nDone."
    assert called == ["look it"]


def test_what_the_model_wants_is_kept_before_it_is_done() -> None:
    memory = Memory()
    ended = play(agent_turn(PUSH), memory)
    assert [step["role"] for step in memory.steps] == ["assistant", "tool"]
    assert memory.kept_before_calls == [1]
    assert [step["role"] for step in ended.outcome.checkpoints] == ["assistant"]


def test_without_a_call_nothing_is_kept() -> None:
    ended = play(agent_turn([{"text": "Just so."}]))
    assert ended.memory.steps == [] and ended.outcome.checkpoints == ()


def test_an_error_of_a_tool_is_told_to_the_model_and_the_run_goes_on() -> None:
    ended = play(agent_turn([{"tools": [calls("look", at="nothing")]}, {"text": "So be it."}]))
    assert ended.told("post")[0]["error"] == "There is nothing."
    assert ended.text == "So be it."


def test_wrong_arguments_are_told_to_the_model_and_nothing_is_called() -> None:
    ended = play(agent_turn([{"tools": [calls("look", to="it")]}, {"text": "Sorry."}]))
    assert called == [] and ended.text == "Sorry."
    assert "at" in ended.told("post")[0]["error"]


def test_a_tool_that_does_not_exist_is_told_to_the_model_and_to_people() -> None:
    ended = play(agent_turn([{"tools": [calls("fly", to="Mars")]}, {"text": "Sorry."}]))
    (pre,), (post,) = ended.told("pre"), ended.told("post")
    assert pre["tool_input"] == {"to": "Mars"}
    assert "no tool 'fly'" in post["error"] and "look" in post["error"]
    assert ended.text == "Sorry."


def test_a_tool_that_asks_parks_the_run_and_is_not_called() -> None:
    ended = play(agent_turn(PUSH, require_approval=["push"]))
    (ask,) = ended.outcome.pending
    assert (ask.tool, ask.input) == ("push", {"what": "it"})
    assert called == [] and ended.told("pre") == []


def test_an_approved_call_is_made_and_the_answer_goes_on_where_it_stopped() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.pending[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == ["push it"]
    assert parked.text + ended.text == ended.outcome.content == "I push.\n\nDone."


def test_a_denied_call_is_not_made_and_the_model_is_told_why() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.pending[0].call_id: Decision(False, "Not today.")}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == []
    assert "Not today." in ended.told("post")[0]["error"]
    assert ended.outcome.content.endswith("Done.")


def test_a_tool_that_is_always_allowed_does_not_ask() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    bound = ("push", parked.outcome.pending[0].fingerprint)
    turn = replace(agent_turn(PUSH, require_approval=True), always=frozenset({bound}))
    assert play(turn).outcome.pending == () and called == ["push it"]


@pytest.mark.parametrize(
    "always",
    [("push", ""), ("push", "0" * 64), ("look", "")],
    ids=["without a tool", "of another tool", "of another name"],
)
def test_what_was_always_allowed_is_that_tool_and_no_other(always: tuple[str, str]) -> None:
    turn = replace(agent_turn(PUSH, require_approval=True), always=frozenset({always}))
    assert len(play(turn).outcome.pending) == 1 and called == []


def test_a_tool_with_another_config_is_another_tool() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    bound = ("push", parked.outcome.pending[0].fingerprint)
    other = agent_turn(PUSH, require_approval=True, approval_timeout=60)
    assert len(play(replace(other, always=frozenset({bound}))).outcome.pending) == 1


def test_a_denied_call_is_not_made_although_the_next_one_is_always_allowed() -> None:
    both = [{"tools": [calls("push", what="it"), calls("push", what="all")]}, {"text": "Done."}]
    parked = play(agent_turn(both, require_approval=True))
    it, all_ = (ask.call_id for ask in parked.outcome.pending)
    decided = {it: Decision(False), all_: Decision(True)}
    bound = ("push", parked.outcome.pending[1].fingerprint)
    allowed = {"decisions": decided, "always": frozenset({bound})}
    ended = play(parked.next_turn(continues=True, **allowed))
    assert called == ["push all"]
    assert "denied" in ended.told("post")[0]["error"]


def test_what_nobody_answered_is_not_said_to_be_a_person_s_word() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.pending[0].call_id: Decision(False, "Nobody answered.", expired=True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert ended.told("post")[0]["error"] == "This call counts as denied. Nobody answered."


def test_calls_that_were_made_are_not_made_again_by_the_next_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def push(what: str) -> str:
        """Push, and take long if asked to.

        Args:
            what: What to push.
        """
        called.append(f"push {what}")
        await asyncio.sleep(60 if what == "slowly" else 0)
        return "pushed"

    monkeypatch.setattr(agents, "push", push)
    both = [{"tools": [calls("push", what="it"), calls("push", what="slowly")]}, {"text": "Done."}]
    parked = play(agent_turn(both, require_approval=True))
    decisions = {ask.call_id: Decision(True) for ask in parked.outcome.pending}
    turn = parked.next_turn(continues=True, decisions=decisions)
    configs = ({"script": both, "run_timeout": 0.5}, {"script": both})
    chain = [{"module": "provider-mock", "config": config} for config in configs]
    ended = play(replace(turn, mount_plan={**turn.mount_plan, "providers": chain}))
    assert ended.error.code == "timeout"
    assert called == ["push it", "push slowly"]


def test_a_misspelt_function_in_require_approval_is_refused() -> None:
    ended = play(agent_turn(PUSH, require_approval=["psuh"]))
    assert ended.error.code == "bad_tool" and "psuh" in str(ended.error)


def test_a_call_that_was_begun_is_reported_and_not_repeated() -> None:
    ended = play(begun_only(play(agent_turn(PUSH))))
    assert called == []
    assert ended.told("post")[0]["error"] == INTERRUPTED
    assert ended.outcome.content == "I push.\n\nDone."


def test_a_harmless_call_that_was_begun_is_made_again() -> None:
    ended = play(begun_only(play(agent_turn(LOOK))))
    assert called == ["look it"]
    assert ended.text == "I look.\n\nDone."


def test_a_call_that_was_finished_is_answered_from_the_journal() -> None:
    first = play(agent_turn(PUSH))
    ended = play(replace(first.next_turn(), checkpoints=first.next_turn().checkpoints[:1]))
    assert called == []
    assert ended.told("post")[0] == {**ended.told("post")[0], "tool_response": "pushed it"}
    assert ended.told("post")[0]["replayed"] is True
    assert ended.text == ended.outcome.content == "I push.\n\nDone."


def test_an_attempt_that_begins_anew_tells_all_that_earlier_ones_did() -> None:
    script = [
        {"text": "One.", "tools": [calls("push", what="a")]},
        {"text": "Two.", "tools": [calls("push", what="b")]},
        {"text": "Three."},
    ]
    first = play(agent_turn(script))
    ended = play(first.next_turn())
    assert called == []
    assert ended.text == ended.outcome.content == "One.\n\nTwo.\n\nThree."
    assert [each["tool_response"] for each in ended.told("post")] == ["pushed a", "pushed b"]


def test_calls_of_the_same_answer_that_need_nobody_are_made_once() -> None:
    script = [{"tools": [calls("push", what="a"), calls("look", at="b")]}, {"text": "Done."}]
    parked = play(agent_turn(script, require_approval=["push"]))
    assert called == ["look b"]
    decided = {parked.outcome.pending[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == ["push a"] and ended.outcome.content == "Done."


def test_usage_counts_all_attempts() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.pending[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert parked.outcome.usage["requests"] == 1
    assert ended.outcome.usage["requests"] == 2


def test_a_run_that_was_broken_off_in_a_call_leaves_a_history_that_every_provider_takes() -> None:
    both = [{"text": "I push.", "tools": [calls("push", what="it"), calls("push", what="all")]}]
    parked = play(agent_turn(both, require_approval=True))
    begun = parked.outcome.pending[0].call_id
    steps, made = tuple(parked.memory.steps), {begun: Call(begun, "push")}
    history = (
        HistoryMessage("user", "Do it.", checkpoints=steps, calls=made),
        HistoryMessage("assistant", "I push.\n\nAnd then", is_answer=True),
    )
    messages = transcript_messages(history)
    assert kinds(messages) == [UserMessage, AssistantMessage, ToolMessage, AssistantMessage]
    assert [result.content for result in messages[2].results] == [INTERRUPTED, NEVER_MADE]
    assert messages[3].text == "And then"


def test_the_model_sees_what_earlier_runs_did_with_tools() -> None:
    first = play(agent_turn(PUSH))
    steps = (*first.memory.steps, *first.outcome.checkpoints)
    history = (
        HistoryMessage("user", "Do it.", checkpoints=steps),
        HistoryMessage("assistant", first.outcome.content, is_answer=True),
    )
    messages = transcript_messages(history)
    assert kinds(messages) == [UserMessage, AssistantMessage, ToolMessage, AssistantMessage]
    assert messages[2].results[0].content == "pushed it"
    assert messages[3].text == "Done."


def test_answers_to_messages_that_waited_are_told_once_each() -> None:
    first = play(agent_turn(PUSH))
    steps = (*first.memory.steps, *first.outcome.checkpoints)
    history = (
        HistoryMessage("user", "One.", checkpoints=steps, run_id="one"),
        HistoryMessage("user", "Two.", checkpoints=steps, run_id="two"),
        HistoryMessage("assistant", first.outcome.content, is_answer=True, run_id="one"),
        HistoryMessage("assistant", first.outcome.content, is_answer=True, run_id="two"),
    )
    once = [UserMessage, AssistantMessage, ToolMessage, AssistantMessage]
    assert kinds(transcript_messages(history)) == once * 2


@pytest.mark.parametrize(
    ("budget", "word"),
    [({"max_turns": 1}, "max_turns"), ({"max_tokens": 1}, "max_tokens")],
)
def test_a_run_that_has_used_its_budget_ends_between_two_steps(
    budget: dict[str, Any], word: str
) -> None:
    turn = agent_turn(PUSH)
    ended = play(replace(turn, mount_plan={**turn.mount_plan, "session": {"budget": budget}}))
    assert ended.error.code == "budget_exhausted" and word in str(ended.error)
    assert called == ["push it"]
    assert ended.error.usage["requests"] == 1


def test_what_other_runs_of_the_tree_have_used_counts() -> None:
    turn = agent_turn(PUSH)
    plan = {**turn.mount_plan, "session": {"budget": {"tree": {"max_cost": 0.5}}}}
    ended = play(replace(turn, mount_plan=plan), Memory(tree={"cost": 0.6}))
    assert ended.error.code == "budget_exhausted" and called == []


@pytest.mark.parametrize(
    "budget", [{"max_tokens": "many"}, {"max_token": 1}, {"tree": 5}, 7, {"max_cost": True}]
)
def test_a_budget_that_cannot_be_read_stops_the_run_before_it_costs_anything(budget: Any) -> None:
    turn = agent_turn(PUSH)
    ended = play(replace(turn, mount_plan={**turn.mount_plan, "session": {"budget": budget}}))
    assert ended.error.code == "bad_config" and called == []


def test_an_unknown_tool_module_stops_the_run() -> None:
    turn = agent_turn(PUSH)
    plan = {**turn.mount_plan, "tools": [{"module": "tool-nowhere", "config": {}}]}
    ended = play(replace(turn, mount_plan=plan))
    assert ended.error.code == "unknown_module"


@pytest.mark.parametrize("script", [[], "no list", [{"say": "x"}], [{"tools": [{}]}]])
def test_a_script_that_cannot_be_read_is_refused(script: Any) -> None:
    assert play(agent_turn(script)).error.code == "bad_script"


def test_a_model_that_calls_the_same_for_ever_is_stopped() -> None:
    ended = play(agent_turn([{"tools": [calls("look", at="it")]}]))
    assert ended.error.code == "repeated_calls"
    assert "look" in str(ended.error) and "max_repeats" in str(ended.error)
    assert called == ["look it"] * 20


def test_how_often_a_call_may_be_repeated_can_be_set() -> None:
    turn = agent_turn([{"tools": [calls("look", at="it")]}])
    session = {"budget": {"max_repeats": 3}}
    ended = play(replace(turn, mount_plan={**turn.mount_plan, "session": session}))
    assert ended.error.code == "repeated_calls" and called == ["look it"] * 3


def test_a_run_has_a_bound_of_turns_though_its_profile_sets_none() -> None:
    script = [{"tools": [calls("look", at=f"place {n}")]} for n in range(250)]
    ended = play(agent_turn(script))
    assert ended.error.code == "budget_exhausted" and "max_turns" in str(ended.error)
    assert len(called) == 200


def test_a_result_goes_to_the_model_as_it_is_and_to_people_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUSH_TOKEN", "sekret-123456")
    script = [{"tools": [calls("push", what="sekret-123456 to /srv/data")]}, {"text": "Done."}]
    ended = play(agent_turn(script, token="${PUSH_TOKEN}"))
    assert called == ["push sekret-123456 to /srv/data"]
    assert ended.told("post")[0]["tool_response"] == "pushed *** to /srv/data"
    (result,) = ended.memory.steps[1]["results"]
    assert result["content"] == "pushed sekret-123456 to /srv/data"


def test_what_is_approved_is_made_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", "/srv/data")
    script = [{"tools": [calls("push", what="rm -rf /srv/data/old")]}, {"text": "Done."}]
    config = {"require_approval": True, "args": ["${DATA_DIR}"]}
    parked = play(agent_turn(script, **config))
    (ask,) = parked.outcome.pending
    assert ask.input == {"what": "rm -rf /srv/data/old"}
    ended = play(parked.next_turn(continues=True, decisions={ask.call_id: Decision(True)}))
    assert called == ["push rm -rf /srv/data/old"]
    assert ended.told("pre")[0]["tool_input"] == {"what": "rm -rf /srv/data/old"}
