"""The class that the daemon finds by its entry point. Importing it loads no amplifier-core."""

import asyncio
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from sessions_app.engine.base import Emit, Engine, EngineError, Outcome, Turn
from sessions_app.engine.capabilities import EngineCapabilities

PACKAGE, VERSIONS = "amplifier-core", ">=2,<3"


class AmplifierEngine(Engine):
    """Runs turns with amplifier-core, each in a session of its own; holds no state between them."""

    module = "amplifier"
    # Its modules are those of installed packages, and it keeps no budget.
    capabilities = EngineCapabilities()

    async def run(self, turn: Turn, emit: Emit, cancel: asyncio.Event) -> Outcome:
        """Answer the turn with the modules of its mount plan; see `Engine.run`.

        An attempt begins anew, whatever earlier ones have done: the kernel keeps no checkpoints.
        """
        _require_package()
        # Late, because it takes a second; in a thread, because other turns go on meanwhile.
        session = await asyncio.to_thread(_load_session)
        return await session.run_turn(turn, emit, cancel)


def _load_session():  # noqa: ANN202 - a module
    from amplifierd_amplifier import session

    return session


def _require_package() -> None:
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = ""
    if not found or not SpecifierSet(VERSIONS).contains(found):
        wrong = f"{PACKAGE} {found} is installed" if found else "it is not installed"
        raise EngineError(
            "bad_config",
            f"The engine {AmplifierEngine.module!r} needs {PACKAGE}{VERSIONS}, but {wrong}. "
            f'Run `.venv/bin/pip install "{PACKAGE}{VERSIONS}"`, and restart.',
        )
