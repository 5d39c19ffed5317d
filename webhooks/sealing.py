"""Payloads at rest: encrypted and authenticated, so that what is read is what was stored.

A sealed value is, encrypted by ``wsmon.secrets.seal``, a line of JSON, an empty line and the raw bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wsmon import secrets

# `json.dumps` makes an encoder at each call where it is told of separators.
_encode = json.JSONEncoder(separators=(",", ":")).encode

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Content:
    """What came: the headers in their order, the URL it was sent to, the raw bytes."""

    headers: Pairs = field(repr=False)
    url: str = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What one attempt sent and got: headers, and the answer's body up to 16 KB, masked."""

    sent: Pairs = field(repr=False)
    answered: Pairs = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    truncated: bool = False


def seal(content: Content) -> bytes:
    """Encrypt what came; raises ``wsmon.secrets.Unresolvable`` without a key."""
    return _seal({"headers": list(content.headers), "url": content.url}, content.body)


def unseal(sealed: bytes) -> Content:
    """The reverse; raises ``wsmon.secrets.Unresolvable`` when no key opens it."""
    head, body = _unseal(sealed)
    return Content([(name, value) for name, value in head["headers"]], head["url"], body)


def seal_exchange(exchanged: Exchanged) -> bytes:
    """Encrypt what one attempt sent and got."""
    head = {
        "sent": [list(pair) for pair in exchanged.sent],
        "answered": [list(pair) for pair in exchanged.answered],
        "truncated": exchanged.truncated,
    }
    return _seal(head, exchanged.body)


def unseal_exchange(sealed: bytes) -> Exchanged:
    """The reverse."""
    head, body = _unseal(sealed)
    pairs = {name: [(key, value) for key, value in head[name]] for name in ("sent", "answered")}
    return Exchanged(pairs["sent"], pairs["answered"], body, bool(head["truncated"]))


def _seal(head: dict[str, object], body: bytes) -> bytes:
    return secrets.seal(b"\n\n".join((_encode(head).encode(), body)))


def _unseal(sealed: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = secrets.unseal(sealed).partition(b"\n\n")
    return json.loads(head), body
