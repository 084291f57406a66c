"""An MCP server of the library, as anybody would write one; started as a program, it has pipes."""

from mcp.server.mcpserver import Image, MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("library")


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def picture() -> Image:
    """Show a picture of 12,345 bytes."""
    return Image(data=b"\0" * 12_345, format="png")


@server.tool()
def add(one: int, other: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": one + other}


if __name__ == "__main__":
    server.run()
