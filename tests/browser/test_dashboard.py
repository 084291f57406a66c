"""The first look: the link that signs in, the empty console, and the dashboard as it changes."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.console import Console, manage
from tests.harness.daemon import Daemon

LINK = re.compile(r"http://\S+/admin/sign-in/\S+")


def link_of(text: str) -> str:
    found = LINK.search(text)
    assert found, text
    return found[0]


def test_the_link_that_serve_prints_signs_in_once(opened: Open, running: Daemon) -> None:
    link = link_of(running.log.read_text())
    page = opened(running).page
    page.goto(link)
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("heading", level=1, name="Dashboard")).to_be_visible()
    late = opened(running)
    late.watch.allow("status of 410")
    late.page.goto(link)
    expect(late.page.get_by_text("It was used, or its time has run out")).to_be_visible()


def test_another_link_is_had_by_a_command(opened: Open, running: Daemon) -> None:
    page = opened(running).page
    page.goto(link_of(manage(running, "console_link")))
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("heading", level=1, name="Dashboard")).to_be_visible()


def sessions_shown(page: Page) -> int:
    tile = page.get_by_role("main").locator("dl > div").filter(has_text="Sessions").first
    return int(tile.locator("dd").first.inner_text().replace(",", ""))


def test_the_dashboard_follows_what_happens(
    console: Console, running: Daemon, scene: dict[str, str]
) -> None:
    page = console.visit("/admin/")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    before = sessions_shown(page)
    running.send(running.session(), "BENCH tokens=3 fail_after=1")
    expect(page.get_by_role("main").locator("dl > div").first).to_contain_text(f"{before + 1:,}")
    failures = page.get_by_role("region", name="Newest failures")
    expect(failures).to_contain_text("BENCH fails after 1 tokens")


def test_every_chart_has_a_table_behind_it(console: Console, scene: dict[str, str]) -> None:
    page = console.visit("/admin/?window=24h")
    for name in ("Runs", "Tokens", "Time to first token"):
        page.get_by_text(f"{name} as a table").click()
    expect(page.get_by_role("table").filter(has_text="From (UTC)Succeeded")).to_be_visible()
    expect(page.locator("canvas")).to_have_count(3)


def test_a_failure_leads_to_its_session(console: Console, scene: dict[str, str]) -> None:
    page = console.visit("/admin/")
    failures = page.get_by_role("region", name="Newest failures")
    link = failures.get_by_role("listitem").first.get_by_role("link").first
    target = link.get_attribute("href")
    link.click()
    expect(page).to_have_url(f"{console.daemon.url}{target}")
    expect(page.get_by_role("main")).to_contain_text("failed")


def test_dark_is_dark_and_light_is_light(open_console: Open) -> None:
    for scheme, is_dark in (("dark", True), ("light", False)):
        page = open_console(color_scheme=scheme).visit("/admin/")
        colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == is_dark
