"""The console's sessions and runs: read safely, changed only through the services."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from sessions_app.admin.actions import LIFECYCLE_ACTIONS
from sessions_app.admin.session_page import PAGE
from sessions_app.events import EventType
from sessions_app.models import Attempt, Event, Session
from sessions_app.services import attempts, journal, messages, sessions
from sessions_app.services.attempts import Failure
from sessions_app.services.journal import Entry, Line
from sessions_app.states import SESSION_TRANSITIONS, SessionStatus

Make = Callable[..., Session]
LIST = "/admin/sessions_app/session/"
HOSTILE = "<script>alert(1)</script> {{ 7|add:7 }} \x1b[31mred \u202egnp.exe\n<img onerror=x>"


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def page_of(session: Session, tail: str = "change/") -> str:
    return f"{LIST}{session.id.replace('_', '_5F')}/{tail}"


def text(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, action: str, *selected: Session, **answers: str) -> str:
    """Take an action in the list; return the page that follows."""
    ids = [session.id for session in selected]
    form = {"action": f"{action}_selected", "_selected_action": ids, **answers}
    return client.post(LIST, form, follow=True).content.decode()


def fill(session: Session, count: int) -> None:
    lines = [Line("user", f"line {number}") for number in range(1, count + 1)]
    journal.append(session.id, [Entry(EventType.MESSAGE_ADDED, {}, message=one) for one in lines])


def statuses() -> set[str]:
    return set(Session.objects.values_list("status", flat=True))


def test_the_list_is_filtered_and_searched(admin: Client, make: Make) -> None:
    kept, other = make("active", name="Weekly report"), make("created", name="Invoices")
    for query in ({"status__exact": "active"}, {"q": "weekly"}, {"q": kept.id[-8:]}):
        page = text(admin, LIST, **query)
        assert kept.id in page
        assert other.id not in page
    assert '<span class="badge badge-active">active</span>' in text(admin, LIST)


def test_the_list_costs_the_same_however_long_it_is(
    admin: Client, make: Make, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        make("active")
    with django_assert_max_num_queries(6):
        text(admin, LIST)


@pytest.mark.parametrize("place", ["name", "message", "error"])
def test_hostile_text_is_shown_and_does_nothing(admin: Client, make: Make, place: str) -> None:
    session = make("active", name=HOSTILE if place == "name" else None)
    if place == "message":
        messages.add(session.id, HOSTILE)
    if place == "error":
        sessions.fail(session.id, HOSTILE, {"detail": HOSTILE})
    for url in (page_of(session), LIST):
        # Fields of forms keep the name as it is.
        page = re.sub(r'(value|aria-label)="[^"]*"|<img src="/static[^"]+"', "", text(admin, url))
        for raw in ("<script>alert", "<img", "\x1b", "\u202e"):
            assert raw not in page
    shown = text(admin, page_of(session))
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {{ 7|add:7 }} ⟨U+001B⟩[31mred ⟨U+202E⟩" in shown


def test_nothing_is_inline(admin: Client, session: Session) -> None:
    for url in (page_of(session), page_of(session, "lifecycle/fail/"), LIST):
        page = text(admin, url)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
        assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_older_messages_and_events_are_a_link_away(admin: Client, session: Session) -> None:
    fill(session, PAGE + 5)
    page = text(admin, page_of(session), messages_before=6)
    assert re.findall(r'id="message-(\d+)"', page) == ["1", "2", "3", "4", "5"]
    page = text(admin, page_of(session), journal_before=4)
    assert re.findall(r'id="event-(\d+)"', page) == ["3", "2", "1"]


def test_the_journal_is_filtered_by_type(admin: Client, session: Session) -> None:
    fill(session, 3)
    page = text(admin, page_of(session), journal_type="session_started")
    assert re.findall(r'id="event-(\d+)"', page) == ["1"]


@pytest.mark.parametrize("value", ["x", "-1", "9" * 40, "99999999999", "²", ""])
def test_a_bad_page_of_the_history_is_the_newest(
    admin: Client, session: Session, value: str
) -> None:
    fill(session, 2)
    query = {"messages_before": value, "messages_after": value, "message": value}
    assert 'id="message-2"' in text(admin, page_of(session), **query)
    query = {"journal_before": value, "journal_type": value, "event": value}
    assert 'id="event-3"' in text(admin, page_of(session), **query)


def test_runs_are_shown_with_their_outcome(admin: Client, attempt: Attempt) -> None:
    attempts.fail(attempt, Failure("provider_error", "Try <again>."))
    runs_of_session = f"{page_of(Session.objects.get())}?tab=runs"
    for url in (runs_of_session, "/admin/sessions_app/run/?status__exact=failed"):
        page = text(admin, url)
        assert "provider_error: Try &lt;again&gt;." in page
        assert "worker-1" in page
        assert attempt.run_id in page
    url = f"/admin/sessions_app/run/{attempt.run_id.replace('_', '_5F')}/change/"
    assert "provider_error: Try &lt;again&gt;." in text(admin, url)
    assert admin.post(url, {"status": "queued"}).status_code == 403


def test_secrets_are_masked(admin: Client, make: Make) -> None:
    config = {"providers": [{"module": "provider-mock", "config": {"api_key": "sk-canary"}}]}
    session = make("created", metadata={"token": "sk-canary"})
    Session.objects.filter(pk=session.pk).update(settings_overrides=config)
    assert "sk-canary" not in text(admin, page_of(session))


@pytest.mark.parametrize("status", SessionStatus)
def test_a_page_offers_the_steps_of_its_state(admin: Client, make: Make, status: str) -> None:
    page = text(admin, page_of(make(status)))
    offered = {name for name in LIFECYCLE_ACTIONS if f"/lifecycle/{name}/" in page}
    possible = {
        n for n, step in LIFECYCLE_ACTIONS.items() if step.target in SESSION_TRANSITIONS[status]
    }
    assert offered == possible | {"delete"}


@pytest.mark.parametrize(
    ("name", "status"),
    [("start", "created"), ("complete", "active"), ("terminate", "active")],
)
def test_a_button_takes_the_step_and_writes_history(
    admin: Client, make: Make, name: str, status: str
) -> None:
    session = make(status)
    url = page_of(session, f"lifecycle/{name}/")
    assert admin.get(url).status_code == 405
    page = admin.post(url, follow=True).content.decode()
    session.refresh_from_db()
    assert session.status == LIFECYCLE_ACTIONS[name].target
    assert f"was {LIFECYCLE_ACTIONS[name].done}." in page
    entry = LogEntry.objects.get(object_id=session.id)
    assert (entry.action_flag, entry.user.username) == (CHANGE, "admin")


def test_an_action_reports_each_session(admin: Client, make: Make) -> None:
    done, refused = make("active", name="A"), make("completed", name="B")
    page = act(admin, "terminate", done, refused, confirmed="yes")
    assert "“A” was terminated." in page
    assert "“B” was not terminated. A session that is completed cannot become terminated" in page
    assert statuses() == {"terminated", "completed"}
    assert [entry.object_id for entry in LogEntry.objects.all()] == [done.id]


def test_failing_asks_why(admin: Client, session: Session) -> None:
    assert 'name="error_message"' in act(admin, "fail", session)
    assert "This field is required" in act(admin, "fail", session, confirmed="yes")
    assert statuses() == {"active"}
    act(admin, "fail", session, confirmed="yes", error_message="The disk is full.")
    session.refresh_from_db()
    assert (session.status, session.error_message) == ("failed", "The disk is full.")


def test_deleting_asks_first_and_takes_the_history_along(admin: Client, make: Make) -> None:
    gone, kept = make("active", name="A"), make("active", name="B")
    fill(gone, 3)
    assert "This cannot be undone" in act(admin, "delete", gone)
    assert Session.objects.count() == 2
    assert "“A” was deleted." in act(admin, "delete", gone, confirmed="yes")
    assert list(Session.objects.all()) == [kept]
    assert not Event.objects.filter(session_id=gone.id).exists()
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == (gone.id, DELETION)


@pytest.mark.parametrize("tail", ["delete/", "lifecycle/delete/"])
def test_a_page_is_deleted_through_the_service(admin: Client, make: Make, tail: str) -> None:
    session = make("active")
    fill(session, 3)
    assert "This cannot be undone" in text(admin, page_of(session, tail))
    admin.post(page_of(session, tail))
    assert Session.objects.count() == 1
    response = admin.post(page_of(session, tail), {"confirmed": "yes"})
    assert (response.status_code, response["Location"]) == (302, LIST)
    assert Session.objects.count() == 0


def test_the_list_offers_these_actions_and_no_others(admin: Client, session: Session) -> None:
    values = re.findall(r'<option value="(\w+_selected)">', text(admin, LIST))
    assert values == [f"{name}_selected" for name in (*LIFECYCLE_ACTIONS, "read", "unread")]


def test_renaming_goes_through_the_journal(admin: Client, session: Session) -> None:
    page = admin.post(page_of(session), {"name": "Invoices"}, follow=True).content.decode()
    assert "The session is now called “Invoices”." in page
    newest = Event.objects.in_session(session.id).last()
    assert (newest.type, newest.data) == ("session_updated", {"name": "Invoices"})
    assert LogEntry.objects.get().object_id == session.id


def test_nothing_but_the_name_is_edited(admin: Client, session: Session) -> None:
    admin.post(page_of(session), {"name": "x", "status": "completed", "message_count": "9"})
    session.refresh_from_db()
    assert (session.status, session.message_count) == ("active", 0)
    assert admin.get(f"{LIST}add/").status_code == 403


def test_a_step_needs_the_csrf_token(admin: Client, session: Session) -> None:
    strict, url = Client(enforce_csrf_checks=True), page_of(session, "lifecycle/complete/")
    strict.force_login(User.objects.get(username="admin"))
    assert strict.post(url).status_code == 403
    assert statuses() == {"active"}
    form = text(strict, page_of(session)).split(f'action="{url}"')[1]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    assert token is not None
    assert strict.post(url, {"csrfmiddlewaretoken": token[1]}).status_code == 302
    assert statuses() == {"completed"}


def test_who_may_only_look_can_only_look(client: Client, session: Session) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="sessions_app")
    )
    client.force_login(viewer)
    page = text(client, page_of(session))
    assert "/lifecycle/" not in page
    assert 'name="name"' not in page
    for name in LIFECYCLE_ACTIONS:
        assert client.post(page_of(session, f"lifecycle/{name}/")).status_code == 403
    act(client, "complete", session)
    assert statuses() == {"active"}


def test_strangers_are_sent_to_the_login(client: Client, session: Session) -> None:
    for url in (LIST, page_of(session), page_of(session, "lifecycle/start/")):
        assert client.get(url)["Location"].startswith("/admin/login/")


def test_what_does_not_exist_is_404(admin: Client, session: Session) -> None:
    assert admin.post(f"{LIST}session_none/lifecycle/start/").status_code == 404
    assert admin.post(f"{LIST}session_none/delete/").status_code == 404
    assert admin.post(page_of(session, "lifecycle/explode/")).status_code == 404


def test_the_console_bears_its_name(admin: Client) -> None:
    page = text(admin, "/admin/")
    assert "amplifierd" in page
    assert "Django administration" not in page
