"""Asking a provider again that failed before it said anything."""

import random
from typing import Any

from sessions_app.engine.errors import describe_fact
from sessions_app.engine.limits import Limits
from sessions_app.engine.providers.base import Provider
from sessions_app.engine.wire.events import StreamError

# Seconds that are waited for at most. A provider that asks for more is not asked again.
LONGEST_WAIT = 60.0
# Failures that may pass by themselves.
_PASSING = {"connect", "connect_timeout", "broken_off", "rate_limit", "overloaded"}


def wait_before(error: StreamError, retry: int, limits: Limits) -> float | None:
    """Return the seconds to wait before a retry, the first being 1. None if there is none.

    It is twice as long each time, never less than the provider asks for, and up to half as much
    longer by chance, so that those who failed together do not come back together.
    """
    asked = error.retry_after or 0.0
    if retry > limits.max_retries or asked > LONGEST_WAIT or not may_pass(error):
        return None
    wait = min(limits.retry_delay * 2 ** (retry - 1), LONGEST_WAIT)
    return max(asked, wait) * random.uniform(1.0, 1.5)  # noqa: S311


def may_pass(error: StreamError) -> bool:
    """Return whether the same request may succeed a little later.

    So it is for 429 (unless the quota is used up), for 5xx, and where the connection failed; not
    if the provider says that asking again is of no use.
    """
    return error.kind in _PASSING and error.retry is not False


def retry_event(error: StreamError, retry: int, delay: float, provider: Provider) -> dict[str, Any]:
    """Return the data of `provider_retry`: which retry follows, after how many seconds, and why."""
    return {
        "attempt": retry,
        "delay": round(delay, 3),
        "error": describe_fact(error, provider),
        "provider": provider.module,
        **({"status": error.status} if error.status else {}),
    }
