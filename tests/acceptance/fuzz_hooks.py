"""What schemathesis may find that is no fault: refusals for what no schema can tell.

A schema says what a value looks like, and not whether what it names is there.
"""

import os
import re
import uuid
from typing import Any

import httpx
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import (
    AllowHeaderMismatch,
    RejectedPositiveData,
    UnsupportedMethodResponse,
)

from tests.harness import plain

# Parameters and fields whose values come from somewhere: an answer, the disk, a profile.
NAMING = {"cursor", "settings_overrides", "providers", "tools", "hooks", "agents", "contexts"}
NAMING |= {"orchestrator", "context", "version", "body", "behaviors"}
# What is refused by its meaning, with a sentence and no field.
PLACES = ("directories", "collections", "profiles", "mount-plans", "cache", "sessions/", "/events")
# A page of one session's events has at most so many; only one of a tree has more.
EVENTS = 1000


# What fields of bodies may name; else hardly a case would get past them.
THERE = {
    "amplified_dir": ".",
    "profile_name": "foundation/test",
    "profile_id": "foundation/test",
    "default_profile": "foundation/base",
    "parent_session_id": None,
}
# Seconds until an answer must be there; the machine may be busy with other things.
PATIENCE = 120
KEY = re.compile("[!-~]([ -~]{0,253}[!-~])?")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Have most cases get further than to what is not there."""
    if case.meta is None:
        return
    own_key(case)
    bound(case)
    drop_epoch(case)
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        for name in THERE.keys() & case.body.keys():
            if len(case.body[name] or "") % 4:
                case.body[name] = THERE[name]
    path = case.meta.components.get(ParameterLocation.PATH)
    # In a sequence the ids come from the answers before.
    if path and path.mode.is_positive and case.meta.phase.name != TestPhase.STATEFUL:
        name_session(case)


def bound(case: Any) -> None:
    """Have no case wait for long, or ask for more events than there may be of one session."""
    query = case.query or {}
    if isinstance(query.get("wait"), int | float) and query["wait"] > 1:
        query["wait"] = 1
    if case.operation.path.endswith("/events") and isinstance(query.get("limit"), int):
        query["limit"] = min(query["limit"], EVENTS)


def drop_epoch(case: Any) -> None:
    """Send few made-up epochs: all of them are refused."""
    for given, name in ((case.query, "epoch"), (case.headers, "Journal-Epoch")):
        if given and len(str(given.get(name, ""))) % 4:
            del given[name]


def own_key(case: Any) -> None:
    """Give most requests an Idempotency-Key of their own; some are to meet an earlier one.

    Not in a sequence: the first answer again may tell of what has been deleted since, and is right.
    """
    key = (case.headers or {}).get("Idempotency-Key")
    is_sequence = case.meta.phase.name == TestPhase.STATEFUL
    if isinstance(key, str) and KEY.fullmatch(key) and (is_sequence or len(key) % 5):
        case.headers["Idempotency-Key"] = f"{key[:200]}{uuid.uuid4().hex}"


def name_session(case: Any) -> None:
    """Have three of four cases concern a session that is active, and a run of it."""
    given = case.path_parameters
    if not isinstance(given.get("session_id"), str) or not len(given["session_id"]) % 4:
        return
    url = f"{os.environ['AMPLIFIERD_FUZZ_URL']}/api/v1"
    with plain.Client(base_url=url, timeout=PATIENCE) as api:
        given["session_id"] = session_id = active(api)
        if "run_id" in given:
            sent = api.post(f"/sessions/{session_id}/send-message", json={"content": "run"})
            given["run_id"] = sent.json().get("runId", given["run_id"])


def active(api: httpx.Client, known: list[str] = []) -> str:  # noqa: B006  (its memory)
    """Return the session of the last time while it is active, else a new one."""
    if known and api.get(f"/sessions/{known[0]}").json().get("status") == "active":
        return known[0]
    made = api.post("/sessions/", json={"profile_name": "foundation/test"}).json()["sessionId"]
    api.post(f"/sessions/{made}/start").raise_for_status()
    known[:] = [made]
    return made


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Keep a failure, unless it is a refusal for what the schema cannot say."""
    if isinstance(failure, RejectedPositiveData):
        return not is_refused_by_meaning(case, response.json())
    if isinstance(failure, UnsupportedMethodResponse | AllowHeaderMismatch):
        # Another method than PUT at …/agents concerns a directory of that name.
        return not case.operation.path.endswith("/{path}/agents")
    return True


def is_refused_by_meaning(case: Any, problem: dict[str, Any]) -> bool:
    """Tell whether a problem says that something is not there, or used already."""
    if problem["code"] == "idempotency_mismatch":
        return True
    errors = problem.get("errors", [])
    if errors:
        fields = {str(error["field"]).split(".")[0] for error in errors}
        # A number beyond 64 bits somewhere in an object of the caller's own.
        # And a text without any visible character.
        codes = {error["code"] for error in errors}
        return fields <= NAMING or codes <= {"too_large", "blank"}
    return (
        any(place in case.operation.path for place in PLACES) and case.operation.label not in SURE
    )


# Nothing but its form decides whether it is taken.
SURE = {
    f"{method} /api/v1/sessions/{{session_id}}{rest}"
    for method, rest in (
        ("PATCH", ""),
        ("POST", "/messages"),
        ("POST", "/send-message"),
        ("POST", "/fail"),
        ("POST", "/approval-response"),
    )
}
