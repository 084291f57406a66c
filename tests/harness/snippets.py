"""The blocks of code in README.md and the pages of docs, as a reader would paste them."""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The pages that a reader gets, below the root.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def find_blocks(page: str, language: str, changes: Mapping[str, str] | None = None) -> list[str]:
    """Return the blocks of a page in one language.

    Each of the `changes`, from what stands there to what a test needs instead, must be used.
    """
    text = (ROOT / page).read_text()
    for old, new in (changes or {}).items():
        assert old in text, f"{page} has no {old!r}"
        text = text.replace(old, new)
    return [block for kind, block in BLOCK.findall(text) if kind == language]
