"""The console's first page: what goes on, what has failed, and where everything is."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from sessions_app.admin import dashboard
from sessions_app.admin.dashboard import WINDOWS, TimeRange
from sessions_app.models import Attempt, Process, Run, Session
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import attempts, processes, runs, sessions
from sessions_app.services.attempts import Failure
from tests.conftest import claimed, say, write_events

Make = Callable[..., Session]
HOSTILE = "<script>alert(1)</script> \x1b[31m"
USAGE = {"input_tokens": 1200, "output_tokens": 34}


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Nothing of an earlier test is shown again."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def text(client: Client, window: str = "") -> str:
    cache.clear()
    response = client.get("/admin/", {"window": window} if window else {})
    assert response.status_code == 200
    return response.content.decode()


def tile(page: str, label: str) -> str:
    """Return what a tile says, without its markup."""
    found = re.search(rf"<dt>{label}</dt>(.*?)</div>", page, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def drawn(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="series" type="application/json">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def settled(session: Session, outcome: str) -> None:
    attempt = claimed(session)
    say(attempt, "hello")
    if outcome == "succeeded":
        attempts.succeed(attempt, "hello", USAGE)
    elif outcome == "failed":
        attempts.fail(attempt, Failure("provider_error", "Try again."))
    else:
        runs.cancel(session.id, attempt.run_id)


def test_sessions_are_counted_by_status(admin: Client, make: Make) -> None:
    for status in ("created", "active", "active", "failed"):
        make(status)
    assert tile(text(admin), "Sessions") == (
        "4 created 1 active 2 completed 0 failed 1 terminated 0"
    )


def test_runs_are_summed_up(admin: Client, session: Session) -> None:
    for outcome in ("succeeded", "succeeded", "succeeded", "failed", "cancelled"):
        settled(session, outcome)
    page = text(admin)
    assert tile(page, "Runs ended").startswith("5 ")
    assert tile(page, "Succeeded") == "75 % 1 failed, 1 cancelled"
    assert tile(page, "Tokens") == "3,702 3,600 in, 102 out"
    columns = drawn(page)
    assert [sum(columns[name]) for name in ("succeeded", "failed", "cancelled")] == [3, 1, 1]
    assert sum(columns["input_tokens"]) == 3600


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_window_has_all_its_steps_and_ends_now(
    admin: Client, session: Session, window: TimeRange
) -> None:
    settled(session, "succeeded")
    columns = drawn(text(admin, window.name))
    assert {len(column) for column in columns.values()} == {window.steps}
    apart = {later - at for at, later in zip(columns["at"], columns["at"][1:], strict=False)}
    assert apart == {window.step.total_seconds()}
    now = timezone.now().timestamp()
    assert columns["at"][-1] <= now < columns["at"][-1] + window.step.total_seconds()
    assert columns["succeeded"][-1] == 1


def test_what_is_older_than_the_window_is_not_counted(admin: Client, session: Session) -> None:
    settled(session, "succeeded")
    Run.objects.update(ended_at=timezone.now() - timedelta(hours=3))
    assert tile(text(admin, "1h"), "Runs ended").startswith("0 ")
    assert tile(text(admin, "24h"), "Runs ended").startswith("1 ")


def test_an_unknown_window_is_the_usual_one(admin: Client) -> None:
    assert 'href="?window=24h" aria-current="true"' in text(admin, "'; DROP")


def test_the_first_token_is_that_of_the_attempt_that_holds(attempt: Attempt) -> None:
    run = Run.objects.get()
    assert run.first_token_at is None
    write_events(attempt, ("provider_retry", {}))
    run.refresh_from_db()
    assert run.first_token_at is None
    say(attempt, "a")
    run.refresh_from_db()
    first = run.first_token_at
    assert first is not None
    assert first >= run.started_at
    say(attempt, "b")
    run.refresh_from_db()
    assert run.first_token_at == first
    attempts.release(attempt)
    again = attempts.claim(attempt.session_id, "worker-2")
    assert again is not None
    run.refresh_from_db()
    assert run.first_token_at is None


def test_the_time_to_the_first_token_is_shown(admin: Client, session: Session) -> None:
    for wait in (1, 2, 3):
        settled(session, "succeeded")
        newest = Run.objects.order_by("-id")[:1].get()
        at = newest.started_at + timedelta(seconds=wait)
        Run.objects.filter(pk=newest.pk).update(first_token_at=at)
    columns = drawn(text(admin))
    assert columns["p50"][-1] == pytest.approx(2, rel=0.03)
    assert columns["p95"][-1] == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("usage", [{}, {"input_tokens": None}, {"input_tokens": "many"}])
def test_missing_usage_counts_as_nothing(session: Session, usage: Any) -> None:
    attempts.succeed(claimed(session), "hello", {})
    Run.objects.update(usage=usage)
    assert Run.objects.values_list("input_tokens", "output_tokens").get() == (0, 0)


def test_the_queue_is_shown(admin: Client, session: Session) -> None:
    claimed(session)
    runs.send(session.id, "next")
    shown = tile(text(admin), "Queue")
    assert re.fullmatch(r"1 waiting 1 running, the oldest waits [\d.]+ s", shown)


def test_workers_and_streams_are_those_with_a_recent_heartbeat(
    admin: Client, session: Session
) -> None:
    processes.record("a:1", ProcessKind.WEB, streams=3, feeds=1)
    processes.record("b:2", ProcessKind.WEB, streams=4)
    processes.record("a:2", ProcessKind.WORKER)
    claimed(session, worker="gone:9")
    page = text(admin)
    assert tile(page, "Workers") == "1 alive 2 web processes"
    assert tile(page, "Streams open") == "7 and 1 feed"
    assert "worker, gone" in page
    Process.objects.update(seen_at=timezone.now() - timedelta(seconds=processes.GONE_SECONDS + 1))
    page = text(admin)
    assert tile(page, "Workers") == "0 alive 0 web processes"
    assert "manage.py run_worker" in page


def test_a_process_keeps_its_age_until_another_takes_its_number(db: None) -> None:
    processes.record("a:1", ProcessKind.WORKER)
    began = Process.objects.get().started_at
    processes.record("a:1", ProcessKind.WORKER)
    assert Process.objects.get().started_at == began
    processes.record("a:1", ProcessKind.WEB)
    assert Process.objects.get().started_at > began


def test_failures_lead_to_what_failed(admin: Client, session: Session, make: Make) -> None:
    settled(session, "failed")
    broken = make("active", name=HOSTILE)
    sessions.fail(broken.id, HOSTILE)
    page = text(admin)
    assert "provider_error: Try again." in page
    assert Run.objects.get().id.replace("_", "_5F") in page
    assert broken.id.replace("_", "_5F") in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; ⟨U+001B⟩[31m" in page


def test_only_the_newest_failures_are_shown(admin: Client, make: Make) -> None:
    for _ in range(dashboard.FAILURES + 2):
        make("failed")
    assert text(admin).count('class="reason"') - 1 == dashboard.FAILURES


def test_the_page_costs_the_same_however_much_there_is(
    admin: Client,
    session: Session,
    make: Make,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(6):
        make("failed")
        settled(session, "failed")
        processes.record(f"a:{number}", ProcessKind.WORKER)
    with django_assert_max_num_queries(12):
        text(admin, "30d")


def test_an_empty_console_explains_what_to_do_first(admin: Client, make: Make) -> None:
    response = admin.get("/admin/", headers={"host": "localhost:4711"})
    page = response.content.decode()
    assert "There is no session yet" in page
    assert "http://localhost:4711/api/v1" in page
    assert 'action="/admin/try/"' in page
    make("created")
    assert "There is no session yet" not in text(admin)


def test_the_first_session_is_a_button_away(admin: Client) -> None:
    assert admin.get("/admin/try/").status_code == 405
    response = admin.post("/admin/try/")
    made = Session.objects.get()
    assert made.status == "active"
    assert response.url.endswith(f"/session/{made.id.replace('_', '_5F')}/change/")
    assert LogEntry.objects.get(object_id=made.id).action_flag == ADDITION


def test_who_may_not_see_sessions_sees_none(client: Client, make: Make) -> None:
    make("failed")
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    client.force_login(user)
    page = text(client)
    assert "You may not see sessions" in page
    assert "it broke" not in page
    assert client.post("/admin/try/").status_code == 403


def test_the_navigation_has_what_a_user_may_see_in_its_order(admin: Client) -> None:
    found = re.findall(
        r'<li><a href="([^"]+)"( aria-current="page")?>([^<]+)</a></li>', text(admin)
    )
    assert [label for _, _, label in found] == [
        "Dashboard",
        "Sessions",
        "Runs",
        "Approvals",
        "Profiles",
        "Directories",
        "Collections",
        "API keys",
        "Owner limits",
        "Users",
        "Groups",
    ]
    assert [label for _, current, label in found if current] == ["Dashboard"]
    for url, _, label in found:
        page = admin.get(url).content.decode()
        assert f'aria-current="page">{label}</a>' in page


def test_the_stylesheet_and_the_icon_are_on_every_page(admin: Client) -> None:
    for page in (text(admin), Client().get("/admin/login/").content.decode()):
        assert page.index("admin/css/responsive.css") < page.index("sessions_app/admin.css")
        assert "sessions_app/favicon.svg" in page
    assert Client().get("/favicon.ico").url == "/static/sessions_app/favicon.svg"


def test_nothing_is_inline_but_data(admin: Client, session: Session) -> None:
    settled(session, "failed")
    page = text(admin)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r'<script(?![^>]*(\ssrc=|type="application/json"))', page)
