"""What a model is told of an MCP server's answer: its text, and in a word what is none."""

import json
from collections.abc import Iterator
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from sessions_app.engine.tools.base import shortened
from sessions_app.engine.tools.mcp_config import Server
from sessions_app.storable import storable


def told(result: CallToolResult, server: Server) -> str:
    """Return an answer as text, without the server's secrets, shortened."""
    text = "\n".join(_parts(result)) or "Nothing was answered."
    return storable(shortened(server.shown(text)))


def _parts(result: CallToolResult) -> Iterator[str]:
    if not result.content and result.structured_content is not None:
        yield json.dumps(result.structured_content, ensure_ascii=False)
    for block in result.content:
        yield _part(block)


def _part(block: Any) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ImageContent | AudioContent):
        return f"({block.type}, {_size(block.data)})"
    if isinstance(block, ResourceLink):
        return f"(link to {block.name}: {block.uri})"
    if isinstance(block, EmbeddedResource):
        return _resource(block.resource)
    return f"({type(block).__name__})"


def _resource(resource: Any) -> str:
    if isinstance(resource, BlobResourceContents):
        return f"(file {resource.uri}, {_size(resource.blob)})"
    return resource.text


def _size(base64: str) -> str:
    """Return how much base64 stands for."""
    size = len(base64.rstrip("=")) * 3 // 4
    return f"{size} bytes" if size < 1000 else f"{size / 1000:.0f} kB"
