"""What a failure under amplifier-core means, in one sentence that a person can act on."""

from amplifier_core.llm_errors import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
    ContextLengthError,
    LLMError,
    LLMTimeoutError,
    NotFoundError,
    RateLimitError,
)

from amplifierd.common.text import storable
from sessions_app.engine.amplifier_plan import MainProvider
from sessions_app.engine.base import EngineError
from sessions_app.engine.config import redacted

# The first class that fits gives the code, and the advice.
_MEANINGS: list[tuple[type[Exception], str, str]] = [
    (ContextLengthError, "too_long", "Shorten the message, or start a new session."),
    (LLMTimeoutError, "timeout", "Try again."),
    (ContentFilterError, "bad_answer", "Put the message differently."),
    (ConfigurationError, "bad_config", "Correct the profile."),
    (AuthenticationError, "provider_error", "Check `api_key` in its config."),
    (AccessDeniedError, "provider_error", "Check `api_key` in its config."),
    (NotFoundError, "provider_error", "Check `default_model` in its config."),
    (RateLimitError, "provider_error", "Wait, then try again."),
    (LLMError, "provider_error", "Try again."),
    (Exception, "provider_error", "Try again, or look into the modules of the profile."),
]
# Characters of the module's own words that are passed on.
_DETAIL_LIMIT = 300


def described(error: Exception, provider: MainProvider) -> EngineError:
    """Return the EngineError for a failure inside the kernel; the HTTP status is kept."""
    code, advice = next(each[1:] for each in _MEANINGS if isinstance(error, each[0]))
    words = " ".join(storable(redacted(str(error), provider.secrets)).split())
    said = f"{type(error).__name__}: {words}"[:_DETAIL_LIMIT]
    status = getattr(error, "status_code", None)
    subject = provider.module if isinstance(error, LLMError) else "A module of amplifier-core"
    subject = f"{subject} (HTTP {status})" if status else subject
    return EngineError(code, f"{subject} failed. {advice} The reason: {said}", status)
