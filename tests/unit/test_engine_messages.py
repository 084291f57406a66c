"""How the transcript becomes messages for a model."""

import pytest

from sessions_app.engine.base import HistoryMessage
from sessions_app.engine.messages import AssistantMessage, SystemMessage, Text, UserMessage
from sessions_app.engine.transcript import transcript_messages


def test_each_role_becomes_a_message_of_its_own_kind() -> None:
    request, response = transcript_messages(
        (HistoryMessage("user", "a"), HistoryMessage("assistant", "b"))
    )
    assert request == UserMessage("a")
    assert response == AssistantMessage((Text("b"),))


def test_a_system_message_keeps_its_role() -> None:
    assert transcript_messages((HistoryMessage("system", "a"),)) == [SystemMessage("a")]


def test_a_tool_message_says_what_it_is() -> None:
    assert transcript_messages((HistoryMessage("tool", "42"),)) == [
        UserMessage("Result of a tool:\n42")
    ]


@pytest.mark.parametrize("content", ["", " \n"])
def test_a_blank_message_is_left_out(content: str) -> None:
    assert transcript_messages((HistoryMessage("assistant", content),)) == []
