"""A daemon, a browser, and consoles that are signed in; a fault on any page fails its test."""

import contextlib
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.browser.console import Console, add_superuser
from tests.browser.furnish import furnish
from tests.harness.daemon import ROOT, Daemon, daemon

# Pictures, traces and logs of tests that failed; `playwright show-trace` shows a trace.
KEPT = ROOT / ".browser"
Open = Callable[..., Console]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, which `make test` leaves out."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let fixtures know how the test went."""
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


# Both live as long as this folder's tests: Playwright's event loop would be in others' way.
@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that no test breaks, with a login."""
    # The scene has runs that nobody executes: their lease must not run out.
    home = tmp_path_factory.mktemp("browser") / "home"
    with daemon(home, AMPLIFIERD_LEASE="3600", AMPLIFIERD_WEB="1") as shared:
        add_superuser(shared)
        yield shared


@pytest.fixture(scope="package")
def scene(running: Daemon) -> dict[str, str]:
    """The ids of the scene's sessions, which no test changes, by their names."""
    return furnish(running)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser, which has a profile for each test."""
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="package")
def signed_in(running: Daemon, browser: Browser) -> Any:
    """The cookies of somebody who has signed in."""
    with contextlib.closing(browser.new_context()) as context:
        Console(context, running).sign_in()
        return context.storage_state()


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Open]:
    """`opened(daemon, …)`: a console of any daemon, with Playwright's options of a context."""
    consoles: list[Console] = []

    def open_one(at: Daemon, **options: Any) -> Console:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.tracing.start(snapshots=True)
        consoles.append(Console(context, at))
        return consoles[-1]

    yield open_one
    failed = request.node.stash.get(FAILED, True) or any(c.watch.found() for c in consoles)
    name = re.sub(r"[^\w.-]+", "-", request.node.name)
    for number, console in enumerate(consoles):
        close(console, KEPT / f"{name}-{number}" if failed else None)
    faults = [fault for console in consoles for fault in console.watch.found()]
    assert not faults, "\n".join(faults)


@pytest.fixture
def open_console(opened: Open, running: Daemon, signed_in: Any) -> Open:
    """`open_console(color_scheme="dark")`: a signed-in console, with options of a context."""
    return lambda **options: opened(running, storage_state=signed_in, **options)


@pytest.fixture
def console(open_console: Open) -> Console:
    """A signed-in console, as most people have it."""
    return open_console()


def close(console: Console, kept: Path | None) -> None:
    """Close a console; where wanted keep a picture, the trace of what it did, the daemon's log."""
    if kept:
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(console.daemon.log, f"{kept}.log")
        with contextlib.suppress(Exception):
            console.page.screenshot(path=f"{kept}.png", full_page=True)
        console.context.tracing.stop(path=f"{kept}.zip")
    console.context.close()
