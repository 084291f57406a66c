"""What a session asks the person who talks to it, and the person's answers."""

from sessions_app.cli import person
from sessions_app.events import EventType
from sessions_app.models import Event
from sessions_app.services import pending_actions
from sessions_app.services.pending_actions import Answer

PROMPT = "[a]pprove, a[l]ways, [d]eny> "
WHY = "Why not? "
WORDS = {
    "a": Answer.APPROVE,
    "approve": Answer.APPROVE,
    "l": Answer.ALWAYS,
    "always": Answer.ALWAYS,
    "d": Answer.DENY,
    "deny": Answer.DENY,
}


class Questions:
    """The approvals that wait in a session, the oldest first, as its journal tells of them."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        # Their ids, in order.
        self._open: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def oldest(self) -> str:
        """Return the id of the one that has waited longest; raise StopIteration without any."""
        return next(iter(self._open))

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        if event.type == EventType.APPROVAL_REQUIRED:
            self._open[event.data["approval_id"]] = None
        elif event.type == EventType.APPROVAL_RESOLVED:
            self._open.pop(event.data["approval_id"], None)

    def set_aside(self) -> None:
        """Forget them: they are answered elsewhere, or by what is said instead."""
        self._open.clear()

    def answer(self, approval_id: str, word: str, reason: str = "") -> None:
        """Answer one, once; raise what the service refuses."""
        self._open.pop(approval_id, None)
        pending_actions.answer(self._session_id, approval_id, word, reason=reason, by=person.name())


def understood(line: str) -> tuple[str, str] | None:
    """Return what a line answers, and the reason in it; None where it is no answer."""
    word, _, reason = line.strip().partition(" ")
    meant = WORDS.get(word.lower())
    if meant is None or (reason and meant != Answer.DENY):
        return None
    return meant, reason.strip()
