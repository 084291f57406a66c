"""The console's lists as files: all that is found, and nothing that a spreadsheet computes."""

import csv
import io
import json
from collections.abc import Callable

import pytest
from django.test import Client

from sessions_app.admin import listing
from sessions_app.models import Attempt, Session
from sessions_app.services import attempts, messages
from sessions_app.services.attempts import Failure

Make = Callable[..., Session]
LIST = "/admin/sessions_app/session/"
RUNS = "/admin/sessions_app/run/"


@pytest.fixture
def admin(admin_client: Client, catalogue: None) -> Client:
    """A superuser in the console."""
    return admin_client


def exported(client: Client, url: str, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    assert response.streaming
    assert "attachment" in response["Content-Disposition"]
    return b"".join(response).decode()


def rows(client: Client, url: str, **query: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(client, url, **query))))


def test_all_that_is_found_is_exported_whatever_a_page_holds(
    admin: Client, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(listing, "BATCH", 2)
    monkeypatch.setattr(listing, "GATHERED", 2)
    made = [make("active", name=f"Nr. {number}").id for number in range(5)]
    make("created")
    found = rows(admin, f"{LIST}export/csv/", status="active")
    assert [row["id"] for row in found] == made[::-1]
    shown = json.loads(exported(admin, f"{LIST}export/json/", status="active"))
    assert [row["sessionId"] for row in shown] == made[::-1]


def test_an_export_reads_each_batch_once(
    admin: Client, make: Make, django_assert_max_num_queries: object
) -> None:
    for _ in range(20):
        make("active", metadata={"a": 1})
    with django_assert_max_num_queries(6):
        assert exported(admin, f"{LIST}export/json/").count('"metadata"') == 20


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])  # noqa: RUF001
def test_a_cell_is_no_formula(admin: Client, make: Make, begin: str) -> None:
    make("active", name=f'{begin}HYPERLINK("http://x";"y")')
    [row] = rows(admin, f"{LIST}export/csv/")
    assert row["name"].startswith(f"'{begin}")
    [shown] = json.loads(exported(admin, f"{LIST}export/json/"))
    assert shown["name"].startswith(begin)


@pytest.mark.parametrize("name", ['a "quoted", name', "two\nlines", "ünïcode 日本", "'", ","])
def test_any_name_comes_through(admin: Client, make: Make, name: str) -> None:
    make("active", name=name)
    assert rows(admin, f"{LIST}export/csv/")[0]["name"] == name


def test_invisible_characters_are_spelled_out(admin: Client, make: Make) -> None:
    make("active", name="a\x1b[31m\u202eb")
    assert rows(admin, f"{LIST}export/csv/")[0]["name"] == "a⟨U+001B⟩[31m⟨U+202E⟩b"


def test_a_search_is_exported_with_where_it_was_found(admin: Client, make: Make) -> None:
    messages.add(make("active").id, "a parser of tabs")
    make("active")
    [row] = rows(admin, f"{LIST}export/csv/", q="parser")
    assert row["found"] == "a ⟦parser⟧ of tabs"
    [shown] = json.loads(exported(admin, f"{LIST}export/json/", q="parser"))
    assert shown["found"] == row["found"]


def test_secrets_are_masked(admin: Client, make: Make) -> None:
    make("active", metadata={"token": "sk-canary"})
    for kind in ("csv", "json"):
        assert "sk-canary" not in exported(admin, f"{LIST}export/{kind}/")


def test_runs_are_exported(admin: Client, attempt: Attempt) -> None:
    attempts.fail(attempt, Failure("provider_error", "=1+1"))
    [row] = rows(admin, f"{RUNS}export/csv/", status="failed")
    assert (row["id"], row["error_code"], row["error"]) == (
        attempt.run_id,
        "provider_error",
        "'=1+1",
    )
    [shown] = json.loads(exported(admin, f"{RUNS}export/json/"))
    assert shown["runId"] == attempt.run_id
    assert shown["errorCode"] == "provider_error"


def test_nothing_found_is_an_empty_file(admin: Client) -> None:
    assert rows(admin, f"{LIST}export/csv/") == []
    assert json.loads(exported(admin, f"{LIST}export/json/", q="!!!")) == []


def test_what_is_no_kind_of_file_is_404(admin: Client) -> None:
    assert admin.get(f"{LIST}export/xlsx/").status_code == 404


def test_strangers_are_sent_to_the_login(client: Client, session: Session) -> None:
    for url in (LIST, RUNS):
        answer = client.get(f"{url}export/csv/")
        assert answer["Location"].startswith("/admin/login/")
