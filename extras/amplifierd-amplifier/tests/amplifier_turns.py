"""Turns of the engine `amplifier` with the modules of `amplifier_modules`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sessions_app.engine.base import Cancelled, EngineError, Outcome, RunHost, Turn
from sessions_app.engine.engines import get_engine

DEADLINE = 20
Events = list[tuple[str, dict[str, Any]]]

ENTRY_POINTS = """\
[amplifier.modules]
loop-test = amplifier_modules:mount_loop
context-test = amplifier_modules:mount_context
provider-test = amplifier_modules:mount_provider
tool-look = amplifier_modules:mount_look
tool-messy = amplifier_modules:mount_messy
hooks-ask = amplifier_modules:mount_ask
hooks-approval = amplifier_modules:mount_approval
fault = amplifier_modules:mount_fault
hooks-unready = amplifier_unready:mount
tool-nowhere = amplifier_nowhere:mount
"""


def install(folder: Path) -> None:
    """Put a package there that tells of the modules, as pip would."""
    info = folder / "amplifier_test_modules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: x\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


def plan(*script: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A mount plan whose provider plays the script."""
    session = {
        "engine": "amplifier",
        "orchestrator": {"module": "loop-test"},
        "context": {"module": "context-test"},
    }
    config = {"script": list(script), **sections.pop("config", {})}
    provider = {"module": "provider-test", "config": config}
    return {"session": session, "providers": [provider], **sections}


class Noting(RunHost):
    """A host that notes among the events when they were written, or says that it is lost."""

    def __init__(self, events: Events, is_lost: bool = False) -> None:
        self.events = events
        self.is_lost = is_lost

    async def flush(self) -> None:
        if self.is_lost:
            raise Cancelled
        self.events.append(("settled", {}))


class Played:
    """How a turn ended, and what was emitted."""

    def __init__(self, mount_plan: dict[str, Any], **about: Any) -> None:
        self.events: Events = []
        self.cancel_at = about.pop("cancel_at", "")
        self.host = Noting(self.events, about.pop("is_lost", False))
        self.outcome: Outcome | None = None
        self.error: EngineError | Cancelled | None = None
        self.turn = Turn(mount_plan, about.pop("prompt", "Go."), host=self.host, **about)
        asyncio.run(self._run())

    async def _run(self) -> None:
        cancel = asyncio.Event()

        def emit(kind: str, data: dict[str, Any]) -> None:
            self.events.append((kind, data))
            if kind == self.cancel_at:
                cancel.set()

        try:
            async with asyncio.timeout(DEADLINE):
                self.outcome = await get_engine().run(self.turn, emit, cancel)
        except (EngineError, Cancelled) as error:
            self.error = error

    @property
    def kinds(self) -> Sequence[str]:
        return [kind for kind, _ in self.events]

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The data of the events of a kind; of hooks, what matters."""
        return [data.get("hook_data", data) for each, data in self.events if each == kind]

    @property
    def text(self) -> str:
        return "".join(data["content"] for data in self.told("content"))

    @property
    def code(self) -> str:
        assert isinstance(self.error, EngineError), f"the turn did not fail: {self.outcome}"
        return self.error.code
