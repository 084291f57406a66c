"""Calls of tools: journalled before and after, made once, and only if a person allows it.

If an earlier attempt has finished a call, its result comes from the checkpoint or the journal. A
call that an earlier attempt began and did not finish is made again only if that does no harm.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from amplifierd.common.redaction import redact
from amplifierd.common.text import make_json_storable, make_storable
from sessions_app import failpoints
from sessions_app.engine.base import Ask, Call, Decision, Emit, Turn, bad_tool
from sessions_app.engine.config import redact_json
from sessions_app.engine.messages import ToolCall, ToolResult
from sessions_app.engine.output import RunOutput
from sessions_app.engine.tools.base import SubSessionNeeded, Tool, Toolbox, ToolError, shorten
from sessions_app.engine.transcript import INTERRUPTED
from sessions_app.engine.wire.answer import LONGEST_ID

logger = logging.getLogger(__name__)

# Tools that the error lists after a model has called one that does not exist.
NAMED_TOOLS = 40


@dataclass(frozen=True)
class OpenedModule:
    """A tool module while it is open, with the approval settings of its config."""

    mount: dict[str, Any]
    box: Toolbox
    # Which of its tools need approval: all of them (True), none (False), or those named.
    gate: bool | frozenset[str] = False
    # Seconds that a person has to answer; None for the daemon's default.
    approval_timeout: float | None = None
    # Values that were filled into its config and that people must not see.
    keys: set[str] = field(default_factory=set, repr=False)

    def asks_for(self, tool: str) -> bool:
        """Return whether a person must allow a call of the tool."""
        return self.gate if isinstance(self.gate, bool) else tool in self.gate

    def fingerprint(self, tool: Tool) -> str:
        """Return a hash of the tool as it is now: the module, its config as written, the tool.

        An "always" of a person counts only as long as the fingerprint is the same.
        """
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
    """A call of a tool that exists, with valid arguments."""

    id: str
    name: str
    # The same object is shown for approval and given to the tool.
    arguments: dict[str, Any]
    tool: Tool
    module: OpenedModule


class Parked(Exception):
    """A call waits for a person's approval, or for a sub-session."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.tool)
        self.ask = ask


class Rejected(Exception):
    """A call was not made, or failed; the message is for the model."""


class Calls:
    """Makes the calls of one attempt.

    Raises EngineError `bad_tool` if two modules have a tool of the same name, or if
    `require_approval` names a tool that does not exist.
    """

    def __init__(self, turn: Turn, emit: Emit, modules: Sequence[OpenedModule]) -> None:
        self._turn = turn
        self._emit = emit
        self.modules = modules
        self.tools: dict[str, tuple[Tool, OpenedModule]] = {}
        self.keys: set[str] = set().union(*(module.keys for module in modules))
        # Calls and decisions of the answer with which an earlier attempt ended.
        self._earlier: dict[str, Call] = dict(turn.calls)
        self._decisions: dict[str, Decision] = dict(turn.decisions)
        for module in modules:
            names = {tool.spec.name for tool in module.box.tools}
            # A typing error must not let a tool run without approval. If a server is down, its
            # tools are unknown, so nothing can be compared.
            gate = frozenset() if isinstance(module.gate, bool) or module.box.notes else module.gate
            if unknown := sorted(gate - names):
                there_are = f"there are {', '.join(sorted(names))}"
                raise bad_tool(f"`require_approval` names {unknown[0]!r}; {there_are}.")
            for tool in module.box.tools:
                name = tool.spec.name
                if name in self.tools:
                    raise bad_tool(
                        f"Two modules of the profile have a tool {name!r}: leave one out."
                    )
                self.tools[name] = tool, module

    def forget_earlier(self) -> None:
        """Forget earlier calls, because the model's next ones may use the same ids."""
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
        """Return the results of the calls in their order, and the asks of those that wait.

        Idempotent calls that follow each other are made at the same time, others one by one. `keep`
        is awaited for each result that must not be lost. `was_cut` means that the answer with the
        calls reached its token limit. Raises Cancelled if the attempt no longer holds its run.
        """
        groups: list[list[ToolCall]] = []
        harmless = {name for name, (tool, _) in self.tools.items() if tool.idempotent}
        for is_harmless, neighbours in groupby(calls, lambda call: call.name in harmless):
            group = list(neighbours)
            groups += [group] if is_harmless else [[call] for call in group]
        outcomes: list[ToolResult | Ask] = []
        for group in groups:
            try:
                async with asyncio.TaskGroup() as tasks:
                    making = [
                        tasks.create_task(self._answer(call, output, keep, was_cut))
                        for call in group
                    ]
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            outcomes += [task.result() for task in making]
        results = [each for each in outcomes if isinstance(each, ToolResult)]
        return results, [each for each in outcomes if isinstance(each, Ask)]

    def repeat(
        self, call: ToolCall, result: ToolResult, *, has_pre: bool = False, has_post: bool = False
    ) -> None:
        """Emit the events of an earlier attempt's call, except those that clients have already."""
        data = self._describe(call.id, call.name, parse_arguments(call.arguments) or {})
        data["replayed"] = True
        if not has_pre:
            self._emit_event("pre", data)
        if not has_post:
            key = "error" if result.is_error else "tool_response"
            self._emit_event("post", {**data, key: result.content})

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
                result = ToolResult(call.id, call.name, earlier.result, earlier.failed)
                continues = self._turn.continues
                has_post = continues and earlier.is_recorded
                self.repeat(call, result, has_pre=continues, has_post=has_post)
                return result
            prepared = await self._prepare(call, was_cut)
            result = ToolResult(call.id, call.name, await self._make(prepared, earlier))
            if not prepared.tool.idempotent:
                # Otherwise nobody would know after a crash whether the call took effect.
                await keep(result)
            return result
        except Parked as parked:
            return parked.ask
        except Rejected as rejection:
            return ToolResult(call.id, call.name, str(rejection), is_error=True)

    async def _prepare(self, call: ToolCall, was_cut: bool) -> Prepared:
        """Return a call that can be made; otherwise emit its error and raise Rejected."""
        arguments = parse_arguments(call.arguments)
        shown = {"arguments": call.arguments} if arguments is None else arguments
        try:
            found = self.tools.get(call.name)
            for module in () if found else self.modules:
                # Its server may be up again.
                if module.box.find and (tool := await module.box.find(call.name)):
                    found = tool, module
                    break
            if found is None:
                names = sorted(self.tools)
                more = ", …" if len(names) > NAMED_TOOLS else ""
                named = f"There are: {', '.join(names[:NAMED_TOOLS])}{more}."
                there_are = named if names else "There are no tools."
                raise ToolError(f"There is no tool {call.name[:80]!r}. {there_are}")
            if arguments is None:
                cut = " Your answer reached its token limit: make it shorter." if was_cut else ""
                raise ToolError(f"The arguments of this call are not a JSON object.{cut}")
            checked = found[0].validate(arguments)
        except ToolError as error:
            data = self._describe(call.id, call.name, shown)
            self._emit_event("pre", data)
            raise self._reject(data, str(error)) from None
        return Prepared(call.id, call.name, checked, *found)

    async def _make(self, call: Prepared, earlier: Call | None) -> str:
        """Return the result of a call that may be made; raise Parked or Rejected."""
        data = self._describe(call.id, call.name, call.arguments)
        was_begun = earlier is not None
        if was_begun and not call.tool.idempotent:
            if not self._turn.continues:
                self._emit_event("pre", {**data, "replayed": True})
            raise self._reject(data, INTERRUPTED)
        self._check_allowed(call, data)
        if not (was_begun and self._turn.continues):
            self._emit_event("pre", data)
        # The journal must have the call before it is made.
        await self._turn.host.flush()
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

    def _check_allowed(self, call: Prepared, data: dict[str, Any]) -> None:
        """Raise Parked for a call that needs a person's approval, Rejected for a denied one."""
        if not call.module.asks_for(call.name):
            return
        decision = self._decisions.get(call.id)
        fingerprint = call.module.fingerprint(call.tool)
        # A decision about this call counts more than an "always" for its tool that came later.
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
    """Return a call's arguments; None if they are not a JSON object."""
    try:
        value = json.loads(text or "{}")
        # Some models write the object as a JSON string.
        value = json.loads(value or "{}") if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    if value is None or value == []:
        # PHP writes an empty object as an empty list.
        return {}
    return make_json_storable(value) if isinstance(value, dict) else None
