"""Pictures of the console for the documents: `python -m tests.browser.screenshots [FOLDER]`."""

import re
import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import chromium
from tests.browser.console import Console, add_superuser, page_of
from tests.browser.conversations import REVIEWER
from tests.browser.furnish import furnish
from tests.harness.daemon import ROOT, daemon

PROFILES = "/admin/profiles_app/profile/"
FOLDER = ROOT / "docs" / "screenshots"
# Small pictures with as few pixels as can be read: the repository keeps every version of them.
VIEWPORT = {"width": 1100, "height": 760}
# Runs of the scene that are under way have no worker: their lease must not expire.
ENVIRONMENT = {"AMPLIFIERD_LEASE": "3600", "AMPLIFIERD_WEB": "1", "TZ": "UTC"}


def find_pictures() -> set[str]:
    """Return the names of the pictures that a document shows."""
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = "".join(path.read_text() for path in documents)
    return set(re.findall(r"\]\((?:docs/)?screenshots/([a-z-]+)\.png\)", texts))


def main(folder: Path) -> None:
    """Play the scene before a scratch daemon, and take the pictures that documents show of it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        daemon(Path(home) / "home", **ENVIRONMENT) as scratch,
        chromium() as browser,
    ):
        add_superuser(scratch)
        ids = furnish(scratch)
        paths = {
            "dashboard": "/admin/?window=24h",
            "session": f"{page_of(ids['Slow nightly import'])}?message=2#message-2",
            "asking": page_of(ids["Tidy the notes"]),
            "profile": "",
        }
        for picture in sorted(find_pictures()):
            name, _, scheme = picture.rpartition("-")
            context = browser.new_context(
                reduced_motion="reduce", viewport=VIEWPORT, color_scheme=scheme
            )
            console = Console(context, scratch)
            console.sign_in()
            page = console.visit(paths[name] or find_editor(console))
            page.wait_for_timeout(800)
            page.screenshot(path=folder / f"{picture}.png")
            context.close()


def find_editor(console: Console) -> str:
    """Return the path of the page of a profile that has two versions."""
    page = console.visit(f"{PROFILES}?q={REVIEWER.rpartition('/')[2]}")
    link = page.get_by_role("link", name=REVIEWER, exact=True)
    return link.get_attribute("href") or ""


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
