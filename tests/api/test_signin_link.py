"""The link that opens the console: once, for minutes, on this machine, and only when asked."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from amplifierd.auth import signin

URL = "http://127.0.0.1:8420"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Settings, db: None) -> Iterator[Path]:
    """A data folder of its own, of a daemon on loopback."""
    settings.HOME, settings.PUBLIC = tmp_path, False
    yield tmp_path


def path() -> str:
    return signin.make_link(URL).removeprefix(URL)


def is_signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_the_link_signs_in_as_a_superuser_without_a_password(client: Client) -> None:
    response = client.post(path())
    assert (response.status_code, response.url) == (302, "/admin/")
    assert is_signed_in(client)
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.has_usable_password()) == (
        "operator",
        True,
        False,
    )


def test_looking_at_the_link_does_not_use_it_up(client: Client) -> None:
    link = path()
    for _ in range(2):
        page = client.get(link)
        assert page.status_code == 200
        assert b"Open the console" in page.content
        assert "no-store" in page["Cache-Control"]
    assert not is_signed_in(client)
    assert not User.objects.exists()
    client.post(link)
    assert is_signed_in(client)


def test_the_link_works_once(client: Client) -> None:
    link = path()
    client.post(link)
    other = Client()
    for method in (other.get, other.post):
        assert method(link).status_code == 410
    assert not is_signed_in(other)


def test_a_second_link_opens_the_same_account(client: Client) -> None:
    for _ in range(2):
        Client().post(path())
    assert User.objects.count() == 1


def test_the_link_runs_out(client: Client, home: Path) -> None:
    link = path()
    [file] = (home / "signin").iterdir()
    past = time.time() - signin.LIFETIME - 1
    os.utime(file, (past, past))
    assert client.post(link).status_code == 410
    path()
    assert file not in (home / "signin").iterdir()


def test_nothing_in_the_data_folder_tells_the_link(home: Path) -> None:
    token = path().rstrip("/").rpartition("/")[2]
    [file] = (home / "signin").iterdir()
    assert token not in file.name
    assert file.read_bytes() == b""
    assert (home / "signin").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("token", ["x", "..", "%00", "a" * 43, "é" * 43])
def test_a_made_up_link_signs_nobody_in(client: Client, token: str) -> None:
    path()
    assert client.post(f"/admin/sign-in/{token}/").status_code in (404, 410)
    assert not is_signed_in(client)


def test_another_machine_is_not_let_in(client: Client) -> None:
    link = path()
    assert client.get(link, REMOTE_ADDR="192.0.2.1").status_code == 404
    assert client.post(link, REMOTE_ADDR="192.0.2.1").status_code == 404
    assert client.post(link).status_code == 302


def test_a_public_daemon_has_no_links(client: Client, settings: Settings) -> None:
    link = path()
    settings.PUBLIC = True
    assert client.post(link).status_code == 404
    with pytest.raises(CommandError, match="createsuperuser"):
        call_command("console_link")


def test_a_page_from_elsewhere_cannot_press_the_button() -> None:
    client = Client(enforce_csrf_checks=True)
    link = path()
    assert client.post(link).status_code == 403
    form = client.get(link).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token is not None
    assert client.post(link, {"csrfmiddlewaretoken": token[1]}).status_code == 302


@pytest.mark.parametrize("lacks", ["is_active", "is_staff", "is_superuser"])
def test_an_account_of_that_name_is_not_given_more_than_it_has(client: Client, lacks: str) -> None:
    rights = {"is_active": True, "is_staff": True, "is_superuser": True, lacks: False}
    User.objects.create(username="operator", **rights)
    link = path()
    assert client.post(link).status_code == 410
    assert not is_signed_in(client)
    assert getattr(User.objects.get(), lacks) is False


def test_the_command_prints_the_link_of_the_running_daemon(
    home: Path, capsys: pytest.CaptureFixture[str], client: Client
) -> None:
    (home / "serve.lock").write_text('{"pid": 1, "url": "http://127.0.0.1:9000"}')
    call_command("console_link")
    link = capsys.readouterr().out.strip()
    assert link.startswith("http://127.0.0.1:9000/admin/sign-in/")
    assert client.post(link.removeprefix("http://127.0.0.1:9000")).status_code == 302
