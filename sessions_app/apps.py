"""Sessions: their lifecycle, transcript, runs and journal."""

from django.apps import AppConfig

from profiles_app.modules import Capabilities


class SessionsConfig(AppConfig):
    """Wires the bell to the journal once the models are there."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Ring the bell of the streams whenever a journal has grown, and tell of the modules."""
        from profiles_app import modules
        from sessions_app.engine.registry import faults
        from sessions_app.streaming import bell

        modules.register("provider", provider_capabilities())
        modules.register_check("provider", faults)
        modules.register("tool", tool_capabilities())
        bell.connect()


# TO BE REPLACED by `provider_capabilities()` of engine/registry.py and `tool_capabilities()` of
# engine/tools/registry.py, as soon as each module's class says what it can do.


def provider_capabilities() -> dict[str, Capabilities]:
    """Return what each provider module can do."""
    from sessions_app.engine.provider_modules import MODULES

    inside = {"provider-local", "provider-mock"}
    return {
        name: Capabilities(
            executes_code=False,
            touches_files=False,
            reaches_network=name not in inside,
            needs_key="api_key" in module.defaults,
            has_address=name not in inside,
            is_scripted=name == "provider-mock",
        )
        for name, module in MODULES.items()
    }


def tool_capabilities() -> dict[str, Capabilities]:
    """Return what each tool module can do."""
    from sessions_app.engine.tools.registry import known_tools

    executing = {"tool-bash", "tool-mcp"}
    return {
        name: Capabilities(
            executes_code=name in executing,
            touches_files=name in {*executing, "tool-filesystem"},
            reaches_network=name in {*executing, "tool-web"},
            needs_key=False,
            has_address=False,
            is_scripted=False,
        )
        for name in known_tools()
    }
