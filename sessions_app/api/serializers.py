"""What callers may send to the API of sessions, request by request."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from amplifierd.common.bodies import Body, Flag, Nothing, Number, Object, Text, checked, snake
from amplifierd.common.text import is_blank
from sessions_app.services import cleanup
from sessions_app.services.approvals import Answer
from sessions_app.services.runs import Strategy
from sessions_app.states import Role

__all__ = ["Body", "Nothing", "Object", "Text", "checked", "snake"]


class CreateSession(Body):
    """POST /sessions/"""

    amplified_dir = Text(default=".", max_length=1024)
    profile_name = Text(default=None, allow_null=True, max_length=200)
    parent_session_id = Text(default=None, allow_null=True, max_length=64)
    settings_overrides = Object(default=dict)
    name = Text(default=None, allow_null=True, max_length=settings.NAME_LENGTH)
    metadata = Object(default=dict)


class UpdateSession(Body):
    """PATCH /sessions/{id}"""

    name = Text(required=False, allow_null=True, allow_blank=True, max_length=settings.NAME_LENGTH)
    metadata = Object(required=False)

    def validate_name(self, name: str | None) -> str | None:
        """Return the name; an empty one clears it, as null does."""
        return name or None


class FailSession(Body):
    """POST /sessions/{id}/fail"""

    error_message = Text(max_length=10_000)
    error_details = Object(default=None, allow_null=True)


class MessageText(Text):
    """The content of a message: services refuse one in which nobody could see anything."""

    default_error_messages = {"blank": "There is no visible character in it: write something."}

    def to_internal_value(self, data: Any) -> str:
        """Return the text; raise ValidationError for a blank one."""
        text = super().to_internal_value(data)
        if is_blank(text):
            self.fail("blank")
        return text


class AddMessage(Body):
    """POST /sessions/{id}/messages"""

    content = MessageText()
    role = serializers.ChoiceField(choices=Role.values, default=Role.USER.value)
    agent = Text(default=None, allow_null=True, max_length=200)
    token_count = Number(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)
    metadata = Object(default=dict)


class SendMessage(Body):
    """POST /sessions/{id}/send-message"""

    content = MessageText()
    multitask_strategy = serializers.ChoiceField(
        choices=Strategy.ALL, default=Strategy.ENQUEUE, source="strategy"
    )


class ForkSession(Body):
    """POST /sessions/{id}/fork"""

    after = Number(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)


class ChangeProfile(Body):
    """POST /sessions/{id}/change-profile"""

    profile_name = Text(max_length=200)


class Cleanup(Body):
    """POST /sessions/cleanup"""

    older_than_days = Number(default=cleanup.DEFAULT_DAYS, min_value=0, max_value=cleanup.MOST_DAYS)
    status = serializers.ChoiceField(
        choices=cleanup.REMOVABLE,
        default=None,
        allow_null=True,
        error_messages={
            "invalid_choice": f"Give one of {', '.join(cleanup.REMOVABLE)}; an active session is "
            "never removed: end it first."
        },
    )
    dry_run = Flag(default=False)


# How clients answer an approval → what they mean; the last ones as older clients write it.
ANSWERS = {
    "approve": Answer.APPROVE,
    "deny": Answer.DENY,
    "always": Answer.ALWAYS,
    "allow": Answer.APPROVE,
    "Allow once": Answer.APPROVE,
    "Allow always": Answer.ALWAYS,
    "Deny": Answer.DENY,
}
MEANINGS = {word.lower(): meaning for word, meaning in ANSWERS.items()}


def _any_case(word: str) -> str:
    """Return a pattern for a word in upper or lower case, as every reader of patterns has it."""
    return "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in word)


class AnswerField(serializers.RegexField):
    """An answer to an approval, in upper or lower case."""

    def __init__(self, **options: Any) -> None:
        words = "|".join(map(_any_case, dict.fromkeys(word.lower() for word in ANSWERS)))
        super().__init__(f"^({words})$", trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Return what is meant; raise ValidationError."""
        meaning = MEANINGS.get(data.lower()) if isinstance(data, str) else None
        if meaning is None:
            self.fail("invalid")
        return meaning

    def run_validators(self, value: str) -> None:
        """Do nothing: what is meant is no longer what was sent."""


class ApprovalResponse(Body):
    """POST /sessions/{id}/approval-response"""

    approval_id = Text(max_length=200)
    response = AnswerField()
    reason = Text(default=None, allow_null=True, max_length=10_000)
    answered_by = Text(default="", allow_blank=True, max_length=150)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the answer as the service takes it: no reason is an empty one."""
        return {**attrs, "reason": attrs["reason"] or ""}
