"""What the answers on sessions are made of, as `representations` writes them."""

from amplifierd.common.openapi.schema import (
    Schema,
    anything,
    by_name,
    choice,
    flag,
    free,
    listed,
    nullable,
    number,
    record,
    ref,
    text,
    time,
    whole,
)
from sessions_app.models.message import Role
from sessions_app.states import ApprovalStatus, FinishReason, RunStatus, SessionStatus

NOW = "2026-01-31T12:00:00.000000Z"
SESSION_ID = "session_019c13a5d0f57d3e9a4cb6e07a1b2c3d"
SESSION = {
    "sessionId": SESSION_ID,
    "name": "Capitals",
    "parentSessionId": None,
    "amplifiedDir": ".",
    "profileName": "foundation/base",
    "status": "active",
    "createdAt": NOW,
    "startedAt": NOW,
    "endedAt": None,
    "duration": 12.5,
    "messageCount": 2,
    "agentInvocations": 1,
    "tokenUsage": 42,
    "usage": {"input_tokens": 30, "output_tokens": 12, "requests": 1, "cost": 0.000012},
    "errorMessage": None,
    "errorDetails": None,
    "metadata": {},
    "mountPlanPath": f"/api/v1/sessions/{SESSION_ID}/mount-plan",
    "activeRunId": None,
    "lastEventId": 7,
    "isUnread": True,
    "lastReadAt": None,
}
MESSAGE = {
    "messageId": "message_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "seq": 1,
    "role": "user",
    "content": "What is the capital of France?",
    "timestamp": NOW,
    "agent": None,
    "tokenCount": None,
    "runId": None,
    "finishReason": None,
    "metadata": {},
}
RUN = {
    "runId": "run_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "sessionId": SESSION_ID,
    "messageId": MESSAGE["messageId"],
    "status": "succeeded",
    "attempt": 1,
    "interruptions": 0,
    "worker": "worker-1",
    "createdAt": NOW,
    "startedAt": NOW,
    "endedAt": NOW,
    "leaseExpiresAt": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
    "finishReason": "stop",
    "errorCode": None,
    "error": None,
}

APPROVAL = {
    "approvalId": "approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
    "sessionId": SESSION_ID,
    "runId": RUN["runId"],
    "toolCallId": "call_1",
    "toolName": "write_file",
    "toolInput": {"path": "notes.md", "content": "Paris."},
    "prompt": "May write_file be called?",
    "options": ["approve", "deny", "always"],
    "status": "pending",
    "reason": None,
    "always": False,
    "createdAt": NOW,
    "expiresAt": "2026-03-02T12:00:00.000000Z",
    "answeredAt": None,
    "answeredBy": None,
}

_usage = free(
    "`input_tokens`, `output_tokens`, `cached_tokens`, `reasoning_tokens`, `requests`, and `cost`"
    " in US dollars; what nobody knows is left out."
)
FINISH_REASON = nullable(
    choice(
        *FinishReason.values,
        description="Why the answer ended: anything but `stop` means that it is not whole."
        " null: no run has said it (yet).",
    )
)
_session = {
    "sessionId": text(),
    "name": nullable(text()),
    "parentSessionId": nullable(text()),
    "amplifiedDir": text("Below the root directory; `.` is the root."),
    "profileName": text("`collection/name`"),
    "status": choice(*SessionStatus.values),
    "createdAt": time(),
    "startedAt": nullable(time()),
    "endedAt": nullable(time()),
    "duration": nullable(number("Seconds since its start, up to its end.")),
    "messageCount": whole(),
    "agentInvocations": whole(),
    "tokenUsage": whole("Tokens in and out."),
    "usage": _usage,
    "errorMessage": nullable(text()),
    "errorDetails": nullable(free()),
    "metadata": free("What clients keep with it."),
    "mountPlanPath": text("URL of its mount plan."),
    "activeRunId": nullable(text("The run that is running, or parked.")),
    "lastEventId": whole("The newest event of its journal."),
    "isUnread": flag(),
    "lastReadAt": nullable(time()),
}
_approval = {
    "approvalId": text(),
    "sessionId": text(),
    "runId": text(),
    "toolCallId": text(),
    "toolName": text(),
    "toolInput": anything("What the tool is to be given; a secret in it is hidden."),
    "prompt": text("The question, for people."),
    "options": listed(choice("approve", "deny", "always"), "What may be answered."),
    "status": choice(*ApprovalStatus.values),
    "reason": nullable(text("Why, as the model is told.")),
    "always": flag(
        "The tool, as long as it stays as it is, goes on in this session without a question."
    ),
    "createdAt": time(),
    "expiresAt": time("From then on nobody need answer: it counts as a denial."),
    "answeredAt": nullable(time()),
    "answeredBy": nullable(text("Name of the API key, or who was signed in.")),
}

COMPONENTS: dict[str, Schema] = {
    "Session": record("One conversation with an explicit life.", _session, example=SESSION),
    "ListedSession": record(
        "A session in a list; with `q` it says where it fits.",
        {**_session, "match": ref("Match")},
        optional="match",
        example=SESSION,
    ),
    "Match": record(
        "Where a session fits a search best.",
        {
            "seq": nullable(whole("The message; null: it is the name that fits.")),
            "messageId": nullable(text()),
            "snippet": nullable(text("Words that were found are between ⟦ and ⟧.")),
            "rank": number("The greater the better."),
        },
    ),
    "Message": record(
        "One line of a transcript.",
        {
            "messageId": text(),
            "seq": whole("1..n in its session."),
            "role": choice(*Role.values),
            "content": text(),
            "timestamp": time(),
            "agent": nullable(text()),
            "tokenCount": nullable(whole()),
            "runId": nullable(text("The run that it answers or belongs to.")),
            "finishReason": FINISH_REASON,
            "metadata": free(),
        },
        example=MESSAGE,
    ),
    "Messages": record(
        "Messages of a session.",
        {"sessionId": text(), "messages": listed(ref("Message"))},
        example={"sessionId": SESSION_ID, "messages": [MESSAGE]},
    ),
    "Accepted": record(
        "The message is accepted: there will be one outcome in the journal, whatever dies.",
        {
            "status": choice("executing"),
            "session_id": text(),
            "sessionId": text(),
            "runId": text(),
            "messageId": text(),
            "lastEventId": whole("Follow the stream from here."),
        },
        example={
            "status": "executing",
            "session_id": SESSION_ID,
            "sessionId": SESSION_ID,
            "runId": RUN["runId"],
            "messageId": MESSAGE["messageId"],
            "lastEventId": 2,
        },
    ),
    "Run": record(
        "One execution of one message.",
        {
            "runId": text(),
            "sessionId": text(),
            "messageId": text(),
            "status": choice(
                *RunStatus.values, description="`parked`: it waits for a person or a sub-session."
            ),
            "attempt": whole(),
            "interruptions": whole("Attempts that were broken off, as their workers died."),
            "worker": nullable(text()),
            "createdAt": time(),
            "startedAt": nullable(time()),
            "endedAt": nullable(time()),
            "leaseExpiresAt": nullable(time()),
            "usage": _usage,
            "finishReason": FINISH_REASON,
            "errorCode": nullable(text()),
            "error": nullable(text()),
        },
        example=RUN,
    ),
    "Outcome": record(
        "A run that has ended, and what it has said.",
        {"run": ref("Run"), "message": nullable(ref("Message"))},
        example={"run": RUN, "message": MESSAGE},
    ),
    "ExecutionTrace": record(
        "What runs of a session have done.",
        {"sessionId": text(), "runs": listed(ref("RunTrace"))},
    ),
    "RunTrace": record(
        "A run, and what it has done.",
        {
            "runId": text(),
            "messageId": text("The message that it answers."),
            "status": choice(*RunStatus.values),
            "startedAt": nullable(time()),
            "endedAt": nullable(time()),
            "duration": nullable(number("Seconds.")),
            "attempt": whole(),
            "usage": _usage,
            "error": nullable(text()),
            "steps": listed(ref("TraceStep"), "In the order in which they began."),
        },
    ),
    "TraceStep": record(
        "Something that a run has thought, said, or had done.",
        {
            "type": choice("thinking", "text", "tool", "session"),
            "attempt": whole("The attempt of the run that it belongs to."),
            "isVoid": flag("Whether that attempt was broken off, so that the step counts no more."),
            "content": text("Of `thinking` and `text`."),
            "toolCallId": nullable(text("Of `tool` and `session`.")),
            "name": nullable(text("The tool.")),
            "input": anything("Of `tool`; secrets are masked."),
            "result": nullable(text("Of `tool`: what it answered.")),
            "error": nullable(text("Of `tool` and `session`: why it failed.")),
            "sessionId": nullable(text("Of `session`: the sub-session that was given work.")),
            "startedAt": time(),
            "endedAt": nullable(time()),
            "duration": nullable(number("Seconds.")),
        },
        optional="content toolCallId name input result error sessionId",
        example={
            "type": "tool",
            "attempt": 1,
            "isVoid": False,
            "toolCallId": "call_1",
            "name": "read_file",
            "input": {"path": "notes.md"},
            "result": "Paris.",
            "error": None,
            "startedAt": NOW,
            "endedAt": NOW,
            "duration": 0.01,
        },
    ),
    "Cancelled": record(
        "The run is cancelled; what it has said is kept.",
        {"status": choice("cancelled"), "runId": text()},
        example={"status": "cancelled", "runId": RUN["runId"]},
    ),
    "NothingRuns": record(
        "There was nothing to cancel.",
        {"status": choice("no_active_execution")},
    ),
    "ReadMark": record(
        "Whether somebody has read the session.",
        {
            "status": choice("read", "unread"),
            "session_id": text(),
            "sessionId": text(),
            "isUnread": flag(),
            "lastReadAt": nullable(time()),
        },
    ),
    "UnreadCounts": by_name(whole(), "Number of unread sessions by amplified directory.")
    | {"examples": [{".": 3}]},
    "CleanedUp": record(
        "How many sessions were removed, or would be.",
        {"removed_count": whole(), "removedCount": whole(), "dryRun": flag()},
        example={"removed_count": 3, "removedCount": 3, "dryRun": False},
    ),
    "Approval": record("A call of a tool that waits for a person.", _approval, example=APPROVAL),
    "ApprovalAnswered": record(
        "The approval with its answer.",
        {"approval_id": text(), **_approval},
        example={
            "approval_id": APPROVAL["approvalId"],
            **APPROVAL,
            "status": "approved",
            "answeredAt": NOW,
            "answeredBy": "notebook",
        },
    ),
}
