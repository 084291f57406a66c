"""A turn as a session of amplifier-core, whose modules come from installed packages."""

import asyncio
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from amplifier_core import ModuleCoordinator, ModuleLoader
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

# Not the class of the same name in the package itself: its sessions run in Rust, and when their
# task is cancelled, the call of the provider goes on.
from amplifier_core.session import AmplifierSession

from amplifierd.common.text import make_storable
from amplifierd_amplifier.calls import FINGERPRINT, ApprovalProvider, Gatekeeper
from amplifierd_amplifier.listener import Listener
from amplifierd_amplifier.messages import build_conversation, build_steps
from amplifierd_amplifier.plan import MainProvider, Plan, build_plan, load_modules
from sessions_app.engine.base import Cancelled, Emit, EngineError, Outcome, Turn
from sessions_app.engine.config import redact_text
from sessions_app.engine.limits import timeout_error

logger = logging.getLogger(__name__)

# Seconds that the modules get to end by themselves: when asked to, or when told to clean up.
GRACE = 1.0


Cleanup = Callable[[], Any] | None
Mount = Callable[[ModuleCoordinator, dict[str, Any]], Awaitable[Cleanup]]


class Loader(ModuleLoader):
    """Loads what is given, and nothing else: no source, no folder, no package by its name.

    The kernel's own reads the metadata of all installed packages for every module, on the event
    loop.
    """

    def __init__(self, mounts: dict[str, Mount]) -> None:
        super().__init__()
        self._mounts = mounts

    async def load(
        self,
        module_id: str,
        config: dict[str, Any] | None = None,
        source_hint: Any = None,
        coordinator: ModuleCoordinator | None = None,
    ) -> Callable[[ModuleCoordinator], Awaitable[Cleanup]]:
        """Return what mounts the module with its config."""
        mount = self._mounts[module_id]

        async def mount_module(coordinator: ModuleCoordinator) -> Cleanup:
            cleanup = await mount(coordinator, config or {})
            if ready := _find_ready_hook(mount):
                self.enqueue_on_session_ready(module_id, ready)
            return cleanup

        return mount_module


def _find_ready_hook(mount: Mount) -> Callable[..., Any] | None:
    """Return what the module wants to be called once all modules are mounted."""
    ready = getattr(sys.modules.get(mount.__module__), "on_session_ready", None)
    return ready if inspect.iscoroutinefunction(ready) else None


async def run_turn(turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
    """Answer the turn with the modules of its mount plan; see `Engine.run`."""
    plan = build_plan(turn.mount_plan)
    # A thread, because the first time imports the modules with all that they need.
    loader = Loader(await asyncio.to_thread(load_modules, plan))
    listener = Listener(plan, turn, emit)
    try:
        async with _limit_time(plan), _open_session(loader, turn, listener) as session:
            return await _run_until(cancel, listener, session, _answer(session, turn, listener))
    except (EngineError, Cancelled):
        raise
    # Without the cause: its traceback would carry the provider's own words.
    except Exception as error:
        raise describe_error(error, plan.provider) from None


@asynccontextmanager
async def _limit_time(plan: Plan) -> AsyncIterator[None]:
    """Raise EngineError `timeout` if all of it takes too long."""
    provider = plan.provider
    try:
        async with asyncio.timeout(provider.limits.run_timeout) as patience:
            yield
    except TimeoutError:
        if not patience.expired():
            raise
        raise timeout_error(provider.module, provider.limits, "run_timeout") from None


@asynccontextmanager
async def _open_session(
    loader: Loader, turn: Turn, listener: Listener
) -> AsyncIterator[AmplifierSession]:
    """Give a session that is listened to; its modules are not yet mounted."""
    session = AmplifierSession(
        listener.plan.config,
        loader=loader,
        session_id=turn.session_id or None,
        approval_system=Gatekeeper(listener.calls, _allowed(turn)),
        is_resumed=bool(turn.history),
    )
    listener.attach(session.coordinator.hooks)
    if turn.directory:
        session.coordinator.register_capability("session.working_dir", str(turn.directory))
    try:
        yield session
    finally:
        await _clean_up(session, listener.plan)


async def _clean_up(session: AmplifierSession, plan: Plan) -> None:
    """Have the modules clean up. What fails in it is logged: the answer is there already."""
    try:
        async with asyncio.timeout(GRACE):
            await session.cleanup()
    except Exception as error:
        words = redact_text(f"{type(error).__name__}: {error}", plan.provider.secrets)
        logger.warning("A module of amplifier-core did not clean up: %s", words)


async def _answer(session: AmplifierSession, turn: Turn, listener: Listener) -> Outcome:
    await _mount(session, turn, listener)
    context = session.coordinator.get("context")
    await context.set_messages(build_conversation(turn))
    # As the context has them: it may keep a system message apart.
    before = list(await context.get_messages())
    listener.finish(await session.execute(turn.prompt))
    after = await context.get_messages()
    return listener.outcome(build_steps(before, after, listener.plan.provider.keys))


async def _mount(session: AmplifierSession, turn: Turn, listener: Listener) -> None:
    """Mount the modules, all of them: the kernel goes on without one that fails, we do not."""
    try:
        await session.initialize()
    except (RuntimeError, ValueError) as error:
        listener.check()
        words = redact_text(str(error), listener.plan.provider.secrets)
        raise EngineError("bad_config", f"The modules cannot be used. {words}") from None
    listener.check()
    register = session.coordinator.get_capability("approval.register_provider")
    if register:
        register(ApprovalProvider(listener.calls, _allowed(turn)))


def _allowed(turn: Turn) -> frozenset[str]:
    return frozenset(name for name, fingerprint in turn.always if fingerprint == FINGERPRINT)


async def _run_until(
    cancel: asyncio.Event,
    listener: Listener,
    session: AmplifierSession,
    work: Coroutine[Any, Any, Outcome],
) -> Outcome:
    """Do the work, until it is cancelled or what it says cannot be passed on."""
    working = asyncio.create_task(work)
    cancelled = asyncio.create_task(cancel.wait())
    try:
        await asyncio.wait(
            {working, cancelled, listener.broken}, return_when=asyncio.FIRST_COMPLETED
        )
        listener.check()
        if not working.done():
            await session.coordinator.request_cancel(immediate=True)
            await asyncio.wait({working}, timeout=GRACE)
            raise Cancelled
    finally:
        cancelled.cancel()
        await _stop(working)
    if working.cancelled():
        raise EngineError("provider_error", "A module of amplifier-core has stopped the run.")
    return working.result()


async def _stop(task: asyncio.Task[Any]) -> None:
    """Stop the task, and insist: a module may take a cancellation for an error of its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE)
    if not task.cancelled():
        # What it says now is of no use; asking for it keeps asyncio from complaining.
        task.exception()


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


def describe_error(error: Exception, provider: MainProvider) -> EngineError:
    """Return the EngineError for a failure inside the kernel; the HTTP status is kept."""
    code, advice = next(each[1:] for each in _MEANINGS if isinstance(error, each[0]))
    words = " ".join(make_storable(redact_text(str(error), provider.secrets)).split())
    reason = f"{type(error).__name__}: {words}"[:_DETAIL_LIMIT]
    status = getattr(error, "status_code", None)
    subject = provider.module if isinstance(error, LLMError) else "A module of amplifier-core"
    subject = f"{subject} (HTTP {status})" if status else subject
    return EngineError(code, f"{subject} failed. {advice} The reason: {reason}", status)
