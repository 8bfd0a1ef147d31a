"""An MCP server that proves which credential reached it.

Runs under the Python SDK 2.x (both protocol eras) and 1.x (legacy only), over one transport:

    python credential_server.py --stdio [--record FILE]
    python credential_server.py --http PORT [--path /mcp] [--json] [--record FILE]

Over HTTP it listens on 127.0.0.1 and prints "listening PORT" (port 0 picks a free one). The credential is the bearer token
of the request, or the variable CREDENTIAL over stdio. `--record` appends one JSON line for each HTTP request
(`method`, `path`, `query`, `headers`, `body`), or one with `argv`, `cwd` and `env` when a stdio server starts.

It refuses to return the credential itself: only its SHA-256 leaves the process, except into the record file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import uvicorn

try:
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as Server
from mcp.types import ToolAnnotations

from recorder import Recorder, append_line

READS = {"readOnlyHint": True}
WRITES = {"readOnlyHint": False, "destructiveHint": False}

server = Server("credential-server", log_level="WARNING")


def tool(hints: dict[str, bool] | None = None) -> Any:
    """Registers a function as a tool with the given annotations and plain text output."""
    annotations = ToolAnnotations.model_validate(hints) if hints else None
    return server.tool(annotations=annotations, structured_output=False)


def received_credential(context: Context) -> str | None:
    """Reads the credential that came with this request, or with this process."""
    request = context.request_context.request
    if request is None:
        return os.environ.get("CREDENTIAL")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else None


def say(event: str) -> None:
    """Writes one word to stderr, for a test to wait on."""
    print(event, file=sys.stderr, flush=True)


@tool(READS)
async def fingerprint(context: Context) -> str:
    """Returns the SHA-256 of the credential that arrived, in hex, or "none"."""
    credential = received_credential(context)
    return "none" if credential is None else hashlib.sha256(credential.encode()).hexdigest()


@tool(READS)
async def slow(context: Context, times: int = 3, interval_ms: int = 100) -> str:
    """Reports progress `times` times, `interval_ms` apart, then answers."""
    for step in range(1, times + 1):
        await anyio.sleep(interval_ms / 1000)
        await context.report_progress(step, times, f"step {step}")
    return f"done after {times}"


@tool(READS)
async def flood(context: Context, times: int, size: int) -> str:
    """Reports progress `times` times with `size` bytes each, as fast as it is taken, and counts on stderr."""
    for step in range(1, times + 1):
        await context.report_progress(step, times, "x" * size)
        say(f"flooded {step}")
    return f"done after {times}"


@tool(WRITES)
async def write_note(text: str) -> str:
    """Pretends to write a note and returns its length in characters."""
    return f"noted {len(text)} characters"


@tool()
async def hang() -> str:
    """Never answers; writes "hanging" to stderr, and "cancelled" when it is cancelled."""
    say("hanging")
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        say("cancelled")
        raise
    return "unreachable"


@tool(READS)
async def big(size: int) -> str:
    """Answers a text of `size` bytes."""
    return "x" * size


@server.prompt(name="summarize_the_notes_of_this_week_for_the_whole_team")
def summarize(style: str = "short") -> str:
    """Asks for a summary; its name is longer than clients like."""
    return f"Summarize the notes in a {style} way."


@server.resource("notes://today", mime_type="text/plain")
def today() -> str:
    """Is the only note."""
    return "nothing happened"


@server.resource("notes://never", mime_type="text/plain")
async def never() -> str:
    """Is never read to its end."""
    await anyio.sleep_forever()
    return "unreachable"


def http_app(path: str, json_response: bool) -> Any:
    """Builds the Streamable HTTP application, whichever SDK it is."""
    if hasattr(server.settings, "streamable_http_path"):
        server.settings.streamable_http_path = path
        server.settings.json_response = json_response
        return server.streamable_http_app()
    return server.streamable_http_app(streamable_http_path=path, json_response=json_response)


def serve_http(options: argparse.Namespace) -> None:
    """Serves on 127.0.0.1 until killed."""
    app = http_app(options.path, options.json)
    if options.record:
        app = Recorder(app, options.record)
    with socket.create_server(("127.0.0.1", options.http), backlog=512) as listener:
        # Accepted sockets inherit this; asyncio would leave Nagle's 40 ms on a socket that it didn't make.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"listening {listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(description="An MCP server that proves which credential reached it.")
    transport = parser.add_mutually_exclusive_group(required=True)
    transport.add_argument("--stdio", action="store_true")
    transport.add_argument("--http", type=int, metavar="PORT")
    parser.add_argument("--path", default="/mcp", help="endpoint path over HTTP")
    parser.add_argument("--json", action="store_true", help="answer plain JSON instead of SSE on the legacy wire")
    parser.add_argument("--record", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.http is not None:
        serve_http(options)
        return
    if options.record:
        append_line(options.record, {"argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)})
    server.run("stdio")


if __name__ == "__main__":
    main()
