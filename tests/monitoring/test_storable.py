from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.storable import DETAILS_LIMIT, details, text

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("plain", "plain"),
        ("a\x00b", "ab"),
        ("größer", "größer"),
        ("half \ud800 pair", "half ? pair"),
        ("\\u0000", "\\u0000"),  # somebody's literal backslash is text like any other
    ],
)
def test_a_text_is_kept_as_far_as_it_can_be(given_text: str, kept: str):
    assert text(given_text, 100) == kept


def test_a_text_is_cut_to_its_limit():
    assert text("ü" * 600, 500) == "ü" * 500


@given(st.dictionaries(st.text(st.characters(exclude_categories=[])), anything, max_size=5))
def test_details_are_json_without_what_postgresql_refuses(value: dict[str, object]):
    found = details(value)
    written = json.dumps(found, allow_nan=False)
    assert "\\u0000" not in written.replace("\\\\", "")
    written.encode()
    json.dumps(found, ensure_ascii=False).encode()  # no half characters


def test_details_that_are_json_already_stay_as_they_are():
    value = {"version": "1", "left": 3.5, "domains": [{"name": "a", "ok": True}], "none": None, "literal": "\\u0000"}
    assert details(value) == value


def test_details_of_other_types_become_words():
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    assert details({"at": moment, "pair": (1, 2), 3: {"x": float("inf")}}) == {  # type: ignore[dict-item]
        "at": str(moment),
        "pair": [1, 2],
        "3": {"x": None},
    }


def test_details_too_large_keep_their_names():
    assert details({"body": "x" * DETAILS_LIMIT, "account": "me"}) == {"too_large": ["account", "body"]}


def test_very_many_names_are_too_large_too():
    found = details({f"name-{number:05}": number for number in range(5_000)})
    assert len(found["too_large"]) == 50
