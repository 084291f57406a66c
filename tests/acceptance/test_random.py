"""Clients and faults at random, for as long as AMPLIFIERD_RANDOM_SECONDS says (60).

AMPLIFIERD_RANDOM_SEED repeats a run: the same steps in the same order, as far as processes allow.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test

from amplifierd.postgres import embedded_url
from tests.acceptance.driver import Driver
from tests.acceptance.trouble import checked
from tests.acceptance.world import TimeOver, World
from tests.harness.daemon import Daemon, daemon
from tests.harness.waiting import until

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.alone]
SECONDS = float(os.environ.get("AMPLIFIERD_RANDOM_SECONDS") or 60)
SEED = int(os.environ.get("AMPLIFIERD_RANDOM_SEED") or random.SystemRandom().randrange(10**6))
# Real processes do not do the same thing twice at the same pace, so nothing is shrunk.
SETTINGS = settings(
    max_examples=100_000,
    stateful_step_count=30,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    verbosity=Verbosity.normal,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two of each process, whose leases are short and whose streams never silent."""
    folder = tmp_path_factory.mktemp("random")
    set_hypothesis_home_dir(folder / "hypothesis")
    often = {"AMPLIFIERD_LEASE": "2", "AMPLIFIERD_KEEPALIVE": "1", "AMPLIFIERD_WORKERS": "2"}
    with daemon(folder / "home", **often) as running:
        yield running


def test_random_clients_and_faults_leave_every_promise_kept(
    own: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(own, random.Random(SEED), time.monotonic() + SECONDS)
    with capsys.disabled():
        print(f"\nAMPLIFIERD_RANDOM_SEED={SEED} AMPLIFIERD_RANDOM_SECONDS={SECONDS:g}")
    found: list[str] = []
    try:
        drive(world)
        until(own.ready, "the daemon to be ready")
        found = checked(embedded_url(own.home))
    finally:
        world.client.close()
        with capsys.disabled():
            print("\n".join(report(world, found)))
    assert found == []
    assert not world.failure, world.failure
    # A run in which nothing happened has shown nothing.
    assert world.trouble.caused
    assert world.frames


def drive(world: World) -> None:
    """Run examples until the time is over or one fails."""
    try:
        run_state_machine_as_test(seed(SEED)(lambda: Driver(world)), settings=SETTINGS)
    except (TimeOver, FlakyStrategyDefinition):
        # Hypothesis objects to an example that ends before its first step, and to a failure that
        # does not come again; the failure is reported as it was.
        if not (world.is_over() or world.failure):
            raise


def report(world: World, found: list[str]) -> list[str]:
    """Return what was done, what happened, and what was found."""
    return [
        f"examples: {world.examples}, looks at a session: {world.looks}",
        f"faults: {counted(world.trouble.caused)}",
        f"operations: {counted(world.operations)}",
        f"answers: {counted(world.client.answers)}",
        f"agents: {counted(world.calls)}",
        f"journal: {counted(world.events)}",
        f"streams: {world.frames} frames over {world.connections} connections",
        f"findings: {len(found) + bool(world.failure)}",
        *found,
        world.failure,
    ]


def counted(counts: Counter[str]) -> str:
    """Return the total, and the counts by name, the most frequent first."""
    each = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return f"{counts.total()} ({each})"
