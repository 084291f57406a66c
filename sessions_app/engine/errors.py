"""What a failure of the provider means, in one sentence that a person can act on."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from sessions_app.engine.base import EngineError
from sessions_app.engine.config import redacted
from sessions_app.engine.limits import late, overrun
from sessions_app.engine.registry import Provider
from sessions_app.storable import storable


class Meaning(NamedTuple):
    """What a class of errors says of the provider, after its name, and what to do about it."""

    kind: type[Exception]
    code: str
    fact: str
    advice: str


# The first class that fits gives the meaning.
_MEANINGS = [
    Meaning(
        ModelContextWindowExceededError,
        "too_long",
        "cannot read so long a prompt.",
        "Shorten the message, or start a new session.",
    ),
    Meaning(
        ModelConnectionError,
        "provider_error",
        "cannot be reached.",
        "Check `base_url` and the network.",
    ),
    Meaning(
        ModelAuthenticationError,
        "provider_error",
        "refused the key.",
        "Check `api_key` in its config.",
    ),
    Meaning(
        ModelNotFoundError,
        "provider_error",
        "does not know the model.",
        "Check `default_model` in its config.",
    ),
    Meaning(
        ModelQuotaExceededError,
        "provider_error",
        "says that the account's quota is used up.",
        "Check it there.",
    ),
    Meaning(
        ModelRateLimitError,
        "provider_error",
        "gets too many requests.",
        "Wait, then try again.",
    ),
    Meaning(
        ModelRequestRejectedError,
        "provider_error",
        "refused the request.",
        "Check the profile's config.",
    ),
    Meaning(ModelAPIError, "provider_error", "failed.", "Try again later."),
    Meaning(UserError, "bad_config", "cannot be used with this config.", "Correct the profile."),
    Meaning(
        ContentFilterError,
        "bad_answer",
        "withheld its answer for what is in it.",
        "Put the message differently.",
    ),
    Meaning(UnexpectedModelBehavior, "bad_answer", "gave no usable answer.", "Try again."),
]
_ANYTHING_ELSE = Meaning(Exception, "provider_error", "failed.", "Try again.")
# A connection that was there, and failed.
_BROKEN_OFF = Meaning(
    ModelConnectionError, "provider_error", "broke off.", "Send the message again."
)

# Characters of the provider's own words that are passed on.
_DETAIL_LIMIT = 300


def described(error: Exception, provider: Provider) -> EngineError:
    """Return the EngineError for a failure inside the agent; the HTTP status is kept."""
    if name := _overrun(error):
        return overrun(provider.module, provider.limits, name)
    meaning = _meaning(error)
    status = getattr(error, "status_code", None)
    sentence = f"{_subject(error, provider)} {meaning.fact} {meaning.advice}"
    return EngineError(meaning.code, f"{sentence} {_detail(error, provider)}", status)


def fact(error: Exception, provider: Provider) -> str:
    """Return what happened, without advice: for a failure that is dealt with."""
    if name := _overrun(error):
        return late(provider.module, provider.limits, name)
    return f"{_subject(error, provider)} {_meaning(error).fact} {_detail(error, provider)}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it came from, down to the first cause."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _overrun(error: Exception) -> str | None:
    """Return the name of the time-out that the error tells of."""
    if isinstance(error, ModelRequestTimeout):
        return "first_token_timeout"
    return "connect_timeout" if isinstance(error, ModelTimeoutError) else None


def _meaning(error: Exception) -> Meaning:
    if isinstance(error, ModelConnectionError) and error.phase == "read":
        return _BROKEN_OFF
    return next((each for each in _MEANINGS if isinstance(error, each.kind)), _ANYTHING_ELSE)


def _subject(error: Exception, provider: Provider) -> str:
    status = getattr(error, "status_code", None)
    return f"{provider.module} (HTTP {status})" if status else provider.module


def _detail(error: Exception, provider: Provider) -> str:
    is_said = isinstance(error, ModelAPIError) and not isinstance(error, ModelConnectionError)
    words = " ".join(storable(redacted(_words(error), provider.secrets)).split())
    return f"{'It said' if is_said else 'The reason'}: {words[:_DETAIL_LIMIT]}"


def _words(error: Exception) -> str:
    """Return the provider's message where its answer has one in the usual place, or our own."""
    if isinstance(error, ModelConnectionError):
        # Only the innermost cause tells more than that the connection failed.
        return next((text for text in map(str, reversed([*causes(error)])) if text), "unknown")
    if isinstance(error, UnexpectedModelBehavior):
        return error.message
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message") if isinstance(inner, dict) else inner
    return str(message or error)
