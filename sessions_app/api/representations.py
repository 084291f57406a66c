"""Sessions, messages, runs, approvals and events as the API writes them: camelCase, nulls sent."""

from datetime import datetime
from typing import Any

from django.conf import settings

from amplifierd.common.formats import stamp
from sessions_app.models import Approval, Event, Message, Run, Session
from sessions_app.states import Role

JSON = dict[str, Any]


def session_json(session: Session) -> JSON:
    """Return a session; it carries `active_run_id` if it was read with `shown()`."""
    return {
        "sessionId": session.id,
        "name": session.name,
        "parentSessionId": session.parent_id,
        "amplifiedDir": session.amplified_dir,
        "profileName": session.profile_name,
        "status": session.status,
        "createdAt": stamp(session.created_at),
        "startedAt": _stamp(session.started_at),
        "endedAt": _stamp(session.ended_at),
        "duration": session.duration,
        "messageCount": session.message_count,
        "agentInvocations": session.agent_invocations,
        "tokenUsage": session.token_usage,
        "usage": session.usage,
        "errorMessage": session.error_message,
        "errorDetails": session.error_details,
        "metadata": session.metadata,
        "mountPlanPath": f"{settings.PREFIX}/api/v1/sessions/{session.id}/mount-plan",
        "activeRunId": getattr(session, "active_run_id", None),
        "lastEventId": session.last_event_seq,
        "isUnread": session.is_unread,
        "lastReadAt": _stamp(session.last_read_at),
    }


def message_json(message: Message) -> JSON:
    """Return a message of the transcript."""
    return {
        "messageId": message.id,
        "seq": message.seq,
        "role": message.role,
        "content": message.content,
        "timestamp": stamp(message.created_at),
        "agent": message.agent,
        "tokenCount": message.token_count,
        "runId": message.run_id,
        "finishReason": message.finish_reason,
        "metadata": message.metadata,
    }


def run_json(run: Run) -> JSON:
    """Return a run."""
    return {
        "runId": run.id,
        "sessionId": run.session_id,
        "messageId": run.message_id,
        "status": run.status,
        "attempt": run.attempt,
        "interruptions": run.interruptions,
        "worker": run.worker or None,
        "createdAt": stamp(run.created_at),
        "startedAt": _stamp(run.started_at),
        "endedAt": _stamp(run.ended_at),
        "leaseExpiresAt": _stamp(run.lease_expires_at),
        "usage": run.usage,
        "finishReason": run.finish_reason,
        "errorCode": run.error_code or None,
        "error": run.error or None,
    }


def outcome_json(run: Run) -> JSON:
    """Return a run that has ended, and the message with what it has said; null for none."""
    following = Message.objects.in_session(run.session_id).after(run.message.seq)
    message = following.filter(run=run, role=Role.ASSISTANT).first()
    return {"run": run_json(run), "message": message_json(message) if message else None}


def approval_json(approval: Approval) -> JSON:
    """Return an approval; a secret in what the tool is to be given is hidden."""
    return {
        "approvalId": approval.id,
        "sessionId": approval.session_id,
        "runId": approval.run_id,
        "toolCallId": approval.tool_call_id,
        "toolName": approval.tool_name,
        "toolInput": approval.visible_input,
        "prompt": approval.prompt,
        "options": list(Approval.OPTIONS),
        "status": approval.status,
        "reason": approval.reason or None,
        "always": approval.always,
        "createdAt": stamp(approval.created_at),
        "expiresAt": stamp(approval.expires_at),
        "answeredAt": _stamp(approval.answered_at),
        "answeredBy": approval.answered_by or None,
    }


def event_json(event: Event) -> JSON:
    """Return an event of the journal: what a frame of the stream carries."""
    return {
        "id": event.seq,
        "event": event.type,
        "data": event.data,
        "createdAt": stamp(event.created_at),
    }


def _stamp(moment: datetime | None) -> str | None:
    return stamp(moment) if moment else None
