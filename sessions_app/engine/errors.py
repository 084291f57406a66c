"""Failures of providers: sentences for people, with advice, and when to retry."""

import random
from typing import Any, NamedTuple

from amplifierd.common.text import make_storable
from sessions_app.engine.base import EngineError
from sessions_app.engine.config import redact_text
from sessions_app.engine.limits import Limits, describe_timeout, timeout_error
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.wire.events import ErrorKind, StreamError


class Meaning(NamedTuple):
    """A clause after the provider's name, advice, and the code of a kind of error."""

    fact: str
    advice: str
    code: str = "provider_error"


_MEANINGS: dict[ErrorKind, Meaning] = {
    "connect": Meaning("cannot be reached.", "Check `base_url` and the network."),
    "broken_off": Meaning("broke off in its answer.", "Send the message again."),
    "auth": Meaning("refused the key.", "Check `api_key` in its config."),
    "not_found": Meaning(
        "does not know the model, or the path.",
        "Check `default_model` and `base_url` in its config.",
    ),
    "quota": Meaning("says that the account's quota is used up.", "Check it there."),
    "rate_limit": Meaning("gets too many requests.", "Wait, then try again."),
    "too_long": Meaning(
        "cannot read so long a prompt.", "Shorten the message, or start a new session.", "too_long"
    ),
    "unsupported_field": Meaning("refused the request.", "Check the profile's config."),
    "unsupported_content": Meaning(
        "cannot take this kind of content.",
        "Leave it out, or choose a profile whose model takes it.",
        "unsupported_content",
    ),
    "rejected": Meaning("refused the request.", "Check the profile's config."),
    "content_filter": Meaning(
        "withheld its answer for what is in it.", "Put the message differently.", "bad_answer"
    ),
    "overloaded": Meaning("failed.", "Try again later."),
    "too_long_answer": Meaning(
        "said more than it may.", "Ask for less, or raise its limits.", "too_long_answer"
    ),
    "bad_answer": Meaning("gave no usable answer.", "Try again.", "bad_answer"),
    "bad_config": Meaning("cannot be used with this config.", "Correct the profile.", "bad_config"),
}
# Kinds of errors whose message is ours, not the service's.
_OURS = {"connect", "broken_off", "content_filter", "too_long_answer", "bad_answer", "bad_config"}
_TIMEOUTS = ("connect_timeout", "first_token_timeout", "next_token_timeout")
# Characters of the service's message at most.
_DETAIL_LIMIT = 300


def describe_error(error: StreamError, provider: Provider) -> EngineError:
    """Return the EngineError for a failed request; the HTTP status is kept."""
    if error.kind in _TIMEOUTS:
        return timeout_error(provider.module, provider.limits, error.kind)
    meaning = _MEANINGS[error.kind]
    message = describe_fact(error, provider, f" {meaning.advice}")
    return EngineError(meaning.code, message, error.status)


def describe_fact(error: StreamError, provider: Provider, advice: str = "") -> str:
    """Return what happened; without advice for a failure after which a retry follows."""
    if error.kind in _TIMEOUTS:
        return describe_timeout(provider.module, provider.limits, error.kind)
    status = f" (HTTP {error.status})" if error.status else ""
    fact = f"{provider.module}{status} {_MEANINGS[error.kind].fact}{advice}"
    is_sent = error.kind != "bad_config" or error.status
    if provider.is_foreign and is_sent:
        # Otherwise a caller could read any server that the daemon reaches, by way of its errors.
        return f"{fact} Its address comes from overrides, so its answer is not shown."
    words = " ".join(make_storable(redact_text(error.message, provider.secrets)).split())
    said = "The reason" if error.kind in _OURS else "It said"
    return f"{fact} {said}: {words[:_DETAIL_LIMIT] or 'unknown'}"


# Seconds to wait before a retry, at most. If a provider asks for more, there is no retry.
LONGEST_WAIT = 60.0
# Failures after which the same request may succeed.
_PASSING = {"connect", "connect_timeout", "broken_off", "rate_limit", "overloaded"}


def find_delay(error: StreamError, retry: int, limits: Limits) -> float | None:
    """Return the seconds to wait before the n-th retry, from 1; None if there is no retry.

    The time doubles with each retry, and is never less than the provider asks for. A random half of
    it is added, so that requests that failed at the same time are not repeated at the same time.
    """
    asked = error.retry_after or 0.0
    if retry > limits.max_retries or asked > LONGEST_WAIT or not is_temporary(error):
        return None
    wait = min(limits.retry_delay * 2 ** (retry - 1), LONGEST_WAIT)
    return max(asked, wait) * random.uniform(1.0, 1.5)  # noqa: S311


def is_temporary(error: StreamError) -> bool:
    """Return whether the same request may succeed later.

    It may after 429 (unless the quota is used up), after 5xx and after a failed connection, but not
    if the provider says that a retry does not help.
    """
    return error.kind in _PASSING and error.retry is not False


def describe_retry(
    error: StreamError, retry: int, delay: float, provider: Provider
) -> dict[str, Any]:
    """Return the data of `provider_retry`: the number of the retry, its delay, and the reason."""
    return {
        "attempt": retry,
        "delay": round(delay, 3),
        "error": describe_fact(error, provider),
        "provider": provider.module,
        **({"status": error.status} if error.status else {}),
    }
