"""A limit of time ends what takes too long, and spares what was frozen."""

import asyncio

import pytest

from sessions_app.engine import time_limit
from sessions_app.engine.time_limit import TimeLimit


class Clock:
    """The loop's time, which a test sets forward as if the process had been stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real = loop.time
        self.ahead = 0.0
        loop.time = lambda: self._real() + self.ahead  # type: ignore[method-assign]


def test_what_takes_too_long_is_ended() -> None:
    async def run() -> bool:
        limit = TimeLimit(0.02)
        with pytest.raises(TimeoutError), limit:
            await asyncio.sleep(5)
        return limit.has_expired

    assert asyncio.run(run())


def test_what_is_in_time_is_left_alone() -> None:
    async def run() -> bool:
        with TimeLimit(5) as limit:
            await asyncio.sleep(0)
        return limit.has_expired

    assert not asyncio.run(run())


def test_a_restart_gives_all_of_the_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "TICK", 0.01)

    async def run() -> bool:
        with TimeLimit(0.1) as limit:
            for _ in range(6):
                await asyncio.sleep(0.05)
                limit.restart()
        return limit.has_expired

    assert not asyncio.run(run())


def test_a_shorter_limit_counts_at_once() -> None:
    async def run() -> None:
        with TimeLimit(60) as limit:
            limit.restart(0.02)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(run(), 4))


def test_a_process_that_was_frozen_gets_its_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "TICK", 0.02)

    async def run() -> bool:
        clock = Clock(asyncio.get_running_loop())
        with TimeLimit(30) as limit:
            await asyncio.sleep(0.03)
            clock.ahead = 90
            await asyncio.sleep(0.1)
        return limit.has_expired

    assert not asyncio.run(run())


def test_a_cancellation_from_outside_stays_one() -> None:
    async def run() -> None:
        with TimeLimit(60):
            await asyncio.sleep(60)

    async def outside() -> bool:
        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(outside())
