"""The tasks extension, `io.modelcontextprotocol/tasks`, for the client: the SDK 2.x has none of its own."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import anyio
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict

# A task that takes longer is given up.
SECONDS = 30


class Begun(Result):
    """Says that a call has become a task."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"
    taskId: str


class Found(Result):
    """Says how a task stands."""

    model_config = ConfigDict(extra="allow")
    status: str
    result: dict[str, Any] | None = None


class Named(RequestParams):
    taskId: str


class GetTask(Request[Named, Literal["tasks/get"]]):
    name_param: ClassVar[str | None] = "taskId"
    method: Literal["tasks/get"] = "tasks/get"
    params: Named


class Tasks(ClientExtension):
    """Waits for a task, so that its call has the result that the task has in the end."""

    identifier = "io.modelcontextprotocol/tasks"

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Begun, resolve=self.resolve)]

    async def resolve(self, begun: Begun, context: ClaimContext) -> CallToolResult:
        with anyio.fail_after(SECONDS):
            while True:
                found = await context.session.send_request(GetTask(params=Named(taskId=begun.taskId)), Found)
                if found.status == "completed":
                    return CallToolResult.model_validate(found.result)
                await anyio.sleep(0.1)
