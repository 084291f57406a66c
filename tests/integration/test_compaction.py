"""A long conversation is summarised for the model, for good; nobody else notices."""

from collections.abc import Callable

import pytest

from sessions_app.models import Event, Message, Session
from sessions_app.services import messages, runs
from sessions_app.states import SessionStatus
from sessions_app.worker.turns import read_turn
from tests.conftest import claimed
from tests.integration.test_parking import advance

pytestmark = pytest.mark.django_db(transaction=True)
SCRIPT = [{"text": "In short: they counted."}]


@pytest.fixture
def session(make: Callable[..., Session]) -> Session:
    """A session of 20 long messages, with a model of a small context."""
    config = {"script": SCRIPT, "context_window": 1000}
    overrides = {"providers": [{"module": "provider-mock", "config": config}]}
    session = make(SessionStatus.ACTIVE, settings_overrides=overrides)
    for number in range(20):
        messages.add(session.pk, f"message {number} " * 50)
    return session


def test_the_summary_is_journalled_and_stands_for_older_messages_from_now_on(
    session: Session,
) -> None:
    runs.send(session.pk, "And now?")
    advance(session)
    (event,) = Event.objects.filter(session=session, type="context_compacted")
    assert event.data["summary"] == "In short: they counted."
    turn = read_turn(claimed(session, "What next?"))
    assert turn.summary == "In short: they counted."
    assert turn.history[0].seq == event.data["upto"] + 1


def test_the_transcript_stays_as_it_was(session: Session) -> None:
    runs.send(session.pk, "And now?")
    advance(session)
    said = list(Message.objects.in_session(session.pk).values_list("content", flat=True))
    assert said[:20] == [f"message {number} " * 50 for number in range(20)]
    assert said[20:] == ["And now?", "In short: they counted."]
