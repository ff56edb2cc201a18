"""MCP servers of a few functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import MCPServer


def server_of(**tools: Callable[..., Any]) -> MCPServer:
    """A server of these functions, whose signatures and return types are the tools' schemas."""
    server = MCPServer("foreign", log_level="CRITICAL")
    for name, function in tools.items():
        server.tool(name=name)(function)
    return server
