"""Servers, clients and networks on this machine: search, chat, MCP, the web, the page's service, the peers' clients.

Real sockets and real HTTP, unless a module says otherwise; what is answered stands in a script.
"""
