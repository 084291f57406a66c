"""A person at the console: signed in, at a page, as wide and dark as they like it."""

import subprocess
import sys

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.watch import Watch
from tests.harness.daemon import ROOT, Daemon

NAME, PASSWORD = "admin", "a long pass phrase"
# Milliseconds until something must show; the machine may be busy with other things.
PATIENCE = 20_000
expect.set_options(timeout=PATIENCE)
SESSIONS = "/admin/sessions_app/session/"


class Console:
    """A page of the console in a browser, and the daemon behind it."""

    def __init__(self, context: BrowserContext, daemon: Daemon) -> None:
        context.set_default_timeout(PATIENCE)
        self.context = context
        self.daemon = daemon
        self.watch = Watch(context, daemon.url)
        self.page: Page = context.new_page()

    def visit(self, path: str) -> Page:
        """Open a page of the daemon, which must be there."""
        answer = self.page.goto(f"{self.daemon.url}{path}")
        assert answer
        assert answer.ok, f"{answer.status} for {path}"
        return self.page

    def open_session(self, session_id: str) -> Page:
        """Open a session's page."""
        return self.visit(page_of(session_id))

    def sign_in(self) -> None:
        """Sign in by the form."""
        page = self.visit("/admin/login/")
        page.get_by_label("Username").fill(NAME)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{self.daemon.url}/admin/")

    def main(self) -> Locator:
        """Return the part of the page beside header and navigation."""
        return self.page.get_by_role("main")


def page_of(session_id: str, tail: str = "change/") -> str:
    """Return the path of a session's page, or of one below it."""
    return f"{SESSIONS}{session_id.replace('_', '_5F')}/{tail}"


def manage(daemon: Daemon, *command: str, **environment: str) -> str:
    """Run a management command, or a module by `-m`, on the daemon's data; return what it says."""
    words = command if command[0] == "-m" else ("manage.py", *command)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**daemon.environment, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_superuser(daemon: Daemon) -> None:
    """Make the login that the console is opened with."""
    options = ("--noinput", "--username", NAME, "--email", "admin@daemon.example")
    manage(daemon, "createsuperuser", *options, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
