"""The user's notebook, cell by cell, where it is at hand; the same flow in our own words always."""

import contextlib
import io
import re
from pathlib import Path

import httpx
import pytest

from tests.harness.daemon import Daemon

pytestmark = pytest.mark.acceptance
NOTEBOOK = Path(__file__).resolve().parents[3] / "shared" / "seed" / "02-sessions-and-messages.txt"
# Cells begin after this line, and end at the next heading.
CELL = re.compile(r"^In \[None\]:\n(.*?)(?=^#{2,} |\Z)", re.MULTILINE | re.DOTALL)


def cells(notebook: Path) -> list[str]:
    return CELL.findall(notebook.read_text())


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook is not on this machine")
def test_the_notebook_runs_green_cell_by_cell(running: Daemon) -> None:
    found = cells(NOTEBOOK)
    assert len(found) == 14
    names: dict[str, object] = {}
    for cell in found:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(cell.replace("http://127.0.0.1:8420", running.url), names)
        assert "✗" not in printed.getvalue(), printed.getvalue()
        if "✓" in cell:
            assert "✓" in printed.getvalue(), f"not green:\n{cell}\n{printed.getvalue()}"


def test_a_session_is_led_through_its_life_as_a_client_does_it(running: Daemon) -> None:
    api: httpx.Client = running.api
    created = api.post("/sessions/", json={"amplified_dir": ".", "profile_name": "foundation/base"})
    session_id = created.json()["sessionId"]
    assert (created.status_code, created.json()["status"]) == (201, "created")
    assert api.post(f"/sessions/{session_id}/start").status_code == 204
    assert session_id in [row["sessionId"] for row in api.get("/sessions/").json()]
    for content in ("Hello!", "What are profiles?", "Which modules are there?"):
        added = api.post(f"/sessions/{session_id}/messages", json={"content": content})
        assert added.status_code == 201
    transcript = api.get(f"/sessions/{session_id}/transcript").json()
    assert [(line["role"], line["seq"]) for line in transcript] == [("user", n) for n in (1, 2, 3)]
    assert api.post(f"/sessions/{session_id}/complete").status_code == 204
    assert api.get(f"/sessions/{session_id}").json()["status"] == "completed"
    assert api.delete(f"/sessions/{session_id}").status_code == 204
    assert api.get(f"/sessions/{session_id}").status_code == 404


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [("fail", {"error_message": "Simulated"}, "failed"), ("terminate", None, "terminated")],
)
def test_a_session_ends_otherwise(
    running: Daemon, action: str, body: dict[str, str] | None, status: str
) -> None:
    session_id = running.session("foundation/base")
    ended = running.api.post(f"/sessions/{session_id}/{action}", json=body)
    assert ended.status_code == 204
    shown = running.api.get(f"/sessions/{session_id}").json()
    assert shown["status"] == status
    assert shown["errorMessage"] == (body or {}).get("error_message")
