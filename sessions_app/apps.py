"""Sessions: their lifecycle, transcript, runs and journal."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Wires the bell to the journal once the models are there."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Ring the bell of the streams whenever a journal has grown, and tell of the modules."""
        from profiles_app import modules
        from sessions_app.engine.registry import faults, provider_capabilities
        from sessions_app.engine.tools.base import tool_capabilities
        from sessions_app.streaming import notifier

        modules.register("provider", provider_capabilities())
        modules.register_check("provider", faults)
        modules.register("tool", tool_capabilities())
        notifier.connect()
