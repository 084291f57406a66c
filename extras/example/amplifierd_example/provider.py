"""provider-rhyme: rolls two dice for a message, then answers with a rhyme. It needs no network."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from sessions_app.engine.capabilities import ProviderCapabilities
from sessions_app.engine.messages import Request, Text, ToolCall, ToolMessage
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.wire.events import Event, Finish, TextDelta, ToolCallEvent, Usage


class RhymeProvider(Provider):
    """Answers without a model; a real one would ask a service in `stream`."""

    module = "provider-rhyme"
    # What is not said here counts as the worst case: others could not choose it for a session.
    capabilities = ProviderCapabilities(
        executes_code=False,
        touches_files=False,
        reaches_network=False,
        needs_key=False,
        has_address=False,
        is_scripted=False,
    )
    # The settings that a profile, or whoever creates a session, may choose.
    settings = frozenset({"max_tokens"})
    defaults = {"word": "moon"}

    @property
    def model(self) -> str:
        return "rhyme-1"

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[AsyncIterator[Event]]:
        async with aclosing(self._answer(request)) as events:
            yield events

    async def _answer(self, request: Request) -> AsyncGenerator[Event]:
        newest = request.messages[-1]
        if request.tools and not isinstance(newest, ToolMessage):
            call = ToolCall("call_1", request.tools[0].name, '{"count": 2}')
            yield ToolCallEvent(call.id, call.name, call.arguments)
            yield Usage(input_tokens=10, output_tokens=5)
            yield Finish("tool_calls", (call,), self.model)
            return
        rolled = newest.results[0].content if isinstance(newest, ToolMessage) else "nothing"
        text = f"You rolled {rolled}, under the {self.config['word']}."
        for piece in text.split(" "):
            yield TextDelta(piece if piece == "You" else f" {piece}")
        yield Usage(input_tokens=10, output_tokens=len(text.split()))
        yield Finish("stop", (Text(text),), self.model)
