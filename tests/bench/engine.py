"""The engine and its worker: what a token costs, how many runs fit, how fast an answer counts."""

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.bench.answers import COUNT, measure_answers
from tests.bench.batch import fresh_sessions
from tests.bench.figures import Figures
from tests.bench.floors import serving
from tests.bench.holding import SIZES, Held, measure_holding
from tests.bench.meters import Meters
from tests.bench.per_token import (
    CLIENT,
    ENGINE,
    ROUNDS,
    PerToken,
    read_alone,
    read_by_worker,
)
from tests.bench.throwaway import Daemon

TOKENS = 20_000
# What its daemon needs: a place for each run.
SETTINGS = {"AMPLIFIERD_CONCURRENCY": str(SIZES[-1])}


@dataclass(frozen=True)
class EngineFigures:
    """What was measured of the engine; the provider's own client comes first."""

    per_token: list[PerToken]
    held: list[Held]
    answers: list[Figures]


def measure_engine(
    daemon: Daemon,
    seconds: float,
    say: Callable[[str], None],
    tokens: int = TOKENS,
    approvals: int = COUNT,
) -> EngineFigures:
    """Measure a daemon with one worker and SETTINGS; runs at once speak for so many seconds."""
    with serving("tests.bench.provider") as (port, provider):
        per_token, held = measure_tokens(daemon, port, provider, seconds, say, tokens)
    say("Measuring approvals")
    return EngineFigures(per_token, held, measure_answers(daemon, approvals))


def measure_tokens(
    daemon: Daemon,
    port: int,
    provider: psutil.Process,
    seconds: float,
    say: Callable[[str], None],
    tokens: int,
) -> tuple[list[PerToken], list[Held]]:
    """Measure what the provider's answers cost, one at a time and many at once."""
    url = f"http://127.0.0.1:{port}/v1"
    meters = Meters(daemon, provider)
    sessions = fresh_sessions(daemon, url, 1 + ROUNDS + sum(SIZES))
    say("Measuring tokens by the provider's own client")
    per_token = [read_alone("client", CLIENT, url, tokens)]
    say("Measuring tokens by the engine")
    per_token.append(read_alone("engine", ENGINE, url, tokens))
    say("Measuring tokens by a worker")
    per_token.append(read_by_worker(daemon, meters, sessions, tokens))
    return per_token, measure_holding(daemon, meters, sessions, seconds, say)
