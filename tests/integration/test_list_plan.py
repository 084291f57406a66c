"""Lists are answered from an index, however many sessions there are."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoDbBlocker

from tests.conftest import Api, session_in
from tests.harness.databases import Baseline

pytestmark = pytest.mark.django_db
COUNT = 10_000

MANY = """
INSERT INTO sessions_app_session
SELECT copy.* FROM sessions_app_session AS pattern, generate_series(1, %s) AS n,
LATERAL jsonb_populate_record(pattern, jsonb_build_object(
    'id', 'session_' || n, 'name', 'Session ' || n,
    'created_at', pattern.created_at - n * interval '1 second',
    'metadata', jsonb_build_object('n', n, 'at', jsonb_build_object('floor', n))
)) AS copy;
UPDATE sessions_app_session SET status = 'active', started_at = now(), message_count = 20
WHERE split_part(name, ' ', 2)::int % 100 = 0;
INSERT INTO sessions_app_message (id, session_id, seq, role, content, created_at, metadata)
SELECT id || seq, id, seq, 'user', 'common words and word' || split_part(name, ' ', 2), now(), '{}'
FROM sessions_app_session, generate_series(1, 20) AS seq WHERE message_count = 20;
SELECT gin_clean_pending_list(name::regclass)
FROM unnest('{session_by_metadata, session_by_words, message_by_words}'::text[]) AS name;
ANALYZE sessions_app_session, sessions_app_message
"""


@pytest.fixture(scope="module")
def many(django_db_setup: Baseline, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """10,000 sessions, one in a hundred of them active, with twenty messages each."""
    with django_db_blocker.unblock(), transaction.atomic(), connection.cursor() as cursor:
        session_in("created")
        for statement in MANY.split(";\n"):
            cursor.execute(statement, [COUNT] if "%s" in statement else None)
    yield
    with django_db_blocker.unblock():
        django_db_setup.restore()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def plans_of(api: Api, path: str) -> list[list[dict[str, Any]]]:
    """Return the nodes of the plan of each query behind a path, as it was made for it."""
    with CaptureQueriesContext(connection) as queries:
        assert api("get", path).status_code == 200
    plans = []
    with connection.cursor() as cursor:
        for query in queries:
            if query["sql"].startswith("SET LOCAL"):
                cursor.execute(query["sql"])
            elif "FROM" in query["sql"] and "EXPLAIN" not in query["sql"]:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
                (explained,) = cursor.fetchone()
                plans.append(list(nodes(explained[0]["Plan"])))
    return plans


def indexes(plans: list[list[dict[str, Any]]]) -> set[str]:
    return {node["Index Name"] for plan in plans for node in plan if "Index Name" in node}


def sequential(plans: list[list[dict[str, Any]]]) -> list[str]:
    # No session here has a run: how PostgreSQL reads an empty table says nothing.
    scans = [node for plan in plans for node in plan if node["Node Type"] == "Seq Scan"]
    return [n["Relation Name"] for n in scans if n["Relation Name"] != "sessions_app_run"]


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("path", "index"),
    [
        ("/sessions/?status=active&limit=50", "session_by_status"),
        ("/sessions/active/list?limit=50", "session_by_status"),
        ("/sessions/?limit=50", "session_newest"),
    ],
)
def test_a_page_of_10_000_sessions_is_read_from_an_index(api: Api, path: str, index: str) -> None:
    [_, page] = plans_of(api, path)
    assert index in indexes([page])
    assert not sequential([page])
    assert "Sort" not in {node["Node Type"] for node in page}


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("path", ["metadata.n=77", "metadata.at.floor=77"])
def test_metadata_is_found_by_its_index(api: Api, path: str) -> None:
    plans = plans_of(api, f"/sessions/?{path}&limit=50")
    assert "session_by_metadata" in indexes(plans)
    assert not sequential(plans)


@pytest.mark.usefixtures("many")
def test_a_rare_word_is_found_by_the_index_of_words(api: Api) -> None:
    plans = plans_of(api, "/sessions/?q=word100&limit=50")
    assert {"message_by_words", "session_by_words"} <= indexes(plans)
    assert not sequential(plans)


@pytest.mark.usefixtures("many")
def test_a_common_word_is_looked_for_in_the_newest_sessions_alone(api: Api) -> None:
    plans = plans_of(api, "/sessions/?q=session&limit=50")
    assert not {"message_by_words", "session_by_words"} & indexes(plans)
    assert not sequential(plans)


@pytest.mark.usefixtures("many")
def test_a_page_takes_as_many_queries_as_an_empty_list(api: Api) -> None:
    with CaptureQueriesContext(connection) as queries:
        rows = api("get", "/sessions/?status=active&limit=50").json()
    assert len(rows) == 50
    assert len(queries) == 2


@pytest.mark.usefixtures("many")
def test_a_search_takes_as_many_queries_for_a_page_as_for_one_session(api: Api) -> None:
    counts = []
    for limit in (1, 50):
        with CaptureQueriesContext(connection) as queries:
            rows = api("get", f"/sessions/?q=session&limit={limit}").json()
        assert len(rows) == limit
        counts.append(len(queries))
    assert counts[0] == counts[1]
