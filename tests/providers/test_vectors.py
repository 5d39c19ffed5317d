"""Requests signed by the vendors' own libraries, and what we answer to each.

The file stays compressed: its invented secrets look real to scanners.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import providers
from providers.hooks import Inbound, Refused, Reply, Scheme, options_of
from wsmon.http import Headers

FILE = Path(__file__).parent.parent / "fixtures" / "webhooks" / "vectors.json.gz"
SLUGS = {"supabase_auth_hook": "supabase_auth"}
NOW = 1_793_448_000


@cache
def _file() -> dict[str, Any]:
    return json.loads(gzip.decompress(FILE.read_bytes()))


VECTORS: list[dict[str, Any]] = _file()["vectors"]
HANDSHAKES: list[dict[str, Any]] = _file()["handshakes"]


def _scheme(vector: dict[str, Any]) -> Scheme:
    scheme = providers.get(SLUGS.get(vector["provider"], vector["provider"])).hooks
    assert scheme is not None
    return scheme


def _inbound(vector: dict[str, Any]) -> Inbound:
    body = base64.b64decode(vector["body_b64"]) if "body_b64" in vector else vector.get("body", "").encode()
    headers = Headers(vector.get("headers", {}).items())
    return Inbound(vector["method"], vector["url"], headers, body, float(vector.get("now", NOW)))


def _secrets(vector: dict[str, Any]) -> list[str]:
    secret = vector.get("secret") or vector.get("public_key")
    first = [secret] if isinstance(secret, str) else [json.dumps(secret)] if secret else []
    return first + list(vector.get("additional_secrets") or [])


def _options(scheme: Scheme, vector: dict[str, Any]) -> Any:
    values = {"verify_token": vector.get("secret")} if vector["provider"] == "whatsapp" else {}
    if vector["provider"] == "google_pubsub":
        values = {"audience": vector["expected_audience"], "service_account": vector["expected_email"]}
    return options_of(scheme, values)


def _answer(vector: dict[str, Any]) -> bool:
    scheme, inbound, secrets = _scheme(vector), _inbound(vector), _secrets(vector)
    options = _options(scheme, vector)
    try:
        scheme.verify(inbound, secrets, options)
    except Refused as refused:
        told, status = refused.message, refused.status
    else:
        told, status = "", 200
    if status != 200:
        assert 400 <= status < 500
        assert not any(secret in told for secret in secrets)
        return False
    found = scheme.read(inbound, secrets, options)
    assert found
    assert all(0 < len(event.key) <= 255 and event.type for event in found)
    return True


def test_every_vendor_has_its_share() -> None:
    count = Counter(vector["provider"] for vector in VECTORS)
    assert len(VECTORS) == 188
    assert len(HANDSHAKES) == 8
    assert min(count.values()) >= 10


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_it_answers_as_a_strict_receiver(vector: dict[str, Any]) -> None:
    answer = _answer(vector)
    if vector["strict_valid"] is not None:
        assert answer is vector["strict_valid"], vector["why"]


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["strict_valid"]], ids=lambda vector: vector["name"]
)
def test_no_flipped_bit_of_the_body_passes(vector: dict[str, Any]) -> None:
    if vector["provider"] == "google_pubsub":
        pytest.skip("its token does not cover the body")
    body = bytearray(base64.b64decode(vector["body_b64"]))
    for place in {0, len(body) // 2, len(body) - 1}:
        changed = bytearray(body)
        changed[place] ^= 1
        assert not _answer({**vector, "body_b64": base64.b64encode(changed).decode()}), place


def _reply(vector: dict[str, Any]) -> tuple[int, Reply | None, int]:
    """Status, the reply if it was a handshake, and the number of events."""
    scheme, inbound, secrets = _scheme(vector), _inbound(vector), _secrets(vector)
    options = _options(scheme, vector)
    try:
        if scheme.greet and (reply := scheme.greet(inbound, secrets, options)):
            return reply.status, reply, 0
        scheme.verify(inbound, secrets, options)
        if scheme.answer and (reply := scheme.answer(inbound, secrets, options)):
            return reply.status, reply, 0
        return 200, None, len(scheme.read(inbound, secrets, options))
    except Refused as refused:
        return refused.status, None, 0


@pytest.mark.parametrize("vector", HANDSHAKES, ids=lambda vector: f"{vector['provider']}-{vector['name']}")
def test_it_answers_handshakes_as_the_vendor_expects(vector: dict[str, Any]) -> None:
    status, reply, events = _reply(vector)
    expect = vector["expect"]
    allowed = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    assert status in allowed, vector["why"]
    if "body" in expect:
        assert reply is not None
        assert reply.body.decode() == expect["body"]
    if "content_type" in expect:
        assert reply is not None
        assert reply.content_type.startswith(expect["content_type"])
    if expect.get("body_not_html"):
        assert reply is not None
        assert b"<" not in reply.body
    if "accepted_items" in expect:
        assert events == len(expect["accepted_items"])
    assert set(expect) <= {"status", "body", "content_type", "body_not_html", "accepted_items"}
