"""The contract of every vendor's webhooks. A vendor's test class inherits it and says how to sign."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import providers
from providers.hooks import CODES, Found, Inbound, Refused, Scheme, Verified, options_of, signed_headers
from wsmon.http import Headers

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOW = 1_793_448_000
BASE = "https://ops.example.com/api/webhooks"
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
ODD_BODIES = {
    "empty": b"",
    "not UTF-8": b'{"type": "\xff\xfe"}',
    "UTF-16": '{"type": "x"}'.encode("utf-16"),
    "cut": b'{"type": "x", "data": {',
    "null": b"null",
    "number": b"42",
    "text": b'"text"',
    "list": b"[]",
    "list of oddities": b'[null, 1, "x", [], {}, {"event": null}]',
    "empty object": b"{}",
    "deep brackets": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "closed deep": b"[" * 100_000 + b"]" * 100_000,
    "deep enough to read": b'{"type":"x","value":' + b"[" * 900 + b"]" * 900 + b"}",
    "duplicate keys": b'{"id": "first", "id": "second", "type": "a", "type": "b", "event": "c", "event": "d"}',
    "NUL": b'{"id": "a\x00b", "type": "c\\u0000d", "data": {"id": "\\u0000"}}',
    "bare NUL": b"\x00" * 8,
    "half a surrogate": b'{"id": "\\ud800", "type": "\\udfff", "data": {"id": "\\ud800"}}',
    "endless number": b'{"id": ' + b"9" * 5_000 + b"}",
    "huge number": b'{"id": ' + b"9" * 400 + b', "type": "x", "created": ' + b"9" * 400 + b"}",
    "infinite": b'{"id": "x", "created": 1e999, "timestamp": -Infinity, "type": NaN}',
    "long": b'{"id": "' + b"x" * 5_000 + b'", "type": "' + b"y" * 5_000 + b'"}',
    "html": b"<!DOCTYPE html><html></html>",
}
ODD_VALUES: list[Any] = [
    None, True, "", "x" * 5_000, "\x00", "\ud800", 0, -1, 1e999, float("nan"), 10**30, 946_080_000_000, [], {},
    [None], {"a": []}, "not a time", "30000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59",
]  # fmt: skip


def fixture(vendor: str, name: str) -> bytes:
    """A webhook's body as the vendor sends it."""
    return (FIXTURES / vendor / "webhooks" / f"{name}.json").read_bytes()


def changed(inbound: Inbound, **headers: str | None) -> Inbound:
    """The same request with headers set, or taken away (None); ``_`` stands for ``-``."""
    values = dict(inbound.headers) | {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(inbound, headers=Headers((name, value) for name, value in values.items() if value is not None))


def assert_storable(found: list[Found]) -> None:
    """PostgreSQL takes neither NUL nor half a surrogate pair, and columns have a width."""
    assert found
    for event in found:
        assert 0 < len(event.key) <= 255
        assert 0 < len(event.type) <= 200
        assert len(event.subject) <= 255
        for text in (event.key, event.type, event.subject):
            text.encode()
            assert "\x00" not in text
        if event.occurred_at is not None:
            assert event.occurred_at.utcoffset() == timedelta(0)
            assert 1970 <= event.occurred_at.year < 2200
        assert event.body is None or event.body


def refused(call: Callable[[], Any]) -> Refused:
    """Call what must refuse."""
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.code in CODES
    assert 400 <= caught.value.status < 500
    assert len(caught.value.message) < 200
    return caught.value


class HooksContract:
    """What every vendor's webhooks must do."""

    slug: ClassVar[str]
    secret: ClassVar[str]
    other: ClassVar[str]
    """Another secret of the right shape."""
    options: ClassVar[dict[str, Any]] = {}
    sample: ClassVar[bytes]
    content_type: ClassVar[str] = "application/json"
    past: ClassVar[int | None] = 300
    """Seconds that a signature lives; None where no time is signed."""
    future: ClassVar[int] = 300
    covers_body: ClassVar[bool] = True
    any_body: ClassVar[bool] = True
    """Whether bytes of any kind can be sent by someone with the secret."""
    required: ClassVar[tuple[str, ...]]
    """Headers without which nothing is believed."""
    unknown: ClassVar[bytes] = b'{"id": "evt_new", "type": "something.never.heard.of"}'
    status: ClassVar[int] = 401
    """How a wrong signature is answered."""

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        """The vendor's headers for a body signed at a time."""
        raise NotImplementedError

    def url(self, body: bytes) -> str:
        """The URL as the vendor calls it."""
        return f"{BASE}/{self.slug}"

    # What the contract is made of

    @property
    def scheme(self) -> Scheme:
        scheme = providers.get(self.slug).hooks
        assert scheme is not None
        return scheme

    def parsed(self) -> Any:
        return options_of(self.scheme, self.options)

    def request(self, body: bytes | None = None, secret: str = "", at: int = NOW, now: float = NOW) -> Inbound:
        """A signed request."""
        body = self.sample if body is None else body
        headers = {"content-type": self.content_type} | self.headers(body, secret or self.secret, at)
        return Inbound("POST", self.url(body), Headers(headers.items()), body, float(now))

    def verify(self, inbound: Inbound, *secrets: str) -> Verified:
        return self.scheme.verify(inbound, secrets or (self.secret,), self.parsed())

    def read(self, inbound: Inbound) -> list[Found]:
        return self.scheme.read(inbound, (self.secret,), self.parsed())

    def events(self, body: bytes | None = None) -> list[Found]:
        """The events of a request that is believed."""
        inbound = self.request(body)
        self.verify(inbound)
        found = self.read(inbound)
        assert_storable(found)
        return found

    def refusal(self, inbound: Inbound, *secrets: str) -> Refused:
        error = refused(lambda: self.verify(inbound, *secrets))
        for told in (self.secret, *(inbound.headers.get(name, "") for name in self.required)):
            assert not told.strip() or len(told) < 6 or told not in error.message
        return error

    # Believed

    def test_a_genuine_request_is_believed(self) -> None:
        verified = self.verify(self.request())
        assert verified.secret == 0
        assert verified.scheme
        assert verified.signed_at == (NOW if self.past is not None else None)
        assert_storable(self.read(self.request()))

    def test_the_second_secret_fits_as_well_while_secrets_are_rolled(self) -> None:
        assert self.verify(self.request(), self.other, self.secret).secret == 1
        assert self.verify(self.request(), "", self.secret).secret == 1

    def test_header_names_are_of_any_case(self) -> None:
        inbound = self.request()
        upper = Headers((name.upper(), value) for name, value in inbound.headers.items())
        self.verify(replace(inbound, headers=upper))

    def test_a_second_time_it_has_the_same_key(self) -> None:
        first, second = self.request(), self.request(at=NOW + 10, now=NOW + 10)
        assert [found.key for found in self.read(first)] == [found.key for found in self.read(second)]

    # Not believed

    def test_another_secret_is_refused(self) -> None:
        error = self.refusal(self.request(secret=self.other))
        assert (error.code, error.status) == ("signature_mismatch", self.status)

    def test_a_changed_body_is_refused(self) -> None:
        if not self.covers_body:
            pytest.skip("nothing covers the body")
        inbound = self.request()
        for place in (0, len(inbound.body) // 2, len(inbound.body) - 1):
            body = bytearray(inbound.body)
            body[place] ^= 1
            self.refusal(replace(inbound, body=bytes(body)))
        self.refusal(replace(inbound, body=inbound.body + b"\n"))
        self.refusal(replace(inbound, body=b""))

    def test_without_a_secret_nothing_is_believed(self) -> None:
        for secrets in ((), ("",), ("", "")):
            inbound = self.request()
            error = refused(partial(self.scheme.verify, inbound, secrets, self.parsed()))
            assert (error.code, error.status) == ("not_configured", 401)

    def test_a_missing_header_is_told(self) -> None:
        for name in self.required:
            for value in (None, ""):
                error = self.refusal(changed(self.request(), **{name: value}))
                assert error.code in ("signature_missing", "signature_malformed"), name

    def test_a_spoilt_header_is_refused(self) -> None:
        inbound = self.request()
        for name in self.required:
            value = inbound.headers[name]
            spoilt = [" ", ",", "=", "x", f"{value}x", f" {value}", value[:-1], f"{value},", f"{value} ,{value}"]
            spoilt += ["\x00", "é", "v1,", "t=,v1=", "sha256=", "v0=", "\ud800", "9" * 5_000, f"{value}\n"]
            for each in spoilt:
                self.refusal(changed(inbound, **{name: each}))

    def test_a_header_that_comes_twice_is_refused(self) -> None:
        inbound = self.request()
        for name in self.required:
            value = inbound.headers[name]
            for others in ((value,), ("x",)):
                twice = Headers([*inbound.headers.items(), *((name, other) for other in others)])
                self.refusal(replace(inbound, headers=twice))
                self.refusal(changed(inbound, **{name: f"{others[0]}, {value}"}))

    # Time

    def test_the_window_is_exact_at_both_ends(self) -> None:
        if self.past is None:
            pytest.skip("no time is signed")
        self.verify(self.request(at=NOW - self.past))
        self.verify(self.request(at=NOW - self.past, now=NOW + 0.9))
        self.verify(self.request(at=NOW + self.future))
        assert self.refusal(self.request(at=NOW - self.past - 1)).code == "too_old"
        assert self.refusal(self.request(at=NOW + self.future + 1)).code == "from_the_future"

    # What is inside

    def test_an_unknown_type_is_kept(self) -> None:
        if not self.any_body:
            pytest.skip("told by the vendor's own test")
        (found,) = self.events(self.unknown)
        assert found.status is None

    @pytest.mark.parametrize("name", ODD_BODIES)
    def test_an_odd_body_is_kept_if_it_is_signed_and_breaks_nothing(self, name: str) -> None:
        body = ODD_BODIES[name]
        inbound = self.request(body)
        if self.any_body:
            self.verify(inbound)
        else:
            self.refusal(inbound)
        assert_storable(self.read(inbound))

    def test_odd_values_anywhere_break_nothing(self) -> None:
        for value in _distorted(json.loads(self.sample)):
            body = json.dumps(value).encode()
            assert_storable(self.read(self.request(body)))

    @FUZZ
    @given(body=st.binary(max_size=200), data=st.data())
    def test_whatever_comes_it_is_refused_or_read(self, body: bytes, data: st.DataObject) -> None:
        names = st.sampled_from([*self.required, "content-type", *self.request().headers])
        headers = data.draw(st.dictionaries(names, st.text(max_size=60), max_size=6))
        url = data.draw(st.one_of(st.just(self.url(body)), st.text(max_size=60)))
        inbound = Inbound(
            data.draw(st.sampled_from(["POST", "GET"])), url, Headers(headers.items()), body, float(NOW)
        )
        refused(lambda: self.verify(inbound))
        assert_storable(self.read(inbound))
        for handshake in (self.scheme.greet, self.scheme.answer):
            if handshake:
                try:
                    handshake(inbound, (self.secret,), self.parsed())
                except Refused as error:
                    assert error.code in CODES  # noqa: PT017 - it may refuse, and only that

    @FUZZ
    @given(value=ANY_JSON)
    def test_any_json_is_read(self, value: Any) -> None:
        assert_storable(self.read(self.request(json.dumps(value).encode())))

    # What is declared

    def test_it_is_declared_in_full(self) -> None:
        scheme, provider = self.scheme, providers.get(self.slug)
        assert scheme.secrets
        assert all(name == name.lower() for name in signed_headers(scheme, self.parsed()))
        assert set(signed_headers(scheme, self.parsed())) <= {*self.required, *scheme.signed_headers}
        assert scheme.max_bytes >= 1_048_576
        assert provider.docs_url.startswith("https://")
        assert scheme.options.model_config["extra"] == "forbid"
        assert "\n" not in scheme.hint

    def test_secrets_of_the_wrong_shape_are_told_without_being_quoted(self) -> None:
        assert self.scheme.secret_problem(self.secret) is None
        assert self.scheme.secret_problem(self.other) is None
        for wrong in ("", " ", f" {self.secret}", f"{self.secret}\n"):
            assert self.scheme.secret_problem(wrong), repr(wrong)
            assert self.secret not in str(self.scheme.secret_problem(wrong))


def _distorted(value: Any) -> Iterator[Any]:
    """``value`` with each of its parts in turn replaced by odd ones."""
    for path in _paths(value):
        for odd in ODD_VALUES:
            copied = copy.deepcopy(value)
            holder = copied
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = odd
            yield copied


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield (*at, step)
        yield from _paths(inner, (*at, step))
