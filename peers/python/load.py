"""Sends interleaved calls of two people and checks that nobody gets the other's answer.

    python load.py --url http://127.0.0.1:PORT/mcp --expect HASH --expect HASH [--key KEY --key KEY]
                   [--calls 10000] [--connections 16] [--tool fingerprint] [--timeout 30] [--header 'Name: value']...

The keys come from `--key` or from the variables LOAD_KEY_1 and LOAD_KEY_2; `--expect` is the text each person must get, in
the same order. Each connection is kept alive and alternates between the two people, so a hub that remembers a caller by
connection is caught. It speaks the modern wire over plain HTTP/1.1 by hand, to be fast. Prints one JSON line with counts;
exits with 1 when any answer was wrong, missing or an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
}


class Failure(Exception):
    """An answer that cannot be read as HTTP or as MCP."""


@dataclass
class Person:
    """One caller: the head of her requests, and the answer that she alone may get."""

    head: bytes
    expected: str


@dataclass
class Tally:
    """Counts of what came back, with the first few surprises."""

    answers: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)

    def add(self, person: int, kind: str, detail: str = "") -> None:
        self.answers[f"person {person + 1}: {kind}"] += 1
        if kind != "right" and len(self.surprises) < 10:
            self.surprises.append(f"person {person + 1}: {kind}: {detail[:300]}")


def request_head(options: argparse.Namespace, key: str) -> bytes:
    """Writes the constant part of one person's requests; the body's length follows."""
    url = urlsplit(options.url)
    lines = [
        f"POST {url.path or '/'} HTTP/1.1", f"Host: {url.netloc}", f"Authorization: Bearer {key}",
        "Content-Type: application/json", "Accept: application/json, text/event-stream",
        f"MCP-Protocol-Version: {VERSION}", "Mcp-Method: tools/call", f"Mcp-Name: {options.tool}", *options.header,
    ]
    return "\r\n".join(lines).encode() + b"\r\nContent-Length: "


def request_body(tool: str, call_id: int) -> bytes:
    """Writes one call."""
    params = {"name": tool, "arguments": {}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "tools/call", "params": params}).encode()


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Reads one response and returns its status, lower-case head and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        return status, head, await read_chunks(reader)
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise Failure("a response without a length")
    return status, head, await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Reads a chunked body."""
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return bytes(body)


def message_in(head: bytes, body: bytes) -> dict[str, object]:
    """Takes the JSON-RPC answer out of a JSON or SSE body."""
    if b"content-type: text/event-stream" not in head:
        return json.loads(body)
    events = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and line[5:].strip()]
    if not events:
        raise Failure("an event stream without an answer")
    return json.loads(events[-1])


def judge(message: dict[str, object], call_id: int, expected: str) -> tuple[str, str]:
    """Names what an answer is: right, another's text, or a failure."""
    if message.get("id") != call_id:
        return "wrong id", json.dumps(message)
    result = message.get("result")
    if not isinstance(result, dict) or result.get("isError"):
        return "error", json.dumps(message)
    text = result["content"][0]["text"]
    return ("right", "") if text == expected else ("mismatch", text)


async def worker(options: argparse.Namespace, people: list[Person], first: int, ids: count[int], tally: Tally) -> None:
    """Calls over one connection, person by person in turn, until all calls are taken; reconnects when it is closed."""
    url = urlsplit(options.url)
    writer: asyncio.StreamWriter | None = None
    turns = count(first)
    while (call_id := next(ids)) <= options.calls:
        who = next(turns) % len(people)
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(url.hostname, url.port or 80, limit=1 << 20)
            body = request_body(options.tool, call_id)
            writer.write(people[who].head + b"%d\r\n\r\n" % len(body) + body)
            async with asyncio.timeout(options.timeout):
                status, head, answer = await read_response(reader)
            if status == 200:
                tally.add(who, *judge(message_in(head, answer), call_id, people[who].expected))
            else:
                tally.add(who, f"status {status}", answer.decode("utf-8", "replace"))
            keep = b"\r\nconnection: close" not in head
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, Failure) as error:
            tally.add(who, "broken", repr(error))
            keep = False
        if not keep and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def run(options: argparse.Namespace) -> bool:
    """Runs all connections, prints the counts and says whether every answer was right."""
    keys = options.key or [os.environ["LOAD_KEY_1"], os.environ["LOAD_KEY_2"]]
    pairs = zip(keys, options.expect, strict=True)
    people = [Person(request_head(options, key), expected) for key, expected in pairs]
    tally, ids, start = Tally(), count(1), time.monotonic()
    await asyncio.gather(*(worker(options, people, first, ids, tally) for first in range(options.connections)))
    seconds = time.monotonic() - start
    right = sum(number for kind, number in tally.answers.items() if kind.endswith(": right"))
    print(json.dumps({
        "calls": options.calls, "right": right, "seconds": round(seconds, 3), "per_second": round(options.calls / seconds),
        "answers": dict(sorted(tally.answers.items())), "surprises": tally.surprises,
    }))
    return right == options.calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", action="append", metavar="KEY", help="once for each person")
    parser.add_argument("--expect", action="append", required=True, metavar="TEXT", help="once for each person")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--tool", default="fingerprint")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one answer")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    return 0 if asyncio.run(run(parser.parse_args())) else 1


if __name__ == "__main__":
    sys.exit(main())
