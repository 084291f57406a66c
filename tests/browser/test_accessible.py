"""Everybody can use every page: axe finds nothing grave, narrow and enlarged all of it is there."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Open
from tests.browser.console import SESSIONS, Console, page_of

PAGES = {
    "dashboard": "/admin/",
    "sessions": SESSIONS,
    "sessions found": f"{SESSIONS}?q=import",
    "sessions of a status": f"{SESSIONS}?status__exact=failed",
    "runs": "/admin/sessions_app/run/",
    "approvals": "/admin/sessions_app/approval/",
    "profiles": "/admin/profiles_app/profile/",
    "directories": "/admin/profiles_app/amplifieddirectory/",
    "collections": "/admin/profiles_app/collection/",
    "keys": "/admin/amplifierd/apikey/",
    "new key": "/admin/amplifierd/apikey/add/",
    "users": "/admin/auth/user/",
    "password": "/admin/password_change/",
    "session": "Slow nightly import",
    "asking session": "Tidy the notes",
    "failed session": "Quarterly reports",
    "new session": "Check the invoices of November",
}
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def path_of(name: str, scene: dict[str, str]) -> str:
    return page_of(scene[PAGES[name]]) if PAGES[name] in scene else PAGES[name]


def settled(page: Page) -> Page:
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


def grave(page: Page) -> list[str]:
    """Return what axe has to say of a page, as it is light, and as it is dark."""
    found = violations(settled(page))
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    return found + violations(page)


@pytest.fixture
def lenient(open_console: Open) -> Console:
    """A console that lets axe add styles of its own for a while; the others do not."""
    return open_console(color_scheme="light", reduced_motion="reduce", bypass_csp=True)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_grave_is_found(lenient: Console, scene: dict[str, str], name: str) -> None:
    assert grave(lenient.visit(path_of(name, scene))) == []


@pytest.mark.parametrize("tab", ["runs", "journal", "plan"])
def test_nothing_grave_is_found_on_a_tab(lenient: Console, scene: dict[str, str], tab: str) -> None:
    path = f"{page_of(scene['Slow nightly import'])}?tab={tab}"
    assert grave(lenient.visit(path)) == []


@pytest.mark.parametrize("step", ["fail", "delete"])
def test_nothing_grave_is_found_where_a_step_asks(
    lenient: Console, scene: dict[str, str], step: str
) -> None:
    path = page_of(scene["Slow nightly import"], f"lifecycle/{step}/")
    assert grave(lenient.visit(path)) == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_lost_on_a_phone_or_at_200_percent(
    open_console: Open, scene: dict[str, str], name: str
) -> None:
    console = open_console(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = settled(console.visit(path_of(name, scene)))
    assert page.evaluate(SIDEWAYS) <= 0
    # To enlarge by 200 % is to have half as many CSS pixels.
    page.set_viewport_size({"width": 640, "height": 400})
    assert page.evaluate(SIDEWAYS) <= 0


@pytest.mark.parametrize("name", ["sessions", "sessions found", "runs", "keys", "collections"])
def test_all_columns_of_a_list_are_in_sight(
    open_console: Open, scene: dict[str, str], name: str
) -> None:
    page = settled(open_console(viewport={"width": 1280, "height": 900}).visit(PAGES[name]))
    table = page.get_by_role("table").locator("..")
    assert table.evaluate("(box) => box.scrollWidth - box.clientWidth") <= 0
