"""The console: its pages run under a strict policy, its keys are shown once, its login is slow."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib import admin as console
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client
from django.urls import clear_script_prefix, set_script_prefix
from django.utils import timezone

from amplifierd.auth import keys
from amplifierd.models import ApiKey
from profiles_app.models import Profile
from sessions_app.models import Session
from tests.conftest import claimed

LIST = "/admin/amplifierd/apikey/"
LOGIN = "/admin/login/"
KEY = re.compile(r"amp_[a-z0-9]{8}_[A-Za-z0-9_-]{43}")
# What the policy would not let run: handlers, scripts and styles in the page itself.
INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")|<style|\sstyle=|\son[a-z]+=|javascript:"
)
FOREIGN = re.compile(r"(?:src|href|action)=\"(?:https?:)?//")


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def pages(session: Session) -> list[str]:
    """Return every kind of page that the console has, of each of its models."""
    found = ["/admin/", LOGIN, "/admin/password_change/"]
    for model in console.site._registry:
        url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        found += [url, f"{url}?q=x", f"{url}add/"]
        if row := model.objects.first():
            tail = str(row.pk).replace("_", "_5F")
            found += [f"{url}{tail}/{page}/" for page in ("change", "history", "delete")]
    return found


def test_no_page_needs_what_the_policy_forbids(admin: Client, make: Callable[..., Session]) -> None:
    session = make("active")
    claimed(session)
    keys.create(name="n", owner="o")
    LogEntry.objects.create(user=User.objects.get(), object_repr="x", action_flag=CHANGE)
    seen = 0
    for url in pages(session):
        answer = admin.get(url)
        if answer.status_code in (302, 403):
            continue
        assert answer.status_code == 200, url
        page = answer.content.decode()
        assert not INLINE.search(page), f"{url}: {INLINE.search(page)}"
        assert not FOREIGN.search(page), url
        seen += 1
    assert seen > 20


def test_pages_say_what_they_may_load(admin: Client) -> None:
    answer = admin.get("/admin/")
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'self'",
        "script-src": "'self'",
        "style-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert "no-store" in answer["Cache-Control"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_key_made_here_is_shown_once_and_opens(admin: Client) -> None:
    form = {"name": "notebook", "owner": "alice", "scope": "read", "expires_at_0": ""}
    answer = admin.post(f"{LIST}add/", {**form, "expires_at_1": ""})
    [key] = set(KEY.findall(answer.content.decode()))
    assert "no-store" in answer["Cache-Control"]
    made = keys.check(key)
    assert (made.name, made.owner, made.scope) == ("notebook", "alice", "read")
    for url in (LIST, f"{LIST}{made.pk}/change/", f"{LIST}{made.pk}/history/", "/admin/"):
        page = admin.get(url).content.decode()
        assert key[13:] not in page
        assert made.digest not in page
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id) == (ADDITION, str(made.pk))
    assert key[13:] not in str(LogEntry.objects.values().get())


def test_a_date_that_has_passed_is_refused(admin: Client) -> None:
    past = timezone.now() - timedelta(days=1)
    form = {"name": "n", "owner": "o", "scope": "read", "expires_at_0": past.date()}
    answer = admin.post(f"{LIST}add/", {**form, "expires_at_1": "00:00"})
    assert "such a key would be of no use" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_and_neither_changed_nor_deleted(admin: Client) -> None:
    made, key = keys.create(name="n", owner="o")
    admin.post(f"{LIST}{made.pk}/change/", {"name": "m", "owner": "p", "scope": "admin"})
    assert admin.post(f"{LIST}{made.pk}/delete/", {"post": "yes"}).status_code == 403
    keys.check(key)
    page = admin.post(LIST, {"action": "revoke", "_selected_action": [made.pk]}, follow=True)
    assert "Revoked: n." in page.content.decode()
    with pytest.raises(keys.InvalidKey, match="revoked"):
        keys.check(key)
    made.refresh_from_db()
    assert (made.name, made.owner, made.state) == ("n", "o", "revoked")
    assert LogEntry.objects.get().action_flag == CHANGE


def test_who_may_only_look_revokes_nothing(client: Client, db: None) -> None:
    made, key = keys.create(name="n", owner="o")
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_apikey"))
    client.force_login(viewer)
    client.post(LIST, {"action": "revoke", "_selected_action": [made.pk]})
    assert client.get(f"{LIST}add/").status_code == 403
    assert keys.check(key) == made


def sign_in(password: str, username: str = "root", address: str = "10.0.0.1") -> Any:
    form = {"username": username, "password": password}
    return Client(REMOTE_ADDR=address).post(LOGIN, form)


@pytest.fixture
def root(db: None, settings: Any) -> User:
    settings.AXES_FAILURE_LIMIT = 3
    return User.objects.create_superuser("root", password="right")


def test_a_login_that_fails_too_often_has_to_wait(root: User) -> None:
    statuses = [sign_in("wrong").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429] or statuses == [200, 200, 429, 429]
    locked = sign_in("right")
    assert locked.status_code == 429
    assert locked["Retry-After"] == "300"
    assert "axes_reset" in locked.content.decode()


def test_its_owner_gets_in_from_elsewhere(root: User) -> None:
    for _ in range(5):
        sign_in("wrong")
    assert sign_in("right", address="10.0.0.2").status_code == 302


def test_trying_on_does_not_lengthen_the_time(root: User) -> None:
    for _ in range(3):
        sign_in("wrong")
    since = AccessAttempt.objects.get().attempt_time
    assert sign_in("wrong").status_code == 429
    assert AccessAttempt.objects.get().attempt_time == since
    AccessAttempt.objects.update(attempt_time=since - timedelta(minutes=5, seconds=1))
    assert sign_in("right").status_code == 302


def test_a_login_that_succeeds_begins_anew(root: User) -> None:
    for password in ("wrong", "wrong", "right", "wrong", "wrong"):
        last = sign_in(password)
    assert last.status_code == 200
    assert sign_in("right").status_code == 302


def test_no_password_is_kept_of_a_failure(root: User) -> None:
    sign_in("my secret password")
    assert "my secret password" not in str(list(AccessAttempt.objects.values()))


def test_there_is_no_account_to_begin_with(catalogue: None) -> None:
    assert Profile.objects.exists()
    assert not User.objects.exists()


@pytest.fixture
def clerk(django_user_model: type[User], db: None) -> Client:
    """A signed-in member of the staff without any permission."""
    client = Client()
    client.force_login(django_user_model.objects.create_user("clerk", is_staff=True))
    return client


def test_a_page_that_somebody_may_not_see_says_who_they_are(clerk: Client) -> None:
    answer = clerk.get(
        "/admin/sessions_app/session/", headers={"Referer": "http://testserver/admin/"}
    )
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "You may not do this" in text
    assert "<bdi>clerk</bdi>" in text
    assert 'href="http://testserver/admin/">Back' in text
    assert 'id="logout-form"' in text


def test_a_page_that_is_not_there_has_the_navigation_of_those_who_are_signed_in(
    admin: Client,
) -> None:
    signed_in = admin.get("/admin/nothing/")
    assert signed_in.status_code == 404
    assert 'aria-label="Console"' in signed_in.content.decode()
    assert "default-src 'self'" in signed_in["Content-Security-Policy"]
    stranger = Client().get("/nothing")
    assert stranger.status_code == 404
    assert 'aria-label="Console"' not in stranger.content.decode()
    assert 'href="/admin/">To the console' in stranger.content.decode()


def test_a_form_with_an_old_token_gets_a_page_that_says_what_to_do(root: User) -> None:
    client = Client(enforce_csrf_checks=True)
    assert "sent no cookie" in client.post(LOGIN).content.decode()
    client.get(LOGIN)
    answer = client.post(
        LOGIN, {"username": "ada"}, headers={"Referer": f"http://testserver{LIST}"}
    )
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "<h1>The form was not accepted</h1>" in text
    assert f'href="http://testserver{LIST}">Back' in text
    script = client.post(LOGIN, headers={"Accept": "application/json"})
    assert (script.status_code, script.json()["code"]) == (403, "csrf_failed")


def test_an_error_page_needs_no_database(admin: Client, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr("sessions_app.site.ConsoleSite.each_context", fail)
    answer = admin.get("/nothing")
    assert answer.status_code == 404
    assert "Page not found" in answer.content.decode()


@pytest.mark.parametrize("prefix", ["", "/amplifierd"])
@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        (None, "/admin/"),
        ("{prefix}/docs", "/docs"),
        ("https://elsewhere.example/admin/", "/admin/"),
        ("//elsewhere.example/admin/", "/admin/"),
        ("javascript:alert(1)", "/admin/"),
    ],
)
def test_who_signs_in_lands_in_the_console_or_at_a_page_of_this_host(
    client: Client,
    django_user_model: type[User],
    prefix: str,
    wanted: str | None,
    leads_to: str,
) -> None:
    django_user_model.objects.create_superuser("ada", "", "secret")
    form = {"username": "ada", "password": "secret"}
    form |= {"next": wanted.format(prefix=prefix)} if wanted else {}
    # As the server does for each request.
    set_script_prefix(f"{prefix}/")
    try:
        answer = client.post(LOGIN, form)
    finally:
        clear_script_prefix()
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{prefix}{leads_to}")
