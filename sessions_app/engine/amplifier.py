"""The engine behind amplifier-core, whose modules come from installed packages.

It needs the package `amplifier-core`, which is not among the requirements: see `choice.py`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

# Not the class of the same name in the package itself: its sessions run in Rust, and when their
# task is cancelled, the call of the provider goes on.
from amplifier_core.session import AmplifierSession

from sessions_app.engine.amplifier_calls import FINGERPRINT, ApprovalProvider, Gatekeeper
from sessions_app.engine.amplifier_errors import described
from sessions_app.engine.amplifier_listener import Listener
from sessions_app.engine.amplifier_loader import Loader
from sessions_app.engine.amplifier_messages import conversation, steps_of
from sessions_app.engine.amplifier_plan import Plan, load_modules, planned
from sessions_app.engine.base import Cancelled, Emit, EngineError, Outcome, Turn
from sessions_app.engine.config import redacted
from sessions_app.engine.limits import overrun

logger = logging.getLogger(__name__)

# Seconds that the modules get to end by themselves: once asked, or once told to clean up.
GRACE = 1.0


class AmplifierEngine:
    """Runs turns with amplifier-core, each in a session of its own; holds no state between them."""

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn with the modules of its mount plan; see `Engine.run`.

        An attempt begins anew whatever earlier ones have done: the kernel keeps no steps.
        """
        plan = planned(turn.mount_plan)
        # A thread, because the first time imports the modules with all that they need.
        loader = Loader(await asyncio.to_thread(load_modules, plan))
        listener = Listener(plan, turn, emit)
        try:
            async with _unless_late(plan), _session(loader, turn, listener) as session:
                answering = _answer(session, turn, listener)
                return await _until(cancel, listener, session, answering)
        except (EngineError, Cancelled):
            raise
        # Without the cause: its traceback would carry the provider's own words.
        except Exception as error:
            raise described(error, plan.provider) from None


@asynccontextmanager
async def _unless_late(plan: Plan) -> AsyncIterator[None]:
    """Raise EngineError `timeout` where all of it takes too long."""
    provider = plan.provider
    try:
        async with asyncio.timeout(provider.limits.run_timeout) as patience:
            yield
    except TimeoutError:
        if not patience.expired():
            raise
        raise overrun(provider.module, provider.limits, "run_timeout") from None


@asynccontextmanager
async def _session(
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
        await _cleaned(session, listener.plan)


async def _cleaned(session: AmplifierSession, plan: Plan) -> None:
    """Have the modules clean up. What fails in it is logged: the answer is there already."""
    try:
        async with asyncio.timeout(GRACE):
            await session.cleanup()
    except Exception as error:
        words = redacted(f"{type(error).__name__}: {error}", plan.provider.secrets)
        logger.warning("A module of amplifier-core did not clean up: %s", words)


async def _answer(session: AmplifierSession, turn: Turn, listener: Listener) -> Outcome:
    await _mounted(session, turn, listener)
    context = session.coordinator.get("context")
    await context.set_messages(conversation(turn))
    # As the context has them: it may keep a system message apart.
    before = list(await context.get_messages())
    listener.finish(await session.execute(turn.prompt))
    after = await context.get_messages()
    return listener.outcome(steps_of(before, after, listener.plan.provider.keys))


async def _mounted(session: AmplifierSession, turn: Turn, listener: Listener) -> None:
    """Mount the modules, all of them: the kernel goes on without one that fails, we do not."""
    try:
        await session.initialize()
    except (RuntimeError, ValueError) as error:
        listener.check()
        words = redacted(str(error), listener.plan.provider.secrets)
        raise EngineError("bad_config", f"The modules cannot be used. {words}") from None
    listener.check()
    register = session.coordinator.get_capability("approval.register_provider")
    if register:
        register(ApprovalProvider(listener.calls, _allowed(turn)))


def _allowed(turn: Turn) -> frozenset[str]:
    return frozenset(name for name, fingerprint in turn.always if fingerprint == FINGERPRINT)


async def _until(
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
        await _stopped(working)
    if working.cancelled():
        raise EngineError("provider_error", "A module of amplifier-core has stopped the run.")
    return working.result()


async def _stopped(task: asyncio.Task[Any]) -> None:
    """Stop the task, and insist: a module may take a cancellation for an error of its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE)
    if not task.cancelled():
        # What it says now is of no use; asking for it keeps asyncio from complaining.
        task.exception()
