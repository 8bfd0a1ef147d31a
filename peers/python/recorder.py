"""Writes down every HTTP request that a server receives, before the server sees it."""

import json
from pathlib import Path
from typing import Any


class Recorder:
    """Wraps an ASGI application and appends each HTTP request to a file before passing it on."""

    def __init__(self, app: Any, path: Path) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await self.read_body(receive) if scope["method"] == "POST" else b""
        self.append(scope, body)
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)

    @staticmethod
    async def read_body(receive: Any) -> bytes:
        """Collects the whole request body."""
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        return body

    def append(self, scope: Any, body: bytes) -> None:
        """Writes one request as a JSON line."""
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        append_line(self.path, {
            "method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode("latin-1"),
            "headers": headers, "body": body.decode("utf-8", "replace"),
        })


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Appends one JSON line to the record file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
