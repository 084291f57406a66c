"""The API's description is shown, and can be tried, with nothing but our own files."""

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.harness.daemon import Daemon


def test_an_operation_is_found_and_tried(opened: Open, running: Daemon) -> None:
    page = opened(running).visit("/docs")
    expect(page.get_by_role("heading", name="amplifierd")).to_be_visible()
    page.locator("#operations-tag-daemon").click()
    operation = page.locator("#operations-daemon-get_health")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text("healthy")
