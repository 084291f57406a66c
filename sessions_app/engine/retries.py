"""Asking a provider again that failed before it said anything."""

import asyncio
import random
import ssl
from typing import Any

from pydantic_ai.capabilities import Hooks
from pydantic_ai.exceptions import (
    ModelConnectionError,
    ModelQuotaExceededError,
    ModelTimeoutError,
    RetryModelRequest,
)
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import RunContext

from sessions_app.engine.base import Emit
from sessions_app.engine.errors import causes, fact
from sessions_app.engine.limits import Limits
from sessions_app.engine.registry import Provider

# Seconds that are waited for at most. A provider that asks for more is not asked again.
LONGEST_WAIT = 60.0


def retrying(provider: Provider, emit: Emit) -> Hooks[None]:
    """Return the agent's hooks that repeat a request that failed before its first piece.

    Each retry is emitted as `provider_retry`, before the wait: `attempt` (of the retries to this
    request, from 1), `delay` in seconds, `error`, `provider`, and `status` where there is one.
    """

    async def again(
        context: RunContext[None], *, request_context: ModelRequestContext, error: Exception
    ) -> ModelResponse:
        delay = wait_before(error, request_context.attempt, provider.limits)
        if delay is None:
            raise error
        emit("provider_retry", _told(error, request_context.attempt, delay, provider))
        await asyncio.sleep(delay)
        raise RetryModelRequest

    return Hooks(model_request_error=again)


def wait_before(error: Exception, retry: int, limits: Limits) -> float | None:
    """Return the seconds to wait before a retry, the first being 1. None if there is none.

    It is twice as long each time, never less than the provider asks for, and up to half as much
    longer by chance, so that those who failed together do not come back together.
    """
    asked = getattr(error, "retry_after", None) or 0.0
    if retry > limits.max_retries or asked > LONGEST_WAIT or not may_pass(error):
        return None
    wait = min(limits.retry_delay * 2 ** (retry - 1), LONGEST_WAIT)
    return max(asked, wait) * random.uniform(1.0, 1.5)  # noqa: S311


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed a little later.

    So it is for 429 (unless the quota is used up), for 5xx, and where the connection failed; not
    if the provider's certificate is refused, or it says that asking again is of no use.
    """
    if getattr(error, "provider_retry_hint", None) is False:
        return False
    if isinstance(error, ModelTimeoutError):
        return error.phase == "connect"
    if isinstance(error, ModelConnectionError):
        return not any(isinstance(each, ssl.SSLCertVerificationError) for each in causes(error))
    status = getattr(error, "status_code", None) or 0
    return not isinstance(error, ModelQuotaExceededError) and (status == 429 or status >= 500)


def _told(error: Exception, retry: int, delay: float, provider: Provider) -> dict[str, Any]:
    status = getattr(error, "status_code", None)
    return {
        "attempt": retry,
        "delay": round(delay, 3),
        "error": fact(error, provider),
        "provider": provider.module,
        **({"status": status} if status else {}),
    }
