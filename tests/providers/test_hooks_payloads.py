"""What all vendors' webhooks share: reading without trust, and comparing without a hint."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import payloads, signing
from providers.hooks import Inbound, Refused
from tests.providers.hooks_contract import NOW
from wsmon.http import Headers


def _inbound(**headers: str) -> Inbound:
    return Inbound("POST", "https://ops.example.com/x", Headers(headers.items()), b"body", NOW + 0.9)


# Reading


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"\x00", b"[" * 100_000, b"9" * 5_000, b"null", b"nan"])
def test_what_is_no_json_is_none(body: bytes) -> None:
    assert payloads.read_json(body) is None
    assert payloads.read_object(body) == {}


def test_the_last_of_equal_names_counts_and_a_byte_order_mark_does_not() -> None:
    assert payloads.read_object(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}


def test_compact_json_is_exact_or_nothing() -> None:
    assert payloads.compact({"a": [1, "ø"], "b": None}) == '{"a":[1,"ø"],"b":null}'.encode()
    assert payloads.compact("\ud800") == b'"\\ud800"'
    assert payloads.compact(float("inf")) is None
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert payloads.compact(deep) is None


@given(st.binary(max_size=60))
def test_a_form_gives_back_the_bytes_that_came(value: bytes) -> None:
    from urllib.parse import quote_from_bytes  # noqa: PLC0415

    ((name, read),) = payloads.read_form(b"x=" + quote_from_bytes(value).encode())
    assert (name, signing.raw_form(read)) == ("x", value)


# Keys, types, subjects


def test_a_key_is_its_parts_or_the_bodys_digest() -> None:
    assert payloads.event_key(b"x", "a", 7) == "a:7"
    odd: list[tuple[Any, ...]] = [(), ("",), ("a", None), ("a", ""), ([],), (True,)]
    for parts in odd:
        assert payloads.event_key(b"x", *parts) == payloads.digest(b"x")


def test_a_key_that_cannot_be_kept_becomes_its_digest() -> None:
    long, other = payloads.event_key(b"x", "k" * 256), payloads.event_key(b"x", "k" * 257)
    assert len(long) == len("sha256:") + 64
    assert len({long, other, payloads.digest(b"x")}) == 3
    assert payloads.event_key(b"x", "k" * 255) == "k" * 255
    assert payloads.event_key(b"x", "a\x00").startswith("sha256:")
    assert payloads.event_key(b"x", "\ud800").startswith("sha256:")


def test_types_are_short_printable_and_never_empty() -> None:
    assert payloads.event_type("a", "b") == "a.b"
    assert payloads.event_type("a", None, "") == "a"
    assert payloads.event_type(None) == "unknown"
    assert payloads.event_type("a\x00\nb") == "a b"
    assert len(payloads.event_type("x" * 300, "y" * 300)) == 200


# Times


@pytest.mark.parametrize(
    "value", [0, -1, 10**10, 10**400, 1e300, float("nan"), float("inf"), True, None, "", "x", "1e5", []]
)
def test_an_absurd_unix_time_is_none(value: Any) -> None:
    assert payloads.from_unix(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "30000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-13-01",
        5,
        None,
    ],
)
def test_an_absurd_iso_time_is_none(value: Any) -> None:
    assert payloads.from_iso(value) is None


def test_times_are_in_utc() -> None:
    noon = datetime(2026, 10, 31, 12, tzinfo=UTC)
    stamp = int(noon.timestamp())
    for value in (stamp, float(stamp), str(stamp), stamp * 1000, str(stamp * 1000), "2026-10-31T14:00:00+02:00"):
        assert payloads.from_any(value) == noon
    assert payloads.from_iso("2026-10-31 12:00:00+00") == noon
    assert payloads.from_iso("2026-10-31T12:00:00") == noon
    assert payloads.from_iso("2026-10-31T12:00:00.0000000Z") == noon
    assert payloads.from_any(10**20) is None


# Signatures


@given(st.binary(min_size=1, max_size=40))
def test_only_the_encoders_own_spelling_is_taken(value: bytes) -> None:
    encoded, digits = base64.b64encode(value).decode(), value.hex()
    assert signing.from_base64(encoded) == value
    assert signing.from_hex(digits) == value
    for wrong in (encoded + "=", encoded + "\n", encoded[:-1], " " + encoded, encoded[:2] + "!" + encoded[2:]):
        assert signing.from_base64(wrong) != value
    for wrong in (digits + "0", digits + "\n", " " + digits, "0x" + digits):
        assert signing.from_hex(wrong) is None
    assert digits == digits.upper() or signing.from_hex(digits.upper()) is None


def test_stray_bits_and_other_alphabets_are_refused() -> None:
    assert signing.from_base64("AAA=") == b"\x00\x00"
    assert signing.from_base64("AAB=") is None
    assert signing.from_base64("_-8=") is None
    assert signing.from_base64("é") is None
    assert signing.from_hex("٠٠") is None


def test_a_window_counts_whole_seconds() -> None:
    inbound = _inbound()
    signing.check_window(NOW - 300, inbound)
    signing.check_window(NOW + 300, inbound)
    for at, code in ((NOW - 301, "too_old"), (NOW + 301, "from_the_future")):
        with pytest.raises(Refused) as caught:
            signing.check_window(at, inbound)
        assert caught.value.code == code


def test_every_secret_is_tried_but_a_blank_one_never() -> None:
    tried: list[str] = []
    assert signing.fitting(["", "a", "b", "c"], lambda secret: tried.append(secret) or secret == "b") == 2
    assert tried == ["a", "b", "c"]
    with pytest.raises(Refused) as caught:
        signing.fitting([""], lambda _secret: True)
    assert caught.value.code == "not_configured"


@given(st.text(), st.text())
def test_comparing_takes_any_text(one: str, other: str) -> None:
    assert signing.equal(one, one)
    assert signing.equal(one, other) is (one == other)
    assert signing.equal("\ud800", "\ud800")


def test_a_request_is_shown_without_what_it_carries() -> None:
    shown = repr(_inbound(**{"x-signature": "planted"}))
    assert "planted" not in shown
    assert "body" not in json.dumps(shown).replace("body=", "")
