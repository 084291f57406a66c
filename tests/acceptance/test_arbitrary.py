"""Arbitrary text and JSON through every writable field: unchanged, or refused with 400."""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness.daemon import Daemon

pytestmark = pytest.mark.acceptance
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
EVERYDAY, LONG = 20, 200
TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
    | st.floats()
    | TEXT
)
OBJECT = st.dictionaries(
    TEXT,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    ),
    max_size=5,
)


class Caller:
    """Sends bodies as they are, and reads what became of them."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.session_id = daemon.session()

    def send(self, method: str, path: str, body: Any) -> Any:
        """Return the answer; None where the body was refused."""
        # Escapes what UTF-8 cannot write, and writes NaN: the daemon is to judge.
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        response = self.daemon.api.request(method, path, content=content, headers=headers)
        if response.status_code == 400:
            assert response.json()["detail"]
            return None
        assert response.is_success, response.text
        return response.json() if response.content else {}

    def read(self, path: str) -> Any:
        response = self.daemon.api.get(path)
        assert response.status_code == 200, response.text
        return response.json()


Field = Callable[[Caller, Any], Any]
# What came back of a value that was sent; None where it was refused.
FIELDS: dict[str, tuple[st.SearchStrategy[Any], Field]] = {}


def field(values: st.SearchStrategy[Any]) -> Callable[[Field], Field]:
    """Register the field that a function sends values through."""

    def register(function: Field) -> Field:
        FIELDS[function.__name__] = (values, function)
        return function

    return register


def of_new_session(caller: Caller, member: str, body: dict[str, Any]) -> Any:
    made = caller.send("POST", "/sessions/", {"profile_name": "foundation/test", **body})
    if made is None:
        return None
    shown = caller.read(f"/sessions/{made['sessionId']}")
    caller.daemon.api.delete(f"/sessions/{made['sessionId']}")
    return shown[member]


@field(TEXT)
def session_name(caller: Caller, value: str) -> Any:
    return of_new_session(caller, "name", {"name": value})


@field(TEXT)
def session_rename(caller: Caller, value: str) -> Any:
    changed = caller.send("PATCH", f"/sessions/{caller.session_id}", {"name": value})
    return changed and changed["name"]


@field(OBJECT)
def session_metadata(caller: Caller, value: Any) -> Any:
    return of_new_session(caller, "metadata", {"metadata": value})


@field(OBJECT)
def settings_overrides(caller: Caller, value: Any) -> Any:
    body = {"profile_name": "foundation/test", "settings_overrides": value}
    made = caller.send("POST", "/sessions/", body)
    return made and caller.read(f"/sessions/{made['sessionId']}/mount-plan")["session"]["settings"]


def failed(caller: Caller, member: str, body: dict[str, Any]) -> Any:
    session_id = caller.daemon.session()
    done = caller.send("POST", f"/sessions/{session_id}/fail", {"error_message": "x", **body})
    return None if done is None else caller.read(f"/sessions/{session_id}")[member]


@field(TEXT)
def error_message(caller: Caller, value: str) -> Any:
    return failed(caller, "errorMessage", {"error_message": value})


@field(OBJECT)
def error_details(caller: Caller, value: Any) -> Any:
    return failed(caller, "errorDetails", {"error_details": value})


def last_message(caller: Caller, member: str, body: dict[str, Any]) -> Any:
    path = f"/sessions/{caller.session_id}/messages"
    added = caller.send("POST", path, {"content": "x", **body})
    return added and caller.read(f"{path}/last")[member]


@field(TEXT)
def message_content(caller: Caller, value: str) -> Any:
    return last_message(caller, "content", {"content": value})


@field(TEXT)
def message_agent(caller: Caller, value: str) -> Any:
    return last_message(caller, "agent", {"agent": value})


@field(OBJECT)
def message_metadata(caller: Caller, value: Any) -> Any:
    return last_message(caller, "metadata", {"metadata": value})


@field(TEXT)
def sent_content(caller: Caller, value: str) -> Any:
    session_id = caller.daemon.session()
    sent = caller.send("POST", f"/sessions/{session_id}/send-message", {"content": value})
    return sent and caller.read(f"/sessions/{session_id}/transcript")[0]["content"]


def of_profile(caller: Caller, member: str, value: Any) -> Any:
    """Change a profile that is made for it once."""
    if caller.daemon.api.get("/profiles/local%2Farbitrary").status_code == 404:
        assert caller.send("POST", "/profiles/", {"name": "arbitrary"})
    changed = caller.send("PATCH", "/profiles/local%2Farbitrary", {member: value})
    return changed and caller.read("/profiles/local%2Farbitrary")[member]


@field(TEXT)
def profile_description(caller: Caller, value: str) -> Any:
    return of_profile(caller, "description", value)


@field(TEXT)
def profile_instruction(caller: Caller, value: str) -> Any:
    return of_profile(caller, "instruction", value)


@field(TEXT)
def profile_version(caller: Caller, value: str) -> Any:
    return of_profile(caller, "version", value)


@field(OBJECT)
def provider_config(caller: Caller, value: Any) -> Any:
    modules = [{"module": "provider-mock", "config": value}]
    shown = of_profile(caller, "providers", modules)
    return shown and shown[0]["config"]


@field(TEXT)
def profile_name(caller: Caller, value: str) -> Any:
    made = caller.send("POST", "/profiles/", {"name": value})
    if made is not None:
        caller.daemon.api.delete(f"/profiles/local%2F{value}")
    return made and made["name"]


@field(OBJECT)
def directory_metadata(caller: Caller, value: Any) -> Any:
    """Of a directory without a marker, whose metadata would be merged."""
    path = "/amplified-directories/arbitrary"
    caller.daemon.api.delete(path, params={"remove_marker": "true"})
    body = {"relative_path": "arbitrary", "metadata": value}
    made = caller.send("POST", "/amplified-directories/", body)
    if made is None:
        return None
    shown = caller.read(path)["metadata"]
    # The daemon's own, which says what counts.
    return {key: item for key, item in shown.items() if key in value or key != "default_profile"}


@field(TEXT)
def agents_content(caller: Caller, value: str) -> Any:
    path = "/amplified-directories/root"
    done = caller.send("PUT", f"{path}/agents", {"content": value})
    if done is None:
        return None
    # The last line of the file is ended, where it was not.
    written = caller.read(path)["agents_content"]
    return written if value.endswith("\n") else written.removesuffix("\n")


@field(TEXT)
def approval(caller: Caller, value: str) -> Any:
    """Nothing waits for it: 404, or 400."""
    path = f"/sessions/{caller.session_id}/approval-response"
    body = json.dumps({"approval_id": value, "response": "deny"}).encode()
    headers = {"Content-Type": "application/json"}
    response = caller.daemon.api.post(path, content=body, headers=headers)
    assert response.status_code in (400, 404)
    return None if response.status_code == 400 else value


@field(TEXT)
def path_segment(caller: Caller, value: str) -> Any:
    """A session of any name is not there."""
    name = quote(value.encode("utf-8", "surrogatepass"), safe="")
    response = caller.daemon.api.get(f"/sessions/{name}/runs")
    assert response.status_code in (400, 404), response.text
    return None


def keepable(value: Any) -> bool:
    """Tell whether JSON and PostgreSQL can hold it."""
    if isinstance(value, dict):
        return all(keepable(key) and keepable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(keepable, value))
    if isinstance(value, str):
        return not UNSTORABLE.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def same(sent: Any, read: Any) -> bool:
    """Tell whether it is the same; a float may come back as the whole number that it is."""
    if isinstance(sent, dict) and isinstance(read, dict):
        return sent.keys() == read.keys() and all(same(sent[key], read[key]) for key in sent)
    if isinstance(sent, list) and isinstance(read, list):
        return len(sent) == len(read) and all(map(same, sent, read))
    if isinstance(sent, float) and type(read) in (int, float):
        return sent == float(read)
    return type(sent) is type(read) and sent == read


@pytest.fixture(scope="module")
def caller(running: Daemon) -> Iterator[Caller]:
    yield Caller(running)


def run(name: str, caller: Caller, examples: int, *, always_alike: bool) -> None:
    values, send = FIELDS[name]

    @settings(
        max_examples=examples,
        derandomize=always_alike,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def check(value: Any) -> None:
        read = send(caller, value)
        assert read is None or (keepable(value) and same(value, read)), (value, read)

    check()


@pytest.mark.parametrize("name", FIELDS)
def test_some_values_come_back_unchanged_or_are_refused(name: str, caller: Caller) -> None:
    run(name, caller, EVERYDAY, always_alike=True)


@pytest.mark.long
@pytest.mark.parametrize("name", FIELDS)
def test_many_values_come_back_unchanged_or_are_refused(name: str, caller: Caller) -> None:
    run(name, caller, LONG, always_alike=False)


def test_what_is_ordinary_is_taken(caller: Caller) -> None:
    text = " ä😀\u202e\ttext\r\n\x7f\x1b' \"\\ "
    nested = {"a": [1, -0.5, True, None, {"😀": text}], "": 2**63 - 1}
    # A profile's name is of few characters, its version is one line, and paths give nothing back.
    special = {"profile_name": "plain-name", "profile_version": "1.2.3", "path_segment": None}
    for name, (values, send) in FIELDS.items():
        value = special.get(name, nested if values is OBJECT else text)
        if value is not None:
            assert same(value, send(caller, value)), name
