"""tool-web: fetches pages from the public internet.

This file is apart from `client` because importing it must not load the HTTP client.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sessions_app.engine.capabilities import ToolCapabilities
from sessions_app.engine.config import Config
from sessions_app.engine.tools.base import Toolbox, ToolModule, Workplace
from sessions_app.engine.tools.functions import make_tool


class WebModule(ToolModule):
    """The module of `fetch_url`."""

    module = "tool-web"
    capabilities = ToolCapabilities(
        executes_code=False, touches_files=False, reaches_network=True, has_address=True
    )

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config, workplace: Workplace) -> AsyncIterator[Toolbox]:
        """Open `fetch_url`; raise EngineError `bad_tool` for a config that cannot be used."""
        from sessions_app.engine.tools.web.client import PageFetcher

        yield Toolbox([make_tool(PageFetcher(config).fetch_url, idempotent=True)])
