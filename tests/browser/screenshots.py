"""Pictures of the console for the documents: `python -m tests.browser.screenshots [FOLDER]`."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.browser.console import SESSIONS, Console, add_superuser, page_of
from tests.browser.furnish import furnish
from tests.browser.talks import REVIEWER
from tests.harness.daemon import ROOT, Daemon, daemon

PROFILES = "/admin/profiles_app/profile/"
FOLDER = ROOT / "docs" / "screenshots"
WIDE = {"viewport": {"width": 1280, "height": 900}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {**WIDE, "color_scheme": "light"},
    "dark": {**WIDE, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
# Runs that are going on in the scene are nobody's: their lease must not run out.
ENVIRONMENT = {"AMPLIFIERD_LEASE": "3600", "AMPLIFIERD_WEB": "1", "TZ": "UTC"}


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Return the pages that are shown, by the names of their pictures."""
    return {
        "dashboard": "/admin/?window=24h",
        "session": f"{page_of(ids['Slow nightly import'])}?message=2#message-2",
        "live": page_of(ids["Slow nightly import"]),
        "failed": page_of(ids["Quarterly reports"]),
        "asking": page_of(ids["Tidy the notes"]),
        "approvals": "/admin/sessions_app/approval/",
        "parked-runs": f"{page_of(ids['Tidy the notes'])}?tab=runs",
        "sessions": SESSIONS,
        "journal": f"{page_of(ids['Slow nightly import'])}?tab=journal",
        "session-runs": f"{page_of(ids['Slow nightly import'])}?tab=runs",
        "plan": f"{page_of(ids['Slow nightly import'])}?tab=plan",
        "search": f"{SESSIONS}?q=import",
        "profiles": PROFILES,
        "directories": "/admin/profiles_app/amplifieddirectory/",
        "collections": "/admin/profiles_app/collection/",
        "keys": "/admin/amplifierd/apikey/",
        "runs": "/admin/sessions_app/run/",
    }


def main(folder: Path) -> None:
    """Play the scene before a scratch daemon, and take all pictures of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        daemon(Path(home) / "home", **ENVIRONMENT) as scratch,
        chromium() as browser,
    ):
        add_superuser(scratch)
        shown = pages(furnish(scratch))
        for look, options in LOOKS.items():
            take(browser, scratch, shown, options, folder, look)


def take(
    browser: Browser,
    scratch: Daemon,
    shown: dict[str, str],
    options: dict[str, Any],
    folder: Path,
    look: str,
) -> None:
    """Take the pictures of one look."""
    console = Console(browser.new_context(reduced_motion="reduce", **options), scratch)
    console.sign_in()
    for name, path in (shown | profile_pages(console)).items():
        page = console.visit(path)
        page.wait_for_timeout(800)
        page.screenshot(path=folder / f"{name}-{look}.png")
    console.context.close()


def profile_pages(console: Console) -> dict[str, str]:
    """Return the pages of a profile that has two versions, by the names of their pictures."""
    page = console.visit(f"{PROFILES}?q={REVIEWER.rpartition('/')[2]}")
    link = page.get_by_role("link", name=REVIEWER, exact=True)
    editor = link.get_attribute("href") or ""
    return {
        "profile": editor,
        "versions": f"{editor.removesuffix('change/')}versions/compare/",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
