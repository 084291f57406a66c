"""Turns of the engine with a fake provider, played to their end."""

import asyncio
from dataclasses import dataclass
from typing import Any

from sessions_app.engine.base import EngineError, Turn
from sessions_app.engine.engines import get_engine
from sessions_app.worker.executor import Executor
from tests.harness.protocols import Protocol
from tests.harness.providers import Answer, FakeProvider, fake_provider

# Seconds, in which a client's library is loaded too, perhaps by a busy machine.
DEADLINE = 60
MODULE = "provider-openai-compatible"
Events = list[tuple[str, dict[str, Any]]]


async def advance_all(executor: Executor, session_id: str) -> None:
    """Execute all runs of a session that are to be executed, as a worker does."""
    while await executor.advance(session_id):
        pass


def turn(fake: FakeProvider, protocol: Protocol | None = None, **config: Any) -> Turn:
    """A turn for the fake provider, which is asked again at once."""
    given = {"default_model": "gpt-fake", "base_url": fake.url, "retry_delay": 0.01, **config}
    module = MODULE
    if protocol:
        module = protocol.module
        given = {"retry_delay": 0.01, "default_model": "fake", **protocol.config(fake), **config}
    return Turn({"providers": [{"module": module, "config": given}]}, "Say something.")


class Emitted:
    """What a turn emitted, read in the ways that tests need."""

    events: Events

    @property
    def text(self) -> str:
        return "".join(data["content"] for kind, data in self.events if kind == "content")

    @property
    def thoughts(self) -> str:
        told = (data for kind, data in self.events if kind == "hook:thinking:delta")
        return "".join(data["hook_data"]["delta"] for data in told)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What was told of calls: `pre` or `post`."""
        return [data["hook_data"] for name, data in self.events if name == f"hook:tool:{kind}"]


@dataclass
class Played(Emitted):
    """How a turn ended, and what was emitted."""

    content: str
    error: EngineError | None
    events: Events
    fake: FakeProvider
    usage: dict[str, Any]

    @property
    def retries(self) -> list[dict[str, Any]]:
        return [data for kind, data in self.events if kind == "provider_retry"]


def play(*answers: Answer, until_gone: bool = False, **config: Any) -> Played:
    """Run one turn against a provider that gives these answers; wait until it is hung up on."""

    async def run() -> Played:
        events: Events = []
        content, failed, usage = "", None, {}
        async with fake_provider(*answers) as fake, asyncio.timeout(DEADLINE):
            given = turn(fake, **config)
            try:
                outcome = await get_engine().run(
                    given, lambda *each: events.append(each), asyncio.Event()
                )
                content, usage = outcome.content, outcome.usage
            except EngineError as error:
                failed = error
            if until_gone:
                await fake.disconnected.wait()
        return Played(content, failed, events, fake, usage)

    return asyncio.run(run())


def code_of(played: Played) -> str:
    """The code of the error that a turn has ended with."""
    assert played.error is not None, "the turn did not fail"
    return played.error.code
