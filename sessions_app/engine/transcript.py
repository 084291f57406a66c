"""The transcript of a session as messages for a model: all that came before a prompt."""

from collections.abc import Iterable, Mapping, Sequence

from sessions_app.engine.base import Call, HistoryMessage, Turn
from sessions_app.engine.config import MASK
from sessions_app.engine.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    Text,
    ToolMessage,
    ToolResult,
    UserMessage,
    load_checkpoints,
)
from sessions_app.engine.normalize import INTERRUPTED, NEVER_MADE

_SUMMARY = "A summary of the conversation so far, whose older messages are left out here:\n\n"


def summary_message(summary: str) -> UserMessage:
    """Return the message with which a summary replaces older messages."""
    return UserMessage(_SUMMARY + summary)


def opening(turn: Turn, prompt: str) -> list[Message]:
    """Return the messages before the run's own: the transcript, or its summary, and the prompt."""
    messages = transcript_messages(turn.history)
    if turn.summary:
        messages.insert(0, summary_message(turn.summary))
    return [*messages, UserMessage(prompt)]


def transcript_messages(history: Sequence[HistoryMessage]) -> list[Message]:
    """Return the transcript as messages, without blank ones.

    The checkpoints of a run come in the place of its answer.
    """
    messages: list[Message] = []
    # By run: the text that its checkpoints have already; None if they have all of the answer.
    known: dict[str, str | None] = {}
    for message in history:
        content = message.content
        if message.is_answer:
            # Of an answer that broke off, the checkpoints may have only the beginning. They have it
            # as it came; in the transcript, secrets are redacted.
            start = known.pop(message.run_id, "")
            if start and MASK in content and not content.startswith(start):
                content = "\n\n".join(content.split("\n\n")[start.count("\n\n") + 1 :]).lstrip()
            else:
                content = "" if start is None else content.removeprefix(start).lstrip()
        if content.strip():
            if message.role == "assistant":
                messages.append(AssistantMessage((Text(content),)))
            elif message.role == "system":
                messages.append(SystemMessage(content))
            else:
                # The message of a tool does not name the call that it belongs to.
                prefix = "Result of a tool:\n" if message.role == "tool" else ""
                messages.append(UserMessage(prefix + content))
        if message.checkpoints:
            done = close_calls(merge_results(load_checkpoints(message.checkpoints)), message.calls)
            messages += done
            last = done[-1] if done else None
            is_whole = isinstance(last, AssistantMessage) and not last.tool_calls
            known[message.run_id] = None if is_whole else answer_text(done)
    return messages


def merge_results(messages: Iterable[Message]) -> list[Message]:
    """Return messages with neighbouring tool messages joined: each result is saved alone."""
    merged: list[Message] = []
    for message in messages:
        if isinstance(message, ToolMessage) and merged and isinstance(merged[-1], ToolMessage):
            merged[-1] = ToolMessage((*merged[-1].results, *message.results))
        else:
            merged.append(message)
    return merged


def close_calls(messages: list[Message], calls: Mapping[str, Call]) -> list[Message]:
    """Return messages in which every call of the last answer has a result.

    `calls` are the calls in the journal; they give the missing results, or show that a call was
    interrupted.
    """
    results: tuple[ToolResult, ...] = ()
    answer = messages[-1] if messages else None
    if isinstance(answer, ToolMessage):
        results, messages = answer.results, messages[:-1]
        answer = messages[-1] if messages else None
    if not isinstance(answer, AssistantMessage) or not answer.tool_calls:
        return [*messages, ToolMessage(results)] if results else messages
    known = {result.call_id for result in results}
    missing: list[ToolResult] = []
    for call in answer.tool_calls:
        recorded = calls.get(call.id)
        if call.id in known:
            continue
        if recorded is None:
            missing.append(ToolResult(call.id, call.name, NEVER_MADE, is_error=True))
        elif recorded.result is None:
            missing.append(ToolResult(call.id, call.name, INTERRUPTED, is_error=True))
        else:
            missing.append(ToolResult(call.id, call.name, recorded.result, recorded.failed))
    return [*messages, ToolMessage((*results, *missing))]


def answer_text(messages: Iterable[Message]) -> str:
    """Return the text of answers as people see it: with a blank line between them."""
    texts = (message.text for message in messages if isinstance(message, AssistantMessage))
    return "\n\n".join(text for text in texts if text)
