"""The events that every reader makes of what a server streams, and the error of a request."""

from dataclasses import dataclass
from typing import Literal

from sessions_app.engine.messages import Part

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "error"]

ErrorKind = Literal[
    "connect",  # no connection was had; nothing was sent
    "connect_timeout",
    "first_token_timeout",  # nothing was said for so long
    "next_token_timeout",  # fell silent in the middle of its answer
    "broken_off",  # the connection ended, or failed, before the answer did
    "auth",  # 401, 403
    "not_found",  # 404: the model, or the path
    "quota",  # used up: waiting does not help
    "rate_limit",
    "too_long",  # the request does not fit into the model's context
    "unsupported_field",  # refused for a field that could be left out: `field` names it
    "unsupported_content",  # refused for a kind of content that the model cannot take
    "rejected",  # any other 4xx
    "content_filter",  # withheld for what is in it
    "overloaded",  # 5xx, or an error of this kind in the stream
    "too_long_answer",  # more than the limits grant
    "bad_answer",  # nothing of the protocol
    "bad_config",  # the request could not even be made: a key, URL or proxy that cannot be used
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
    """A call is complete: its arguments came whole. It is in the parts of `Finish`, too."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What this answer has used so far: a total. The last one of an answer counts."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is whole, or was cut by the server for the reason given. The last event."""

    reason: FinishReason
    # The parts of the answer in their order, with opaque content.
    parts: tuple[Part, ...]
    # As the server calls itself; empty if it does not say.
    model: str = ""


@dataclass(frozen=True, slots=True)
class StreamError:
    """The answer ended in an error. The last event."""

    kind: ErrorKind
    # The server's own words, or ours if it said nothing; may hold secrets until it is redacted.
    message: str
    # HTTP status, or the one that its code stands for.
    status: int | None = None
    # Whether the server says that asking again is of no use (False) or of use (True).
    retry: bool | None = None
    retry_after: float | None = None
    # The field of the request that it refuses, for `unsupported_field`.
    field: str = ""


Event = TextDelta | ThinkingDelta | ToolCallEvent | Usage | Finish | StreamError


class ProviderError(Exception):
    """A request to a provider failed; `error` says how."""

    def __init__(self, error: StreamError) -> None:
        super().__init__(error.message)
        self.error = error
