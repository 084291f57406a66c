"""How the transcript becomes the agent's messages."""

import pytest
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)

from sessions_app.engine.base import Utterance
from sessions_app.engine.history import model_messages


def test_user_and_assistant_alternate_as_request_and_response() -> None:
    request, response = model_messages((Utterance("user", "a"), Utterance("assistant", "b")))
    assert isinstance(request, ModelRequest)
    assert isinstance(request.parts[0], UserPromptPart)
    assert response == ModelResponse(parts=[TextPart("b")], timestamp=response.timestamp)


def test_a_system_message_keeps_its_role() -> None:
    (request,) = model_messages((Utterance("system", "a"),))
    assert isinstance(request.parts[0], SystemPromptPart)


def test_a_tool_message_says_what_it_is() -> None:
    (request,) = model_messages((Utterance("tool", "42"),))
    assert request.parts[0].content == "Result of a tool:\n42"


@pytest.mark.parametrize("content", ["", " \n"])
def test_a_blank_message_is_left_out(content: str) -> None:
    assert model_messages((Utterance("assistant", content),)) == []
