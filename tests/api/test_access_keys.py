"""API keys: who is let in by which, and what is kept of them."""

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection
from django.test import Client
from django.utils import timezone

from amplifierd import __version__
from amplifierd.auth import keys
from amplifierd.models import ApiKey
from tests.api.callers import Caller, endpoints
from tests.conftest import Api

OPEN = {"/status", "/health"}


@pytest.fixture
def demanded(settings: Any) -> None:
    """A daemon that demands keys."""
    settings.REQUIRE_KEYS = True


def refused(answer: Any) -> bool:
    """Tell whether it is a 401 as the contract has it."""
    return (answer.status_code, answer.json()["code"], answer["WWW-Authenticate"]) == (
        401,
        "not_authenticated",
        "Bearer",
    )


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("apikeys", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.mark.parametrize("endpoint", endpoints(), ids="-".join)
def test_every_endpoint_demands_a_key_but_those_that_tell_of_the_daemon_alone(
    endpoint: Any, api: Api, demanded: None
) -> None:
    answer = api(endpoint.method, endpoint.url(), {})
    if endpoint.path in OPEN:
        assert answer.status_code == 200
    else:
        assert refused(answer)


def test_a_stranger_is_told_nothing_of_the_daemon(
    api: Api, admin_client: Client, demanded: None
) -> None:
    assert api("get", "/status").json() == {"status": "running"}
    assert refused(api("get", "/status", Authorization="Bearer x"))
    assert refused(api("get", "/openapi.json"))
    told = [api.client.get(path) for path in ("/", "/livez", "/readyz", "/nothing", "/docs")]
    told += [api("get", path) for path in ("/status", "/health", "/nothing", "/sessions/")]
    for answer in told:
        head = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
        for known in (__version__, str(settings.ROOT_DIR), "Python", "Django"):
            assert known not in answer.content.decode() + head
    assert told[4].headers["Location"] == "/admin/login/?next=/docs"
    reader = Caller(api, "alice", "read")
    assert reader("get", "/status").json().keys() == {
        "status",
        "version",
        "uptimeSeconds",
        "rootDir",
    }
    assert reader("get", "/openapi.json").status_code == 200
    # The page of the description reads it with the console's cookie.
    for path in ("/docs", "/api/v1/openapi.json"):
        assert admin_client.get(path).status_code == 200


def test_on_loopback_nobody_is_asked(api: Api) -> None:
    assert api("get", "/sessions/").status_code == 200


@pytest.mark.parametrize("demands", [True, False])
@pytest.mark.parametrize(
    "shown", ["Bearer x", "Bearer amp_aaaaaaaa_" + "b" * 43, "Basic YTpi", "Bearer", "Bearer ÿ"]
)
def test_a_key_that_is_shown_is_checked_in_any_case(
    api: Api, settings: Any, shown: str, demands: bool
) -> None:
    settings.REQUIRE_KEYS = demands
    assert refused(api("get", "/sessions/", Authorization=shown))
    assert refused(api("post", "/sessions/", {}, Authorization=shown, **{"Idempotency-Key": "k"}))


def test_a_key_opens_until_it_expires_or_is_revoked(api: Api, demanded: None) -> None:
    alice = Caller(api, "alice")
    assert alice("get", "/sessions/").status_code == 200
    keys.revoke(alice.made.prefix)
    assert refused(alice("get", "/sessions/"))
    bob = Caller(api, "bob")
    ApiKey.objects.all()._raw_delete("default")
    assert refused(bob("get", "/sessions/"))
    _, key = keys.create(name="x", owner="x", expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(api("get", "/sessions/", Authorization=f"Bearer {key}"))


def test_nothing_of_a_key_is_kept_but_its_hash(db: None) -> None:
    made, key = keys.create(name="n", owner="o")
    secret = key.rpartition(f"{made.prefix}_")[2]
    assert len(secret) == 43
    row = ApiKey.objects.filter(pk=made.pk).values().get()
    assert secret not in str(row)
    assert row["digest"] == keys.digest_of(key)


def test_another_secret_behind_a_known_prefix_is_refused(db: None) -> None:
    made, key = keys.create(name="n", owner="o")
    forged = key[:-1] + ("A" if key[-1] != "A" else "B")
    with pytest.raises(keys.InvalidKey):
        keys.check(forged)
    assert keys.check(key) == made


def test_use_is_noted_once_a_minute(db: None) -> None:
    made, key = keys.create(name="n", owner="o")
    keys.check(key)
    made.refresh_from_db()
    first = made.last_used_at
    keys.check(key)
    made.refresh_from_db()
    assert first is not None
    assert made.last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(seconds=61))
    keys.check(key)
    made.refresh_from_db()
    assert made.last_used_at >= first


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [{"scope": "admin"}, {"owner": "bob"}, {"digest": "0" * 64}])
def test_what_a_key_opens_never_changes(change: dict[str, str]) -> None:
    keys.create(name="n", owner="alice")
    with pytest.raises(ProgrammingError, match="Cannot update"):
        ApiKey.objects.update(**change)


@pytest.mark.django_db(transaction=True)
def test_a_revoked_key_stays_revoked() -> None:
    made, _ = keys.create(name="n", owner="alice")
    keys.revoke(made.prefix)
    with pytest.raises(ProgrammingError, match="Cannot update"):
        ApiKey.objects.update(revoked_at=None)
    assert keys.revoke("nothing1") is None


@pytest.mark.parametrize(
    ("method", "path", "body", "needed"),
    [
        ("get", "/sessions/", None, "read"),
        ("get", "/profiles/", None, "read"),
        ("post", "/sessions/", {"profile_name": "foundation/test"}, "write"),
        ("post", "/profiles/", {}, "admin"),
        ("delete", "/profiles/active", None, "admin"),
        ("post", "/amplified-directories/", {}, "admin"),
    ],
)
def test_a_scope_includes_those_below_it(
    api: Api, method: str, path: str, body: Any, needed: str
) -> None:
    order = ["read", "write", "admin"]
    for scope in order:
        answer = Caller(api, scope, scope)(method, path, body)
        if order.index(scope) >= order.index(needed):
            assert answer.status_code not in (401, 403)
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
            assert f"scope {needed}" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_key(client: Client, db: None, demanded: None, path: str) -> None:
    assert client.get(path).status_code == 200


def test_who_is_signed_in_to_the_console_may_call_with_the_csrf_token(
    api: Api, demanded: None
) -> None:
    session_id = Caller(api, "alice").session()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(f"/api/v1/sessions/{session_id}").status_code == 200
    url = f"/api/v1/sessions/{session_id}/start"
    bare = client.post(url)
    assert (bare.status_code, bare.json()["code"]) == (403, "permission_denied")
    client.get("/admin/")
    client.get("/admin/password_change/")
    token = client.cookies["csrftoken"].value
    headers = {"X-CSRFToken": token}
    kind = "application/json"
    assert client.post(url, content_type=kind, headers=headers).status_code == 204


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "one"}])
def test_a_token_in_a_form_leaves_the_body_to_be_read(
    api: Api, demanded: None, key: dict[str, str]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    client.get("/admin/password_change/")
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    answer = client.post("/api/v1/sessions/", form, headers=key)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_the_console_s_permissions_are_scopes_here(demanded: None, api: Api) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    client = Client()
    client.force_login(viewer)
    assert client.get("/api/v1/sessions/").status_code == 401
    viewer.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="sessions_app")
    )
    assert client.get("/api/v1/sessions/").status_code == 200
    created = client.post("/api/v1/sessions/", {}, content_type="application/json")
    assert created.status_code == 403


def test_who_is_no_staff_is_nobody(demanded: None, api: Api) -> None:
    client = Client()
    client.force_login(User.objects.create_user("visitor"))
    assert refused(client.get("/api/v1/sessions/"))


def test_the_command_prints_a_key_that_opens_and_lists_it_without(api: Api, demanded: None) -> None:
    key = command("create", "notebook", "--owner", "alice", "--scope", "read").strip()
    assert api("get", "/sessions/", Authorization=f"Bearer {key}").status_code == 200
    listed = command("list")
    assert listed.split("\t")[1:5] == ["notebook", "alice", "read", "usable"]
    assert key not in listed
    [row] = json.loads(command("list", "--json"))
    assert (row["owner"], row["state"]) == ("alice", "usable")
    assert key[13:] not in json.dumps(row)
    prefix = key[4:12]
    assert command("revoke", prefix) == f"{prefix}\trevoked\n"
    assert refused(api("get", "/sessions/", Authorization=f"Bearer {key}"))


def test_the_command_gives_the_owner_a_directory_or_says_that_it_has_none(
    api: Api, demanded: None, catalogue: None, settings: Any, tmp_path: Path
) -> None:
    settings.ROOT_DIR = tmp_path
    for options, has_directory in (([], False), (["--directory", "alice"], True)):
        screen, notes = StringIO(), StringIO()
        call_command("apikeys", "create", "alice", *options, stdout=screen, stderr=notes)
        assert ("no directory" in notes.getvalue()) is not has_directory
        headers = {"Authorization": f"Bearer {screen.getvalue().strip()}"}
        refused = api("post", "/sessions/", {"amplified_dir": "."}, **headers)
        assert (refused.status_code, "\n" in refused.json()["detail"]) == (403, False)
        created = api("post", "/sessions/", {"amplified_dir": "alice"}, **headers)
        assert created.status_code == (201 if has_directory else 400)
    assert "no directory" not in create_notes("--scope", "admin")


def create_notes(*options: str) -> str:
    notes = StringIO()
    call_command("apikeys", "create", "somebody", *options, stdout=StringIO(), stderr=notes)
    return notes.getvalue()


def test_the_command_makes_keys_that_expire(db: None) -> None:
    made = json.loads(command("create", "short", "--days", "1", "--json"))
    assert made["owner"] == "short"
    assert made["key"].startswith(f"amp_{made['prefix']}_")
    expires = ApiKey.objects.get().expires_at
    assert timedelta(hours=23) < expires - timezone.now() < timedelta(hours=25)


def test_the_command_refuses_what_is_none(db: None) -> None:
    with pytest.raises(CommandError, match="nothing was revoked"):
        command("revoke", "aaaaaaaa")
    with pytest.raises(CommandError, match="1 to 64"):
        command("create", "x" * 65)


def test_a_caller_costs_one_query(api: Api, django_assert_num_queries: Any) -> None:
    alice = Caller(api, "alice")
    alice("get", "/sessions/")
    with django_assert_num_queries(1):
        keys.check(alice.key)
    assert connection.vendor == "postgresql"
