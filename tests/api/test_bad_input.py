"""Whatever is sent: a clear refusal, and nothing is lost or made."""

import pytest

from sessions_app.models import Message, Session
from tests.conftest import Api

JSON = "application/json"


def post(api: Api, path: str, body: bytes, content_type: str = JSON, **headers: str) -> tuple:
    answer = api.client.post(
        f"/api/v1{path}", data=body, content_type=content_type, headers=headers
    )
    problem = answer.json() if answer.content else {}
    return answer.status_code, problem.get("code"), problem


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b" ", "parse_error"),
        (b"{", "parse_error"),
        (b"{} {}", "parse_error"),
        (b"\xef\xbb\xbf{}", "parse_error"),
        (b'{"name": "\xff"}', "parse_error"),
        (b'{"metadata": {"a": NaN}}', "parse_error"),
        (b'{"metadata": {"a": -Infinity}}', "parse_error"),
        (b'{"metadata": {"a": ' + b"[" * 64 + b"]" * 64 + b"}}", "parse_error"),
        (b'{"metadata": {"a": ' + b"[" * 40 + b"]" * 40 + b"}}", "invalid"),
        (b'{"metadata": {"a": 1e400}}', "invalid"),
        (b'{"metadata": {"a": 18446744073709551616}}', "invalid"),
        (b'{"metadata": {"a": 1, "a": 2}}', "invalid"),
        (b'{"metadata": {"\\u0000": 1}}', "invalid"),
        (b'{"metadata": {"\\ud800": 1}}', "invalid"),
        (b'{"name": "\\u0000"}', "invalid"),
        (b'{"name": "\\udc00"}', "invalid"),
        (b'{"nmae": "typo"}', "invalid"),
        (b"null", "invalid"),
        (b"true", "invalid"),
        (b"1", "invalid"),
        (b'"text"', "invalid"),
        (b"[]", "invalid"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_makes_nothing(
    api: Api, body: bytes, code: str
) -> None:
    status, found, problem = post(api, "/sessions/", body)
    assert (status, found) == (400, code)
    assert problem["detail"]
    assert not Session.objects.exists()


def test_the_place_of_what_is_refused_is_named(api: Api) -> None:
    _, _, problem = post(api, "/sessions/", b'{"metadata": {"list": [1, {"b": "\\u0000"}]}}')
    assert [error["field"] for error in problem["errors"]] == ["metadata.list[1].b"]


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/xml", "multipart/form-data", "application/json; charset=utf-7"],
)
@pytest.mark.parametrize("action", ["start", "complete", "terminate", "cancel-execution"])
def test_a_body_of_another_type_is_refused_also_where_none_is_needed(
    api: Api, session: Session, action: str, content_type: str
) -> None:
    status, code, _ = post(api, f"/sessions/{session.id}/{action}", b"{}", content_type)
    assert (status, code) == (415, "unsupported_media_type")
    session.refresh_from_db()
    assert session.status == "active"


@pytest.mark.parametrize("content_type", [JSON, "text/plain", ""])
def test_an_empty_body_is_none_whatever_its_type(
    api: Api, session: Session, content_type: str
) -> None:
    assert post(api, "/sessions/", b"", content_type)[0] == 201
    assert post(api, f"/sessions/{session.id}/complete", b"", content_type)[0] == 204


@pytest.mark.parametrize(
    "query",
    [
        "limit=99999999999999999999",
        "limit=" + "9" * 5000,
        "limit=%00",
        "limit=5.0",
        "limit=%EF%BC%95",
        "limit=1_0",
        "cursor=%00",
        "cursor=%ff",
        "q=%00",
        "since=99999-01-01",
        "since=0001-01-01T00:00:00%2B14:00",
        "metadata.%00=1",
        "metadata.a=%00",
        "parent_session_id=%00",
        "&".join("a=1" for _ in range(3000)),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused(api: Api, query: str) -> None:
    answer = api("get", f"/sessions/?{query}")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("value", ["5", "", "\uff15", 5.5, True, [], "1_0"])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/sessions/cleanup", "older_than_days"),
        ("/sessions/{}/messages", "token_count"),
        ("/sessions/{}/fork", "after"),
    ],
)
def test_a_number_is_no_text(
    api: Api, session: Session, path: str, field: str, value: object
) -> None:
    refused = api("post", path.format(session.id), {field: value})
    assert refused.status_code == 400
    assert field in [error["field"] for error in refused.json()["errors"]]


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\\ud800", "C:\\users\\u0000.txt"])
def test_a_backslash_is_no_escape_of_what_follows_it(api: Api, text: str) -> None:
    made = api("post", "/sessions/", {"metadata": {text: text}})
    assert (made.status_code, made.json().get("metadata")) == (201, {text: text})


@pytest.mark.parametrize("path", ["%00", "%ff", "%ED%A0%80", "%zz", "a" * 5000, "..%2f..%2fx"])
@pytest.mark.parametrize("place", ["sessions", "profiles", "amplified-directories"])
def test_a_path_that_names_nothing_is_refused(api: Api, place: str, path: str) -> None:
    answer = api("get", f"/{place}/{path}")
    assert answer.status_code in (400, 404)
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    ["/sessions/", "/sessions/active/list", "/profiles/", "/amplified-directories/", "/status"],
)
def test_a_method_that_nothing_serves_is_refused(api: Api, path: str) -> None:
    for method in ("PUT", "TRACE", "NONSENSE"):
        answer = api(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert api("HEAD", path).status_code == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/sessions/cleanup", "dry_run"),
        ("/cache/update", "force"),
        ("/amplified-directories/", "create_marker"),
    ],
)
def test_a_truth_value_is_no_number_and_no_word(api: Api, path: str, field: str) -> None:
    for value in (0, 1, "true", "yes", None):
        refused = api("post", path, {field: value})
        assert refused.status_code == 400, value


@pytest.mark.parametrize("value", ["0", "1", "yes", "on", "t", "null", "0.0", "tru%C3%89"])
@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("post", "/cache/update?force="),
        ("post", "/cache/update?check_only="),
        ("delete", "/amplified-directories/root?remove_marker="),
    ],
)
def test_a_truth_value_of_a_query_is_true_or_false(
    api: Api, method: str, query: str, value: str
) -> None:
    refused = api(method, f"{query}{value}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("path", ["/sessions/", "/collections/", "/profiles/", "/status"])
def test_options_names_the_methods(api: Api, path: str) -> None:
    answer = api("options", path)
    assert answer.status_code == 200
    assert ", ".join(answer.json()["methods"]) == answer["Allow"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Idempotency-Key": ""}, 400),
        ({"Idempotency-Key": "\x7f"}, 400),
        ({"Idempotency-Key": "a" * 256}, 400),
        ({"Idempotency-Key": "\xff"}, 400),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "nonsense"}, 406),
    ],
)
def test_a_header_that_cannot_be_served_is_refused(
    api: Api, session: Session, headers: dict[str, str], status: int
) -> None:
    path = f"/sessions/{session.id}/messages"
    assert post(api, path, b'{"content": "x"}', **headers)[0] == status
    assert not Message.objects.exists()
