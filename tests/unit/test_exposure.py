"""Where a daemon may listen, and what has to be settled before it may be reached by others."""

from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError

from amplifierd.auth import exposure, keys
from amplifierd.common import statements
from amplifierd.env import is_loopback
from amplifierd.models import ApiKeyQuerySet

SETTLED = {
    "NAMED_HOSTS": ["daemon.example"],
    "REQUIRE_KEYS": True,
    "BEHIND_PROXY": True,
    "TLS_CERT": "",
    "TLS_KEY": "",
    "DEBUG": False,
}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1.2.3",
        "localhost",
        "LOCALHOST.",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "/run/amplifierd.sock",
        "unix:/run/amplifierd.sock",
    ],
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "[::]", "10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "example", ""]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def refusal(settings: Any, address: str = "0.0.0.0", **changes: Any) -> str:
    for name, value in (SETTLED | changes).items():
        setattr(settings, name, value)
    try:
        exposure.check(address)
    except CommandError as error:
        return str(error)
    return ""


def test_what_is_settled_may_listen_anywhere(settings: Any) -> None:
    assert refusal(settings) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"NAMED_HOSTS": []}, "AMPLIFIERD_ALLOWED_HOSTS=amplifierd.example.com"),
        ({"NAMED_HOSTS": ["a.example", "*"]}, "AMPLIFIERD_ALLOWED_HOSTS is *"),
        ({"REQUIRE_KEYS": False}, "AMPLIFIERD_REQUIRE_KEYS"),
        ({"BEHIND_PROXY": False}, "--behind-proxy"),
        ({"DEBUG": True}, "AMPLIFIERD_DEBUG"),
        ({"TLS_CERT": "/none.pem"}, "AMPLIFIERD_TLS_KEY"),
        ({"TLS_CERT": "/none.pem", "TLS_KEY": "/none.key"}, "/none.pem"),
    ],
)
def test_what_is_missing_is_said(settings: Any, changes: dict[str, Any], says: str) -> None:
    said = refusal(settings, **changes)
    assert said.startswith("amplifierd does not listen on 0.0.0.0")
    assert says in said


def test_all_that_is_missing_is_said_at_once(settings: Any) -> None:
    changes = {"NAMED_HOSTS": [], "REQUIRE_KEYS": False, "BEHIND_PROXY": False}
    assert refusal(settings, **changes).count("\n  - ") == 3


def test_loopback_needs_nothing(settings: Any) -> None:
    changes = {"NAMED_HOSTS": [], "REQUIRE_KEYS": False, "BEHIND_PROXY": False}
    for address in ("127.0.0.1", "::1", "unix:"):
        assert refusal(settings, address, **changes) == ""


def test_a_proxy_makes_loopback_public(settings: Any) -> None:
    assert "AMPLIFIERD_REQUIRE_KEYS" in refusal(settings, "127.0.0.1", REQUIRE_KEYS=False)


def test_any_host_name_is_let_in_nowhere(settings: Any) -> None:
    changes = {"NAMED_HOSTS": ["*"], "BEHIND_PROXY": False}
    assert "is *" in refusal(settings, "127.0.0.1", **changes)


def test_without_a_key_nobody_could_call(settings: Any, db: None) -> None:
    refusal(settings)
    with pytest.raises(CommandError, match="apikeys create"):
        exposure.check_keys("0.0.0.0")
    made, _ = keys.create(name="n", owner="o")
    exposure.check_keys("0.0.0.0")
    keys.revoke(made.prefix)
    with pytest.raises(CommandError, match="apikeys create"):
        exposure.check_keys("0.0.0.0")


def test_a_database_that_is_away_keeps_no_process_from_starting(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Any) -> None:
        raise OperationalError("away")

    refusal(settings)
    monkeypatch.setattr(ApiKeyQuerySet, "exists", away)
    exposure.check_keys("0.0.0.0")


def test_files_that_are_no_certificate_are_named(settings: Any, tmp_path: Path) -> None:
    settings.TLS_CERT = settings.TLS_KEY = str(tmp_path / "cert.pem")
    (tmp_path / "cert.pem").write_text("nothing of the kind")
    assert "cert.pem" in refusal(
        settings, "127.0.0.1", TLS_CERT=settings.TLS_CERT, TLS_KEY=settings.TLS_KEY
    )


def test_without_certificate_there_is_no_tls(settings: Any) -> None:
    settings.TLS_CERT = settings.TLS_KEY = ""
    assert exposure.tls_context() is None


def test_statements_are_limited_beside_what_the_url_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    databases = {"default": {"OPTIONS": {"options": "-c work_mem=8MB"}}}
    monkeypatch.setattr(statements.connections, "settings", databases)
    statements.limit_statements(0)
    assert databases["default"]["OPTIONS"] == {"options": "-c work_mem=8MB"}
    statements.limit_statements(5)
    expected = "-c work_mem=8MB -c statement_timeout=5000"
    assert databases["default"]["OPTIONS"] == {"options": expected}
