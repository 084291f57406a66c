"""Calls of tools under the kernel, and the approvals that its modules ask for."""

import json
from typing import Any

from amplifier_core import ApprovalRequest, ApprovalResponse

from amplifierd_amplifier.messages import to_json
from sessions_app.engine.base import Emit
from sessions_app.engine.tools.base import shorten

REFUSED = (
    "Denied without being asked: the engine 'amplifier' cannot wait for a person. "
    "Let the tool go on in this session, or use the engine 'builtin'."
)
# What an "always" under this engine is bound to: it knows no more of a tool than its name.
FINGERPRINT = "amplifier"
UNHEARD = "The call was refused, or ended without a word."

Data = dict[str, Any]


class Calls:
    """The calls that have begun and not ended, told as `hook:tool:pre` and `hook:tool:post`."""

    def __init__(self, emit: Emit, keys: set[str]) -> None:
        self._emit = emit
        self._keys = keys
        self._begun = 0
        # By the id of the call, what was told of it.
        self._open: dict[str, Data] = {}

    @property
    def tools(self) -> set[str]:
        """Return the tools of the open calls."""
        return {call["tool_name"] for call in self._open.values()}

    def begin(self, data: Data) -> None:
        """Tell that a call begins."""
        self._begun += 1
        call = {
            "tool_name": str(data.get("tool_name") or "unknown"),
            "tool_input": to_json(data.get("tool_input") or {}, self._keys),
            "tool_call_id": str(data.get("tool_call_id") or f"call-{self._begun}"),
        }
        self._open[call["tool_call_id"]] = call
        self._tell("tool:pre", call)

    def end(self, data: Data) -> None:
        """Tell what came of a call; of one that never began, nothing is told."""
        if call := self._open.pop(self._id(data), None):
            self._tell("tool:post", {**call, **self._result(data)})

    def refuse(self, tool: str | None = None) -> None:
        """Tell that the open call, of this tool if it is known, was denied.

        Of several nobody knows which it was: nothing is told before `close`.
        """
        calls = [key for key, call in self._open.items() if tool in (None, call["tool_name"])]
        if len(calls) == 1:
            self._close(calls[0], REFUSED)

    def close(self) -> None:
        """Tell the end of calls that the kernel does not speak of any more."""
        for key in list(self._open):
            self._close(key, UNHEARD)

    def _close(self, key: str, error: str) -> None:
        self._tell("tool:post", {**self._open.pop(key), "error": error})

    def _id(self, data: Data) -> str:
        """Return the id of the call; where none is given, of the tool's oldest open one."""
        tool = data.get("tool_name")
        same = (key for key, call in self._open.items() if call["tool_name"] == tool)
        return str(data.get("tool_call_id") or next(same, ""))

    def _result(self, data: Data) -> Data:
        """Return the response or the error, in the shape that the orchestrator has chosen."""
        if data.get("error"):
            return {"error": self._text(data["error"])}
        result = data.get("result", data.get("tool_result"))
        if not isinstance(result, dict) or "success" not in result:
            return {"tool_response": self._text(result)}
        if result["success"]:
            return {"tool_response": self._text(result.get("output"))}
        return {"error": self._text(result.get("error") or result.get("output"))}

    def _text(self, value: Any) -> str:
        words = value.get("message") or value.get("msg") if isinstance(value, dict) else None
        told = to_json(words or value, self._keys)
        return shorten(told if isinstance(told, str) else json.dumps(told) if told else "")

    def _tell(self, event: str, call: Data) -> None:
        self._emit(f"hook:{event}", {"hook_event": event, "hook_data": call})


class Gatekeeper:
    """Answers whoever asks for an approval: only what a person lets go on always is approved.

    The kernel waits for an answer in memory, and has no step from which another attempt could
    go on; so nobody is asked. It does not say which tool it asks for: that is one of the open
    calls, and only if all of these may go on, the answer is yes.
    """

    def __init__(self, calls: Calls, always: frozenset[str]) -> None:
        self._calls = calls
        self._always = always

    async def request_approval(self, prompt: str, *terms: Any) -> str:
        """Return `Allow` or `Deny`, which the kernel knows whatever options the terms name."""
        tools = self._calls.tools
        if tools and tools <= self._always:
            return "Allow"
        self._calls.refuse()
        return "Deny"


class ApprovalProvider:
    """The same for the hook `hooks-approval`, which asks by the tool's name."""

    def __init__(self, calls: Calls, always: frozenset[str]) -> None:
        self._calls = calls
        self._always = always

    async def request_approval(self, request: ApprovalRequest) -> ApprovalResponse:
        """Approve of what a person lets go on always, and deny all else, saying why."""
        if request.tool_name in self._always:
            return ApprovalResponse(approved=True, reason="It may always go on in this session.")
        self._calls.refuse(request.tool_name)
        return ApprovalResponse(approved=False, reason=REFUSED)
