import asyncio
from typing import Any

import pytest

from amplifierd.server.health import Liveness


@pytest.mark.parametrize(("method", "told"), [("GET", [200, b'{"status": "alive"}']), ("PUT", [])])
def test_only_a_get_is_answered_without_django(method: str, told: list[Any]) -> None:
    passed_on: list[str] = []
    sent: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        passed_on.append(scope["method"])

    async def send(message: Any) -> None:
        sent.append(message.get("status") or message["body"])

    async def receive() -> Any:
        raise AssertionError("there is nothing to be read")

    asyncio.run(Liveness(other)({"type": "http", "method": method}, receive, send))
    assert sent == told
    assert passed_on == ([] if told else [method])
