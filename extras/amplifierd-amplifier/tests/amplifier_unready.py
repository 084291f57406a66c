"""A module for amplifier-core that mounts, and fails once all others have."""

from typing import Any


async def mount(coordinator: Any, config: dict[str, Any]) -> None:
    pass


async def on_session_ready(coordinator: Any) -> None:
    raise RuntimeError("it is not ready")
