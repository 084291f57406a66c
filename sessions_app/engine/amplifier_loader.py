"""The modules of a plan, handed to the kernel as they were imported."""

import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from amplifier_core import ModuleCoordinator, ModuleLoader

Cleanup = Callable[[], Any] | None
Mount = Callable[[ModuleCoordinator, dict[str, Any]], Awaitable[Cleanup]]


class Loader(ModuleLoader):
    """Loads what is given, and nothing else: no source, no folder, no package by its name.

    The kernel's own reads the metadata of all installed packages for every module, on the event
    loop.
    """

    def __init__(self, mounts: dict[str, Mount]) -> None:
        super().__init__()
        self._mounts = mounts

    async def load(
        self,
        module_id: str,
        config: dict[str, Any] | None = None,
        source_hint: Any = None,
        coordinator: ModuleCoordinator | None = None,
    ) -> Callable[[ModuleCoordinator], Awaitable[Cleanup]]:
        """Return what mounts the module with its config."""
        mount = self._mounts[module_id]

        async def mounted(coordinator: ModuleCoordinator) -> Cleanup:
            cleanup = await mount(coordinator, config or {})
            if ready := _when_ready(mount):
                self.enqueue_on_session_ready(module_id, ready)
            return cleanup

        return mounted


def _when_ready(mount: Mount) -> Callable[..., Any] | None:
    """Return what the module wants to be called once all modules are mounted."""
    ready = getattr(sys.modules.get(mount.__module__), "on_session_ready", None)
    return ready if inspect.iscoroutinefunction(ready) else None
