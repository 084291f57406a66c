"""The console's lists: filtered, counted, searched and paged at bounded cost, acted on together."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from sessions_app.admin import action_views, listing
from sessions_app.models import Attempt, Session
from sessions_app.services import attempts, messages, sessions
from sessions_app.services.attempts import Failure
from tests.conftest import say

Make = Callable[..., Session]
LIST = "/admin/sessions_app/session/"
RUNS = "/admin/sessions_app/run/"
HOSTILE = "<script>alert(1)</script> \x1b[31m \u202egnp.exe <img onerror=x> needle"
# Of a page: who is signed in, the rows, their counts; of a search also what it looks at.
QUERIES, SEARCH_QUERIES = 8, 16


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def text(client: Client, url: str, **query: Any) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def ids(page: str) -> list[str]:
    return re.findall(r'<tr data-id="(\w+)"', page)


def link(page: str, relation: str) -> str:
    """Return the address that a page has for the one after or before it."""
    found = re.search(rf'rel="{relation}" href="([^"]+)"', page)
    return found[1].replace("&amp;", "&") if found else ""


def counts(page: str) -> dict[str, str]:
    return dict(re.findall(r'>(\w+) <span class="count">([\d,+]+)</span>', page))


def act(client: Client, action: str, *selected: Session, **answers: Any) -> str:
    form = {"action": f"{action}_selected", "index": "0", **answers}
    form["_selected_action"] = [session.id for session in selected]
    return client.post(LIST, form, follow=True).content.decode()


def statuses() -> list[str]:
    return sorted(Session.objects.values_list("status", flat=True))


def test_filters_hold_together(admin: Client, make: Make) -> None:
    wanted = make("active", owner="alice")
    make("active", owner="bob")
    make("created", owner="alice")
    page = text(admin, LIST, status="active", owner="alice", profile_name="foundation/test")
    assert ids(page) == [wanted.id]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"period": "1h"}, 1),
        ({"period": "1d"}, 2),
        ({"period": "30d"}, 2),
        ({"until": "2020-01-01T00:00"}, 1),
        ({"since": "2019-01-01T00:00", "until": "2020-01-01T00:00"}, 1),
        ({"since": "2020-01-01T00:00Z"}, 2),
    ],
)
def test_a_time_is_a_filter(admin: Client, make: Make, query: dict[str, str], count: int) -> None:
    _, day, old = make("active"), make("active"), make("active")
    made = timezone.now() - timedelta(hours=5)
    Session.objects.filter(pk=day.pk).update(created_at=made)
    Session.objects.filter(pk=old.pk).update(created_at=made.replace(year=2019, month=6, day=1))
    assert len(ids(text(admin, LIST, **query))) == count


@pytest.mark.parametrize(
    "query",
    [
        {"status": "asleep"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00"},
        {"q": "x\0y"},
        {"period": "1y"},
        {"owner": "x" * 65},
    ],
)
def test_an_invalid_filter_is_reported_and_ignored(
    admin: Client, session: Session, query: dict[str, str]
) -> None:
    page = text(admin, LIST, **query)
    assert 'class="errornote"' in page
    assert ids(page) == [session.id]


@pytest.mark.parametrize("url", [LIST, RUNS])
@pytest.mark.parametrize(
    "query",
    [
        {"after": "x"},
        {"before": "eA=="},
        {"ids": "\0,x"},
        {"o": "1", "p": "9", "all": "", "e": "1", "anything": "x"},
        {"q": "'"},
        {"q": '"'},
        {"q": "%_\\"},
        {"q": "!!!"},
        {"q": "abcdef12"},
        {"worker": "\0"},
        {"parent_id": "nobody"},
    ],
)
def test_no_address_breaks_a_list(
    admin: Client, attempt: Attempt, url: str, query: dict[str, str]
) -> None:
    text(admin, url, **query)


def test_statuses_have_their_counts_whatever_is_chosen(admin: Client, make: Make) -> None:
    make("active"), make("active"), make("failed")
    for query in ({}, {"status": "failed"}):
        found = counts(text(admin, LIST, **query))
        assert (found["All"], found["Active"], found["Failed"]) == ("3", "2", "1")
    assert counts(text(admin, LIST, owner="nobody"))["All"] == "0"


def test_a_choice_shows_how_many_it_would_leave(admin: Client, make: Make) -> None:
    make("active"), make("active"), make("created", profile_name="foundation/base")
    page = text(admin, LIST, status="active", profile_name="foundation/test")
    assert '<option value="foundation/test" selected>foundation/test (2)</option>' in page
    assert '<option value="foundation/base">foundation/base (0)</option>' in page


def test_what_is_beyond_the_count_is_not_counted(
    admin: Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("active"), make("active")
    monkeypatch.setattr("sessions_app.admin.session_list.SessionList.counted", 1)
    assert counts(text(admin, LIST))["All"] == "1+"


def test_pages_go_on_from_a_row_and_back(
    admin: Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    made = [make("active").id for _ in range(5)][::-1]
    first = text(admin, LIST)
    assert (ids(first), link(first, "prev")) == (made[:2], "")
    make("active")
    second = text(admin, LIST + link(first, "next"))
    third = text(admin, LIST + link(second, "next"))
    assert ids(second) + ids(third) == made[2:]
    assert link(third, "next") == ""
    assert ids(text(admin, LIST + link(third, "prev"))) == ids(second)


@pytest.mark.parametrize("url", [LIST, f"{LIST}?q=hello", RUNS])
def test_a_list_costs_the_same_however_long_it_is(
    admin: Client, make: Make, django_assert_max_num_queries: DjangoAssertNumQueries, url: str
) -> None:
    for number in range(30):
        messages.add(make("active", name=f"hello {number}").id, "hello")
    with django_assert_max_num_queries(SEARCH_QUERIES if "q=" in url else QUERIES):
        text(admin, url)


def test_a_search_leads_to_the_message(admin: Client, make: Make) -> None:
    make("active", name="Other")
    found = make("active", name="Report")
    for number in range(1, 61):
        messages.add(found.id, "a parser of tabs" if number == 3 else "nothing")
    page = text(admin, LIST, q="parser")
    assert ids(page) == [found.id]
    assert "a <mark>parser</mark> of tabs" in page
    [url] = re.findall(r'class="place" href="([^"]+)"', page)
    assert url.endswith("#message-3")
    assert 'id="message-3"' in text(admin, url.replace("&amp;", "&"))


def test_an_id_is_found_by_a_part_of_it(admin: Client, make: Make) -> None:
    wanted = make("active")
    make("active")
    for part in (wanted.id, wanted.id[-8:]):
        assert ids(text(admin, LIST, q=part)) == [wanted.id]


def test_pages_of_a_search_go_by_rank(
    admin: Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions_app.admin.session_list.PAGE", 2)
    for number in range(5):
        make("active", name=f"needle {number}")
    first = text(admin, LIST, q="needle")
    second = text(admin, LIST + link(first, "next"))
    third = text(admin, LIST + link(second, "next"))
    assert len({*ids(first), *ids(second), *ids(third)}) == 5
    assert ids(text(admin, LIST + link(third, "prev"))) == ids(second)


def test_what_was_found_does_nothing(admin: Client, make: Make) -> None:
    session = make("active", name=HOSTILE)
    messages.add(session.id, HOSTILE)
    sessions.fail(session.id, HOSTILE)
    for query in ({}, {"q": "needle"}):
        page = text(admin, LIST, **query)
        for raw in ("<script>alert", "<img onerror", "\x1b", "\u202e"):
            assert raw not in page
    assert "<mark>needle</mark>" in page


def test_what_is_unread_is_marked_and_found(admin: Client, make: Make) -> None:
    unread, read = make("active"), make("active")
    sessions.mark_read(read.id)
    assert text(admin, LIST).count('class="unread"') == 1
    assert ids(text(admin, LIST, unread="on")) == [unread.id]
    assert "1 session marked as unread." in act(admin, "unread", read)
    assert len(ids(text(admin, LIST, unread="on"))) == 2


def test_the_question_shows_how_many_and_how_many_not(admin: Client, make: Make) -> None:
    chosen = [make("active"), make("active"), make("completed")]
    page = act(admin, "terminate", *chosen)
    assert "2 sessions will be terminated." in page
    assert re.search(r"Left out.*1 session <span class=\"badge badge-completed\"", page)
    assert statuses() == ["active", "active", "completed"]
    page = act(admin, "terminate", *chosen, confirmed="yes")
    assert "cannot become terminated" in page
    assert statuses() == ["completed", "terminated", "terminated"]
    assert {entry.action_flag for entry in LogEntry.objects.all()} == {CHANGE}
    assert LogEntry.objects.count() == 2


def test_what_was_asked_about_is_what_is_done(admin: Client, make: Make) -> None:
    first = make("active")
    url = f"{LIST}?status=created"
    form = {"action": "complete_selected", "confirmed": "yes", "_selected_action": [first.id]}
    admin.post(url, form)
    assert statuses() == ["completed"]


def test_all_that_match_are_taken_up_to_a_number(
    admin: Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make("active")
    kept = make("created")
    monkeypatch.setattr(action_views, "AT_ONCE", 2)
    form = {"action": "delete_selected", "index": "0", "select_across": "1"}
    page = admin.post(f"{LIST}?status=active", form).content.decode()
    assert "These are the newest 2" in page
    assert "2 sessions will be deleted." in page
    asked = re.findall(r'name="_selected_action" value="(\w+)"', page)
    form = {"action": "delete_selected", "confirmed": "yes", "_selected_action": asked}
    admin.post(f"{LIST}?status=active", form)
    assert statuses() == ["active", "created"]
    assert Session.objects.filter(pk=kept.pk).exists()
    assert {entry.action_flag for entry in LogEntry.objects.all()} == {DELETION}


def test_nothing_is_asked_where_nothing_can_be_done(admin: Client, make: Make) -> None:
    page = act(admin, "complete", make("failed"))
    assert "None of them can be completed." in page
    assert '<button class="button">Complete' not in page


def test_a_button_of_a_row_is_about_this_row(admin: Client, make: Make) -> None:
    wanted, other = make("created"), make("created")
    page = text(admin, LIST)
    assert f'name="one" value="start:{wanted.id}"' in page
    form = {"one": f"start:{wanted.id}", "action": "", "_selected_action": [other.id]}
    admin.post(LIST, form)
    assert Session.objects.get(status="active") == wanted


@pytest.mark.parametrize("one", ["explode:x", "start:", "start:\0", ":", "read:nobody"])
def test_a_button_that_is_made_up_does_nothing(admin: Client, session: Session, one: str) -> None:
    assert admin.post(LIST, {"one": one}).status_code in (200, 302)
    assert statuses() == ["active"]


def test_who_may_only_look_is_offered_nothing(client: Client, session: Session) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="sessions_app")
    )
    client.force_login(viewer)
    page = text(client, LIST)
    assert ids(page) == [session.id]
    assert "_selected_action" not in page
    assert 'name="one"' not in page
    client.post(LIST, {"one": f"terminate:{session.id}", "confirmed": "yes"})
    assert statuses() == ["active"]
    assert client.get(f"{RUNS}changes/").status_code == 403


def test_changed_rows_are_returned_with_the_number_of_new_ones(
    admin: Client, make: Make, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    seen = make("active", name="Before")
    page = text(admin, LIST)
    top = re.search(r'data-top="([^"]+)"', page)
    assert top is not None
    sessions.update(seen.id, {"name": "After"})
    make("active")
    with django_assert_max_num_queries(QUERIES):
        answer = admin.get(f"{LIST}changes/", {"ids": f"{seen.id},none", "top": top[1]})
    told = json.loads(answer.content)
    assert told["news"] == "1"
    assert list(told["rows"]) == [seen.id]
    assert "After" in told["rows"][seen.id]
    quiet = admin.get(f"{LIST}changes/", {"top": top[1], "status": "failed"})
    assert json.loads(quiet.content)["news"] == ""


def test_runs_are_filtered_and_counted(admin: Client, attempt: Attempt) -> None:
    attempts.fail(attempt, Failure("provider_error", "Try <again>."))
    page = text(admin, RUNS, status="failed", error_code="provider_error", worker="worker-1")
    assert ids(page) == [attempt.run_id]
    assert "provider_error: Try &lt;again&gt;." in page
    assert counts(page)["Failed"] == "1"
    assert "#message-1" in page
    for query in ({"status": "queued"}, {"q": "nonsense"}, {"until": "2020-01-01"}):
        assert ids(text(admin, RUNS, **query)) == []
    for query in ({"q": "again"}, {"q": attempt.run_id}, {"period": "1h"}):
        assert ids(text(admin, RUNS, **query)) == [attempt.run_id]


def test_a_run_shows_when_it_began_to_speak(admin: Client, attempt: Attempt) -> None:
    assert re.search(r'data-label="First token" class="number"></td>', text(admin, RUNS))
    say(attempt, "Hello")
    assert re.search(r'data-label="First token" class="number">\d+\.\d s</td>', text(admin, RUNS))


@pytest.mark.parametrize("url", [LIST, RUNS])
def test_nothing_is_inline(admin: Client, attempt: Attempt, url: str) -> None:
    page = text(admin, url)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)


def test_an_empty_list_explains_what_to_do(admin: Client) -> None:
    assert "There are no sessions yet." in text(admin, LIST)
    assert "No session matches." in text(admin, LIST, status="failed")
    assert "There are no runs yet." in text(admin, RUNS)
