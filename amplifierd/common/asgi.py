"""The types of ASGI 3 (https://asgi.readthedocs.io/en/latest/specs/main.html) that we use.

A message or scope is a dictionary whose `type` says what else is in it, so its values are `Any`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

ConnectionScope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[ConnectionScope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
