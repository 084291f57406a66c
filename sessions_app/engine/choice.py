"""Which engine runs a turn. Importing this loads none of them."""

import asyncio
import pkgutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from sessions_app.engine.base import Emit, Engine, EngineError, Outcome, Turn


@dataclass(frozen=True)
class Choice:
    """An engine: where its class is, and the package that it needs beyond the requirements."""

    path: str
    package: str = ""
    versions: str = ""


DEFAULT = "builtin"
# What profiles of the first release call it.
FORMER_NAMES = {"pydantic-ai": DEFAULT}
ENGINES = {
    DEFAULT: Choice("sessions_app.engine.conversation:ConversationEngine"),
    "amplifier": Choice(
        "sessions_app.engine.amplifier:AmplifierEngine", "amplifier-core", ">=2,<3"
    ),
}


class Engines:
    """Runs each turn with the engine that its mount plan names under `session`, as `engine`."""

    def __init__(self) -> None:
        self._loaded: dict[str, Engine] = {}

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn; see `Engine.run`.

        Raises EngineError `bad_config` for an engine that does not exist, or is not installed.
        """
        engine = await self._engine(engine_name(turn))
        return await engine.run(turn, emit, cancel)

    async def _engine(self, name: str) -> Engine:
        if name not in self._loaded:
            # A thread, because loading takes a second, and other turns go on meanwhile.
            self._loaded[name] = await asyncio.to_thread(_load, name)
        return self._loaded[name]


def engine_name(turn: Turn) -> str:
    """Return the name of the turn's engine; raise EngineError `bad_config` for an unknown one."""
    session = turn.mount_plan.get("session") or {}
    name = session.get("engine") or DEFAULT
    if isinstance(name, str):
        name = FORMER_NAMES.get(name, name)
    if name not in list(ENGINES):
        known = ", ".join(sorted(ENGINES))
        raise EngineError(
            "bad_config", f"There is no engine {str(name)[:80]!r}. Known are: {known}."
        )
    return name


def _load(name: str) -> Engine:
    choice = ENGINES[name]
    if choice.package:
        _require(name, choice)
    return pkgutil.resolve_name(choice.path)()


def _require(name: str, choice: Choice) -> None:
    """Raise EngineError where the engine's package is missing, or of another version."""
    try:
        found = version(choice.package)
    except PackageNotFoundError:
        found = ""
    if not found or not SpecifierSet(choice.versions).contains(found):
        wrong = f"{choice.package} {found} is installed" if found else "it is not installed"
        raise EngineError(
            "bad_config",
            f"The engine {name!r} needs {choice.package}{choice.versions}, but {wrong}. "
            f'Run `.venv/bin/pip install "{choice.package}{choice.versions}"`, and restart.',
        )
