"""What is shown of an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.details import clean, clip, dig, header_details, public_url, retry_after, total
from wsmon.http import Headers, Response
from wsmon.vocabulary import Timings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs", "Cc"]),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=30),
    max_leaves=60,
)


def response(**headers: str) -> Response:
    return Response(200, Headers((name.replace("_", "-"), value) for name, value in headers.items()))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://app.example.com/api/webhooks/stripe", "https://app.example.com/api/webhooks/stripe"),
        ("https://app.example.com:8443/hooks?token=abc#x", "https://app.example.com:8443/hooks"),
        ("https://user:pass@app.example.com/", "https://app.example.com/"),
        ("https://hooks.example.com/T0/B0/8f14e45fceea167a5a36", "https://hooks.example.com/T0/B0/…"),
        ("https://example.com/hook/AbCdEfGhIjKlMnOpQr", "https://example.com/hook/…"),
        ("https://example.com/communication-preferences", "https://example.com/communication-preferences"),
        ("https://[::1", None),
        ("https://x:99999999/", None),
        (None, None),
        (5, None),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: Any, shown: str | None) -> None:
    assert public_url(url) == shown


@given(ANYTHING)
@settings(max_examples=200, deadline=None)
def test_whatever_a_vendor_says_can_be_stored(value: Any) -> None:
    text = json.dumps(clean(value), allow_nan=False, ensure_ascii=False)
    assert "\x00" not in text
    text.encode()


def test_lists_texts_and_depth_are_bounded() -> None:
    assert len(clean(list(range(500)))) == 20
    assert len(clean({str(number): 1 for number in range(500)})) == 40
    assert len(clean("x" * 5000)) == 200
    assert clean({"a": {"b": {"c": {"d": {"e": 1}}}}}) == {"a": {"b": {"c": {"d": "…"}}}}


def test_a_text_becomes_one_printable_line() -> None:
    assert clip(" two\n\tlines\x00and\x1b[31mred ") == "two lines and [31mred"
    assert clip("x" * 300, 10) == "xxxxxxxxx…"


def test_reset_times_are_told_in_utc_whatever_the_vendor_counts() -> None:
    names = {"reset": "rate_limit_reset", "left": "rate_limit_remaining"}
    assert header_details(response(reset="30", left="5"), names, NOW) == {
        "rate_limit_reset": "2026-11-21T12:00:30+00:00",
        "rate_limit_remaining": 5,
    }
    assert header_details(response(reset="1795262460"), names, NOW)["rate_limit_reset"] == "2026-11-21T12:01:00+00:00"
    assert header_details(response(left="many"), names, NOW) == {"rate_limit_remaining": "many"}
    assert header_details(response(reset="999999999999999"), names, NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:01:30 -0000", None),
        ("-5", None),
        ("9" * 30, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: int | None) -> None:
    assert retry_after(response(retry_after=value), NOW).get("retry_after") == seconds


def test_dig_finds_only_what_is_there() -> None:
    data = {"a": [{"b": 1}]}
    assert dig(data, "a", 0, "b") == 1
    assert dig(data, "a", 1, "b") is None
    assert dig(data, "a", "b") is None
    assert dig(data, 0) is None
    assert dig(None, "a") is None


def test_exchanges_add_up_phase_by_phase() -> None:
    first, second = Timings(1, 2, 3, 40, 46), Timings(first_byte_ms=10, total_ms=10.5)
    assert total([first]) is first
    assert total([first, second]) == Timings(1, 2, 3, 50, 56.5)
    assert total([]) == Timings()
