"""Little modules for amplifier-core, which play what a test has written into their config.

The provider's `script` has one step for each request: `think`, `say` (pieces), `block` (text in
one piece), `call` (the input of a call of the tool), `stubborn` (does not hear the first
cancellation), `hang` and `fail` (a class of errors).
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import amplifier_core
from amplifier_core import ApprovalRequest, HookResult, ToolResult, llm_errors

Config = dict[str, Any]
Message = dict[str, Any]
Coordinator = amplifier_core.ModuleCoordinator

# What the modules have done: requests to the provider as ("asked", messages), and the rest.
done: list[tuple[str, Any]] = []

USAGE = {"input_tokens": 7, "output_tokens": 2, "cache_read_tokens": 3, "cost_usd": "0.25"}


class Context:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def add_message(self, message: Message) -> None:
        self.messages.append(message)

    async def get_messages(self) -> list[Message]:
        return self.messages

    async def set_messages(self, messages: list[Message]) -> None:
        self.messages = [{**message, "noted": True} for message in messages]


class Forgetful(Context):
    async def add_message(self, message: Message) -> None:
        self.messages = [message]


class Provider:
    def __init__(self, coordinator: Coordinator, config: Config) -> None:
        self.hooks = coordinator.hooks
        self.script = list(config["script"])

    async def complete(self, messages: list[Message]) -> Config:
        done.append(("asked", [(each["role"], each["content"]) for each in messages]))
        try:
            return await self._played(self.script.pop(0))
        except asyncio.CancelledError:
            done.append(("stopped", None))
            raise

    async def _played(self, step: Config) -> Config:
        for kind, key in (("thinking", "think"), ("text", "say")):
            for piece in step.get(key, []):
                await self.hooks.emit("llm:stream_block_delta", {"block_type": kind, "text": piece})
        if step.get("stubborn"):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        if step.get("hang"):
            await asyncio.Event().wait()
        if fault := step.get("fail"):
            raise getattr(llm_errors, fault)(step.get("message", "no"), status_code=418)
        await self.hooks.emit("llm:response", {"model": "scripted-1", "usage": USAGE})
        return step


class Loop:
    """The orchestrator: asks, tells of whole blocks, calls the tool, and asks again."""

    async def execute(
        self,
        prompt: str,
        context: Context,
        providers: dict[str, Provider],
        tools: dict[str, "Look"],
        hooks: Any,
        coordinator: Coordinator,
    ) -> str:
        (provider,) = providers.values()
        await context.add_message({"role": "user", "content": prompt})
        while True:
            await hooks.emit("provider:request", {"provider": "scripted"})
            step = await provider.complete(await context.get_messages())
            text = step.get("block") or "".join(step.get("say", []))
            if text:
                block = {"type": "text", "text": text}
                await hooks.emit("content_block:end", {"block_index": 0, "block": block})
            if "call" not in step:
                await context.add_message({"role": "assistant", "content": text})
                return text or step.get("returned", "")
            output = await self._called(step["call"], tools, hooks, coordinator)
            await context.add_message({"role": "tool", "content": output, "tool_call_id": "c1"})

    async def _called(
        self, given: Config, tools: dict[str, "Look"], hooks: Any, coordinator: Coordinator
    ) -> str:
        call = {"tool_name": "look", "tool_call_id": "c1", "tool_input": given}
        asked = await hooks.emit("tool:pre", call)
        asked = await coordinator.process_hook_result(asked, "tool:pre", "look")
        if asked.action == "deny":
            return f"Denied: {asked.reason}"
        try:
            result = await tools["look"].execute(given)
        except RuntimeError as error:
            await hooks.emit("tool:error", {**call, "error": {"type": "X", "msg": str(error)}})
            return "failed"
        await hooks.emit("tool:post", {**call, "result": result.model_dump()})
        return result.get_serialized_output()


class Look:
    """A tool that sees what it is given; `refuse` and `raise` are its failures."""

    name, description, input_schema = "look", "Look at it.", {"type": "object"}

    async def execute(self, given: Config) -> ToolResult:
        done.append(("looked", given))
        if given.get("raise"):
            raise RuntimeError("it broke")
        if given.get("refuse"):
            return ToolResult(success=False, error={"message": "not there"})
        return ToolResult(success=True, output={"seen": given})


async def mount_loop(coordinator: Coordinator, config: Config) -> None:
    await coordinator.mount("orchestrator", Loop())


async def mount_context(coordinator: Coordinator, config: Config) -> None:
    await coordinator.mount("context", Forgetful() if config.get("forgetful") else Context())


async def mount_provider(coordinator: Coordinator, config: Config) -> None:
    done.append(("directory", coordinator.get_capability("session.working_dir")))
    await coordinator.mount("providers", Provider(coordinator, config), name="scripted")


async def mount_look(coordinator: Coordinator, config: Config) -> None:
    await coordinator.mount("tools", Look(), name="look")


async def mount_fault(coordinator: Coordinator, config: Config) -> None:
    raise ValueError(f"it is not good: {json.dumps(config)}")


async def mount_ask(coordinator: Coordinator, config: Config) -> None:
    """A hook that asks the kernel before each call."""

    async def ask(event: str, data: Config) -> HookResult:
        return HookResult(action="ask_user", approval_prompt="May it?", approval_default="allow")

    coordinator.hooks.register("tool:pre", ask, name="ask")


async def mount_approval(coordinator: Coordinator, config: Config) -> None:
    """A hook that asks whoever registers, as `hooks-approval` does."""
    asked: list[Any] = []

    async def ask(event: str, data: Config) -> HookResult:
        request = ApprovalRequest(tool_name=data["tool_name"], action="look", risk_level="high")
        response = await asked[0].request_approval(request)
        action = "continue" if response.approved else "deny"
        return HookResult(action=action, reason=response.reason)

    coordinator.register_capability("approval.register_provider", asked.append)
    coordinator.hooks.register("tool:pre", ask, name="ask")


async def mount_messy(coordinator: Coordinator, config: Config) -> Callable[[], Awaitable[None]]:
    """A tool that cannot clean up."""

    async def clean() -> None:
        raise RuntimeError("a mess")

    return clean
