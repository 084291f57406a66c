"""Pending actions: tool calls that are answered later, while their run is parked."""

import json
from itertools import takewhile
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from amplifierd.common.formats import new_action_id
from amplifierd.common.redaction import redact
from amplifierd.common.text import visible
from sessions_app.models import triggers
from sessions_app.models.querysets import ActionQuerySet, KindManager
from sessions_app.states import ACTION_STATUSES, ACTION_TRANSITIONS, ActionKind, ActionStatus, pairs

# Characters of a question about what a call would do: of a command or an address, of any other
# argument, and of all.
SUBJECT_LENGTH = 400
ARGUMENT_LENGTH = 80
QUESTION_LENGTH = 1000
# Arguments that say what a call is about, and need no name before them.
SUBJECTS = ("command", "path", "file_path", "url")
# The text of a file, and the two texts of a change in it, as editors of files name them.
CONTENTS = ("content", "file_text")
CHANGES = (("old", "new"), ("old_string", "new_string"), ("old_str", "new_str"))


class PendingAction(models.Model):
    """A tool call that waits for an answer of a person or a sub-session.

    Its run is parked: no worker holds it, and it is resumed when all its calls are answered. Each
    kind is a proxy of this model.
    """

    id = models.CharField(primary_key=True, max_length=64, default=new_action_id, editable=False)
    kind = models.CharField(max_length=16, choices=ActionKind.choices)
    # The session and run of the call.
    session = models.ForeignKey(
        "Session", on_delete=models.CASCADE, related_name="pending_actions", db_index=False
    )
    run = models.ForeignKey(
        "Run", on_delete=models.CASCADE, related_name="pending_actions", db_index=False
    )
    # Number of the newest checkpoint of the run at that time, and the call in it.
    checkpoint = models.PositiveIntegerField()
    tool_call_id = models.CharField(max_length=255)
    tool_name = models.CharField(max_length=255)
    # The exact input of the tool, with secrets; only `visible_input` may be shown.
    tool_input = models.JSONField(default=dict)
    # The same without secrets that the worker knew by their values; null if it knew none.
    redacted_input = models.JSONField(null=True, blank=True)
    status = models.CharField(
        max_length=16, choices=ActionStatus.choices, default=ActionStatus.PENDING
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Null: it never expires.
    expires_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    answered_by = models.CharField(max_length=200, blank=True)
    # Why it was denied, or why there is no sub-session; the model gets this text.
    reason = models.TextField(blank=True)

    # Approval: SHA-256 of all that makes the tool what it is: module, source and config, name,
    # description and schema. An "always" applies while it is the same; without one it never does.
    fingerprint = models.CharField(max_length=64, blank=True, default="", db_default="")
    # Approval: whether the tool may be called in this session without asking, unless it changes.
    always = models.BooleanField(default=False)
    # Sub-session: the session that does the work; null if it was not created, or was deleted.
    sub_session = models.OneToOneField(
        "Session", null=True, blank=True, on_delete=models.SET_NULL, related_name="parent_action"
    )

    objects = ActionQuerySet.as_manager()

    class Meta:
        db_table = "sessions_app_pending_action"
        ordering = ("-created_at", "-id")
        indexes = [
            # GET /approvals/?status=pending, and those that have expired
            models.Index(
                "created_at", "id", condition=Q(status=ActionStatus.PENDING), name="action_pending"
            ),
            # GET /approvals/
            models.Index("created_at", "id", name="action_newest"),
            # the approvals of a session, and its answers "always"
            models.Index("session", "created_at", name="action_of_session"),
        ]
        constraints = [
            # the actions of a run, and each call has one
            models.UniqueConstraint(
                "run", "kind", "checkpoint", "tool_call_id", name="action_asked_once"
            ),
            models.CheckConstraint(
                condition=Q(
                    kind=ActionKind.APPROVAL,
                    status__in=ACTION_STATUSES[ActionKind.APPROVAL],
                    expires_at__isnull=False,
                    sub_session__isnull=True,
                )
                | Q(
                    kind=ActionKind.SUB_SESSION,
                    status__in=ACTION_STATUSES[ActionKind.SUB_SESSION],
                    always=False,
                    fingerprint="",
                ),
                name="action_fits_kind",
            ),
            models.CheckConstraint(
                condition=Q(status=ActionStatus.PENDING, answered_at__isnull=True)
                | (~Q(status=ActionStatus.PENDING) & Q(answered_at__isnull=False)),
                name="action_answered_iff_not_pending",
            ),
        ]
        triggers = [
            triggers.initial("action_begins_pending", ActionStatus.PENDING),
            triggers.transitions("action_transitions", pairs(ACTION_TRANSITIONS)),
            triggers.asked_by_parked_run("action_of_parked_run"),
        ]

    def __str__(self) -> str:
        return f"{self.tool_name} ({self.status})"

    @property
    def visible_input(self) -> Any:
        """The input of the tool without secrets, for people."""
        return redact(self.tool_input if self.redacted_input is None else self.redacted_input)


class Approval(PendingAction):
    """A question to a person: may this tool be called with this input?"""

    objects: ClassVar[KindManager] = KindManager(ActionKind.APPROVAL)

    class Meta:
        proxy = True

    @property
    def prompt(self) -> str:
        """The question, as the journal has it, with what would be done on the same line."""
        return f"Allow {self.tool_name}? {describe_input(self.visible_input)}".rstrip()


class SubSessionCall(PendingAction):
    """A call of a tool that another session answers."""

    objects: ClassVar[KindManager] = KindManager(ActionKind.SUB_SESSION)

    class Meta:
        proxy = True

    def __str__(self) -> str:
        return f"{self.run_id} → {self.sub_session_id or self.reason}"


def describe_input(given: Any) -> str:
    """Return what a call would do, for people, on one line: it says so if something is left out.

    That is the command, the address, or the path with how much is written there; other arguments
    follow by their names. Which tool it is does not matter.
    """
    rest = dict(given) if isinstance(given, dict) else {"input": given}
    parts = [
        _shorten(rest.pop(key), SUBJECT_LENGTH)
        for key in SUBJECTS
        if isinstance(rest.get(key), str)
    ]
    if parts:
        for key in CONTENTS:
            if isinstance(rest.get(key), str):
                parts.append(_measure(rest.pop(key)))
        for old, new in CHANGES:
            if isinstance(rest.get(old), str) and isinstance(rest.get(new), str):
                parts.append(_compare(rest.pop(old), rest.pop(new)))
    for key, value in rest.items():
        text = json.dumps(value, ensure_ascii=False)
        parts.append(f"{_shorten(str(key), ARGUMENT_LENGTH)}: {_shorten(text, ARGUMENT_LENGTH)}")
    return _shorten(", ".join(parts), QUESTION_LENGTH)


def _shorten(text: str, length: int) -> str:
    """Return a text on one line; of a long one, its beginning and its length."""
    head = visible(text[:length]).replace("\r", "").replace("\n", " ⏎ ").replace("\t", " ")
    return head if len(text) <= length else f"{head}… ({len(text):,} characters)"


def _measure(text: str) -> str:
    lines, size = len(text.splitlines()), len(text.encode(errors="surrogatepass"))
    return f"{lines:,} line{'' if lines == 1 else 's'}, {size:,} byte{'' if size == 1 else 's'}"


def _compare(old: str, new: str) -> str:
    """Return how many lines a change takes away and adds, between those that stay around it."""
    before, after = old.splitlines(), new.splitlines()
    # First the lines that are the same at the beginning, then those at the end.
    for _ in range(2):
        lines = zip(before, after, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], lines))
        before, after = before[same:][::-1], after[same:][::-1]
    return f"-{len(before):,} +{len(after):,} lines"
