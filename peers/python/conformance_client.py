"""Plays a person and her MCP client for the client side of the protocol's conformance suite, through a hub.

    python conformance_client.py SERVER-URL

The suite starts it with the URL of a server of its own, the name of the scenario in MCP_CONFORMANCE_SCENARIO, the revision in
MCP_CONFORMANCE_PROTOCOL_VERSION and, for some, more in MCP_CONFORMANCE_CONTEXT. What stands before the hub is played here: an
admin who adds the server, a client in the words of the revision, the person who fills in forms and connects her account, and her
browser. What the suite's server gets to see, the hub has sent. HUB_SUITE_HUB is where the hub listens,
HUB_SUITE_HOST the name that it is known by; _ADMIN, _PERSON and _GROUP are two keys and the group to grant to.

It needs nothing but Python, so that thirty of it start at once without delay. The exit code is 0 if everything was answered.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import sys
import urllib.parse
from typing import Any

Json = dict[str, Any]

MODERN = "2026-07-28"
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
REVISION = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
CONTEXT: Json = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
HUB = urllib.parse.urlsplit(os.environ["HUB_SUITE_HUB"])
HOST = os.environ["HUB_SUITE_HOST"]
ADMIN, PERSON, GROUP = (os.environ["HUB_SUITE_" + name] for name in ("ADMIN", "PERSON", "GROUP"))
CAPABILITIES = {"elicitation": {"form": {}, "url": {}}}
# How often a call is made again after the person did what it needed.
ATTEMPTS = 4


class Refused(Exception):
    """Says that something was refused, by whom and why."""


def fetch(place: urllib.parse.SplitResult, method: str, headers: dict[str, str], body: bytes | None) -> Any:
    """Sends one request and returns the answer, of which only the head was read."""
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    target = (place.path or "/") + ("?" + place.query if place.query else "")
    connection.request(method, target, body=body, headers=headers)
    return connection.getresponse()


class Api:
    """Calls the hub's API with somebody's key."""

    def __init__(self, key: str) -> None:
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.cookie = ""

    def __call__(self, method: str, path: str, body: Json | None = None) -> Any:
        text = None if body is None else json.dumps(body).encode()
        answer = fetch(HUB._replace(path="/api/v1" + path), method, self.headers, text)
        content = answer.read()
        self.cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content) if content else None


def issuer_of(url: str) -> str:
    """Reads off the suite's metadata who lets people in, as an admin knows it who has registered the hub there."""
    server = urllib.parse.urlsplit(url)
    root = "/.well-known/oauth-protected-resource"
    for path in (root + server.path.rstrip("/"), root):
        answer = fetch(server._replace(path=path, query=""), "GET", {"Accept": "application/json"}, None)
        content = answer.read()
        if answer.status == 200:
            return str(json.loads(content)["authorization_servers"][0])
    return f"{server.scheme}://{server.netloc}"


def add_server(url: str) -> Json:
    """Adds the suite's server, for the person to use."""
    admin = Api(ADMIN)
    definition: Json = {"type": "streamable-http", "url": url, "networks": ["127.0.0.0/8", "::1/128"], "timeoutMs": 20000}
    if SCENARIO == "elicitation-sep1034-client-defaults":
        # The server asks beside the call, which of a session that people share nobody can be asked.
        definition["isolation"] = "person"
    is_registered = "client_secret" in CONTEXT
    if SCENARIO.startswith("auth/"):
        own = {"issuer": issuer_of(url), "clientId": CONTEXT.get("client_id"), "clientSecret": "${SHARED_CLIENT_SECRET}"}
        definition["oauth"] = own if is_registered else {}
    server: Json = admin("POST", "/servers", {"name": "s" + secrets.token_hex(8), "definition": definition})
    admin("POST", "/grants", {"group": GROUP, "server": server["id"], "rights": ["read", "write", "execute"]})
    if is_registered:
        seen = Api(PERSON)("GET", f"/users/me/servers/{server['name']}/credentials")
        shared = next(slot for slot in seen if slot["kind"] == "shared")
        value = {"value": CONTEXT["client_secret"], "destination": shared["destination"], "revision": shared["revision"]}
        admin("PUT", f"/servers/{server['id']}/shared/CLIENT_SECRET", value)
    return server


class Browser:
    """Goes where the person is sent, with the hub's pages played by their requests."""

    def connect(self, name: str) -> None:
        """Connects the person's account at a server."""
        page = Api(PERSON)
        place = page("POST", f"/users/me/servers/{name}/account")["url"]
        for _ in range(5):
            url = urllib.parse.urlsplit(place)
            is_hub = url.hostname == HOST
            own = {"Host": HOST, "Cookie": page.cookie} if is_hub else {}
            headers = {"Accept": "text/html", **own}
            answer = fetch(url._replace(scheme=HUB.scheme, netloc=HUB.netloc) if is_hub else url, "GET", headers, None)
            content = answer.read().decode(errors="replace")
            if answer.status == 200:
                return
            location = answer.getheader("Location")
            if answer.status not in (302, 303) or not location:
                raise Refused(f"{url.hostname}: {answer.status} {content}")
            place = urllib.parse.urljoin(place, location)
        raise Refused("the browser was sent around")


def filled_in(schema: Json) -> Json:
    """Fills in a form as a person does who leaves everything as it is."""
    usual = {"string": "text", "boolean": True, "integer": 1, "number": 1.5}
    fields = schema.get("properties", {}).items()
    return {name: field.get("default", usual.get(field.get("type"), "text")) for name, field in fields}


def encoded(value: Any) -> str:
    """Writes an argument as a header may repeat it."""
    text = json.dumps(value) if isinstance(value, (bool, int)) else str(value)
    is_plain = text == text.strip() and all(" " <= character <= "~" for character in text)
    return text if is_plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="


class Client:
    """Speaks MCP with the hub in the words of the revision."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_modern = REVISION >= MODERN
        self.headers = {
            "Authorization": f"Bearer {PERSON}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        self.last = 0
        if not self.is_modern:
            info = {"name": "conformance", "version": "1"}
            self.request("initialize", {"protocolVersion": REVISION, "capabilities": CAPABILITIES, "clientInfo": info})
            self.headers["MCP-Protocol-Version"] = REVISION
            self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).read()

    def post(self, message: Json, extra: dict[str, str] | None = None) -> Any:
        """Posts one message."""
        place = HUB._replace(path=f"/mcp/{self.name}")
        answer = fetch(place, "POST", {**self.headers, **(extra or {})}, json.dumps(message).encode())
        if session := answer.getheader("Mcp-Session-Id"):
            self.headers["Mcp-Session-Id"] = session
        return answer

    def request(self, method: str, params: Json, extra: dict[str, str] | None = None) -> Json:
        """Sends a request, answers what it asks on the way, and returns its result."""
        self.last += 1
        own = dict(extra or {})
        if self.is_modern:
            meta = {
                "io.modelcontextprotocol/protocolVersion": REVISION,
                "io.modelcontextprotocol/clientInfo": {"name": "conformance", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
            }
            params = {**params, "_meta": meta}
            own |= {"MCP-Protocol-Version": REVISION, "Mcp-Method": method}
            if name := params.get("name") or params.get("uri"):
                own["Mcp-Name"] = encoded(name)
        message = {"jsonrpc": "2.0", "id": self.last, "method": method, "params": params}
        for said in self.messages(self.post(message, own)):
            if "method" in said and "id" in said:
                answer = self.asked(said["params"])
                self.post({"jsonrpc": "2.0", "id": said["id"], "result": answer}).read()
            elif said.get("id") == self.last:
                return self.answered((method, params, extra), said)
        raise Refused(f"{method} got no answer")

    def messages(self, answer: Any) -> Any:
        """Reads the messages of an answer as they come."""
        if "text/event-stream" not in (answer.getheader("Content-Type") or ""):
            content = answer.read()
            if content:
                yield json.loads(content)
            return
        for line in answer:
            if line.startswith(b"data:") and line[5:].strip():
                yield json.loads(line[5:])

    def answered(self, request: tuple[str, Json, dict[str, str] | None], said: Json) -> Json:
        """Reads an answer; one that wants to know something is given that."""
        if "error" in said:
            raise Refused(f"{request[0]}: {said['error']}")
        result: Json = said["result"]
        if result.get("resultType") != "input_required":
            return result
        method, params, extra = request
        asked = result["inputRequests"].items()
        again: Json = {"inputResponses": {key: self.asked(one["params"]) for key, one in asked}}
        if "requestState" in result:
            again["requestState"] = result["requestState"]
        first = {key: value for key, value in params.items() if key not in ("inputResponses", "requestState")}
        return self.request(method, first | again, extra)

    def asked(self, params: Json) -> Json:
        """Does what the person is asked for."""
        if params.get("mode") == "url":
            Browser().connect(self.name)
            return {"action": "accept"}
        return {"action": "accept", "content": filled_in(params["requestedSchema"])}

    def tools(self) -> list[Json]:
        """Lists the tools."""
        return self.request("tools/list", {})["tools"]

    def call(self, tool: Json, arguments: Json) -> Json:
        """Calls a tool; arguments that headers repeat are repeated."""
        mirrored: dict[str, str] = {}
        for name, field in tool.get("inputSchema", {}).get("properties", {}).items():
            if self.is_modern and "x-mcp-header" in field and arguments.get(name) is not None:
                mirrored["Mcp-Param-" + field["x-mcp-header"]] = encoded(arguments[name])
        return self.request("tools/call", {"name": tool["name"], "arguments": arguments}, mirrored)


def call_all(client: Client) -> None:
    """Calls every tool as the suite wants it, or with nothing but what it requires."""
    wanted = {call["name"]: call["arguments"] for call in CONTEXT.get("toolCalls", [])}
    usual = {"string": "text", "number": 2, "integer": 2, "boolean": True, "object": {}, "array": []}
    for tool in client.tools():
        schema = tool.get("inputSchema", {})
        required = {name: usual[schema["properties"][name].get("type", "string")] for name in schema.get("required", [])}
        client.call(tool, wanted.get(tool["name"], required))


def offer_all(client: Client) -> None:
    """Uses everything that a server may offer."""
    call_all(client)
    for resource in client.request("resources/list", {})["resources"]:
        client.request("resources/read", {"uri": resource["uri"]})
    for prompt in client.request("prompts/list", {})["prompts"]:
        client.request("prompts/get", {"name": prompt["name"]})


def echo_schema(client: Client) -> None:
    """Says what schema of a tool has arrived here."""
    tools = {tool["name"]: tool for tool in client.tools()}
    client.call(tools["json_schema_echo"], {"schema": tools["json_schema_2020_12_tool"]["inputSchema"]})


def connect_and_call(client: Client) -> None:
    """Calls a tool of a server that wants the person's account, until that works."""
    for _ in range(ATTEMPTS):
        result = client.call({"name": "test-tool"}, {})
        if not result.get("isError"):
            break
    else:
        raise Refused(f"the tool can't be called: {result}")
    # What the person was let in for once goes on without her, or brings her back.
    if client.call({"name": "test-tool"}, {}).get("isError"):
        raise Refused("the tool can be called once and no more")


def main() -> None:
    server = add_server(sys.argv[1])
    if SCENARIO.startswith("auth/"):
        return connect_and_call(Client(server["name"]))
    Api(ADMIN)("POST", f"/servers/{server['id']}/test")
    client = Client(server["name"])
    only_listed = ("initialize", "request-metadata", "json-schema-ref-no-deref")
    play = {name: Client.tools for name in only_listed}
    play |= {"http-standard-headers": offer_all, "json-schema-2020-12-preservation": echo_schema}
    play.get(SCENARIO, call_all)(client)


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        sys.exit(f"{SCENARIO}: {refused}")
