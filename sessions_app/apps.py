"""Sessions: their lifecycle, transcript, runs and journal."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Connects the notifier to the journal, and registers modules for profiles."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Connect the notifier; register providers, tools and engines as modules of profiles."""
        from profiles_app import modules
        from sessions_app.engine.engines import ENGINES
        from sessions_app.engine.registry import (
            PROVIDERS,
            TOOLS,
            find_config_errors,
            find_tool_errors,
            find_warnings,
        )
        from sessions_app.streaming import notifier

        modules.register("provider", PROVIDERS.list_modules, find_config_errors, find_warnings)
        modules.register("tool", TOOLS.list_modules, find_tool_errors)
        modules.register("engine", ENGINES.list_modules)
        notifier.connect()
