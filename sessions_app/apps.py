"""Sessions: their lifecycle, transcript, runs and journal."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Wires the bell to the journal once the models are there."""

    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Ring the bell of the streams whenever a journal has grown, and tell of the modules."""
        from profiles_app import modules
        from sessions_app.engine.registry import faults, known_providers
        from sessions_app.engine.tools.registry import known_tools
        from sessions_app.streaming import bell

        modules.register("provider", known_providers())
        modules.register_check("provider", faults)
        modules.register("tool", known_tools())
        bell.connect()
