"""The events into which every reader turns a server's stream, and the error of a request."""

from dataclasses import dataclass
from typing import Literal

from sessions_app.engine.messages import Part

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "error"]

ErrorKind = Literal[
    "connect",  # there was no connection; nothing was sent
    "connect_timeout",
    "first_token_timeout",  # the answer did not begin in time
    "next_token_timeout",  # the answer stopped in the middle
    "broken_off",  # the connection ended, or failed, before the answer did
    "auth",  # 401, 403
    "not_found",  # 404: the model, or the path
    "quota",  # used up, so that a retry does not help
    "rate_limit",
    "too_long",  # the request does not fit into the model's context
    "unsupported_field",  # refused because of a field that could be left out: `field` names it
    "unsupported_content",  # refused because the model does not take such content
    "rejected",  # any other 4xx
    "content_filter",  # withheld because of its content
    "overloaded",  # 5xx, or an error of this kind in the stream
    "too_long_answer",  # longer than the limits allow
    "bad_answer",  # not an answer of the protocol
    "bad_config",  # no request could be made: a key, URL or proxy that cannot be used
]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of text, clean."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of thinking, clean."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A complete call, with all its arguments. It is in the parts of `Finish`, too."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of this answer so far, as totals: the last event of an answer counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer that is complete, or that the server cut. The last event."""

    reason: FinishReason
    # The parts of the answer in their order, with opaque content.
    parts: tuple[Part, ...]
    # The model's name in the answer; empty if the server does not send it.
    model: str = ""


@dataclass(frozen=True, slots=True)
class StreamError:
    """The answer ended in an error. The last event."""

    kind: ErrorKind
    # The server's words, or ours if it sent none. They may have secrets until they are redacted.
    message: str
    # The HTTP status, or the one that fits the error's code.
    status: int | None = None
    # Whether the server says that a retry helps (True) or does not (False).
    retry: bool | None = None
    # Seconds that the server asks to wait before a retry.
    retry_after: float | None = None
    # The field of the request that it refuses, for `unsupported_field`.
    field: str = ""


Event = TextDelta | ThinkingDelta | ToolCallEvent | Usage | Finish | StreamError


class ProviderError(Exception):
    """A request to a provider failed; `error` has the kind and the details."""

    def __init__(self, error: StreamError) -> None:
        super().__init__(error.message)
        self.error = error
