"""An MCP server that asks back, the person, the client's model, the client's folders, tells what changes, and offers one of
everything else that the protocol has.

Under the Python SDK 1.x it asks as legacy servers do, in the middle of a call; under 2.x as modern ones do, by a result
that asks for input, and it speaks no other era: it refuses who wants to open a session.

    python asking_server.py --stdio | --http PORT [--record FILE] | --events PORT

`--record` appends one JSON line for each HTTP request. `--events` speaks HTTP as servers of 2024-11-05 do: `GET /sse` for
all that they say, messages posted elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.types import Completion, ListPromptsResult, SamplingMessage, TextContent

try:
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver import MCPServer as Server
    from mcp.types import (
        CreateMessageRequest,
        CreateMessageRequestParams,
        ElicitRequest,
        ElicitRequestFormParams,
        ElicitRequestURLParams,
        InputRequiredResult,
        ListRootsRequest,
        PaginatedRequestParams,
    )

    from conformance_tasks import Tasks

    MODERN = True
except ImportError:
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as Server
    from mcp.types import ListPromptsRequest

    MODERN = False

from pydantic import BaseModel, Field

from recorder import Recorder

NOTE = "notes://a"
PAGE = "https://example.org/allow"

if MODERN:

    class SlowTask(Tasks):
        """Makes tasks of the calls of one tool."""

        def tools(self) -> Any:
            bindings = (binding for binding in super().tools() if binding.kwargs["name"] == "slow_compute")
            return [replace(binding, kwargs=binding.kwargs | {"structured_output": False}) for binding in bindings]

    server = Server("asking-server", log_level="WARNING", extensions=[SlowTask()])
else:
    server = Server("asking-server", log_level="WARNING")


@server.resource(NOTE)
def note() -> str:
    """Is the only note."""
    return "a note"


@server.resource("notes://{name}/text")
def text_of(name: str) -> str:
    """Is a note of any name."""
    return f"the note {name}"


def tool(function: Any) -> Any:
    return server.tool(structured_output=False)(function)


class Name(BaseModel):
    name: str


class Color(BaseModel):
    color: str


def prompt() -> dict[str, Any]:
    question = SamplingMessage(role="user", content=TextContent(type="text", text="What is the capital of France?"))
    return {"messages": [question], "max_tokens": 100}


if MODERN:

    def form(message: str, schema: type[BaseModel]) -> ElicitRequest:
        params = ElicitRequestFormParams(message=message, requested_schema=schema.model_json_schema())
        return ElicitRequest(params=params)

    def answer(context: Context, key: str) -> Any:
        return (context.input_responses or {}).get(key)

    @tool
    def greet(context: Context) -> str | InputRequiredResult:
        """Asks for a name."""
        given = answer(context, "name")
        if given is None:
            return InputRequiredResult(input_requests={"name": form("Who are you?", Name)})
        return f"Hello, {given.content['name']}!" if given.action == "accept" else f"{given.action}: hello anyway."

    @tool
    def ask_model(context: Context) -> str | InputRequiredResult:
        """Asks the client's model."""
        given = answer(context, "model")
        if given is None:
            request = CreateMessageRequest(params=CreateMessageRequestParams(**prompt()))
            return InputRequiredResult(input_requests={"model": request})
        return f"The model says: {given.content.text}"

    @tool
    def count_folders(context: Context) -> str | InputRequiredResult:
        """Asks for the client's folders."""
        given = answer(context, "roots")
        if given is None:
            return InputRequiredResult(input_requests={"roots": ListRootsRequest()})
        return f"folders: {', '.join(str(root.uri) for root in given.roots)}"

    @tool
    def ask_twice(context: Context) -> str | InputRequiredResult:
        """Asks for a name, then for a color."""
        state = json.loads(context.request_state or "{}")
        if "name" in state:
            return f"{state['name']} likes {answer(context, 'color').content['color']}."
        if (given := answer(context, "name")) is None:
            return InputRequiredResult(input_requests={"name": form("Who are you?", Name)})
        state = json.dumps({"name": given.content["name"]})
        return InputRequiredResult(input_requests={"color": form("Which color?", Color)}, request_state=state)

    @tool
    def open_page(context: Context) -> str | InputRequiredResult:
        """Asks the person to open a page."""
        given = answer(context, "page")
        if given is None:
            params = ElicitRequestURLParams(message="Allow it there.", url=PAGE)
            return InputRequiredResult(input_requests={"page": ElicitRequest(params=params)})
        return f"the page: {given.action}"

    @tool
    async def touch(context: Context) -> str:
        """Tells that the note and the list of prompts have changed."""
        await context.notify_resource_updated(NOTE)
        await context.notify_prompts_changed()
        return "touched"

else:

    @server._mcp_server.subscribe_resource()
    async def subscribe(uri: Any) -> None:
        """Takes a subscription; everybody is told anyway."""

    @server._mcp_server.unsubscribe_resource()
    async def unsubscribe(uri: Any) -> None:
        """Takes the end of one."""

    @tool
    async def touch(context: Context) -> str:
        """Tells that the note and the list of prompts have changed."""
        await context.session.send_resource_updated(NOTE)
        await context.session.send_prompt_list_changed()
        return "touched"

    @tool
    async def wait(context: Context, started: str, go: str) -> str:
        """Asks for a name, makes a file when it has it, and answers when there is another one."""
        given = await context.elicit("Who are you?", Name)
        Path(started).touch()
        while not Path(go).exists():
            await anyio.sleep(0.02)
        return f"Hello at last, {given.data.name}!"

    @tool
    async def open_first(context: Context, visited: str) -> str:
        """Wants a link to be opened before it does anything; whoever was there has made a file."""
        from mcp.shared.exceptions import UrlElicitationRequiredError
        from mcp.types import ElicitRequestURLParams

        if Path(visited).exists():
            return "opened"
        link = ElicitRequestURLParams(
            mode="url", message="Say yes there.", url="https://example.com/consent", elicitationId="one"
        )
        raise UrlElicitationRequiredError([link])

    @tool
    async def open_page(context: Context) -> str:
        """Asks the person to open a page."""
        given = await context.session.elicit_url("Allow it there.", PAGE, "page-1", context.request_id)
        return f"the page: {given.action}"

    @tool
    async def greet(context: Context) -> str:
        """Asks for a name."""
        given = await context.elicit("Who are you?", Name)
        return f"Hello, {given.data.name}!" if given.action == "accept" else f"{given.action}: hello anyway."

    @tool
    async def ask_model(context: Context) -> str:
        """Asks the client's model."""
        given = await context.session.create_message(**prompt(), related_request_id=context.request_id)
        return f"The model says: {given.content.text}"

    @tool
    async def count_folders(context: Context) -> str:
        """Asks for the client's folders."""
        from mcp import types
        from mcp.shared.message import ServerMessageMetadata

        given = await context.session.send_request(
            types.ServerRequest(types.ListRootsRequest()),
            types.ListRootsResult,
            metadata=ServerMessageMetadata(related_request_id=context.request_id),
        )
        return f"folders: {', '.join(str(root.uri) for root in given.roots)}"

    from mcp.types import CallToolResult, RootsListChangedNotification, ToolExecution

    watching: Any = None
    folders: list[str] = []
    looked = anyio.Event()

    async def look_again(notification: RootsListChangedNotification) -> None:
        """Asks for the client's folders, since they have changed."""
        global folders
        folders = [str(root.uri) for root in (await watching.list_roots()).roots]
        looked.set()

    server._mcp_server.notification_handlers[RootsListChangedNotification] = look_again

    @tool
    async def watch_folders(context: Context) -> str:
        """Asks for the client's folders from now on whenever it says that they have changed."""
        global watching, looked
        watching, looked = context.session, anyio.Event()
        return "watching"

    @tool
    async def changed_folders(context: Context) -> str:
        """Waits until it has asked for folders that have changed."""
        with anyio.move_on_after(5):
            await looked.wait()
            return f"folders: {', '.join(folders)}"
        return "nothing has changed"

    server._mcp_server.experimental.enable_tasks()

    async def compute(arguments: dict[str, Any], work: Any = None) -> CallToolResult:
        """Takes its time. It asks for a name first if it is to, tells how far it is, and asks for a color if it is to."""
        context, who = server._mcp_server.request_context, ""
        if work and arguments.get("ask"):
            given = await work.elicit("Who are you?", Name.model_json_schema())
            who = f" for {given.content['name']}"
        if work:
            await work.update_status("computing")
            if context.meta and context.meta.progressToken is not None:
                await context.session.send_progress_notification(context.meta.progressToken, 1, 2, f"halfway{who}")
            if arguments.get("color"):
                await work.elicit("Which color?", Color.model_json_schema())
        await anyio.sleep(arguments.get("seconds", 0))
        text = TextContent(type="text", text=f"computed {arguments.get('label', '')}{who}")
        return CallToolResult(content=[text])

    @tool
    async def slow_compute(seconds: float = 0, label: str = "", ask: bool = False, color: bool = False) -> str:
        """Takes its time; its call may become a task."""
        raise NotImplementedError

    @server._mcp_server.list_tools()
    async def list_tools() -> list[Any]:
        tools = await server.list_tools()
        for one in tools:
            if one.name == "slow_compute":
                one.execution = ToolExecution(taskSupport="optional")
        return tools

    @server._mcp_server.call_tool(validate_input=False)
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        if name != "slow_compute":
            return await server.call_tool(name, arguments)
        tasks = server._mcp_server.request_context.experimental
        if not tasks.is_task:
            return await compute(arguments)
        return await tasks.run_task(lambda work: compute(arguments, work))

    @tool
    async def ask_twice(context: Context) -> str:
        """Asks for a name, then for a color."""
        name = await context.elicit("Who are you?", Name)
        color = await context.elicit("Which color?", Color)
        return f"{name.data.name} likes {color.data.color}."


@tool
async def log_some(context: Context) -> str:
    """Writes a log message of each of three levels."""
    for level in ("debug", "info", "error"):
        await context.log(level, f"one of level {level}")
    return "logged"


class Size(BaseModel):
    width: int
    height: int


@server.tool()
def measure() -> Size:
    """Answers in a structure."""
    return Size(width=3, height=4)


@tool
async def count(context: Context) -> str:
    """Says three times how far it is."""
    for step in (1, 2, 3):
        await context.report_progress(step, 3, f"step {step}")
    return "counted"


@tool
def region(
    context: Context, region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "none"
) -> str:
    """Has an argument that a header repeats, and says what the header said."""
    request = context.request_context.request
    return request.headers.get("mcp-param-region", "no header") if request else "no request"


cancelled = anyio.Event()
grown = itertools.count()


@tool
async def grow(context: Context) -> str:
    """Adds a tool, and tells that there are others now."""
    name = f"grown_{next(grown)}"
    server.add_tool(lambda: "grown", name=name, description="Has grown.", structured_output=False)
    await (context.notify_tools_changed() if MODERN else context.session.send_tool_list_changed())
    return name


@tool
async def hang() -> str:
    """Answers only when it is cancelled, which nobody hears."""
    global cancelled
    cancelled = anyio.Event()
    try:
        await anyio.sleep_forever()
    finally:
        cancelled.set()


@tool
async def was_cancelled() -> str:
    """Waits until the last call that hung was cancelled."""
    with anyio.move_on_after(5):
        await cancelled.wait()
        return "cancelled"
    return "not cancelled"


@server.prompt()
def first(name: str) -> str:
    """Says hello."""
    return f"Say hello to {name}."


@server.prompt()
def second() -> str:
    """Says nothing."""
    return "Say nothing."


@server.prompt()
def third() -> str:
    """Stands on a page of its own."""
    return "Say it."


async def page(cursor: str | None) -> ListPromptsResult:
    """Lists two prompts at a time."""
    start, prompts = int(cursor or 0), await server.list_prompts()
    more = {"nextCursor": str(start + 2)} if start + 2 < len(prompts) else {}
    return ListPromptsResult.model_validate({"prompts": prompts[start : start + 2], **more})


if MODERN:

    async def list_prompts(context: Any, params: Any) -> ListPromptsResult:
        return await page(params.cursor if params else None)

    server._lowlevel_server.add_request_handler("prompts/list", PaginatedRequestParams, list_prompts)
else:

    @server._mcp_server.list_prompts()
    async def list_prompts(request: ListPromptsRequest) -> ListPromptsResult:
        return await page(request.params.cursor if request.params else None)


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion:
    """Proposes names."""
    return Completion(values=[name for name in ("Ada", "Alan", "Grace") if name.startswith(argument.value)])


REFUSAL = {"code": -32022, "message": "no sessions here", "data": {"supported": ["2026-07-28"], "requested": "another"}}


def refuse_sessions() -> None:
    """Stands before standard input and refuses whoever wants to open a session there."""
    lines, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    end, begin = os.pipe()
    os.dup2(end, 0)

    def carry() -> None:
        for line in lines:
            if b'"initialize"' in line:
                refusal = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "error": REFUSAL}
                os.write(answers, json.dumps(refusal).encode() + b"\n")
            else:
                os.write(begin, line)
        os.close(begin)

    threading.Thread(target=carry, daemon=True).start()


class NoSessions:
    """Wraps an ASGI application and refuses whoever wants to open a session."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        message = await receive()
        if b'"initialize"' in message.get("body", b""):
            headers = [(b"content-type", b"application/json")]
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": REFUSAL}).encode()
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        pending = [message]

        async def replay() -> Any:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)


def main() -> None:
    parser = argparse.ArgumentParser()
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--stdio", action="store_true")
    where.add_argument("--http", type=int)
    where.add_argument("--events", type=int)
    parser.add_argument("--record", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.stdio:
        if MODERN:
            refuse_sessions()
        server.run("stdio")
        return
    port = options.http if options.events is None else options.events
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"listening {listener.getsockname()[1]}", flush=True)
        if options.events is not None:
            app = server.sse_app()
        else:
            app = NoSessions(server.streamable_http_app()) if MODERN else server.streamable_http_app()
        if options.record:
            app = Recorder(app, options.record)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
