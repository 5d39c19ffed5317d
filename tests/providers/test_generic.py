"""Webhooks of any sender, set up by options."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from providers.hooks import options_of, signed_headers
from tests.providers.hooks_contract import BASE, NOW, HooksContract, changed

BODY = b'{"event": {"id": "e-1", "kind": "job.created", "at": "2026-10-31T12:00:00+01:00"}, "job": {"id": 7}}'
PLACES = {"event_id": "$.event.id", "event_type": "$.event.kind", "event_time": "$.event.at", "subject": "$.job.id"}


class Configured(HooksContract):
    """What all its modes share."""

    slug = "generic"
    secret = "planted-secret-0123456789"
    other = "another-secret-0123456789"
    sample = BODY

    def test_it_reads_what_the_options_point_at(self) -> None:
        (found,) = self.events()
        assert (found.key, found.type, found.subject) == ("e-1", "job.created", "7")
        assert found.occurred_at == datetime(2026, 10, 31, 11, 0, tzinfo=UTC)


class TestHexOverTheBody(Configured):
    options = PLACES | {"header": "X-Acme-Signature", "prefix": "sha256="}
    past = None
    required = ("x-acme-signature",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"x-acme-signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}

    def test_headers_that_sign_are_known_from_the_options(self) -> None:
        assert signed_headers(self.scheme, self.parsed()) == ("x-acme-signature",)


class TestBase64WithATime(Configured):
    options = PLACES | {
        "header": "x-sig", "encoding": "base64", "algorithm": "sha512", "timestamp_header": "x-time",
        "text": "v2:{id}:{timestamp}:{body}", "tolerance": 60, "event_id": "x-id",
    }  # fmt: skip
    past = 60
    future = 60
    required = ("x-sig", "x-time", "x-id")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        text = f"v2:e-1:{at}:".encode() + body
        signature = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha512).digest()).decode()
        return {"x-sig": signature, "x-time": str(at), "x-id": "e-1"}

    def test_headers_that_sign_are_known_from_the_options(self) -> None:
        assert signed_headers(self.scheme, self.parsed()) == ("x-sig", "x-time", "x-id")


class TestMilliseconds(Configured):
    options = PLACES | {"timestamp_header": "x-time", "algorithm": "sha1"}
    required = ("x-signature", "x-time")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        text = f"{at}000.".encode() + body
        return {"x-signature": hmac.new(secret.encode(), text, hashlib.sha1).hexdigest(), "x-time": f"{at}000"}


class TestTokenInAHeader(Configured):
    options = PLACES | {"mode": "token", "header": "Authorization", "prefix": "Bearer "}
    past = None
    covers_body = False
    required = ("authorization",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"authorization": f"Bearer {secret}"}

    def test_the_token_is_not_kept_with_the_event(self) -> None:
        assert signed_headers(self.scheme, self.parsed()) == ()


class TestTokenInTheUrl(Configured):
    options = PLACES | {"mode": "token", "parameter": "key"}
    past = None
    covers_body = False
    required = ()

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {}

    def request(self, body: bytes | None = None, secret: str = "", at: int = NOW, now: float = NOW) -> Any:
        return replace(super().request(body, secret, at, now), url=f"{BASE}/x?key={secret or self.secret}")

    def test_it_must_be_there_once(self) -> None:
        for query in ("", "?key=", f"?key={self.secret}&key={self.secret}", f"?Key={self.secret}", "#key=x"):
            assert self.refusal(replace(self.request(), url=f"{BASE}/x{query}")).code == "signature_missing"


def test_without_an_id_equal_bodies_are_one_event() -> None:
    contract = TestHexOverTheBody()
    scheme, options = contract.scheme, options_of(contract.scheme, {})
    first, other = (scheme.read(contract.request(body), (), options)[0] for body in (BODY, BODY + b" "))
    assert first.key == f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    assert first.key != other.key
    assert first.type == "unknown"


def test_type_and_id_may_stand_in_headers() -> None:
    contract = TestHexOverTheBody()
    options = options_of(contract.scheme, {"event_id": "X-Id", "event_type": "X-Type", "event_time": "X-Time"})
    inbound = changed(contract.request(), x_id="7", x_type="a.b", x_time="1793448000123")
    (found,) = contract.scheme.read(inbound, (), options)
    assert (found.key, found.type) == ("7", "a.b")
    assert found.occurred_at == datetime.fromtimestamp(1793448000.123, UTC)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"text": "{timestamp}"}, "once"),
        ({"text": "{body}{body}"}, "once"),
        ({"text": "{timestamp}.{body}"}, "need each other"),
        ({"timestamp_header": "x-time", "text": "{body}"}, "need each other"),
        ({"text": "{id}.{body}"}, "event_id"),
        ({"text": "{id}.{body}", "event_id": "$.id"}, "event_id"),
        ({"mode": "token", "text": "{body}"}, "mode hmac"),
        ({"mode": "token", "timestamp_header": "x"}, "mode hmac"),
        ({"parameter": "key"}, "mode token"),
        ({"header": "not a header"}, "name of a header"),
        ({"event_id": "$..id"}, "not understood"),
        ({"algorithm": "md5"}, "sha256"),
        ({"tolerance": 0}, "greater than 0"),
        ({"colour": "blue"}, "Extra inputs"),
    ],
)
def test_options_that_do_not_go_together_are_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        options_of(TestHexOverTheBody().scheme, values)
