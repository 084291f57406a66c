"""A session's page in the console: what was said is read safely, whole, and acted on."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from amplifierd.common.redaction import MASK
from sessions_app.admin import transcript
from sessions_app.admin.rendering import render_markdown
from sessions_app.admin.session_page import EVENT_LIMIT, PAGE
from sessions_app.admin.transcript import MESSAGE_LIMIT, PLAIN_FROM, WINDOW
from sessions_app.events import EventType
from sessions_app.models import Attempt, Message, Run, Session
from sessions_app.services import attempts, journal, messages, runs, sessions
from sessions_app.services.attempts import Failure
from sessions_app.services.journal import Entry, Line
from tests.conftest import claimed, say, write_events

Make = Callable[..., Session]
BOUND = 20


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def url_of(session: Session, tail: str = "change/") -> str:
    return f"/admin/sessions_app/session/{session.id.replace('_', '_5F')}/{tail}"


def text(client: Client, session: Session, tail: str = "change/", **query: Any) -> str:
    response = client.get(url_of(session, tail), query)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, session: Session, tail: str, **fields: Any) -> tuple[int, dict[str, str]]:
    """Post as the page's scripts do."""
    accept = {"Accept": "application/json"}
    response = client.post(url_of(session, tail), fields, headers=accept)
    return response.status_code, response.json()


def fill(session: Session, count: int) -> None:
    lines = [Line("user", f"line {number}") for number in range(1, count + 1)]
    journal.append(session.id, [Entry(EventType.MESSAGE_ADDED, {}, message=one) for one in lines])


def seqs(page: str) -> list[int]:
    return [int(seq) for seq in re.findall(r'id="message-(\d+)"', page)]


def hooked(attempt: Attempt, kind: str, **data: Any) -> None:
    """Journal a hook's event for an attempt, as a worker does."""
    write_events(attempt, (kind, {"hook_data": data, "runId": attempt.run_id}))


# What was said, and what of it must not be in the page.
HOSTILE = {
    "<script>alert(1)</script>": "<script",
    "<img src=x onerror=alert(1)>": "<img",
    "<svg/onload=alert(1)>": "<svg",
    "<style>*{display:none}</style>": "<style",
    "[x](javascript:alert(1))": "href",
    "[x](JaVaScRiPt&colon;alert(1))": "href",
    "[x](&#106;avascript:alert(1))": "href",
    "[x](data:text/html;base64,PHNjcmlwdD4=)": "href",
    "[x](vbscript:x)": "href",
    "[x](/admin/logout/)": "href",
    "[x](//evil.example)": "href",
    "[x](?tab=runs)": "href",
    "![x](data:image/png;base64,AAAA)": "src",
    "![x](https://evil.example/pixel.png)": "<img",
    '[x](https://a.example "t\\" onclick=alert(1) x=\\"")': ' onclick="',
    "<https://a.example/\"onmouseover='alert(1)'>": ' onmouseover="',
    "```js\n</code></pre><script>alert(1)</script>\n```": "<script",
    '```"><script>alert(1)</script>\nx\n```': "<script",
    "| a |\n|---|\n| <script>alert(1)</script> |": "<script",
    "\x1b[31mred\x1b[0m": "\x1b",
    "\u202egnp.exe": "\u202e",
    "\u2066turned\u2069": "\u2066",
}


@pytest.mark.parametrize("said", HOSTILE)
def test_a_message_can_do_nothing(admin: Client, session: Session, said: str) -> None:
    messages.add(session.id, said, role="assistant")
    html = render_markdown(said)
    assert HOSTILE[said] not in html
    page = text(admin, session)
    assert html in page
    assert not re.search(r"<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=\"", page)


def test_templates_are_text(admin: Client, session: Session) -> None:
    messages.add(session.id, "{{ 7|add:7 }} {% now 'Y' %} ${7*7}")
    assert "{{ 7|add:7 }} {% now 'Y' %} ${7*7}" in text(admin, session)


def test_markdown_is_formatted() -> None:
    html = render_markdown("# One\n\n**b** ~~s~~ `c`\n\n- l\n\n| h |\n|---|\n| d |\n\n> q")
    for tag in ("<h4>", "<strong>", "<s>", "<code>", "<li>", "<td>", "<blockquote>"):
        assert tag in html


def test_code_is_coloured_by_classes() -> None:
    assert '<span class="k">def</span>' in render_markdown("```python\ndef f(): ...\n```")
    assert "<span" not in render_markdown("```unknown-language\ndef f(): ...\n```")


def test_links_lead_to_a_tab_of_their_own_that_knows_nothing() -> None:
    html = render_markdown("[x](https://a.example/) ![pic](https://b.example/i.png)")
    assert html.count('target="_blank" rel="noopener noreferrer nofollow"') == 2
    assert ">image: pic</a>" in html


@pytest.mark.parametrize("piece", ["[", "![", "**a", "> ", "`a", "|a", "<", "- a\n", "[a](<"])
def test_text_that_is_made_to_be_slow_is_not(admin: Client, session: Session, piece: str) -> None:
    said = (piece * MESSAGE_LIMIT)[:MESSAGE_LIMIT]
    messages.add(session.id, said)
    assert seqs(text(admin, session)) == [1]


def test_what_would_take_too_long_is_shown_as_written(
    admin: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "PATIENCE", -1.0)
    messages.add(session.id, "**bold** <b>")
    assert "**bold** &lt;b&gt;</pre>" in text(admin, session)


def test_thinking_and_tools_stand_with_the_answer(admin: Client, attempt: Attempt) -> None:
    hooked(attempt, "hook:thinking:delta", delta="first ")
    hooked(attempt, "hook:thinking:delta", delta="second <b>")
    call = {"tool_name": "search", "tool_call_id": "c1", "tool_input": {"q": "<i>"}}
    hooked(attempt, "hook:tool:pre", **call)
    hooked(attempt, "hook:tool:post", **call, tool_response={"found": 3}, error="too <few>")
    say(attempt, "Done.")
    attempts.succeed(attempt, "Done.", {"output_tokens": 2})
    page = text(admin, Session.objects.get())
    assert "first second &lt;b&gt;</div></details>" in page
    assert page.count('data-call="c1"') == 1
    assert '"&lt;i&gt;"</span>' in page
    assert "found" in page
    assert "too &lt;few&gt;</p>" in page


def test_a_run_that_is_under_way_shows_its_output(admin: Client, attempt: Attempt) -> None:
    hooked(attempt, "hook:thinking:delta", delta="hmm")
    say(attempt, "Hello ", "<world>")
    page = text(admin, Session.objects.get())
    live = page.split('id="live"')[1].split("<template")[0]
    assert f'data-run="{attempt.run_id}"' in live
    assert "Hello &lt;world&gt;</div>" in live
    assert "hmm</div>" in live
    newest = Session.objects.get().last_event_seq
    assert f'data-after="{newest}"' in page


def test_a_void_attempt_is_not_shown_as_output(admin: Client, attempt: Attempt) -> None:
    say(attempt, "void words")
    attempts.release(attempt)
    again = attempts.claim(attempt.session_id, "worker-2")
    assert again is not None
    say(again, "valid words")
    page = text(admin, Session.objects.get())
    assert "void words" not in page
    assert "valid words" in page
    timed = text(admin, Session.objects.get(), tab="runs")
    assert "attempt 1 was interrupted: what it said is void" in timed


def test_a_failed_run_shows_its_reason(admin: Client, attempt: Attempt) -> None:
    attempts.fail(attempt, Failure("provider_error", "Try <again>."))
    assert "provider_error: Try &lt;again&gt;." in text(admin, Session.objects.get())


def test_a_queued_message_waits(admin: Client, session: Session) -> None:
    runs.send(session.id, "hello")
    assert "Waiting for a worker" in text(admin, session)


def test_runs_have_bars_without_inline_styles(admin: Client, attempt: Attempt) -> None:
    say(attempt, "one")
    attempts.succeed(attempt, "one", {})
    page = text(admin, Session.objects.get(), tab="runs")
    assert '<rect class="bar-waiting"' in page
    assert attempt.run_id in page
    assert "style=" not in page


# Which messages of 10,000 a page shows, by what is asked for.
WINDOWS: list[tuple[dict[str, int], tuple[int, int]]] = [
    ({}, (9_951, 10_000)),
    ({"messages_before": 101}, (51, 100)),
    ({"messages_before": 20}, (1, 19)),
    ({"messages_after": 100}, (101, 150)),
    ({"messages_after": 9_990}, (9_991, 10_000)),
    ({"message": 5_000}, (4_975, 5_024)),
    ({"message": 3}, (1, 50)),
    ({"message": 9_999}, (9_951, 10_000)),
]


def test_a_page_of_ten_thousand_messages_is_a_window(
    admin: Client, session: Session, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    fill(session, 10_000)
    for query, expected in WINDOWS:
        with django_assert_max_num_queries(BOUND):
            shown = seqs(text(admin, session, **query))
        assert (shown[0], shown[-1]) == expected
        assert len(shown) <= WINDOW


def test_pieces_of_the_transcript_fit_together(admin: Client, session: Session) -> None:
    fill(session, 130)
    found, before = [], 131
    while before > 1:
        piece = admin.get(url_of(session, "transcript/"), {"before": before}).json()
        found = seqs(piece["html"]) + found
        assert (piece["first"], piece["newest"]) == (found[0], 130)
        before = piece["first"]
    assert found == list(range(1, 131))
    last = admin.get(url_of(session, "transcript/"), {"after": 100}).json()
    assert (seqs(last["html"])[0], last["last"]) == (101, 130)


def test_queries_do_not_grow_with_the_messages(
    admin: Client, session: Session, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        attempt = claimed(session, f"question {number}")
        hooked(attempt, "hook:thinking:delta", delta="x")
        say(attempt, "y")
        attempts.succeed(attempt, "y", {})
    for query in ({}, {"tab": "runs"}, {"tab": "journal"}, {"tab": "plan"}):
        with django_assert_max_num_queries(BOUND):
            text(admin, session, **query)


def test_a_long_message_is_cut_and_fetched_whole(admin: Client, session: Session) -> None:
    messages.add(session.id, "y" * 1_000_000 + "LAST")
    page = text(admin, session)
    assert "Show all 1000004 characters" in page
    assert "LAST" not in page
    whole = admin.get(url_of(session, "message/1/"), {"whole": ""}).json()["html"]
    assert "LAST</pre>" in whole
    assert len(whole) > PLAIN_FROM
    link = f"/api/v1/sessions/{session.id}/messages?after=0&amp;before=2"
    assert f'href="{link}"' in page
    assert "LAST" in admin.get(link.replace("&amp;", "&")).content.decode()


def test_a_long_event_is_cut_and_linked(admin: Client, session: Session) -> None:
    messages.add(session.id, "y" * EVENT_LIMIT)
    link = f"/api/v1/sessions/{session.id}/events?after=1&amp;limit=1"
    assert f'href="{link}"' in text(admin, session, tab="journal")
    assert "yyy" in admin.get(link.replace("&amp;", "&")).content.decode()


@pytest.mark.parametrize("tail", ["message/9/", "message/99999999999999999999/"])
def test_a_message_that_is_not_there_is_404(admin: Client, session: Session, tail: str) -> None:
    assert admin.get(url_of(session, tail)).status_code == 404


def test_a_link_to_an_event_opens_the_journal_around_it(admin: Client, session: Session) -> None:
    fill(session, 3 * PAGE)
    page = text(admin, session, event=34)
    assert '<details class="event" id="event-34" open>' in page
    assert 'id="event-1"' in page
    assert f'id="event-{34 + PAGE}"' not in page


def test_the_mount_plan_is_masked(admin: Client, session: Session) -> None:
    plan = {"providers": {"p": {"config": {"api_key": "sk-canary"}}}}
    Session.objects.filter(pk=session.pk).update(mount_plan=plan)
    page = text(admin, session, tab="plan")
    assert "sk-canary" not in page
    assert MASK in page


def test_the_facts_tell_the_profiles_version_and_the_tree(admin: Client, make: Make) -> None:
    parent = make("active", name="Above <b>")
    session = make("active", parent_session_id=parent.id)
    child = make("created", name="Below", parent_session_id=session.id)
    page = text(admin, session)
    assert "foundation/test, version 1" in page
    for relative in (parent, child):
        assert f'<a href="{url_of(relative)}">' in page
    assert "Above &lt;b&gt;" in page


def test_to_look_at_a_session_marks_it_as_read(admin: Client, session: Session) -> None:
    assert session.is_unread
    text(admin, session)
    session.refresh_from_db()
    assert not session.is_unread
    assert not LogEntry.objects.exists()


def test_who_may_only_look_marks_nothing_and_acts_on_nothing(
    client: Client, session: Session
) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    permission = Permission.objects.get(
        codename="view_session", content_type__app_label="sessions_app"
    )
    viewer.user_permissions.add(permission)
    client.force_login(viewer)
    messages.add(session.id, "hello")
    page = text(client, session)
    assert "/action/" not in page
    for name in ("send", "cancel", "clone", "fork", "read"):
        assert client.post(url_of(session, f"action/{name}/"), {"content": "x"}).status_code == 403
    session.refresh_from_db()
    assert session.is_unread
    assert Session.objects.count() == 1


def test_strangers_get_no_piece(client: Client, session: Session) -> None:
    for tail in ("transcript/", "message/1/", "head/", "action/send/"):
        assert client.get(url_of(session, tail))["Location"].startswith("/admin/login/")


def test_a_message_is_sent_and_stands_in_the_history(admin: Client, session: Session) -> None:
    assert act(admin, session, "action/send/", content=" Hello\n") == (
        200,
        {"message": "The message was sent.", "url": ""},
    )
    assert Message.objects.get().content == " Hello\n"
    run = Run.objects.get()
    assert LogEntry.objects.get().change_message == f"Sent a message, run {run.id}."


def test_a_form_sends_without_scripts(admin: Client, session: Session) -> None:
    page = admin.post(url_of(session, "action/send/"), {"content": "Hello"}, follow=True)
    assert "The message was sent." in page.content.decode()


@pytest.mark.parametrize(
    ("status", "fields", "expected", "reason"),
    [
        ("active", {"content": "  "}, (400, "invalid"), "Write a message first."),
        ("active", {"content": "x", "strategy": "no"}, (400, "invalid"), "not one of"),
        ("active", {"content": "a\0b"}, (400, "invalid"), "Null characters"),
        ("created", {"content": "x"}, (409, "invalid_transition"), "start it first"),
        ("completed", {"content": "x"}, (409, "invalid_transition"), "it has ended"),
    ],
)
def test_a_send_is_refused_with_the_reason(
    admin: Client,
    make: Make,
    status: str,
    fields: dict[str, str],
    expected: tuple[int, str],
    reason: str,
) -> None:
    session = make(status)
    code, told = act(admin, session, "action/send/", **fields)
    assert (code, told["code"]) == expected
    assert reason in told["detail"]
    assert not Message.objects.exists()
    assert not LogEntry.objects.exists()


def test_the_strategy_counts_while_a_run_is_open(admin: Client, session: Session) -> None:
    attempt = claimed(session)
    code, told = act(admin, session, "action/send/", content="x", strategy="reject")
    assert (code, told["code"]) == (409, "run_in_progress")
    assert act(admin, session, "action/send/", content="y", strategy="interrupt")[0] == 200
    assert Run.objects.get(pk=attempt.run_id).status == "cancelled"


def test_a_run_is_cancelled_once(admin: Client, session: Session) -> None:
    claimed(session)
    assert act(admin, session, "action/cancel/")[1]["message"] == "The run was cancelled."
    assert "Nothing is running" in act(admin, session, "action/cancel/")[1]["message"]
    assert Run.objects.get().status == "cancelled"
    assert LogEntry.objects.count() == 1


def test_clone_and_fork_lead_to_the_copy(admin: Client, session: Session) -> None:
    fill(session, 4)
    for tail, fields, length in (("clone", {}, 4), ("fork", {"after": 2}, 2)):
        known = set(Session.objects.values_list("id", flat=True))
        code, told = act(admin, session, f"action/{tail}/", **fields)
        copy = Session.objects.exclude(pk__in=known).get()
        assert (code, copy.message_count) == (200, length)
        assert told["url"] == url_of(copy)
    assert act(admin, session, "action/fork/", after=5)[0] == 400


@pytest.mark.parametrize(
    ("step", "fields"),
    [("complete", {}), ("terminate", {}), ("fail", {"error_message": "It broke."})],
)
def test_a_step_by_script_is_taken_once(
    admin: Client, session: Session, step: str, fields: dict[str, str]
) -> None:
    assert act(admin, session, f"lifecycle/{step}/", **fields)[0] == 200
    code, told = act(admin, session, f"lifecycle/{step}/", **fields)
    assert (code, told["code"]) == (409, "invalid_transition")
    assert "it has ended" in told["detail"]
    assert LogEntry.objects.count() == 1


def test_a_session_fails_only_with_a_reason(admin: Client, session: Session) -> None:
    assert act(admin, session, "lifecycle/fail/")[0] == 400
    act(admin, session, "lifecycle/fail/", error_message="It <broke>.")
    assert "It &lt;broke&gt;." in text(admin, Session.objects.get())


def test_the_head_offers_what_can_be_done_now(admin: Client, session: Session) -> None:
    before = admin.get(url_of(session, "head/")).json()
    sessions.complete(session.id)
    after = admin.get(url_of(session, "head/")).json()
    assert (before["status"], after["status"]) == ("active", "completed")
    assert "lifecycle/complete/" in before["head"]
    assert "lifecycle/complete/" not in after["head"]
    assert "textarea" in before["composer"]
    assert "textarea" not in after["composer"]


def test_a_session_that_is_gone_is_404(admin: Client, session: Session) -> None:
    sessions.delete(session.id)
    assert admin.get(url_of(session, "head/")).status_code == 404
    assert admin.post(url_of(session, "action/send/"), {"content": "x"}).status_code == 404
