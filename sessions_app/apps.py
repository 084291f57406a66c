"""Sessions: their lifecycle, transcript, runs and journal."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Wires the bell to the journal once the models are there."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Ring the bell of the streams whenever a journal has grown, and tell of the modules."""
        from profiles_app import modules
        from sessions_app.engine.registry import ENGINES, PROVIDERS, TOOLS, find_config_errors
        from sessions_app.streaming import notifier

        modules.register("provider", PROVIDERS.list_modules, find_config_errors)
        modules.register("tool", TOOLS.list_modules)
        modules.register("engine", ENGINES.list_modules)
        notifier.connect()
