"""What the calls of agents have come to: by their journals, their approvals and their files."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessions_app.engine.transcript import INTERRUPTED
from sessions_app.states import ActionStatus, RunStatus
from tests.acceptance.agents import BEATS, LEDGER, MARK, WRITTEN

Row = dict[str, Any]
CHANGING = {"write_file", "edit_file", "bash"}


@dataclass
class Effect:
    """What is told of one call in all attempts of its run."""

    tool: str
    path: str
    response: str | None = None
    error: str | None = None

    @property
    def is_sure(self) -> bool:
        """Tell whether the call was made, for all to see."""
        return self.response is not None

    @property
    def is_open(self) -> bool:
        """Tell whether nobody knows: its worker died, or its run was cancelled."""
        return self.response is None and self.error in (None, INTERRUPTED)


def effects(journal: Iterable[Row]) -> dict[tuple[str, str], Effect]:
    """Return the calls that a journal tells of, by run and call."""
    found: dict[tuple[str, str], Effect] = {}
    for event in journal:
        if not event["event"].startswith("hook:tool:"):
            continue
        told = event["data"]["hook_data"]
        key = (event["data"]["runId"], told["tool_call_id"])
        effect = found.setdefault(key, Effect(told["tool_name"], _path(told)))
        effect.response = told.get("tool_response", effect.response)
        effect.error = told.get("error", effect.error)
    return found


def _path(told: Row) -> str:
    return BEATS if told["tool_name"] == "bash" else str(told["tool_input"].get("path"))


def disagreements(journal: Iterable[Row], approvals: list[Row], runs: list[Row]) -> list[str]:
    """Return where the calls of a session's settled runs are not what its approvals say."""
    made = effects(journal)
    ends = {run["runId"]: run["status"] for run in runs}
    found = []
    for approval in approvals:
        key = (approval["runId"], approval["toolCallId"])
        is_sure = key in made and made[key].is_sure
        may_be = approval["status"] == ActionStatus.APPROVED
        # What was approved in a run that failed or was cancelled may have come too late.
        must_be = may_be and ends[key[0]] == RunStatus.SUCCEEDED
        if (is_sure and not may_be) or (must_be and not is_sure):
            found.append(f"{approval['approvalId']} is {approval['status']}, made is {is_sure}")
    asked = {(approval["runId"], approval["toolCallId"]) for approval in approvals}
    if not any(approval["always"] for approval in approvals):
        unasked = (key for key, each in made.items() if each.tool == "write_file")
        found += [f"{key} was not asked about" for key in unasked if key not in asked]
    return found


def tally(folder: Path) -> Counter[str]:
    """Return what there is in a folder: files that were written, and marks that were made."""
    found = Counter({path: int((folder / path).exists()) for path in WRITTEN})
    for path in (LEDGER, BEATS):
        if (folder / path).exists():
            found[path] = (folder / path).read_text().count(MARK)
    return found


def faults_of(
    made: Iterable[Effect], before: Counter[str], after: Counter[str], *, is_all: bool
) -> list[str]:
    """Return where a folder is not what was made of it, by what all who work there tell.

    It was looked at before and after that was read; `is_all` says whether nobody is missing.
    """
    changes = [effect for effect in made if effect.tool in CHANGING]
    sure = Counter(effect.path for effect in changes if effect.is_sure)
    perhaps = sure + Counter(effect.path for effect in changes if effect.is_open)
    found = []
    for path in (*WRITTEN, LEDGER, BEATS):
        most, least = perhaps[path], sure[path]
        if path in WRITTEN:
            most, least = min(most, 1), min(least, 1)
        # Who edits by reading and writing, and was stopped between, may undo what others did.
        if path == LEDGER and not (is_all and most == least):
            least = 0
        if after[path] < least or (is_all and before[path] > most):
            found.append(f"{path}: {before[path]}, {after[path]}, told of {least} to {most}")
    return found
