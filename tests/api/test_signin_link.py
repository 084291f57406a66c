"""The link that opens the console: once, for minutes, on this machine, and only when asked."""

import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.encoding import iri_to_uri
from pytest_django import Settings

from amplifierd.auth import links

URL = "http://127.0.0.1:8420"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Settings, db: None) -> Iterator[Path]:
    """A data folder of its own, of a daemon on loopback."""
    settings.HOME, settings.PUBLIC = tmp_path, False
    yield tmp_path


def path(page: str = "") -> str:
    return links.make_link(URL, page).removeprefix(URL)


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
    past = time.time() - links.LIFETIME - 1
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


def test_the_command_says_if_no_daemon_runs_on_the_data_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("console_link")
    printed = capsys.readouterr()
    assert printed.out.startswith("http://127.0.0.1:8420/admin/sign-in/")
    assert str(home) in printed.err


ASK = "/admin/sign-in/"
RUNS = "/admin/sessions_app/run/?status=failed&q=a%26b"
PRINTED = re.compile(r"http://127\.0\.0\.1:8420(/admin/sign-in/\S+)")


@pytest.fixture
def between_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one slot of the limit for as long as the test takes."""
    monkeypatch.setattr(links, "PAUSE", 10_000)


def test_the_login_page_says_how_to_get_in(client: Client, settings: Settings) -> None:
    page = client.get("/admin/login/").content.decode()
    assert "manage.py console_link" in page
    assert f'action="{ASK}"' in page
    settings.PUBLIC = True
    page = client.get("/admin/login/").content.decode()
    assert "console_link" not in page
    assert ASK not in page


def test_the_button_prints_a_link_on_the_terminal_and_shows_it_to_nobody(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.post(ASK, {"next": RUNS}, follow=True)
    [link] = PRINTED.findall(capsys.readouterr().out)
    token = link.split("/")[3]
    assert token not in answer.content.decode() + str(answer.headers) + str(answer.redirect_chain)
    assert "on the daemon&#x27;s terminal" in answer.content.decode()
    signed_in = Client().post(link)
    assert (signed_in.status_code, signed_in.url) == (302, RUNS)


def test_the_button_prints_one_link_in_ten_seconds(
    client: Client, capsys: pytest.CaptureFixture[str], between_slots: None, home: Path
) -> None:
    answers = [client.post(ASK) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [302, 429, 429]
    assert 0 < int(answers[1]["Retry-After"]) <= links.PAUSE
    assert b"/admin/login/" in answers[1].content
    assert len(PRINTED.findall(capsys.readouterr().out)) == 1
    for file in (home / "signin").iterdir():
        os.utime(file, (0, 0))
    path()
    assert len(list((home / "signin").iterdir())) == 1


def test_the_button_is_for_people_on_this_machine_alone(
    client: Client, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.post(ASK, REMOTE_ADDR="192.0.2.1").status_code == 404
    assert Client(enforce_csrf_checks=True).post(ASK).status_code == 403
    settings.PUBLIC = True
    assert client.post(ASK).status_code == 404
    assert capsys.readouterr().out == ""


def test_looking_at_the_buttons_address_prints_nothing(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.get(ASK).url == "/admin/login/?next=/admin/"
    assert capsys.readouterr().out == ""


def test_a_terminal_that_is_gone_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)
    answer = client.post(ASK)
    assert answer.status_code == 503
    assert b"manage.py console_link" in answer.content


def test_a_link_of_the_command_leads_to_the_page_that_was_asked_for(client: Client) -> None:
    login = client.get(RUNS)
    assert login.status_code == 302
    client.get(login.url)
    link = path()
    form = client.get(link).content.decode()
    assert f'value="{RUNS.replace("&", "&amp;")}"' in form
    assert client.post(link).url == RUNS
    # It is forgotten afterwards.
    assert client.post(path()).url == "/admin/"


def test_signed_in_people_go_on_from_the_login_page(client: Client) -> None:
    client.post(path())
    assert client.get("/admin/login/", {"next": RUNS}).url == RUNS


@pytest.mark.parametrize(
    "wanted",
    [
        "https://elsewhere.example/",
        "//elsewhere.example/",
        "///elsewhere.example/",
        "/\\elsewhere.example/",
        "\\\\elsewhere.example",
        "javascript:alert(1)",
        "admin/",
        "\n//elsewhere.example",
        "/" + "a" * 2000,
    ],
)
def test_a_link_leads_to_no_other_place(client: Client, wanted: str) -> None:
    client.get("/admin/login/", {"next": wanted})
    assert client.post(path(wanted)).url == "/admin/"
    assert Client().post(path(), {"next": wanted}).url == "/admin/"
    client = Client()
    client.cookies["signin_next"] = wanted
    assert client.post(path()).url == "/admin/"


@pytest.mark.parametrize("wanted", ["/admin/é/?q=雪;", '/admin/"; Path=/', "/docs"])
def test_any_path_of_ours_is_kept(client: Client, wanted: str) -> None:
    client.get("/admin/login/", {"next": wanted})
    assert client.cookies["signin_next"]["httponly"]
    assert client.post(path()).url == iri_to_uri(wanted)
    assert Client().post(path(wanted)).url == iri_to_uri(wanted)
