"""An MCP client for tests, made of the official Python SDK: 2.x in both eras, 1.x in the legacy one.

    python client.py (--url URL | --stdio COMMAND-LINE) [--header 'Name: value']... [--env NAME=VALUE]...
                     [--events] [--era auto|modern|legacy] [--elicit accept|decline|cancel] [--able] [--tasks]
                     [--level LEVEL] [--timeout SECONDS] [--record FILE] ACTION

`--events` speaks HTTP as clients of 2024-11-05 do: one stream for all, messages posted elsewhere. `--able` lets servers
ask the client's model and folders; `--tasks` lets calls become tasks (1.x: of tools that can) and waits for them; `--level`
says which log messages it wants. `--record` appends one JSON line for each HTTP request: its `headers` and `body`, and the `answer` to it
(`headers`, and `body` as far as it came).

    info                                            what was negotiated
    list [tools|prompts|resources|resource_templates]   all pages, as they came over the wire
    call NAME [JSON-ARGUMENTS] [--progress] [--cancel-after SECONDS]
    read URI  |  prompt NAME [JSON-ARGUMENTS]  |  ping (legacy)
    watch URI TOOL [NOTIFICATION]...                which changes it hears of: subscribes to a resource and to lists, and calls
                                                    a tool that changes them until it has heard of all that is named
    complete JSON-REFERENCE ARGUMENT VALUE [JSON-ARGUMENTS]   the last for the arguments that are filled in already
    script FILE|-                                   a JSON list of actions, run in one session
    lines                                           one JSON action per line of stdin, answered one by one
    hold [--for SECONDS] [--reopen]                 keeps the event stream open until the server closes it (`--reopen`: lets
                                                    the SDK open it again) and prints ready, message, closed, reopened

Every action prints one JSON object on one line. In `script` and `lines` an action is an object such as
`{"action": "call", "name": "slow", "arguments": {}, "progress": true, "cancel_after": 0.5}` or
`{"action": "sleep", "seconds": 0.1}`. Results are what stood on the wire, not the SDK's reading of it. An error is
`{"error": {"code", "message", "data"}}`, with `http` (status and headers) where the last answer had a status of 400 or more,
and with `lost` where the session could not be opened or broke. The exit code is 0 for answers and protocol errors, 1 when the
transport or the SDK failed (`code` is then null; SDK 1.x fails so on any HTTP error but 404), 2 for usage.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from mcp import types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

SDK = version("mcp")
MODERN_SDK = not SDK.startswith("1.")

if MODERN_SDK:
    import httpx2 as httpx
    from mcp import Client
    from mcp.shared.exceptions import MCPError

    from client_tasks import Tasks
else:
    import httpx
    from mcp.shared.exceptions import McpError as MCPError

Json = dict[str, Any]
# How often `watch` has things changed until it has heard of them.
ATTEMPTS = 40
LISTS = {"tools": "tools", "prompts": "prompts", "resources": "resources", "resource_templates": "resourceTemplates"}
MODES = {"auto": "auto", "modern": "2026-07-28", "legacy": "legacy"}


def emit(line: Json) -> None:
    """Prints one JSON line."""
    print(json.dumps(line), flush=True)


def emit_event(event: str, **facts: Any) -> None:
    """Prints one event of `hold` with its monotonic time in seconds."""
    emit({"event": event, "t": round(time.monotonic(), 4), **facts})


class Tap:
    """Remembers every message that passed, as it stood on the wire."""

    def __init__(self) -> None:
        self.sent: list[Json] = []
        self.received: list[Json] = []
        self.asked: list[Json] = []
        self.on_received: Callable[[Json], None] = lambda message: None
        self.ended = anyio.Event()

    def saw(self, item: Any) -> None:
        """Records one incoming message; transport errors travel as exceptions and are not messages."""
        if not isinstance(item, Exception):
            self.received.append(wire(item.message))
            self.on_received(self.received[-1])

    def last_sent(self, method: str, since: int = 0) -> Json | None:
        """Finds the newest request of `method` among those sent after the first `since`."""
        return next((message for message in reversed(self.sent[since:]) if message.get("method") == method), None)

    def result_of(self, method: str, since: int = 0) -> Json | None:
        """Finds the result that answered the newest request of `method`."""
        request = self.last_sent(method, since)
        answers = (message for message in reversed(self.received) if request and message.get("id") == request["id"])
        return next((answer["result"] for answer in answers if "result" in answer), None)


def wire(message: Any) -> Json:
    """Dumps a message of either SDK with exactly the fields that were set on it."""
    return message.model_dump(by_alias=True, mode="json", exclude_unset=True)


def describe(error: Any) -> Json:
    """Turns the SDK's protocol error back into the object that came over the wire."""
    return {"code": error.error.code, "message": error.error.message, "data": error.error.data}


class TappedStream:
    """Stands before one of the SDK's message streams and shows the tap what passes."""

    def __init__(self, inner: Any, tap: Tap) -> None:
        self.inner = inner
        self.tap = tap

    async def send(self, item: Any) -> None:
        self.tap.sent.append(wire(item.message))
        await self.inner.send(item)

    def __aiter__(self) -> TappedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            item = await self.inner.__anext__()
        except StopAsyncIteration:
            self.tap.ended.set()
            raise
        self.tap.saw(item)
        return item

    async def __aenter__(self) -> TappedStream:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self.inner.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WatchedBody(httpx.AsyncByteStream):
    """Passes a response body on and tells when the server ended it."""

    def __init__(self, inner: Any, on_end: Callable[[str], None]) -> None:
        self.inner = inner
        self.on_end = on_end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.inner:
                yield chunk
        except httpx.TransportError as error:
            self.on_end(type(error).__name__)
            raise
        self.on_end("end")

    async def aclose(self) -> None:
        await self.inner.aclose()


class RecordedBody(httpx.AsyncByteStream):
    """Passes a response body on and appends what has passed to a file, once, when it ends."""

    def __init__(self, inner: Any, path: Path, exchange: Json) -> None:
        self.inner = inner
        self.path = path
        self.exchange: Json | None = exchange
        self.passed = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            self.passed += chunk
            yield chunk

    async def aclose(self) -> None:
        if self.exchange:
            self.exchange["answer"]["body"] = self.passed.decode("utf-8", "replace")
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self.exchange) + "\n")
            self.exchange = None
        await self.inner.aclose()


class WatchedHttp(httpx.AsyncHTTPTransport):
    """Remembers the last refusal and watches event streams (GET, or a modern `subscriptions/listen`)."""

    def __init__(self, record: Path | None) -> None:
        super().__init__()
        self.record = record
        self.refusal: Json | None = None
        self.stream_status: int | None = None
        self.stream_answered = anyio.Event()
        self.on_open: Callable[[int], None] = lambda status: None
        self.on_end: Callable[[str], None] = lambda how: None

    async def handle_async_request(self, request: Any) -> Any:
        response = await super().handle_async_request(request)
        refused = response.status_code >= 400
        if request.method == "POST":
            self.refusal = {"status": response.status_code, "headers": dict(response.headers)} if refused else None
        if request.method == "GET" or request.headers.get("mcp-method") == "subscriptions/listen":
            self.stream_status = response.status_code
            self.stream_answered.set()
            self.on_open(response.status_code)
            if not refused:
                response.stream = WatchedBody(response.stream, lambda how: self.on_end(how))
        if self.record:
            exchange = {"headers": request.headers.multi_items(), "body": request.content.decode(),
                        "answer": {"headers": response.headers.multi_items()}}
            response.stream = RecordedBody(response.stream, self.record, exchange)
        return response


class Peer:
    """One session with a server, opened by either SDK."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tap = Tap()
        self.http = WatchedHttp(options.record)
        self.session: Any = None

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[tuple[Any, Any]]:
        """Opens the chosen transport with the tap in both directions."""
        headers = dict(header.split(": ", 1) for header in self.options.header)
        if self.options.events:
            async with sse_client(self.options.url, headers) as streams:
                yield TappedStream(streams[0], self.tap), TappedStream(streams[1], self.tap)
        elif self.options.url:
            timeout = httpx.Timeout(30, read=300)
            client = httpx.AsyncClient(transport=self.http, headers=headers, timeout=timeout, trust_env=False)
            async with client, streamable_http_client(self.options.url, http_client=client) as streams:
                yield TappedStream(streams[0], self.tap), TappedStream(streams[1], self.tap)
        else:
            command, *arguments = shlex.split(self.options.stdio)
            environment = dict(pair.split("=", 1) for pair in self.options.env)
            async with stdio_client(StdioServerParameters(command=command, args=arguments, env=environment)) as streams:
                yield TappedStream(streams[0], self.tap), TappedStream(streams[1], self.tap)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Peer]:
        """Connects, negotiates the era and closes the session at the end."""
        answers: Json = {"elicitation_callback": self.elicit} if self.options.elicit else {}
        if self.options.able:
            answers |= {"sampling_callback": self.sample, "list_roots_callback": self.list_roots}
        answers["logging_callback"] = self.hear
        timeout = self.options.timeout
        if self.options.tasks and MODERN_SDK:
            answers["extensions"] = [Tasks()]
        if MODERN_SDK:
            client = Client(self.transport(), mode=MODES[self.options.era], cache=None,
                            read_timeout_seconds=timeout, **answers)
            async with client as self.session:
                await self.set_level()
                yield self
        else:
            async with self.transport() as (read, write), ClientSession(
                read, write, timedelta(seconds=timeout), **answers
            ) as self.session:
                await self.session.initialize()
                await self.set_level()
                yield self

    async def set_level(self) -> None:
        """Says which log messages are wanted, where that is said once for all."""
        if self.options.level and not (MODERN_SDK and self.session.protocol_version == MODES["modern"]):
            await self.session.set_logging_level(self.options.level)

    async def hear(self, params: Any) -> None:
        """Takes a log message; the tap has it already."""

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        """Answers every question of the server in the way that was asked for."""
        self.tap.asked.append(wire(params))
        content = None
        if self.options.elicit == "accept" and getattr(params, "mode", "form") != "url":
            schema = getattr(params, "requested_schema", None) or getattr(params, "requestedSchema", None) or {}
            content = {name: f"a {name}" for name in schema.get("properties", {})}
        return types.ElicitResult(action=self.options.elicit, content=content)

    async def sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        """Is the client's model."""
        self.tap.asked.append(wire(params))
        content = types.TextContent(type="text", text="Paris")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def list_roots(self, context: Any) -> types.ListRootsResult:
        """Shows the client's folders."""
        self.tap.asked.append({"roots": True})
        return types.ListRootsResult(roots=[types.Root(uri="file:///one"), types.Root(uri="file:///two")])

    async def perform(self, action: Json) -> Json:
        """Runs one action; a protocol error is a result like any other."""
        line: Json = {"action": action["action"]}
        start = time.monotonic()
        try:
            line |= await getattr(self, f"do_{action['action']}")(action)
        except MCPError as error:
            line["error"] = describe(error)
            if self.http.refusal:
                line["http"] = self.http.refusal
        return line | {"ms": round((time.monotonic() - start) * 1000, 1)}

    async def do_info(self, _action: Json) -> Json:
        handshake = self.tap.result_of("initialize") or self.tap.result_of("server/discover")
        negotiated = self.session.protocol_version if MODERN_SDK else (handshake or {}).get("protocolVersion")
        return {"sdk": SDK, "protocol": negotiated, "handshake": handshake}

    async def do_list(self, action: Json) -> Json:
        kind = action.get("kind", "tools")
        field, method = LISTS[kind], "resources/templates/list" if kind == "resource_templates" else f"{kind}/list"
        items: list[Any] = []
        pages: list[Json] = []
        cursor = None
        while cursor is not None or not pages:
            since = len(self.tap.sent)
            await self.list_page(kind, cursor)
            page = dict(self.tap.result_of(method, since) or {})
            items += page.pop(field, [])
            pages.append(page)
            cursor = page.get("nextCursor")
        return {field: items, "pages": pages}

    async def list_page(self, kind: str, cursor: str | None) -> None:
        fetch = getattr(self.session, f"list_{kind}")
        if MODERN_SDK:
            await fetch(cursor=cursor)
        else:
            await fetch(params=types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None)

    async def do_call(self, action: Json) -> Json:
        sent, received, asked = len(self.tap.sent), len(self.tap.received), len(self.tap.asked)
        callback = ignore_progress if action.get("progress") else None
        if self.options.tasks and not MODERN_SDK and await self.takes_tasks(action["name"]):
            return await self.call_as_task(action)
        with anyio.move_on_after(action.get("cancel_after")) as limit:
            returned = await self.session.call_tool(
                action["name"], action.get("arguments") or {}, progress_callback=callback, **self.level_of_call()
            )
        if limit.cancelled_caught:
            await self.tell_cancelled(self.tap.last_sent("tools/call", sent))
            outcome: Json = {"cancelled": True}
        else:
            outcome = {"result": self.tap.result_of("tools/call", sent)}
            if (outcome["result"] or {}).get("resultType") == "task":
                outcome["task"] = wire(returned)
        if callback:
            news = self.tap.received[received:]
            outcome["progress"] = [one["params"] for one in news if one.get("method") == "notifications/progress"]
        logged = [one["params"] for one in self.tap.received[received:] if one.get("method") == "notifications/message"]
        if logged:
            outcome["logged"] = logged
        questions = [one["method"] for one in self.tap.received[received:] if "method" in one and "id" in one]
        if questions:
            outcome["questions"] = questions
        if self.tap.asked[asked:]:
            outcome["asked"] = self.tap.asked[asked:]
        return outcome

    async def takes_tasks(self, name: str) -> bool:
        """Says whether a tool's call may become a task of 2025-11-25."""
        able = self.session.get_server_capabilities().tasks
        tools = (await self.session.list_tools()).tools if able and able.requests else []
        return any(tool.name == name and tool.execution for tool in tools)

    async def call_as_task(self, action: Json) -> Json:
        """Lets a call become a task of 2025-11-25, and waits for its result, or takes it back."""
        tasks, asked = self.session.experimental, len(self.tap.asked)
        begun = await tasks.call_tool_as_task(action["name"], action.get("arguments") or {})
        name, outcome = begun.task.taskId, {"result": self.tap.result_of("tools/call")}
        if action.get("cancel_after") is not None:
            await anyio.sleep(action["cancel_after"])
            await tasks.cancel_task(name)
            return outcome | {"task": self.tap.result_of("tasks/cancel"), "cancelled": True}
        async for stands in tasks.poll_task(name):
            if stands.status == "input_required":
                break
        await tasks.get_task_result(name, types.CallToolResult)
        found = await tasks.get_task(name)
        outcome |= {"task": self.tap.result_of("tasks/result"), "status": found.status, "name": found.taskId}
        return outcome | {"asked": self.tap.asked[asked:]}

    def level_of_call(self) -> Json:
        """Says which log messages are wanted, where that is said with each call."""
        if self.options.level and MODERN_SDK and self.session.protocol_version == MODES["modern"]:
            return {"meta": {"io.modelcontextprotocol/logLevel": self.options.level}}
        return {}

    async def tell_cancelled(self, request: Json | None) -> None:
        """Sends the cancellation that SDK 1.x, unlike 2.x, leaves to its user."""
        if not MODERN_SDK and request:
            params = types.CancelledNotificationParams(requestId=request["id"], reason="no longer wanted")
            await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))

    async def do_read(self, action: Json) -> Json:
        await self.session.read_resource(action["uri"])
        return {"result": self.tap.result_of("resources/read")}

    async def do_prompt(self, action: Json) -> Json:
        await self.session.get_prompt(action["name"], action.get("arguments"))
        return {"result": self.tap.result_of("prompts/get")}

    async def do_complete(self, action: Json) -> Json:
        reference = types.PromptReference if action["ref"]["type"] == "ref/prompt" else types.ResourceTemplateReference
        argument = {"name": action["argument"], "value": action["value"]}
        await self.session.complete(reference.model_validate(action["ref"]), argument, action.get("arguments"))
        return {"result": self.tap.result_of("completion/complete")}

    async def do_watch(self, action: Json) -> Json:
        if MODERN_SDK and self.session.protocol_version == MODES["modern"]:
            lists = dict.fromkeys(("tools_list_changed", "prompts_list_changed", "resources_list_changed"), True)
            async with self.session.listen(**lists, resource_subscriptions=[action["uri"]]):
                return {"heard": await self.hear_changes(action)}
        await self.session.subscribe_resource(action["uri"])
        heard = await self.hear_changes(action)
        await self.session.unsubscribe_resource(action["uri"])
        return {"heard": heard}

    async def hear_changes(self, action: Json) -> list[str]:
        """Has things changed until each change was heard of; a stream may open later than it was asked for."""
        since, wanted, heard = len(self.tap.received), set(action["for"]), set()
        for _ in range(ATTEMPTS):
            await self.session.call_tool(action["name"], {})
            await anyio.sleep(0.1)
            heard = {one.get("method") for one in self.tap.received[since:]} & wanted
            if heard == wanted:
                break
        return sorted(heard)

    async def do_ping(self, _action: Json) -> Json:
        await self.session.send_ping()
        return {"result": self.tap.result_of("ping")}

    async def do_sleep(self, action: Json) -> Json:
        await anyio.sleep(action["seconds"])
        return {}

    async def do_script(self, action: Json) -> Json:
        source = sys.stdin.read() if action["file"] == "-" else Path(action["file"]).read_text(encoding="utf-8")
        steps = json.loads(source)
        for step in steps:
            emit(await self.perform(step))
        return {"steps": len(steps)}

    async def do_lines(self, _action: Json) -> Json:
        steps = 0
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            emit(await self.perform(json.loads(line)))
            steps += 1
        return {"steps": steps}

    async def do_hold(self, action: Json) -> Json:
        with anyio.move_on_after(action.get("seconds", 60)) as limit:
            await self.watch(reopen=action.get("reopen", False))
        return {"ended": "timeout" if limit.cancelled_caught else "closed"}

    async def watch(self, *, reopen: bool) -> None:
        """Reports each event until the server closes the stream (with `reopen`: until cancelled)."""
        closed = anyio.Event() if self.options.url else self.tap.ended

        def on_end(how: str) -> None:
            emit_event("closed", how=how)
            if not reopen:
                closed.set()

        def on_open(status: int) -> None:
            emit_event("reopened", status=status)

        self.http.on_end = on_end
        self.tap.on_received = lambda message: emit_event("message", message=message)
        if MODERN_SDK and self.session.protocol_version == MODES["modern"]:
            changes = dict.fromkeys(("tools_list_changed", "prompts_list_changed", "resources_list_changed"), True)
            async with self.session.listen(**changes):
                emit_event("ready", status=self.http.stream_status)
                self.http.on_open = on_open
                await closed.wait()
        else:
            if self.options.url:
                await self.http.stream_answered.wait()
            emit_event("ready", status=self.http.stream_status)
            self.http.on_open = on_open
            await closed.wait()
        if not self.options.url:
            emit_event("closed", how="end")


async def ignore_progress(_progress: float, _total: float | None, _message: str | None) -> None:
    """Makes the SDK ask for progress; the tap collects what comes."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--stdio", metavar="COMMAND-LINE")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--era", choices=MODES, default="auto")
    parser.add_argument("--elicit", choices=("accept", "decline", "cancel"))
    parser.add_argument("--able", action="store_true")
    parser.add_argument("--tasks", action="store_true")
    parser.add_argument("--level")
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--record", type=Path, metavar="FILE")
    actions = parser.add_subparsers(dest="action", required=True)
    for simple in ("info", "ping", "lines"):
        actions.add_parser(simple)
    actions.add_parser("list").add_argument("kind", nargs="?", choices=LISTS, default="tools")
    actions.add_parser("read").add_argument("uri")
    actions.add_parser("script").add_argument("file")
    watch = actions.add_parser("watch")
    watch.add_argument("uri")
    watch.add_argument("name")
    watch.add_argument("for", nargs="*")
    complete = actions.add_parser("complete")
    complete.add_argument("ref", type=json.loads)
    complete.add_argument("argument")
    complete.add_argument("value")
    complete.add_argument("arguments", nargs="?", type=json.loads)
    for named in ("call", "prompt"):
        one = actions.add_parser(named)
        one.add_argument("name")
        one.add_argument("arguments", nargs="?", type=json.loads)
        if named == "call":
            one.add_argument("--progress", action="store_true")
            one.add_argument("--cancel-after", type=float)
    hold = actions.add_parser("hold")
    hold.add_argument("--for", type=float, default=60.0, dest="seconds")
    hold.add_argument("--reopen", action="store_true")
    options = parser.parse_args(arguments)
    if options.era == "modern" and not MODERN_SDK:
        parser.error(f"SDK {SDK} speaks only the legacy era")
    return options


def innermost(error: BaseException) -> BaseException:
    """Unwraps the task groups around the first real error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def run(options: argparse.Namespace) -> int:
    """Opens the session, runs the action of the command line and returns the exit code."""
    peer = Peer(options)
    try:
        async with peer.open():
            emit(await peer.perform(vars(options)))
        return 0
    except Exception as failure:
        error = innermost(failure)
        refused = isinstance(error, MCPError)
        details = describe(error) if refused else {"code": None, "message": f"{type(error).__name__}: {error}", "data": None}
        emit({"action": options.action, "error": details, "http": peer.http.refusal, "lost": True})
        return 0 if refused else 1


def main() -> int:
    options = parse(sys.argv[1:])
    warnings.simplefilter("ignore")
    return anyio.run(run, options)


if __name__ == "__main__":
    sys.exit(main())
