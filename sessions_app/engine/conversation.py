"""The loop of an attempt: ask the model, make its calls, ask again until it calls nothing."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from profiles_app.modules import BUILTIN_ENGINE
from sessions_app.engine import compaction
from sessions_app.engine.base import Ask, Cancelled, Emit, Engine, EngineError, Outcome, Turn
from sessions_app.engine.calls import Calls, OpenedModule
from sessions_app.engine.capabilities import EngineCapabilities
from sessions_app.engine.compaction import Window
from sessions_app.engine.config import Resolver
from sessions_app.engine.context import attach_files, build_instructions
from sessions_app.engine.errors import describe_error, describe_retry, find_delay
from sessions_app.engine.limits import check_repeats, read_budgets, timeout_error
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    Request,
    ToolCall,
    ToolMessage,
    ToolResult,
    UserMessage,
    dump_checkpoint,
    load_checkpoints,
)
from sessions_app.engine.normalize import Names, build_request
from sessions_app.engine.output import RunOutput
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.registry import TOOLS, explain_left_out_tools, provider_chain
from sessions_app.engine.time_limit import TimeLimit
from sessions_app.engine.tools.base import Workplace, parse_approval
from sessions_app.engine.transcript import merge_results, opening, summary_message
from sessions_app.engine.wire.events import (
    Finish,
    ProviderError,
    StreamError,
    TextDelta,
    ThinkingDelta,
    ToolCallEvent,
    Usage,
)
from sessions_app.usage import total

Result = TypeVar("Result")

# Codes of errors after which the next provider of the profile is asked.
FALLS_BACK = {
    "provider_error",
    "timeout",
    "missing_key",
    "bad_config",
    "bad_answer",
    "unsupported_content",
}
# Keys that every tool module's config may have.
COMMON_CONFIG = ("require_approval", "approval_timeout")
LEFT_OUT = (
    "The tools of {} are left out: programs and unknown tools need a directory in which the "
    "session's owner may read and write everything. This one is shared read-only, or has others' "
    "directories in it."
)
# Ten years, in seconds.
LONGEST_APPROVAL = 10 * 365 * 86_400


class ConversationEngine(Engine):
    """Runs turns with the built-in loop over providers and tools; keeps no state between them."""

    module = BUILTIN_ENGINE
    capabilities = EngineCapabilities(runs_known_modules=True, keeps_budget=True, keeps_reach=True)

    def prepare(self, turn: Turn) -> Turn:
        """Return the turn with its instructions and its prompt: both read files."""
        return replace(turn, texts=(build_instructions(turn), attach_files(turn)))

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        async def work() -> Outcome:
            chain = provider_chain(turn.mount_plan)
            ready = turn if turn.texts else await asyncio.to_thread(self.prepare, turn)
            async with _open_conversation(ready, emit, chain) as conversation:
                # The next provider is asked only as long as none has begun to answer.
                for provider, following in zip(chain, [*chain[1:], None], strict=True):
                    try:
                        if isinstance(provider, EngineError):
                            raise provider
                        return await conversation.converse(provider)
                    except EngineError as error:
                        may_fall_back = error.code in FALLS_BACK and conversation.is_silent
                        if following is None or not may_fall_back:
                            error.usage = conversation.usage()
                            raise
                        names = {"provider": _name(provider), "next": _name(following)}
                        data = {**names, "error": str(error), "code": error.code}
                        emit("provider_fallback", data)
            raise AssertionError("a chain has at least one provider")

        return await _run_until(cancel, work())


async def _run_until(cancel: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns; raise Cancelled once the event is set and it has stopped."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(cancel.wait())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            # Nobody needs this error; reading it keeps asyncio from logging it.
            task.exception()


@asynccontextmanager
async def _open_conversation(
    turn: Turn, emit: Emit, chain: Sequence[Provider | EngineError]
) -> AsyncIterator["Conversation"]:
    """Give the conversation of a turn; its tools are closed at the end."""
    offers_tools = any(isinstance(each, Provider) and each.can.accepts_tools for each in chain)
    instructions, prompt = turn.texts or ("", turn.prompt)
    async with AsyncExitStack() as stack:
        mounts = turn.mount_plan.get("tools") or []
        is_first = not any(message.role == "assistant" for message in turn.history)
        if is_first and (note := explain_left_out_tools(mounts, chain)):
            emit("run_notice", {"code": "tools_left_out", "message": note})
        mounts = mounts if offers_tools else []
        if mounts and turn.directory is None:
            raise EngineError("bad_tool", "The session has no directory for its tools.")
        workplace = Workplace(
            turn.directory,  # type: ignore[arg-type]
            turn.session_id,
            turn.host,
            turn.reach,
            turn.owner,
        )
        modules: list[OpenedModule] = []
        for mount in mounts:
            module = str(mount.get("module"))
            resolver = Resolver(module)
            config = resolver.resolve(mount.get("config") or {})
            gate, timeout = parse_approval(config), read_approval_timeout(config)
            own = {key: value for key, value in config.items() if key not in COMMON_CONFIG}
            found = TOOLS.find(module)
            if not found.capabilities.may_open(turn.reach):
                emit("run_notice", {"code": "tools_left_out", "message": LEFT_OUT.format(module)})
                continue
            box = await stack.enter_async_context(found.open(own, workplace))
            modules.append(OpenedModule(mount, box, gate, timeout, resolver.keys | box.secrets))
        for note in (note for module in modules for note in module.box.notes):
            emit("run_notice", {"code": "tools_left_out", "message": note})
        yield Conversation(turn, emit, modules, instructions, prompt)


class Conversation:
    """The exchange of one attempt with its model and tools, until it ends or waits."""

    def __init__(
        self, turn: Turn, emit: Emit, modules: list[OpenedModule], instructions: str, prompt: str
    ) -> None:
        self._turn = turn
        self._emit = emit
        self._instructions = instructions
        self._prompt = prompt
        self._calls = Calls(turn, emit, modules)
        self._specs = [tool.spec for tool, _ in self._calls.tools.values()]
        # The answers and results of this run, and those of them that no checkpoint has yet.
        self._messages = merge_results(load_checkpoints(turn.checkpoints))
        self._unsaved: list[AssistantMessage | ToolMessage] = []
        self._has_steps = bool(turn.checkpoints)
        # The summary of the run's oldest messages, and how many messages it replaces.
        self._steps_summary, self._steps_summarized = "", 0
        self._budget, self._tree = read_budgets(turn.mount_plan)
        self._output: RunOutput | None = None
        self._has_begun = False
        self._pending_calls = False
        # Usage of this attempt alone.
        self._used: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "requests": 0}
        self._noticed: set[str] = set()

    @property
    def is_silent(self) -> bool:
        """Whether the newest request has no piece of an answer yet, and no call was made."""
        return not self._pending_calls and (self._output is None or self._output.is_silent)

    def usage(self) -> dict[str, Any]:
        """Return the usage of the run in all its attempts."""
        return total(self._turn.usage, self._used)

    async def converse(self, provider: Provider) -> Outcome:
        """Go on with a provider until the model has no more calls, or all open ones wait.

        Raises EngineError, and Cancelled if the attempt no longer holds its run.
        """
        limit = TimeLimit(provider.limits.run_timeout)
        earlier = self._output.text if self._output else self._turn.output
        keys = provider.keys | self._calls.keys
        output = RunOutput(provider.module, provider.limits, keys, self._emit, earlier)
        self._output = output
        if not self._has_begun and self._messages and not self._turn.continues:
            self._repeat_steps(output)
        self._has_begun = True
        window = Window(provider, self._instructions, self._prompt)
        try:
            with limit:
                while True:
                    if asks := await self._answer_calls(output):
                        return self._outcome(output, asks)
                    await self._check_budgets()
                    self._pending_calls = False
                    answer = await self._ask(provider, output, window)
                    self._calls.forget_earlier()
                    self._messages.append(answer)
                    self._unsaved.append(answer)
                    if not answer.tool_calls:
                        return self._outcome(output)
                    await self._keep()
        except TimeoutError:
            if not limit.has_expired:
                raise
            raise timeout_error(provider.module, provider.limits, "run_timeout") from None

    def _repeat_steps(self, output: RunOutput) -> None:
        """Emit the answers in the checkpoints, and those of their calls that have results there."""
        calls: dict[str, ToolCall] = {}
        for message in self._messages:
            if isinstance(message, AssistantMessage):
                output.begin_answer()
                output.repeat_text(message.text)
                calls = {call.id: call for call in message.tool_calls}
            elif isinstance(message, ToolMessage):
                for result in message.results:
                    if call := calls.get(result.call_id):
                        self._calls.repeat(call, result)
        if self._newest_answer() is None:
            output.begin_answer()

    # Calls

    def _newest_answer(self) -> AssistantMessage | None:
        answers = (each for each in reversed(self._messages) if isinstance(each, AssistantMessage))
        return next(answers, None)

    async def _answer_calls(self, output: RunOutput) -> list[Ask]:
        """Make the newest answer's calls without a result; return the asks of those that wait."""
        answer = self._newest_answer()
        if answer is None:
            return []
        last = self._messages[-1]
        known = {each.call_id for each in last.results} if isinstance(last, ToolMessage) else ()
        calls = [call for call in answer.tool_calls if call.id not in known]
        if not calls:
            return []
        was_cut = answer.finish_reason == "length"
        self._pending_calls = True
        kept: dict[str, ToolResult] = {}

        async def keep(result: ToolResult) -> None:
            kept[result.call_id] = result
            await self._turn.host.save_checkpoints(
                [dump_checkpoint(ToolMessage((result,)))], self.usage()
            )

        results, asks = await self._calls.answer(calls, output, keep, was_cut=was_cut)
        if results:
            self._messages = merge_results([*self._messages, ToolMessage(tuple(results))])
        fresh = tuple(result for result in results if result.call_id not in kept)
        if fresh:
            self._unsaved.append(ToolMessage(fresh))
        if asks:
            await self._keep()
        else:
            check_repeats(self._messages, self._budget)
        return asks

    # Checkpoints

    async def _keep(self) -> None:
        """Save new messages as checkpoints, from which the next attempt goes on."""
        if self._unsaved:
            steps, self._unsaved = list(map(dump_checkpoint, self._unsaved)), []
            self._has_steps = True
            await self._turn.host.save_checkpoints(steps, self.usage())

    def _outcome(self, output: RunOutput, asks: Sequence[Ask] = ()) -> Outcome:
        output.flush()
        answer = self._newest_answer()
        model, reason = (answer.model, answer.finish_reason) if answer else ("", "stop")
        if asks:
            return Outcome(output.text, self.usage(), model, pending=tuple(asks))
        # A run of one answer needs no checkpoint if its text is in the transcript as it came:
        # there, secrets are redacted.
        is_plain = not self._has_steps and answer is not None and answer.text == output.text
        rest = () if is_plain else tuple(map(dump_checkpoint, self._unsaved))
        return Outcome(output.text, self.usage(), model, rest, finish_reason=reason)

    # Requests

    async def _ask(self, provider: Provider, output: RunOutput, window: Window) -> AssistantMessage:
        """Return the model's answer to the conversation so far; raise EngineError."""
        retries = 0
        while True:
            output.begin_answer()
            request, names = await self._fit(provider, window)
            try:
                return await self._stream(provider, request, names, output)
            except ProviderError as failure:
                error = failure.error
            if self.is_silent and window.may_shrink(error, request):
                window.shrink(request)
                continue
            retries += 1
            if not (self.is_silent and await self._wait_for_retry(error, retries, provider)):
                output.flush()
                raise window.describe_error(error, request)

    async def _wait_for_retry(self, error: StreamError, retry: int, provider: Provider) -> bool:
        """Wait before the n-th retry, from 1; return False if there is none."""
        delay = find_delay(error, retry, provider.limits)
        if delay is not None:
            self._emit("provider_retry", describe_retry(error, retry, delay, provider))
            await asyncio.sleep(delay)
        return delay is not None

    async def _stream(
        self, provider: Provider, request: Request, names: Names, output: RunOutput
    ) -> AssistantMessage:
        """Stream one answer; raise ProviderError, or EngineError for an answer without content."""
        usage: Usage | None = None
        finish: Finish | None = None
        try:
            async with provider.stream(request) as events:
                async for event in events:
                    match event:
                        case TextDelta(text):
                            output.add_text(text)
                        case ThinkingDelta(text):
                            output.add_thinking(text)
                        case ToolCallEvent(arguments=arguments):
                            output.count("tool calls", arguments)
                        case Usage():
                            usage = event
                        case Finish():
                            finish = event
        finally:
            self._notice(*provider.notices)
            provider.notices.clear()
            if usage or finish or not output.is_silent:
                used = provider.count_usage(usage or Usage(), finish.model if finish else "")
                self._used = total(self._used, used)
        output.flush()
        if finish is None:
            raise ProviderError(StreamError("broken_off", "the answer has no end"))
        # The provider may have been sent other names, because it does not accept ours.
        parts = (
            replace(part, name=names.original(part.name)) if isinstance(part, ToolCall) else part
            for part in finish.parts
        )
        answer = AssistantMessage(
            tuple(parts), provider.service, finish.model or provider.model, finish.reason
        )
        self._check_answer(answer, provider)
        return answer

    def _check_answer(self, answer: AssistantMessage, provider: Provider) -> None:
        """Raise EngineError for an empty answer, unless the model may have meant it."""
        if answer.tool_calls or answer.text.strip():
            return
        if answer.finish_reason == "content_filter":
            error = StreamError("content_filter", "the answer is empty")
            raise describe_error(error, provider)
        # After its work with tools a model may have nothing to add.
        has_worked = any(isinstance(message, ToolMessage) for message in self._messages)
        if answer.finish_reason == "length" or has_worked:
            return
        raise describe_error(StreamError("bad_answer", "the answer is empty"), provider)

    async def _check_budgets(self) -> None:
        used = self.usage()
        self._budget.check(used, "The run")
        if self._tree.is_set:
            whole = total(used, await self._turn.host.read_tree_usage())
            self._tree.check(whole, "The tree of sessions that this one belongs to")

    # Fitting into the context

    def _build(
        self, provider: Provider, messages: Sequence[Message] | None = None
    ) -> tuple[Request, Names]:
        specs = self._specs if provider.can.accepts_tools else []
        if messages is None:
            messages = self._all_messages()
        return build_request(messages, specs, self._instructions, provider.can, provider.service)

    def _all_messages(self) -> list[Message]:
        own = self._messages[self._steps_summarized :]
        stands_for = [summary_message(self._steps_summary)] if self._steps_summary else []
        return [*opening(self._turn, self._prompt), *stands_for, *own]

    async def _fit(self, provider: Provider, window: Window) -> tuple[Request, Names]:
        """Return the next request, shortened as far as the context window requires."""
        request, names = self._build(provider)
        self._notice(*names.notes)
        if not provider.can.summarizes or not window.excess(request):
            return request, names
        request, names = self._shorten(provider, window)
        if not window.leaves_room():
            # A summary would not help.
            return request, names
        if window.excess(request) and (older := compaction.older_messages(self._turn)):
            text = compaction.write_transcript(self._turn.summary, older, window.tokens)
            summary = await self._summarize(provider, text)
            # For later runs of the session, too.
            history = self._turn.history[len(older) :]
            self._turn = replace(self._turn, summary=summary, history=history)
            await self._turn.host.compact(older[-1].seq, summary, self.usage())
            request, names = self._shorten(provider, window)
        first, upto = self._steps_summarized, compaction.older_steps(self._messages)
        if window.excess(request) and first < upto:
            text = compaction.write_steps(
                self._steps_summary, self._messages[first:upto], window.tokens
            )
            self._steps_summary = await self._summarize(provider, text)
            self._steps_summarized = upto
            self._notice(
                "The first steps of this run were summarised, to fit into the model's context."
            )
            request, names = self._shorten(provider, window)
        if window.excess(request):
            request, names = self._shorten(provider, window, texts=True)
        return request, names

    def _shorten(
        self, provider: Provider, window: Window, *, texts: bool = False
    ) -> tuple[Request, Names]:
        request, names = self._build(provider)
        messages = self._all_messages()
        shortened = compaction.shorten_results(messages, window.excess(request))
        if shortened.count:
            self._notice("Long results of tools were shortened to fit into the model's context.")
            messages = shortened.messages
            request, names = self._build(provider, messages)
        if texts:
            prompt = messages[len(opening(self._turn, self._prompt)) - 1]
            shortened = compaction.shorten_texts(messages, window.excess(request), prompt)
            if shortened.count:
                self._notice("Long messages were shortened to fit into the model's context.")
                request, names = self._build(provider, shortened.messages)
        return request, names

    async def _summarize(self, provider: Provider, text: str) -> str:
        """Return the model's summary of a text, or of as much of its end as fits.

        Raises EngineError, also if a budget is used up.
        """
        await self._check_budgets()
        silent = RunOutput(provider.module, provider.limits, set(), lambda *_: None)
        retries = 0
        while True:
            request, names = build_request(
                [UserMessage(text)], [], compaction.INSTRUCTIONS, provider.can, provider.service
            )
            try:
                answer = await self._stream(provider, request, names, silent)
                # Some models call tools although none are offered.
                return answer.text.strip() or text[-compaction.SHORTEST :]
            except ProviderError as failure:
                error = failure.error
            except EngineError as unusable:
                if unusable.code != "bad_answer":
                    raise
                # A failed summary must not end the run: the end of the text stands in for it.
                return text[-compaction.SHORTEST :]
            is_large = error.kind == "rejected" and len(text) > compaction.SUSPICIOUS_SIZE
            if (error.kind == "too_long" or is_large) and len(text) >= compaction.SHORTEST:
                text = text[-len(text) // 4 :]
                continue
            retries += 1
            if not await self._wait_for_retry(error, retries, provider):
                raise describe_error(error, provider)

    def _notice(self, *messages: str) -> None:
        """Emit notices about the run, each once in an attempt."""
        for message in messages:
            if message not in self._noticed:
                self._noticed.add(message)
                self._emit("run_notice", {"code": "context", "message": message})


def read_approval_timeout(config: dict[str, Any]) -> float | None:
    """Return the seconds that a person has to answer; None for the daemon's default.

    Raises EngineError `bad_tool` for anything but a number in range.
    """
    seconds = config.get("approval_timeout")
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds <= LONGEST_APPROVAL:
        raise EngineError(
            "bad_tool", f"`approval_timeout` is a number of seconds from 1 to {LONGEST_APPROVAL}."
        )
    return seconds


def _name(provider: object) -> str:
    return provider.module if isinstance(provider, Provider) else "a provider without its config"
