"""Calls of tools: journalled before and after, asked about, made once.

A call is never repeated in silence. What an earlier attempt has finished is answered from its
checkpoint or the journal; what it has begun is made again only if that does no harm.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amplifierd.common.redaction import redact
from amplifierd.common.text import make_json_storable, make_storable
from sessions_app import failpoints
from sessions_app.engine.base import Ask, Call, Decision, Emit, EngineError, Turn
from sessions_app.engine.config import redact_json
from sessions_app.engine.messages import ToolCall, ToolResult
from sessions_app.engine.output import RunOutput
from sessions_app.engine.tools.base import SubSessionNeeded, Tool, Toolbox, ToolError, shorten
from sessions_app.engine.transcript import INTERRUPTED
from sessions_app.engine.wire.answer import LONGEST_ID

logger = logging.getLogger(__name__)

# Tools that are named to a model that has called one that does not exist.
NAMED_TOOLS = 40


@dataclass(frozen=True)
class OpenedModule:
    """A module of tools, opened, and what its config says of its calls."""

    mount: dict[str, Any]
    box: Toolbox
    # Which of its tools ask a person first: all of them (True), none (False), or those.
    gate: bool | frozenset[str] = False
    # Seconds that a person has to answer; None for the daemon's default.
    approval_timeout: float | None = None
    # What was filled into its config and is hidden from people.
    keys: set[str] = field(default_factory=set, repr=False)

    def asks_for(self, tool: str) -> bool:
        """Return whether a person must allow a call of the tool."""
        return self.gate if isinstance(self.gate, bool) else tool in self.gate

    def fingerprint(self, tool: Tool) -> str:
        """Return what an "always" is bound to: the module, its config as written, the tool."""
        spec = tool.spec
        bound = [
            self.mount.get("module"),
            self.mount.get("source"),
            self.mount.get("config") or {},
            [spec.name, spec.description, spec.parameters],
        ]
        return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A call whose tool is there and whose arguments are right."""

    id: str
    name: str
    # As they are shown, approved and used.
    arguments: dict[str, Any]
    tool: Tool
    module: OpenedModule


class Parked(Exception):
    """A call waits: for a person, or for a session of its own."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.tool)
        self.ask = ask


class Rejected(Exception):
    """A call is not made, or failed; the text is what the model reads."""


class Calls:
    """Answers the calls of one attempt."""

    def __init__(self, turn: Turn, emit: Emit, modules: Sequence[OpenedModule]) -> None:
        self._turn = turn
        self._emit = emit
        self.modules = modules
        self.tools = _by_name(modules)
        self.keys: set[str] = set().union(*(module.keys for module in modules))
        # They belong to the answer that an earlier attempt has left.
        self._earlier: dict[str, Call] = dict(turn.calls)
        self._decisions: dict[str, Decision] = dict(turn.decisions)

    def forget_earlier(self) -> None:
        """Note that the model is asked again: its next calls may use the same ids."""
        self._earlier.clear()
        self._decisions.clear()

    async def answer(
        self,
        calls: Sequence[ToolCall],
        output: RunOutput,
        keep: Callable[[ToolResult], Awaitable[None]],
        *,
        was_cut: bool = False,
    ) -> tuple[list[ToolResult], list[Ask]]:
        """Return the results of the calls in their order, and what the waiting ones wait for.

        Calls that do no harm are made side by side, others alone. `keep` is awaited for each
        result that must not be lost. `was_cut` says that the answer with the calls reached its
        token limit. Raises Cancelled if the attempt no longer holds.
        """
        results: list[ToolResult] = []
        asks: list[Ask] = []
        for group in self._groups(calls):
            answers = (self._answer(call, output, keep, was_cut) for call in group)
            for each in await _gather(answers):
                if isinstance(each, Ask):
                    asks.append(each)
                else:
                    results.append(each)
        return results, asks

    def repeat(self, call: ToolCall, result: ToolResult) -> None:
        """Emit a call of an earlier attempt, and what came of it."""
        data = self._describe(call.id, call.name, parse_arguments(call.arguments) or {})
        self._emit_event("pre", {**data, "replayed": True})
        key = "error" if result.is_error else "tool_response"
        self._emit_event("post", {**data, "replayed": True, key: result.content})

    def _groups(self, calls: Sequence[ToolCall]) -> list[list[ToolCall]]:
        groups: list[list[ToolCall]] = []
        was_harmless = False
        for call in calls:
            found = self.tools.get(call.name)
            is_harmless = found is not None and found[0].idempotent
            if groups and was_harmless and is_harmless:
                groups[-1].append(call)
            else:
                groups.append([call])
            was_harmless = is_harmless
        return groups

    async def _answer(
        self,
        call: ToolCall,
        output: RunOutput,
        keep: Callable[[ToolResult], Awaitable[None]],
        was_cut: bool,
    ) -> ToolResult | Ask:
        output.flush()
        try:
            if len(call.id) > LONGEST_ID:
                raise Rejected("The id of this call is too long; it was not made.")
            earlier = self._earlier.get(call.id)
            if earlier is not None and earlier.result is not None:
                return self._repeat_earlier(call, earlier)
            prepared = await self._prepare(call, was_cut)
            text = await self._make_if_allowed(prepared, earlier)
            result = ToolResult(call.id, call.name, text)
            if not prepared.tool.idempotent:
                # Else a crash soon after would leave nobody knowing whether it took effect.
                await keep(result)
            return result
        except Parked as parked:
            return parked.ask
        except Rejected as rejection:
            return ToolResult(call.id, call.name, str(rejection), is_error=True)

    def _repeat_earlier(self, call: ToolCall, earlier: Call) -> ToolResult:
        """Return the result that the journal has; emit it if this attempt repeats everything."""
        result = ToolResult(call.id, call.name, earlier.result or "", earlier.failed)
        data = self._describe(call.id, call.name, parse_arguments(call.arguments) or {})
        if not self._turn.continues:
            self._emit_event("pre", {**data, "replayed": True})
        if not earlier.is_recorded or not self._turn.continues:
            key = "error" if earlier.failed else "tool_response"
            self._emit_event("post", {**data, key: result.content, "replayed": True})
        return result

    async def _prepare(self, call: ToolCall, was_cut: bool) -> Prepared:
        """Return a call that can be made; raise Rejected after journalling one that cannot."""
        arguments = parse_arguments(call.arguments)
        shown = {"arguments": call.arguments} if arguments is None else arguments
        try:
            tool, module = await self._find(call.name)
            if arguments is None:
                cut = " Your answer reached its token limit: make it shorter." if was_cut else ""
                raise ToolError(f"The arguments of this call are not a JSON object.{cut}")
            checked = tool.validate(arguments)
        except ToolError as error:
            data = self._describe(call.id, call.name, shown)
            self._emit_event("pre", data)
            raise self._reject(data, str(error)) from None
        return Prepared(call.id, call.name, checked, tool, module)

    async def _find(self, name: str) -> tuple[Tool, OpenedModule]:
        if found := self.tools.get(name):
            return found
        for module in self.modules:
            if module.box.find and (tool := await module.box.find(name)):
                return tool, module
        known = sorted(self.tools)
        more = ", …" if len(known) > NAMED_TOOLS else ""
        named = ", ".join(known[:NAMED_TOOLS]) + more
        there_are = f"There are: {named}." if known else "There are no tools."
        raise ToolError(f"There is no tool {name[:80]!r}. {there_are}")

    async def _make_if_allowed(self, call: Prepared, earlier: Call | None) -> str:
        data = self._describe(call.id, call.name, call.arguments)
        was_begun = earlier is not None
        if was_begun and not call.tool.idempotent:
            if not self._turn.continues:
                self._emit_event("pre", {**data, "replayed": True})
            raise self._reject(data, INTERRUPTED)
        self._check_allowed(call, data)
        if not (was_begun and self._turn.continues):
            self._emit_event("pre", data)
        # Nothing is done of which the journal does not tell.
        await self._turn.host.flush()
        return await self._make(call, data)

    def _check_allowed(self, call: Prepared, data: dict[str, Any]) -> None:
        """Raise Parked for a call that a person is to be asked about, Rejected for a denied one."""
        if not call.module.asks_for(call.name):
            return
        decision = self._decisions.get(call.id)
        fingerprint = call.module.fingerprint(call.tool)
        # An answer to this very call goes before what was said of the tool afterwards.
        if decision is None and (call.name, fingerprint) in self._turn.always:
            return
        if decision is None:
            raise Parked(
                Ask(
                    call.id,
                    call.name,
                    call.arguments,
                    timeout=call.module.approval_timeout,
                    fingerprint=fingerprint,
                    visible_input=redact_json(redact(call.arguments), self.keys),
                )
            )
        if not decision.approved:
            self._emit_event("pre", data)
            raise self._reject(data, decision.rejection)

    async def _make(self, call: Prepared, data: dict[str, Any]) -> str:
        try:
            result = shorten(make_storable(await call.tool.call(call.arguments)))
        except ToolError as error:
            raise self._reject(data, shorten(make_storable(str(error)))) from None
        except SubSessionNeeded as needed:
            ask = Ask(call.id, call.name, call.arguments, needed.profile, needed.message)
            raise Parked(ask) from None
        except Exception as error:
            logger.exception("The tool %s failed", call.name)
            raise self._reject(data, f"The tool failed: {type(error).__name__}.") from None
        failpoints.reach(failpoints.CALLED)
        self._emit_event("post", {**data, "tool_response": result})
        return result

    def _reject(self, data: dict[str, Any], error: str) -> Rejected:
        self._emit_event("post", {**data, "error": error})
        return Rejected(error)

    def _describe(self, call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"tool_name": name, "tool_input": redact(arguments), "tool_call_id": call_id}

    def _emit_event(self, when: str, data: dict[str, Any]) -> None:
        shown = {**data, "tool_input": redact_json(data["tool_input"], self.keys)}
        for key in ("tool_response", "error"):
            if key in data:
                shown[key] = redact_json(data[key], self.keys)
        self._emit(f"hook:tool:{when}", {"hook_event": f"tool:{when}", "hook_data": shown})


def parse_arguments(text: str) -> dict[str, Any] | None:
    """Return a call's arguments as an object; None for what is none."""
    try:
        value = json.loads(text or "{}")
        # Some models write the object as a text.
        value = json.loads(value or "{}") if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    if value is None or value == []:
        # An empty list is what PHP writes for an object without anything in it.
        return {}
    return make_json_storable(value) if isinstance(value, dict) else None


def _by_name(modules: Sequence[OpenedModule]) -> dict[str, tuple[Tool, OpenedModule]]:
    found: dict[str, tuple[Tool, OpenedModule]] = {}
    for module in modules:
        names = {tool.spec.name for tool in module.box.tools}
        _check_gate(module, names)
        for tool in module.box.tools:
            if tool.spec.name in found:
                raise EngineError(
                    "bad_tool",
                    f"Two modules of the profile have a tool {tool.spec.name!r}: leave one out.",
                )
            found[tool.spec.name] = tool, module
    return found


def _check_gate(module: OpenedModule, names: set[str]) -> None:
    # A typo must not open what was meant to be closed. Tools of a server that is down are unknown.
    if isinstance(module.gate, bool) or module.box.notes:
        return
    if unknown := sorted(module.gate - names):
        raise EngineError(
            "bad_tool",
            f"`require_approval` names {unknown[0]!r}; there are {', '.join(sorted(names))}.",
        )


async def _gather(answers: Any) -> list[ToolResult | Ask]:
    """Await all; if one raises, cancel the others, wait for them, and raise that error."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
