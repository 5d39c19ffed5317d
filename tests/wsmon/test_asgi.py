"""The outermost layer: what it takes from a connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from wsmon import asgi

CHUNK = b"x" * 65_536


def post(path: str, chunks: Iterator[bytes]) -> list[dict[str, Any]]:
    """Send a body piece by piece; what was answered."""
    sent: list[dict[str, Any]] = []
    ended = False

    async def receive() -> dict[str, Any]:
        nonlocal ended
        if ended:
            await asyncio.Event().wait()  # the client waits for its answer
        chunk = next(chunks, None)
        ended = chunk is None
        return {"type": "http.request", "body": chunk or b"", "more_body": not ended}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"text/plain")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    async_to_sync(asgi.application)(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", ["/login/", "/api/heartbeat/none", "/nowhere"])
def test_an_endless_body_is_refused_before_it_fills_the_disk(path: str) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += len(CHUNK)
            yield CHUNK

    start, body = post(path, endless())
    assert start["status"] == 413
    assert dict(start["headers"])[b"connection"] == b"close"
    assert json.loads(body["body"])["status"] == 413
    assert taken <= asgi.LARGEST_BODY + len(CHUNK)


@pytest.mark.django_db(transaction=True)
def test_an_ordinary_body_reaches_its_view() -> None:
    start, body = post("/api/heartbeat/none", iter([CHUNK, CHUNK]))
    assert (start["status"], body["body"]) == (404, b"not found\n")
