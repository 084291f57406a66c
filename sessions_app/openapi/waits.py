"""The events of runs that wait for a person or a sub-session, or whose context was too small."""

from amplifierd.common.openapi.schema import (
    MOMENT,
    Schema,
    anything,
    choice,
    flag,
    listed,
    nullable,
    number,
    record,
    text,
    time,
    whole,
)

_asked_example = {
    "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "approval_id": "approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "tool_call_id": "call_1",
    "tool_name": "write_file",
    "tool_input": {"path": "notes.md", "content": "Paris."},
}
# Events that were journalled before it existed have none.
_EXPIRES_AT = time("When it counts as a denial.")
_wait = record(
    "A call that waits: for a person (`approval_id`), or for a sub-session (`session_id`).",
    {
        "runId": text(),
        "tool_call_id": text(),
        "tool_name": text(),
        "approval_id": text(),
        "tool_input": anything(),
        "timeout": number("Seconds until it counts as a denial."),
        "expiresAt": _EXPIRES_AT,
        "session_id": nullable(text("null: there is no sub-session, `error` says why.")),
        "error": nullable(text()),
    },
    optional="approval_id tool_input timeout expiresAt session_id error",
)

WAITS: dict[str, Schema] = {
    "hook:approval:required": record(
        "A tool call waits for a person; `run_parked` follows.",
        {
            "approval_id": text(),
            "tool_call_id": text(),
            "tool_name": text(),
            "tool_input": anything(),
            "prompt": text(),
            "options": listed(text()),
            "timeout": nullable(number("Seconds until it counts as a denial.")),
            "expiresAt": _EXPIRES_AT,
            "runId": text(),
        },
        optional="expiresAt",
        example=_asked_example
        | {
            "prompt": "Allow write_file?",
            "options": ["approve", "deny", "always"],
            "timeout": 2_592_000,
            "expiresAt": MOMENT,
        },
    ),
    "approval_resolved": record(
        "An approval is answered, has expired, or was withdrawn with its run.",
        {
            "timestamp": time(),
            "runId": text(),
            "approval_id": text(),
            "tool_name": text(),
            "status": choice("approved", "denied", "expired", "withdrawn"),
            "always": flag(
                "The tool, as long as it stays as it is, is not asked about again in this session."
            ),
            "reason": nullable(text("As the model is told.")),
        },
        example={
            "timestamp": MOMENT,
            "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "approval_id": "approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "tool_name": "write_file",
            "status": "denied",
            "always": False,
            "reason": "Write it to notes.md instead.",
        },
    ),
    "run_parked": record(
        "The run waits for what its calls of tools need; no worker holds it.",
        {
            "timestamp": time(),
            "runId": text(),
            "attempt": whole(),
            "waits": listed(_wait, "One for each call that waits."),
        },
        example={
            "timestamp": MOMENT,
            "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "attempt": 1,
            "waits": [_asked_example],
        },
    ),
    "run_resumed": record(
        "All that the run waited for is there: it goes on where it stopped, nothing is void.",
        {"timestamp": time(), "runId": text(), "attempt": whole()},
        example={
            "timestamp": MOMENT,
            "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "attempt": 2,
        },
    ),
    "context_compacted": record(
        "A summary stands for older messages from now on, as the model's context is too small"
        " for them; the transcript stays as it is.",
        {
            "timestamp": time(),
            "runId": text(),
            "upto": whole("The seq of the last message that it stands for."),
            "summary": text(),
        },
        example={
            "timestamp": MOMENT,
            "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "upto": 40,
            "summary": "The user asks for the capitals of Europe.",
        },
    ),
}
