"""An MCP server of the Python SDK 2.x that lets each person in by an account of her own, its authorization server included.

    python oauth_server.py --http PORT [--lifetime SECONDS] [--itself] [--outage FILE] [--record FILE]

It listens on 127.0.0.1 and prints "listening PORT" (port 0 picks a free one). Whoever asks to be let in is, at once, as the
person `carol`. A token is good for `--lifetime` seconds, an hour if nothing is said. With `--itself` it says nowhere who lets
people in, as the servers of 2025-03-26, and calls itself by its address with a slash. `--record` appends one JSON line for each
request to the MCP endpoint. As long as the file of `--outage` is there, the token endpoint answers 503;
if "late" stands in it, it answers when the file is gone, and writes "held" there meanwhile.

It refuses to return a token: `whoami` returns its SHA-256 and whose it is.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from recorder import Recorder

SCOPES = ["notes"]


def token() -> str:
    """Makes a token that is found wherever it stands."""
    return "canary-" + secrets.token_urlsafe(32)


class Provider(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Remembers clients, codes and tokens, and counts what it gave."""

    def __init__(self, lifetime: int) -> None:
        self.lifetime = lifetime
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.access: dict[str, AccessToken] = {}
        self.refresh: dict[str, RefreshToken] = {}
        self.given: Counter[str] = Counter()
        self.met: Counter[str] = Counter(asked=0, refused=0)

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.given["client"] += 1
        self.clients[str(client_info.client_id)] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = AuthorizationCode(
            code=secrets.token_urlsafe(32),
            scopes=params.scopes or SCOPES,
            expires_at=time.time() + 60,
            client_id=str(client.client_id),
            subject="carol",
            **params.model_dump(include={"code_challenge", "redirect_uri", "redirect_uri_provided_explicitly", "resource"}),
        )
        self.codes[code.code] = code
        return construct_redirect_uri(str(params.redirect_uri), code=code.code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        self.given["code"] += 1
        return self.issue(authorization_code)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        # A token that is used twice is one that was stolen: it is good once.
        del self.refresh[refresh_token.token]
        self.given["refresh"] += 1
        return self.issue(refresh_token)

    async def load_access_token(self, token: str) -> AccessToken | None:
        known = self.access.get(token)
        if known and (known.expires_at or 0) > time.time():
            return known
        self.met["refused"] += 1
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.access.pop(token.token, None)
        self.refresh.pop(token.token, None)

    def issue(self, grant: AuthorizationCode | RefreshToken) -> OAuthToken:
        """Makes a pair of tokens."""
        about = {"client_id": grant.client_id, "scopes": grant.scopes, "resource": grant.resource, "subject": grant.subject}
        access = AccessToken(token=token(), expires_at=int(time.time()) + self.lifetime, **about)
        refresh = RefreshToken(token=token(), **about)
        self.access[access.token], self.refresh[refresh.token] = access, refresh
        return OAuthToken(
            access_token=access.token,
            token_type="Bearer",
            expires_in=self.lifetime,
            scope=" ".join(grant.scopes),
            refresh_token=refresh.token,
        )


def build(port: int, provider: Provider, itself: bool) -> Any:
    """Builds the application for the port that it will listen on."""
    origin = f"http://127.0.0.1:{port}"
    auth = AuthSettings(
        issuer_url=f"{origin}/" if itself else origin,
        resource_server_url=None if itself else f"{origin}/mcp",
        required_scopes=SCOPES,
        validate_token_resource=not itself,
        client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=SCOPES, default_scopes=SCOPES),
    )
    server = MCPServer("oauth-server", log_level="WARNING", auth_server_provider=provider, auth=auth)

    @server.tool(structured_output=False)
    async def whoami() -> str:
        """Returns whose token came with the call, and its SHA-256."""
        token = get_access_token()
        return f"{token.subject} {hashlib.sha256(token.token.encode()).hexdigest()}" if token else "nobody"

    @server.tool(structured_output=False)
    async def given() -> dict[str, int]:
        """Counts what was given: clients, and tokens for codes and for refresh tokens."""
        return dict(provider.given)

    @server.tool(structured_output=False)
    async def met() -> dict[str, int]:
        """Counts what was met: requests for tokens, and requests with a token that is not good."""
        return dict(provider.met)

    @server.tool(structured_output=False)
    async def wait(started: str, go: str) -> str:
        """Makes a file, and waits for another one to be there."""
        Path(started).touch()
        while not Path(go).exists():
            await anyio.sleep(0.02)
        return "gone on"

    @server.tool(structured_output=False)
    async def forget(everything: bool = False) -> str:
        """Lets no access token be good any more, or nothing at all."""
        provider.access.clear()
        if everything:
            provider.refresh.clear()
        return "forgotten"

    return server.streamable_http_app(json_response=True)


class TokenEndpoint:
    """Counts the requests for tokens, and answers them while there is an outage."""

    def __init__(self, app: Any, provider: Provider, outage: Path | None) -> None:
        self.app, self.provider, self.outage = app, provider, outage

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_asked = scope.get("path") == "/token"
        self.provider.met["asked"] += is_asked
        outage = self.outage if is_asked and self.outage and self.outage.exists() else None

        async def send_late(message: Any) -> None:
            while outage and outage.exists():
                outage.write_text("held")
                await anyio.sleep(0.02)
            await send(message)

        if outage and outage.read_text() != "late":
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"later"})
            return
        await self.app(scope, receive, send_late)


class OfMcp(Recorder):
    """Writes down only what is MCP."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_mcp = scope.get("path") == "/mcp"
        await (super().__call__(scope, receive, send) if is_mcp else self.app(scope, receive, send))


def main() -> None:
    parser = argparse.ArgumentParser(description="An MCP server that lets each person in by an account of her own.")
    parser.add_argument("--http", type=int, metavar="PORT", required=True)
    parser.add_argument("--lifetime", type=int, default=3600, metavar="SECONDS")
    parser.add_argument("--itself", action="store_true")
    parser.add_argument("--outage", type=Path, metavar="FILE")
    parser.add_argument("--record", type=Path, metavar="FILE")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.http), backlog=512) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        provider = Provider(options.lifetime)
        app: Any = TokenEndpoint(build(port, provider, options.itself), provider, options.outage)
        if options.record:
            app = OfMcp(app, options.record)
        print(f"listening {port}", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
