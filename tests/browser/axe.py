"""axe-core's verdict on a page: what keeps people with disabilities from using it."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

SOURCE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RUN = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations"""
GRAVE = ("serious", "critical")


def violations(page: Page) -> list[str]:
    """Return the serious and critical violations, each with the elements that it is about."""
    page.evaluate(SOURCE)
    return [told(one) for one in page.evaluate(RUN) if one["impact"] in GRAVE]


def told(violation: dict[str, Any]) -> str:
    """Return a violation in a line."""
    places = [f"{node['target']} {node['failureSummary']}" for node in violation["nodes"][:3]]
    count = len(violation["nodes"])
    return f"{violation['id']} ({violation['impact']}, {count} times): {'; '.join(places)}"
