"""An agent's tools: journalled, allowed by a person, made once whatever is interrupted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sessions_app.engine.base import Call, Decision, Turn, Utterance
from sessions_app.engine.history import INTERRUPTED, NEVER_MADE, model_messages
from tests import agents
from tests.agents import Ended, Memory, agent_turn, called, calls, play, register

PUSH = [{"text": "I push.", "tools": [calls("push", what="it")]}, {"text": "Done."}]
LOOK = [{"text": "I look.", "tools": [calls("look", at="it")]}, {"text": "Done."}]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


def interrupted(ended: Ended, when: Callable[[dict[str, Any]], bool]) -> Turn:
    """The next attempt's turn, had the process died before it told of some calls."""
    turn = ended.next_turn()
    kept = {id_: call for id_, call in turn.calls.items() if when({"call": call})}
    return replace(turn, steps=turn.steps[:1], calls=kept)


def begun_only(ended: Ended) -> Turn:
    """The next attempt's turn, had the process died in the middle of each call."""
    turn = ended.next_turn()
    calls_ = {id_: Call(id_, call.tool) for id_, call in turn.calls.items()}
    return replace(turn, steps=turn.steps[:1], calls=calls_)


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
    assert [step["kind"] for step in memory.steps] == ["response"]
    assert [step["kind"] for step in ended.outcome.steps] == ["request", "response"]


def test_without_a_call_nothing_is_kept() -> None:
    ended = play(agent_turn([{"text": "Just so."}]))
    assert ended.memory.steps == [] and ended.outcome.steps == ()


def test_an_error_of_a_tool_is_told_to_the_model_and_the_run_goes_on() -> None:
    ended = play(agent_turn([{"tools": [calls("look", at="nothing")]}, {"text": "So be it."}]))
    assert ended.told("post")[0]["error"] == "There is nothing."
    assert ended.text == "So be it."


def test_wrong_arguments_are_told_to_the_model_and_nothing_is_called() -> None:
    ended = play(agent_turn([{"tools": [calls("look", to="it")]}, {"text": "Sorry."}]))
    assert called == [] and ended.text == "Sorry."


def test_a_tool_that_asks_parks_the_run_and_is_not_called() -> None:
    ended = play(agent_turn(PUSH, require_approval=["push"]))
    (ask,) = ended.outcome.waits
    assert (ask.tool, ask.input) == ("push", {"what": "it"})
    assert called == [] and ended.told("pre") == []


def test_an_approved_call_is_made_and_the_answer_goes_on_where_it_stopped() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.waits[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == ["push it"]
    assert parked.text + ended.text == ended.outcome.content == "I push.\n\nDone."


def test_a_denied_call_is_not_made_and_the_model_is_told_why() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.waits[0].call_id: Decision(False, "Not today.")}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == []
    assert "Not today." in ended.told("post")[0]["error"]
    assert ended.outcome.content.endswith("Done.")


def test_a_tool_that_is_always_allowed_does_not_ask() -> None:
    turn = replace(agent_turn(PUSH, require_approval=True), always=frozenset({"push"}))
    assert play(turn).outcome.waits == () and called == ["push it"]


def test_a_denied_call_is_not_made_although_the_next_one_is_always_allowed() -> None:
    both = [{"tools": [calls("push", what="it"), calls("push", what="all")]}, {"text": "Done."}]
    parked = play(agent_turn(both, require_approval=True))
    it, all_ = (ask.call_id for ask in parked.outcome.waits)
    decided = {it: Decision(False), all_: Decision(True)}
    allowed = {"decisions": decided, "always": frozenset({"push"})}
    ended = play(parked.next_turn(continues=True, **allowed))
    assert called == ["push all"]
    assert "denied" in ended.told("post")[0]["error"]


def test_what_nobody_answered_is_not_said_to_be_a_person_s_word() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.waits[0].call_id: Decision(False, "Nobody answered.", expired=True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert ended.told("post")[0]["error"] == "This call counts as denied. Nobody answered."


def test_calls_that_were_made_are_not_made_again_by_the_next_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def push(what: str) -> str:
        """Push, and take long if asked to."""
        called.append(f"push {what}")
        await asyncio.sleep(60 if what == "slowly" else 0)
        return "pushed"

    monkeypatch.setattr(agents, "push", push)
    both = [{"tools": [calls("push", what="it"), calls("push", what="slowly")]}, {"text": "Done."}]
    parked = play(agent_turn(both, require_approval=True))
    decisions = {ask.call_id: Decision(True) for ask in parked.outcome.waits}
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
    ended = play(replace(first.next_turn(), steps=first.next_turn().steps[:1]))
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
    decided = {parked.outcome.waits[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert called == ["push a"] and ended.outcome.content == "Done."


def test_usage_counts_all_attempts() -> None:
    parked = play(agent_turn(PUSH, require_approval=True))
    decided = {parked.outcome.waits[0].call_id: Decision(True)}
    ended = play(parked.next_turn(continues=True, decisions=decided))
    assert parked.outcome.usage["requests"] == 1
    assert ended.outcome.usage["requests"] == 2


def test_a_run_that_was_broken_off_in_a_call_leaves_a_history_that_every_provider_takes() -> None:
    both = [{"text": "I push.", "tools": [calls("push", what="it"), calls("push", what="all")]}]
    parked = play(agent_turn(both, require_approval=True))
    begun = parked.outcome.waits[0].call_id
    steps, made = tuple(parked.memory.steps), {begun: Call(begun, "push")}
    history = (
        Utterance("user", "Do it.", steps=steps, calls=made),
        Utterance("assistant", "I push.\n\nAnd then", answers=True),
    )
    messages = model_messages(history)
    assert [message.kind for message in messages] == ["request", "response", "request", "response"]
    assert [part.content for part in messages[2].parts] == [INTERRUPTED, NEVER_MADE]
    assert messages[3].parts[0].content == "And then"


def test_the_model_sees_what_earlier_runs_did_with_tools() -> None:
    first = play(agent_turn(PUSH))
    steps = (*first.memory.steps, *first.outcome.steps)
    history = (
        Utterance("user", "Do it.", steps=steps),
        Utterance("assistant", first.outcome.content, answers=True),
    )
    messages = model_messages(history)
    assert [message.kind for message in messages] == ["request", "response", "request", "response"]
    assert messages[2].parts[0].content == "pushed it"
    assert messages[3].parts[0].content == "Done."


def test_answers_to_messages_that_waited_are_told_once_each() -> None:
    first = play(agent_turn(PUSH))
    steps = (*first.memory.steps, *first.outcome.steps)
    history = (
        Utterance("user", "One.", steps=steps, run_id="one"),
        Utterance("user", "Two.", steps=steps, run_id="two"),
        Utterance("assistant", first.outcome.content, answers=True, run_id="one"),
        Utterance("assistant", first.outcome.content, answers=True, run_id="two"),
    )
    kinds = [message.kind for message in model_messages(history)]
    assert kinds == ["request", "response", "request", "response"] * 2


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
