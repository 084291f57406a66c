"""The operations on sessions, in the words of the API's description."""

from amplifierd.common.openapi.operation import PAGED, Operation
from amplifierd.common.openapi.schema import listed, ref
from sessions_app.api import queries, serializers
from sessions_app.api.event_schemas import EVENTS, FEED, STREAM, TREE

LIFE, HISTORY, EXECUTION = "sessions", "history", "execution"
APPROVALS, COPIES, UPKEEP, STREAMS = "approvals", "copies", "upkeep", "streams"
# Where the id of a session is in the answer that makes one.
GIVES_SESSION = {"session_id": "$response.body#/sessionId"}
# The session goes on, in another state.
GIVES_SAME = {"session_id": "$request.path.session_id"}

OF_LIFE = {
    "POST /sessions/": Operation(
        "create_session",
        LIFE,
        "Create a session",
        "Everything is optional. Without a profile it is the directory's default, inherited from"
        " the nearest parent. 400 where the directory is not amplified, 404 for an unknown profile"
        " or parent.",
        {201: ref("Session")},
        body=serializers.CreateSession,
        example={"profile_name": "foundation/base", "name": "Capitals"},
        errors=(404,),
        gives=GIVES_SESSION,
    ),
    "GET /sessions/": Operation(
        "list_sessions",
        LIFE,
        "List sessions",
        "Newest first; with `q` the best first, each with where it fits (`match`).",
        {200: listed(ref("ListedSession"))},
        query=queries.SessionsQuery,
        words=("metadata.KEY",),
        headers=(*PAGED, "X-Search-Incomplete"),
    ),
    "GET /sessions/active/list": Operation(
        "list_active_sessions",
        LIFE,
        "List active sessions",
        "Newest first.",
        {200: listed(ref("Session"))},
        query=queries.ActiveQuery,
        headers=PAGED,
    ),
    "GET /sessions/{session_id}": Operation(
        "get_session", LIFE, "Show a session", "One session.", {200: ref("Session")}
    ),
    "PATCH /sessions/{session_id}": Operation(
        "update_session",
        LIFE,
        "Change a session",
        "Renames it (an empty name or null clears it), merges into its metadata; a value of null"
        " removes a key.",
        {200: ref("Session")},
        body=serializers.UpdateSession,
        example={"name": "Capitals", "metadata": {"colour": "blue"}},
    ),
    "DELETE /sessions/{session_id}": Operation(
        "delete_session",
        LIFE,
        "Delete a session",
        "Works in any state, stops its runs, ends its streams; children stay, without a parent.",
        {204: None},
    ),
    "POST /sessions/{session_id}/start": Operation(
        "start_session",
        LIFE,
        "Start a session",
        "created → active.",
        {204: None},
        gives=GIVES_SAME,
    ),
    "POST /sessions/{session_id}/complete": Operation(
        "complete_session", LIFE, "Complete a session", "active → completed.", {204: None}
    ),
    "POST /sessions/{session_id}/fail": Operation(
        "fail_session",
        LIFE,
        "Fail a session",
        "active → failed, with a reason.",
        {204: None},
        body=serializers.FailSession,
        example={"error_message": "The disk is full.", "error_details": {"free": 0}},
    ),
    "POST /sessions/{session_id}/terminate": Operation(
        "terminate_session", LIFE, "Terminate a session", "active → terminated.", {204: None}
    ),
    "GET /sessions/{session_id}/mount-plan": Operation(
        "get_session_mount_plan",
        LIFE,
        "Show a session's mount plan",
        "What the session runs with; later edits of its profile do not change it.",
        {200: ref("MountPlan")},
    ),
}

OF_HISTORY = {
    "GET /sessions/{session_id}/messages": Operation(
        "list_messages",
        HISTORY,
        "List messages",
        "The last ones, or the first ones after a bound.",
        {200: ref("Messages")},
        query=queries.HistoryQuery,
    ),
    "POST /sessions/{session_id}/messages": Operation(
        "add_message",
        HISTORY,
        "Add a message",
        "Adds to the transcript; nothing is executed. 409 where the session is not active.",
        {201: ref("Message")},
        body=serializers.AddMessage,
        example={"content": "What is the capital of France?"},
        gives=GIVES_SAME,
    ),
    "GET /sessions/{session_id}/messages/last": Operation(
        "get_last_message",
        HISTORY,
        "Show the last message",
        "The newest message of the transcript; 404 where there is none yet.",
        {200: ref("Message")},
    ),
    "DELETE /sessions/{session_id}/messages/last": Operation(
        "delete_last_message",
        HISTORY,
        "Refuse to delete the last message",
        "Always 409: a transcript only grows. Fork the session to go on without it.",
        {},
        errors=(409,),
    ),
    "GET /sessions/{session_id}/transcript": Operation(
        "get_transcript",
        HISTORY,
        "Read the transcript",
        "Oldest first; `limit` gives the last ones. Without it all, written as it is read.",
        {200: listed(ref("Message"))},
        query=queries.HistoryQuery,
    ),
    "GET /sessions/{session_id}/events": Operation(
        "list_events",
        HISTORY,
        "Read the journal",
        "What the stream carries, oldest first; with `include_children` a page of the journals of"
        " the session and all below it, of another shape and with up to 5,000 events.",
        {200: {"oneOf": [listed(EVENTS), ref("TreeEvents")]}},
        query=queries.EventsQuery,
    ),
    "POST /sessions/{session_id}/mark-read": Operation(
        "mark_read", HISTORY, "Mark as read", "Up to now.", {200: ref("ReadMark")}
    ),
    "POST /sessions/{session_id}/mark-unread": Operation(
        "mark_unread", HISTORY, "Mark as unread", "Until it is read.", {200: ref("ReadMark")}
    ),
    "GET /sessions/unread-counts": Operation(
        "count_unread_sessions",
        HISTORY,
        "Count unread sessions",
        "By amplified directory; those without any are left out.",
        {200: ref("UnreadCounts")},
    ),
}

OF_EXECUTION = {
    "POST /sessions/{session_id}/send-message": Operation(
        "send_message",
        EXECUTION,
        "Send a message for execution",
        "202: there will be one outcome in the journal, whatever dies. The answer comes over the"
        " stream. With `wait` (or `Prefer: wait=N`) the request waits for it: 200 with the run and"
        " its message if the run ends in time, otherwise 202 as usual. 409 where the session is"
        " not active, or has a run and the strategy is `reject`; 429 where too many runs wait.",
        {202: ref("Accepted"), 200: ref("Outcome")},
        body=serializers.SendMessage,
        example={"content": "What is the capital of France?"},
        query=queries.SendQuery,
        errors=(429,),
        gives={"run_id": "$response.body#/runId", **GIVES_SESSION},
    ),
    "POST /sessions/{session_id}/execute": Operation(
        "execute",
        EXECUTION,
        "Send a message and wait for its answer",
        "`send-message` that waits 300 seconds where `wait` does not say otherwise: 200 with the"
        " run and its message, 202 where it takes longer.",
        {200: ref("Outcome"), 202: ref("Accepted")},
        body=serializers.SendMessage,
        example={"content": "What is the capital of France?"},
        query=queries.SendQuery,
        errors=(429,),
        gives={"run_id": "$response.body#/runId", **GIVES_SESSION},
    ),
    "GET /sessions/{session_id}/runs": Operation(
        "list_runs",
        EXECUTION,
        "List runs",
        "Newest first.",
        {200: listed(ref("Run"))},
        query=queries.RunsQuery,
        headers=PAGED,
    ),
    "GET /sessions/{session_id}/runs/{run_id}": Operation(
        "get_run", EXECUTION, "Show a run", "One run.", {200: ref("Run")}
    ),
    "POST /sessions/{session_id}/runs/{run_id}/cancel": Operation(
        "cancel_run",
        EXECUTION,
        "Cancel a run",
        "202: cancelled, what it has said is kept; 200: it had ended.",
        {202: ref("Cancelled"), 200: ref("NothingRuns")},
    ),
    "POST /sessions/{session_id}/cancel-execution": Operation(
        "cancel_execution",
        EXECUTION,
        "Cancel what runs",
        "The run that is running, or else the one that is next; 200: there is none.",
        {202: ref("Cancelled"), 200: ref("NothingRuns")},
    ),
}

OF_APPROVALS = {
    "POST /sessions/{session_id}/approval-response": Operation(
        "respond_to_approval",
        APPROVALS,
        "Answer an approval",
        "Answers a tool call that waits for a person, in upper or lower case; `always` also lets"
        " the tool go on in this session without being asked about again, as long as its module,"
        " config, description and schema stay as they are. 404 for an unknown one,"
        " 409 `already_answered` for one that is not `pending`: of those who answer at once one"
        " does. The run goes on once all that it asked is answered.",
        {200: ref("ApprovalAnswered")},
        body=serializers.ApprovalResponse,
        example={
            "approval_id": "approval_019c13a5d0f57d3e9a4cb6e07a1b2c3d",
            "response": "deny",
            "reason": "Write it to notes.md instead.",
        },
        gives={"approval_id": "$response.body#/approvalId"},
    ),
    "GET /sessions/{session_id}/approvals": Operation(
        "list_session_approvals",
        APPROVALS,
        "List a session's approvals",
        "Newest first.",
        {200: listed(ref("Approval"))},
        query=queries.SessionApprovalsQuery,
        headers=PAGED,
    ),
    "GET /approvals/": Operation(
        "list_approvals",
        APPROVALS,
        "List approvals",
        "Those of all sessions that the caller may see, newest first; `status=pending` is the"
        " inbox.",
        {200: listed(ref("Approval"))},
        query=queries.ApprovalsQuery,
        headers=PAGED,
    ),
    "GET /approvals/{approval_id}": Operation(
        "get_approval", APPROVALS, "Show an approval", "One approval.", {200: ref("Approval")}
    ),
}

OF_COPIES = {
    "POST /sessions/{session_id}/change-profile": Operation(
        "change_profile",
        COPIES,
        "Change a session's profile",
        "From its next attempt on, also of a run that is under way. 409 where the session is not"
        " active.",
        {200: ref("Session")},
        body=serializers.ChangeProfile,
        example={"profile_name": "foundation/base"},
    ),
    "POST /sessions/{session_id}/clone": Operation(
        "clone_session",
        COPIES,
        "Clone a session",
        "Copies it with its transcript and all its sub-sessions; the copies are `created`.",
        {201: ref("Session")},
        gives=GIVES_SESSION,
    ),
    "POST /sessions/{session_id}/fork": Operation(
        "fork_session",
        COPIES,
        "Fork a session",
        "Copies it up to a message (`after`: its seq); the copy is `created`.",
        {201: ref("Session")},
        body=serializers.ForkSession,
        example={"after": 0},
        gives=GIVES_SESSION,
    ),
    "POST /sessions/cleanup": Operation(
        "clean_up_sessions",
        UPKEEP,
        "Remove old sessions",
        "Removes sessions that ended long ago or never started, never an active one; with"
        " `dry_run` only counts them.",
        {200: ref("CleanedUp")},
        body=serializers.Cleanup,
        example={"older_than_days": 30, "dry_run": True},
    ),
}

OF_TREES = {
    "GET /sessions/{session_id}/execution-trace": Operation(
        "get_execution_trace",
        HISTORY,
        "See what runs have done",
        "The newest runs, the oldest of them first, each with its steps as the journal tells them:"
        " thinking, text, calls of tools, and sub-sessions that were given work. Long texts are"
        " shortened, secrets masked.",
        {200: ref("ExecutionTrace")},
        query=queries.TraceQuery,
    ),
}

# Served outside Django, so no view tells of them.
OF_STREAMS = {
    "GET /sessions/{session_id}/stream": Operation(
        "stream_session",
        STREAMS,
        "Follow a session",
        "The journal as server-sent events. With a cursor (`Last-Event-ID`, or `after`) everything"
        " after it and then what is new; without one only what is new. `connected` comes first; a"
        " client without a cursor then gets a `keepalive` with its first one, and without an id"
        " what a run waits for. `keepalive` comes after 15 s of silence, `session_ended` last."
        " 204 where the session has ended and the cursor is at its end.",
        {200: STREAM, 204: None},
        errors=(429,),
        media_type="text/event-stream",
    ),
    "GET /events": Operation(
        "stream_tree",
        STREAMS,
        "Follow a session and its sub-sessions",
        "What happens in the session (`session`, required) and in all below it from now on, as"
        " server-sent events whose data is `{event, ts, data, session_id, seq}`; `filter` has names"
        " of events or patterns such as `hook:*`, with commas. There are no ids and no replay: who"
        " must miss nothing reads `events`, or follows each session. It ends with the session; 204"
        " where that has ended.",
        {200: TREE, 204: None},
        words=("session", "filter"),
        needs=("session",),
        errors=(404, 429),
        media_type="text/event-stream",
    ),
    "GET /events/stream": Operation(
        "stream_hints",
        STREAMS,
        "Follow all sessions",
        "Live hints on all sessions that the caller may see, without ids or replay: who reconnects"
        " reads the list again.",
        {200: FEED},
        errors=(429,),
        media_type="text/event-stream",
    ),
}

OPERATIONS = OF_TREES | OF_LIFE | OF_HISTORY | OF_EXECUTION | OF_APPROVALS | OF_COPIES
