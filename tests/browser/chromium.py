"""The Chromium of this machine, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "There is no Chromium on this machine: `make test-browser` installs it, or says how to."


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser that fetches nothing by itself; it closes with the block."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, MISSING
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
