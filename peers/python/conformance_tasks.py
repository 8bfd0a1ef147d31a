"""The tasks extension, `io.modelcontextprotocol/tasks`, for the conformance server: the SDK has none of its own."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from mcp.server import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding, ToolBinding
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, CallToolRequestParams, RequestParams

NAME = "io.modelcontextprotocol/tasks"
MODERN = frozenset({"2026-07-28"})
HEADER_MISMATCH = -32020
LIFE = 300_000
POLL = 100

Ask = Callable[..., Awaitable[list[dict[str, Any]]]]
Job = Callable[[dict[str, Any], Ask], Awaitable[str]]


class ToolError(Exception):
    """Says that a tool ran and failed."""


class Task:
    """Runs a job, and says how it stands."""

    def __init__(self, job: Job, arguments: dict[str, Any]) -> None:
        self.id = secrets.token_hex(16)
        self.status = "working"
        self.created = self.updated = datetime.now(timezone.utc)
        self.end: dict[str, Any] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.running = asyncio.get_running_loop().create_task(self.run(job, arguments))

    async def run(self, job: Job, arguments: dict[str, Any]) -> None:
        try:
            words, is_error = await job(arguments, self.ask), False
        except ToolError as error:
            words, is_error = str(error), True
        except Exception as error:
            self.settle("failed", error={"code": -32603, "message": str(error)})
            return
        content = [{"type": "text", "text": words}]
        result = {"content": content, "isError": is_error, "resultType": "complete"}
        self.settle("completed", result=result)

    async def ask(self, *messages: str) -> list[dict[str, Any]]:
        """Asks the person several things at once, and waits for all answers."""
        loop = asyncio.get_running_loop()
        keys = [f"input-{len(self.answers) + number}" for number in range(len(messages))]
        for key, message in zip(keys, messages):
            schema = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}
            params = {"mode": "form", "message": message, "requestedSchema": schema}
            self.asked[key] = {"method": "elicitation/create", "params": params}
            self.answers[key] = loop.create_future()
        self.move("input_required")
        return [await self.answers[key] for key in keys]

    def answer(self, responses: dict[str, dict[str, Any]]) -> None:
        for key, response in responses.items():
            if self.asked.pop(key, None) is not None:
                self.answers[key].set_result(response)
        if self.status == "input_required" and not self.asked:
            self.move("working")

    def cancel(self) -> None:
        if not self.end and self.status != "cancelled":
            self.running.cancel()
            self.settle("cancelled")

    def settle(self, status: str, **end: Any) -> None:
        self.end = end
        self.asked = {}
        self.move(status)

    def move(self, status: str) -> None:
        self.status, self.updated = status, datetime.now(timezone.utc)

    def seed(self) -> dict[str, Any]:
        return {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created.isoformat(),
            "lastUpdatedAt": self.updated.isoformat(),
            "ttlMs": LIFE,
            "pollIntervalMs": POLL,
        }

    def whole(self) -> dict[str, Any]:
        asked = {"inputRequests": dict(self.asked)} if self.status == "input_required" else {}
        return {"resultType": "complete", **self.seed(), **self.end, **asked}


async def slow_compute(arguments: dict[str, Any], ask: Ask) -> str:
    await asyncio.sleep(float(arguments.get("seconds", 0)))
    return f"computed {arguments.get('label', 'something')}"


async def failing_job(arguments: dict[str, Any], ask: Ask) -> str:
    await asyncio.sleep(0.5)
    raise ToolError("the job failed")


async def protocol_error_job(arguments: dict[str, Any], ask: Ask) -> str:
    raise RuntimeError("the job fell over")


async def confirm_delete(arguments: dict[str, Any], ask: Ask) -> str:
    answer = (await ask(f"Delete {arguments.get('filename', 'it')}?"))[0]
    return f"asked before deleting: {answer.get('action')}"


async def multi_input(arguments: dict[str, Any], ask: Ask) -> str:
    answers = await ask("The first?", "The second?")
    return f"got {len(answers)} answers"


async def greet_later(arguments: dict[str, Any], ask: Ask) -> str:
    return f"Hello, {arguments['name']}!"


JOBS: dict[str, Job] = {
    "slow_compute": slow_compute,
    "failing_job": failing_job,
    "protocol_error_job": protocol_error_job,
    "confirm_delete": confirm_delete,
    "multi_input": multi_input,
}
WITH_INPUT = "test_tool_with_task"
TASKS_ONLY = {"failing_job", WITH_INPUT}


class Named(RequestParams):
    taskId: str


class Update(Named):
    inputResponses: dict[str, dict[str, Any]]


class Tasks(Extension):
    """Turns calls of some tools into tasks, for clients that know what that is."""

    identifier = NAME

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    def tools(self) -> Sequence[ToolBinding]:
        """Lists what happens to a client that knows no tasks, tool by tool."""

        def greet(name: str) -> str:
            return f"Hello, {name}!"

        def slow_compute(seconds: float = 0, label: str = "") -> str:
            return f"computed {label}"

        def confirm_delete(filename: str = "") -> str:
            return f"nobody was asked about {filename}"

        def multi_input() -> str:
            return "nobody was asked"

        def protocol_error_job() -> str:
            raise MCPError(code=-32603, message="the job fell over")

        def never() -> str:
            raise MCPError(code=-32603, message="this runs as a task only")

        described = (
            ("greet", greet, "Says hello, at once."),
            ("slow_compute", slow_compute, "Takes as long as it is told."),
            ("confirm_delete", confirm_delete, "Asks before it goes on."),
            ("multi_input", multi_input, "Asks two things at once."),
            ("protocol_error_job", protocol_error_job, "Falls over."),
            ("failing_job", never, "Fails, as a task."),
            ("test_tool_with_task", never, "Asks for a name, then becomes a task."),
        )
        return [
            ToolBinding(fn=tool, kwargs={"name": name, "description": words})
            for name, tool, words in described
        ]

    def methods(self) -> Sequence[MethodBinding]:
        named = (("tasks/get", Named, self.get), ("tasks/update", Update, self.update))
        methods = (*named, ("tasks/cancel", Named, self.cancel))
        return [MethodBinding(name, kind, handler, MODERN) for name, kind, handler in methods]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext, call_next: Any
    ) -> Any:
        job, arguments = JOBS.get(params.name), params.arguments or {}
        if params.name in TASKS_ONLY:
            demand(ctx)
        if params.name == WITH_INPUT:
            answer = getattr((params.input_responses or {}).get("user_name"), "content", None)
            if answer is None:
                return {"resultType": "input_required", "inputRequests": {"user_name": ask_for_a_name()}}
            job, arguments = greet_later, answer
        if job is None or not knows_tasks(ctx) or arguments.get("seconds") == 0:
            return await call_next(ctx)
        task = Task(job, arguments)
        self.tasks[task.id] = task
        return {"resultType": "task", **task.seed()}

    async def get(self, ctx: ServerRequestContext, params: Named) -> dict[str, Any]:
        return self.find(ctx, params).whole()

    async def update(self, ctx: ServerRequestContext, params: Update) -> dict[str, Any]:
        self.find(ctx, params).answer(params.inputResponses)
        return {"resultType": "complete"}

    async def cancel(self, ctx: ServerRequestContext, params: Named) -> dict[str, Any]:
        self.find(ctx, params).cancel()
        return {"resultType": "complete"}

    def find(self, ctx: ServerRequestContext, params: Named) -> Task:
        name = ctx.request.headers.get("mcp-name") if ctx.request else None
        if ctx.request and name != params.taskId:
            raise MCPError(code=HEADER_MISMATCH, message="Mcp-Name is not the task's id")
        demand(ctx)
        task = self.tasks.get(params.taskId)
        if task is None:
            raise MCPError(code=INVALID_PARAMS, message="no such task")
        return task


def ask_for_a_name() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    params = {"mode": "form", "message": "What is your name?", "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def knows_tasks(ctx: ServerRequestContext) -> bool:
    able = ctx.session.client_capabilities
    return ctx.protocol_version in MODERN and able is not None and NAME in (able.extensions or {})


def demand(ctx: ServerRequestContext) -> None:
    if not knows_tasks(ctx):
        data = {"requiredCapabilities": {"extensions": {NAME: {}}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "this needs a client that knows tasks", data)
