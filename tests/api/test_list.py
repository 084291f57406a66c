"""GET /sessions/"""

import base64
import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from amplifierd.auth import callers
from amplifierd.common.callers import Caller, Owner
from sessions_app.models import Session
from sessions_app.services import messages, sessions
from sessions_app.states import SessionStatus
from tests.conftest import Api

Make = Callable[..., Session]


def ids(response: object) -> list[str]:
    return [row["sessionId"] for row in response.json()]


def test_a_list_is_a_bare_array_newest_first(api: Api, make: Make) -> None:
    made = [make(SessionStatus.CREATED).id for _ in range(3)]
    response = api("get", "/sessions/")
    assert ids(response) == made[::-1]
    assert response["X-Total-Count"] == "3"
    assert "Link" not in response


@pytest.mark.parametrize(
    "query",
    [
        "status=active",
        "profile_name=foundation/production",
        "profileName=foundation/production",
        "parent_session_id={parent}",
        "metadata.team=red",
        "metadata.count=5",
        "metadata.done=true",
        "metadata.owner.name=ada",
        "metadata.owner.age=36",
        "metadata.owner.age=36.0",
        "metadata.owner.left=null",
        "metadata.a.b=dotted",
        "metadata.note=null",
        "metadata.zip=01234",
        "metadata.big=1e400",
        "metadata.team=red&metadata.count=5&status=active",
        "q=needle",
        "status=active&status=active&colour=blue&colour=red",
        "status=active&q=&cursor=",
        "since={since}",
    ],
)
def test_a_filter_finds_the_one_it_fits(api: Api, make: Make, query: str) -> None:
    parent = make(SessionStatus.CREATED, name="another")
    wanted = make(
        SessionStatus.ACTIVE,
        profile_name="foundation/production",
        parent_session_id=parent.id,
        metadata={
            "team": "red",
            "count": 5,
            "done": True,
            "owner": {"name": "ada", "age": 36, "left": None},
            "a.b": "dotted",
            "note": "null",
            "zip": "01234",
            "big": "1e400",
        },
        name="A Needle in hay",
    )
    since = wanted.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    response = api("get", f"/sessions/?{query.format(parent=parent.id, since=since)}")
    assert ids(response) == [wanted.id]
    assert response["X-Total-Count"] == "1"


def test_until_is_exclusive(api: Api, make: Make) -> None:
    first, second = make(SessionStatus.CREATED), make(SessionStatus.CREATED)
    until = second.created_at.isoformat().replace("+00:00", "Z")
    assert ids(api("get", f"/sessions/?until={until}")) == [first.id]


def test_pages_meet_exactly_while_sessions_come_and_go(api: Api, make: Make) -> None:
    made = [make(SessionStatus.CREATED).id for _ in range(5)][::-1]
    response = api("get", "/sessions/?limit=2&status=created")
    seen = ids(response)
    make(SessionStatus.CREATED)
    sessions.delete(made[0])
    while "Link" in response:
        path = re.fullmatch(r'<http://testserver/api/v1(.*)>; rel="next"', response["Link"])[1]
        response = api("get", path)
        seen += ids(response)
    assert seen == made


@pytest.mark.parametrize(
    "query",
    ["metadata.team=blue", "metadata.zip=1234", "metadata.owner=ada", "metadata.none=null"],
)
def test_metadata_that_differs_is_not_found(api: Api, make: Make, query: str) -> None:
    make(SessionStatus.CREATED, metadata={"team": "red", "zip": "01234", "owner": {"name": "ada"}})
    assert ids(api("get", f"/sessions/?{query}")) == []


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1_000", "1e999", "\u0665", "0x10"]
)
def test_only_numbers_of_json_are_numbers(api: Api, make: Make, value: str) -> None:
    session = make(SessionStatus.CREATED, metadata={"n": value})
    assert ids(api("get", f"/sessions/?metadata.n={value}")) == [session.id]


def test_a_list_has_only_what_its_caller_may_see(
    api: Api, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = make(SessionStatus.ACTIVE, name="gale", owner="ada")
    make(SessionStatus.ACTIVE, name="gale", owner="bob")
    monkeypatch.setattr(callers, "ANYBODY", Caller(Owner("ada"), scope="admin"))
    for path in ("/sessions/", "/sessions/active/list", "/sessions/?q=gale"):
        response = api("get", path)
        assert (ids(response), response["X-Total-Count"]) == ([mine.id], "1")


def test_an_empty_value_of_metadata_is_no_filter_as_no_empty_value_is(api: Api, make: Make) -> None:
    made = make(SessionStatus.CREATED, metadata={"team": "red"})
    assert ids(api("get", "/sessions/?metadata.team=")) == [made.id]


@pytest.mark.parametrize("path", ["/sessions/active/list?", "/sessions/?metadata.n=1&"])
def test_every_list_has_pages_and_a_total(api: Api, make: Make, path: str) -> None:
    made = [make(SessionStatus.ACTIVE, metadata={"n": 1}).id for _ in range(3)]
    first = api("get", f"{path}limit=2")
    assert (ids(first), first["X-Total-Count"]) == (made[:0:-1], "3")
    following = re.fullmatch(r'<http://testserver/api/v1(.*)>; rel="next"', first["Link"])[1]
    second = api("get", following)
    assert (ids(second), second["X-Total-Count"]) == (made[:1], "3")
    assert "Link" not in second


def test_sessions_of_the_same_moment_keep_their_order_over_pages(api: Api, make: Make) -> None:
    made = [make(SessionStatus.CREATED).id for _ in range(4)]
    Session.objects.update(created_at=Session.objects.first().created_at)
    first = api("get", "/sessions/?limit=2")
    following = re.fullmatch(r'<http://testserver/api/v1(.*)>; rel="next"', first["Link"])[1]
    assert ids(first) + ids(api("get", following)) == sorted(made, reverse=True)


def cursor(plain: str) -> str:
    return "cursor=" + base64.urlsafe_b64encode(plain.encode()).decode()


@pytest.mark.parametrize(
    "query",
    [
        "status=asleep",
        "limit=0",
        "limit=1001",
        "limit=x",
        "since=yesterday",
        "cursor=!!",
        "cursor=AAAA",
        "cursor=%ff",
        "cursor=é",
        "status=active&status=created",
        "profile_name=a&profileName=b",
        "profile_name=%00",
        "since=2026-02-30",
        "since=0001-01-01T00:00:00%2B23:59",
        "limit=1.5",
        "limit=" + "9" * 5000,
        cursor("0001-01-01T00:00:00+23:59 session_1"),
        cursor("9999-12-31T23:59:59-23:59 session_1"),
        cursor("2026-01-01T00:00:00 session_1"),
        cursor("2026-01-01T00:00:00+00:00 session_\0"),
        cursor("2026-01-01T00:00:00+00:00 session_1 0.5"),
        cursor("2026-01-01T00:00:00+00:00 session_1 nan"),
        "metadata." + "a." * 40 + "b=1",
        "metadata.a%00b=1",
        "metadata.a=%00",
        "metadata.a=1&metadata.a=2",
    ],
)
def test_a_bad_parameter_is_refused(api: Api, query: str) -> None:
    response = api("get", f"/sessions/?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    assert response.json()["errors"][0]["field"] == unquote(query.split("=")[0])


@pytest.mark.parametrize(
    "query",
    [
        "since=9999-12-31",
        "until=0001-01-01",
        "metadata.=x",
        "metadata..a=x",
        "metadata.a=" + "9" * 5000,
        "metadata.a='\"{}\\u0000",
        "parent_session_id=unknown",
        "amplified_dir=../..",
    ],
)
def test_an_odd_parameter_is_no_error(api: Api, session: Session, query: str) -> None:
    assert api("get", f"/sessions/?{query}").status_code == 200


def test_many_parameters_are_refused_or_ignored_and_no_error(api: Api) -> None:
    many = "&".join(f"metadata.k{n}=1" for n in range(21))
    assert api("get", f"/sessions/?{many}").status_code == 400
    assert api("get", "/sessions/?" + "&".join(f"x{n}=" for n in range(999))).status_code == 200
    assert api("get", "/sessions/?" + "&".join(f"x{n}=" for n in range(1001))).status_code == 400


def test_unknown_parameters_are_ignored(api: Api, session: Session) -> None:
    assert ids(api("get", "/sessions/?colour=blue")) == [session.id]


def test_active_list_has_the_active_ones(api: Api, make: Make) -> None:
    active = make(SessionStatus.ACTIVE)
    make(SessionStatus.CREATED)
    make(SessionStatus.COMPLETED)
    assert ids(api("get", "/sessions/active/list")) == [active.id]


def test_a_list_by_the_beginning_of_an_id(api: Api, make: Make) -> None:
    made = [make(SessionStatus.ACTIVE).id for _ in range(2)]
    assert ids(api("get", "/sessions/?id_prefix=session_0")) == made[::-1]
    assert ids(api("get", f"/sessions/?id_prefix={made[0]}")) == made[:1]
    assert ids(api("get", "/sessions/?id_prefix=%25")) == []


def test_lookup_finds_what_a_person_may_mean_the_best_fit_alone(api: Api, make: Make) -> None:
    def found(text: str) -> list[str]:
        return ids(api("get", f"/sessions/?lookup={text}"))

    plain, longer = make("active", name="parser"), make("active", name="The Parser, again")
    assert found(plain.id) == found(plain.id.removeprefix("session_")) == [plain.id]
    assert found("parser") == [plain.id]
    assert found("PARS") == [longer.id, plain.id]
    assert found(plain.id[:-3]) == [plain.id]
    assert found(plain.id[-8:]) == [plain.id]
    assert found("a_parser") == found("%25") == []
    assert ids(api("get", "/sessions/?lookup=pars&status=completed")) == []


def test_recent_sessions_are_those_that_were_changed_last(api: Api, make: Make) -> None:
    first, second, _ = make("active"), make("created"), make("completed")
    messages.add(first.id, "a note")
    assert ids(api("get", "/sessions/recent")) == [first.id, second.id]
    assert ids(api("get", "/sessions/recent?limit=1")) == [first.id]
    assert api("get", "/sessions/recent?limit=101").status_code == 400
