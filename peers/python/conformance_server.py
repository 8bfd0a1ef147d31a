"""The server behind the hub when the official conformance suite runs.

It offers what the suite's scenarios name literally: tools and prompts `test_*`, resources `test://*`. Run alone it
says what the suite can reach at all; run behind the hub it says what the hub lets through.
"""

import argparse
import asyncio
import base64
import json
import socket
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    JSONRPCMessage,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from conformance_tasks import Tasks
from recorder import Recorder

# One pixel, and a sound of no length.
IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="


class Events(EventStore):
    """Keeps what was sent, so that a client may take a stream up again."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self.sent.append((stream_id, message))
        return str(len(self.sent))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 0 < last <= len(self.sent):
            return None
        stream = self.sent[last - 1][0]
        for number, (of, message) in enumerate(self.sent[last:], start=last + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


server = MCPServer(
    name="mcphub-conformance-server",
    version="1.0.0",
    request_state_security=RequestStateSecurity(keys=[b"the fixture's key protects nothing at all"]),
    extensions=[Tasks()],
)


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def image() -> ImageContent:
    return ImageContent(type="image", data=IMAGE, mime_type="image/png")


def embedded(uri: str, words: str, mime_type: str = "text/plain") -> EmbeddedResource:
    resource = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return EmbeddedResource(type="resource", resource=resource)


# What a tool can answer.


@server.tool()
def test_simple_text() -> str:
    """Answers with a text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[ImageContent]:
    """Answers with an image."""
    return [image()]


@server.tool()
def test_audio_content() -> list[AudioContent]:
    """Answers with a sound."""
    return [AudioContent(type="audio", data=SOUND, mime_type="audio/wav")]


@server.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """Answers with a resource."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answers with a text, an image and a resource."""
    resource = embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    return [text("Multiple content types test:"), image(), resource]


@server.tool()
def test_error_handling() -> str:
    """Fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three times on its way."""
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(words)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Tells three times how far it is."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100, f"Completed step {progress} of 100")
        await asyncio.sleep(0.05)
    return "Tool with progress executed successfully"


@server.tool()
async def test_reconnection(ctx: Context) -> str:
    """Closes its stream half-way; the client takes it up again."""
    await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    return "Reconnection test completed"


@server.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "none",
) -> str:
    """Has an argument that a header repeats."""
    return f"region={region}"


@server.tool()
def json_schema_2020_12_tool() -> str:
    """Has a schema with words that only 2020-12 knows."""
    return "json_schema_2020_12_tool"


server._tool_manager._tools["json_schema_2020_12_tool"].parameters = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


# What a legacy server asks in the middle of a call.


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    messages = [SamplingMessage(role="user", content=text(prompt))]
    answer = await ctx.session.create_message(
        messages=messages, max_tokens=100, related_request_id=ctx.request_id
    )
    return f"LLM response: {getattr(answer.content, 'text', 'no text')}"


async def ask(ctx: Context, message: str, schema: type[BaseModel]) -> str:
    """Asks the person."""
    answer = await ctx.elicit(message=message, schema=schema)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={content}"


class Reply(BaseModel):
    username: str = Field(description="Who the person is")
    email: str = Field(description="Where she is reached")


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the person who she is."""
    return f"User response: {await ask(ctx, message, Reply)}"


class Defaults(BaseModel):
    name: str = Field("John Doe", description="A text")
    age: int = Field(30, description="A whole number")
    score: float = Field(95.5, description="A number")
    status: str = Field(
        "active", description="A choice", json_schema_extra={"enum": ["active", "inactive", "pending"]}
    )
    verified: bool = Field(True, description="Yes or no")


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks the person with an answer proposed for every type."""
    return f"Elicitation completed: {await ask(ctx, 'Please check these values', Defaults)}"


def titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in titles.items()]


class Choices(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": titled(value1="First", value2="Second", value3="Third")})
    legacyEnum: str = Field(
        json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]}
    )
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(
        json_schema_extra={"items": {"anyOf": titled(value1="First", value2="Second", value3="Third")}}
    )


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks the person to choose, in every form that a choice has."""
    return f"Elicitation completed: {await ask(ctx, 'Please choose', Choices)}"


# What a modern server asks: the call ends and comes again with the answers.


def form(message: str, **properties: str) -> ElicitRequest:
    """Asks the person for values, each of a type."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str) -> CreateMessageRequest:
    """Asks the client's model."""
    messages = [SamplingMessage(role="user", content=text(prompt))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=100))


def answered(ctx: Context, key: str, member: str) -> str:
    """Reads what the person filled in."""
    content = getattr((ctx.input_responses or {}).get(key), "content", None) or {}
    return str(content.get(member, "nothing"))


def has(ctx: Context, *keys: str) -> bool:
    return set(keys) <= (ctx.input_responses or {}).keys()


@server.tool()
def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Needs to know a name."""
    if has(ctx, "user_name"):
        return f"Hello, {answered(ctx, 'user_name', 'name')}!"
    return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})


@server.tool()
def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Needs to know what the model says."""
    if has(ctx, "capital_question"):
        content = getattr(ctx.input_responses["capital_question"], "content", None)
        return f"The model says: {getattr(content, 'text', 'nothing')}"
    return InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})


@server.tool()
def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Needs to know the client's folders."""
    if has(ctx, "client_roots"):
        roots = getattr(ctx.input_responses["client_roots"], "roots", [])
        return f"The client has {len(roots)} folders."
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@server.tool()
def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Gives the client something to bring back."""
    if has(ctx, "confirm") and ctx.request_state == "remembered":
        return "state-ok"
    return InputRequiredResult(
        input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="remembered"
    )


@server.tool()
def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """Gives the client something that it may not change."""
    if ctx.request_state is not None:
        return "state-ok"
    return InputRequiredResult(
        input_requests={"confirm": form("Please confirm", ok="boolean")}, request_state="untouched"
    )


@server.tool()
def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Needs a person, a model and folders at once."""
    if has(ctx, "user_name", "greeting", "client_roots"):
        return "All three answers are there."
    return InputRequiredResult(
        input_requests={
            "user_name": form("What is your name?", name="string"),
            "greeting": sample("Generate a greeting"),
            "client_roots": ListRootsRequest(),
        },
        request_state="all at once",
    )


@server.tool()
def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Asks twice, and remembers the first answer in the state."""
    state = json.loads(ctx.request_state or "{}")
    if "name" in state and has(ctx, "step2"):
        return f"{state['name']} likes {answered(ctx, 'step2', 'color')}."
    if state and has(ctx, "step1"):
        request = form("Step 2: What is your favorite color?", color="string")
        state = {"name": answered(ctx, "step1", "name")}
        return InputRequiredResult(input_requests={"step2": request}, request_state=json.dumps(state))
    request = form("Step 1: What is your name?", name="string")
    return InputRequiredResult(input_requests={"step1": request}, request_state='{"begun":true}')


@server.tool()
def test_input_required_result_capabilities(ctx: Context) -> InputRequiredResult:
    """Asks only for what the client can do."""
    able = ctx.client_capabilities
    requests = {}
    if able is not None and able.sampling is not None:
        requests["sample"] = sample("Say hello")
    if able is not None and able.elicitation is not None:
        requests["ask"] = form("What is your name?", name="string")
    return InputRequiredResult(input_requests=requests, request_state="asked")


@server.tool()
async def test_streaming_elicitation(ctx: Context) -> InputRequiredResult:
    """Tells how far it is, then asks."""
    await ctx.report_progress(1, 2)
    return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})


@server.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Logs, if somebody wants to hear it."""
    await ctx.info("The tool runs")
    return "logged"


@server.tool()
def test_missing_capability(ctx: Context) -> str:
    """Runs only for a client that has a model."""
    able = ctx.session.client_capabilities
    if able is None or able.sampling is None:
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="this tool needs a client that can sample",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "The client can sample."


# What changes.


def passing() -> str:
    """Comes and goes."""
    return "passing"


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Adds a tool and takes it away again."""
    server.add_tool(passing, name="test_passing_tool")
    server.remove_tool("test_passing_tool")
    await ctx.notify_tools_changed()
    return "the tools changed"


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Adds a prompt and takes it away again."""
    server.add_prompt(Prompt.from_function(passing, name="test_passing_prompt"))
    server.remove_prompt("test_passing_prompt")
    await ctx.notify_prompts_changed()
    return "the prompts changed"


# Resources.


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Is a text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """Is an image."""
    return base64.b64decode(IMAGE)


@server.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    """Can be watched."""
    return "Watched resource content"


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """Is another one for each id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


# Prompts.


def say(*blocks: Any) -> list[UserMessage]:
    return [UserMessage(role="user", content=block) for block in blocks]


@server.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """Takes no arguments."""
    return say(text("This is a simple prompt for testing."))


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """Takes two arguments."""
    return say(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """Holds a resource."""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return say(resource, text("Please process the embedded resource above."))


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """Holds an image."""
    return say(image(), text("Please analyze the image above."))


@server.prompt()
def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    """Needs to know what it is about."""
    if has(ctx, "user_context"):
        return say(text(f"Use this context: {answered(ctx, 'user_context', 'context')}"))
    return InputRequiredResult(
        input_requests={"user_context": form("What context should the prompt use?", context="string")}
    )


# What the SDK leaves to the lower level.


async def acknowledge(ctx: ServerRequestContext, params: Any) -> EmptyResult:
    return EmptyResult()


for name, kind in (
    ("logging/setLevel", SetLevelRequestParams),
    ("resources/subscribe", SubscribeRequestParams),
    ("resources/unsubscribe", UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(name, kind, acknowledge)


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion:
    """Proposes what the arguments of the test prompts may be."""
    values = [value for value in ("paris", "park", "party") if value.startswith(argument.value)]
    return Completion(values=values, total=len(values), has_more=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int, default=0, help="the port; 0 is any free one")
    parser.add_argument("--record", type=Path, metavar="FILE", help="takes every HTTP request, one a line")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", options.http))
    print(f"listening {listener.getsockname()[1]}", flush=True)
    app = server.streamable_http_app(event_store=Events(), retry_interval=100)
    if options.record:
        app = Recorder(app, options.record)
    config = uvicorn.Config(app, log_level="warning")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
