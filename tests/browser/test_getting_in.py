"""Getting in: from a page, by the login page and a link, to that page; and pages of errors."""

import re

import pytest
from playwright.sync_api import Page, expect

from amplifierd.common.problems import INTERNAL
from amplifierd.common.problems import page as render_problem
from tests.browser.axe import violations
from tests.browser.conftest import Open
from tests.browser.console import NAME, PASSWORD, SESSIONS, Console, manage
from tests.harness.daemon import Daemon

WANTED = f"{SESSIONS}?status__exact=failed&q=a"
LINK = re.compile(r"http://\S+/admin/sign-in/\S+")
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
ADD_CLERK = (
    "from django.contrib.auth.models import User;"
    f"User.objects.create_user('clerk', password={PASSWORD!r}, is_staff=True)"
)
# Pages without errors of the policy that no other test opens.
FURTHER = (
    "/docs",
    "/admin/auth/user/add/",
    "/admin/auth/group/add/",
    "/admin/auth/group/",
    "/admin/sessions_app/ownerlimits/",
    "/admin/sessions_app/ownerlimits/add/",
    "/admin/auth/user/1/change/",
    "/admin/auth/user/1/delete/",
    "/admin/auth/user/1/history/",
    "/admin/auth/user/1/password/",
)


@pytest.fixture
def stranger(opened: Open, running: Daemon) -> Console:
    """Somebody who is not signed in; axe may add its styles."""
    return opened(running, color_scheme="light", reduced_motion="reduce", bypass_csp=True)


@pytest.fixture(scope="module")
def clerk(running: Daemon) -> None:
    """An account of the staff without permissions."""
    manage(running, "shell", "-c", ADD_CLERK)


def links_of(daemon: Daemon) -> list[str]:
    return LINK.findall(daemon.log.read_text())


def check(page: Page) -> None:
    """Expect that axe finds nothing, light and dark, and that all of it fits on a phone."""
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    found = violations(page)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert found + violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(SIDEWAYS) <= 0


def test_the_button_leads_by_the_terminal_to_the_page_that_was_asked_for(
    stranger: Console, running: Daemon
) -> None:
    before = links_of(running)
    page = stranger.visit(WANTED)
    expect(page.get_by_text("manage.py console_link")).to_be_visible()
    check(page)
    page.get_by_role("button", name="Print a link on the daemon's terminal").click()
    expect(page.get_by_text("The link is on the daemon's terminal")).to_be_visible()
    check(page)
    # The web process has printed it before it answered.
    [link] = links_of(running)[len(before) :]
    assert link not in page.content()
    page.goto(link)
    check(page)
    page.get_by_role("button", name="Open the console").click()
    expect(page).to_have_url(f"{running.url}{WANTED}")
    stranger.watch.allow("status of 410")
    page.goto(link)
    check(page)
    page.get_by_role("link", name="To the console").click()
    expect(page).to_have_url(f"{running.url}{WANTED}")


def test_the_command_leads_to_the_page_that_was_asked_for(
    stranger: Console, running: Daemon
) -> None:
    page = stranger.visit(WANTED)
    page.goto(manage(running, "console_link").strip())
    page.get_by_role("button", name="Open the console").click()
    expect(page).to_have_url(f"{running.url}{WANTED}")
    page.get_by_role("button", name="Log out").click()
    check(page)
    page.get_by_role("link", name="Log in again").click()
    page.get_by_label("Username").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{running.url}/admin/")


def test_a_password_leads_to_the_page_that_was_asked_for(
    stranger: Console, running: Daemon
) -> None:
    page = stranger.visit(WANTED)
    page.get_by_label("Username").fill(NAME)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Please enter the correct username")).to_be_visible()
    check(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{running.url}{WANTED}")


def test_a_page_that_may_not_be_seen_has_a_way_back(
    stranger: Console, running: Daemon, clerk: None
) -> None:
    stranger.watch.allow("status of 403")
    page = stranger.visit("/admin/login/")
    page.get_by_label("Username").fill("clerk")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.goto(f"{running.url}{SESSIONS}")
    expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("You are signed in as clerk")
    check(page)
    page.get_by_role("link", name="To the console").click()
    expect(page).to_have_url(f"{running.url}/admin/")


def test_a_page_that_is_not_there_has_a_way_back(stranger: Console, running: Daemon) -> None:
    stranger.watch.allow("status of 404")
    page = stranger.page
    page.goto(f"{running.url}/nothing")
    check(page)
    page.get_by_role("link", name="To the console").click()
    expect(page).to_have_url(f"{running.url}/admin/login/?next=/admin/")


def test_a_form_that_is_too_old_has_a_way_back(stranger: Console, running: Daemon) -> None:
    stranger.watch.allow("status of 403")
    page = stranger.visit(f"/admin/login/?next={SESSIONS}")
    stranger.context.clear_cookies()
    page.get_by_label("Username").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="The form was not accepted")).to_be_visible()
    check(page)


def test_a_failure_has_a_way_back(stranger: Console, running: Daemon) -> None:
    stranger.watch.allow("status of 500")
    page = stranger.page
    body = render_problem(INTERNAL, retry="/admin/broken/").content
    page.route("**/admin/broken/", lambda route: route.fulfill(status=500, body=body))
    page.goto(f"{running.url}/admin/broken/")
    check(page)
    expect(page.get_by_role("link", name="Try again")).to_be_visible()
    page.get_by_role("link", name="To the console").click()
    expect(page).to_have_url(f"{running.url}/admin/login/?next=/admin/")


def test_no_page_breaks_the_policy(console: Console) -> None:
    # The console of this test fails for any breach.
    for path in FURTHER:
        console.visit(path)
        expect(console.page.get_by_role("heading").first).to_be_visible()


def test_error_pages_break_no_policy(console: Console) -> None:
    console.watch.allow("status of 404", "status of 403")
    console.page.goto(f"{console.daemon.url}/admin/nothing/")
    expect(console.page.get_by_role("navigation", name="Console")).to_be_visible()
    # From the security middleware, which Django's policy does not reach.
    console.watch.allow("request to elsewhere")
    form = f'<form method="post" action="{console.daemon.url}/admin/"><button>Send</button></form>'
    console.page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(body=form, content_type="text/html"),
    )
    console.page.goto("http://elsewhere.example/")
    console.page.get_by_role("button", name="Send").click()
    expect(console.page.get_by_role("heading", name="You may not do this")).to_be_visible()
    expect(console.page.get_by_role("link", name="To the console")).to_be_visible()
