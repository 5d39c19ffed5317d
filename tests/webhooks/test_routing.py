"""webhooks/routing.py: which events go where."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from providers.hooks import Found
from webhooks import routing
from webhooks.routing import Payload, order_key, payload_matches, type_matches

FORM = "application/x-www-form-urlencoded; charset=utf-8"
BODY = {
    "type": "invoice.paid",
    "livemode": True,
    "data": {"object": {"amount": 4200, "tags": ["a", "b"], "note": ""}},
}


def payload(value: Any = None) -> Payload:
    return Payload(json.dumps(BODY if value is None else value).encode(), "application/json")


MATCHES = [
    ([], "anything.at.all", True),
    (["*"], "", True),
    (["payment_intent.*"], "payment_intent.succeeded", True),
    (["payment_intent.*"], "payment_intent", False),
    (["payment_intent*"], "payment_intent", True),
    (["*.failed"], "charge.dispute.failed", True),
    (["*.failed"], "charge.failed.later", False),
    (["charge.*.created"], "charge.dispute.created", True),
    (["charge.*.created"], "charge.created", False),
    (["a*a"], "a", False),
    (["a*a"], "aa", True),
    (["invoice.paid"], "invoice.paid", True),
    (["invoice.paid"], "invoice_paid", False),
    (["invoice.paid"], "Invoice.paid", False),
    (["nothing", "invoice.*"], "invoice.paid", True),
    (["[a-z]+?"], "abc", False),
    (["[a-z]+?"], "[a-z]+?", True),
    (["line\n*"], "line\nbreak", True),
]


@pytest.mark.parametrize(("patterns", "kind", "fits"), MATCHES)
def test_a_star_stands_for_anything_and_nothing_else_is_special(patterns: list[str], kind: str, fits: bool):
    assert type_matches(patterns, kind) is fits


def by_definition(pattern: str, text: str) -> bool:
    """What ``*`` means, by the textbook's table of prefixes."""
    table = [True, *[False] * len(text)]
    for sign in pattern:
        if sign == "*":
            table = [any(table[: end + 1]) for end in range(len(text) + 1)]
        else:
            table = [False, *[table[end] and text[end] == sign for end in range(len(text))]]
    return table[-1]


@given(st.text("ab.*", max_size=8), st.text("ab.*", max_size=10))
def test_it_matches_what_the_definition_matches(pattern: str, text: str):
    assert type_matches([pattern], text) is by_definition(pattern, text)


@given(st.lists(st.text("ab.", max_size=3), min_size=1, max_size=5), st.lists(st.text("ab.", max_size=3)))
def test_whatever_is_put_for_the_stars_matches(pieces: list[str], between: list[str]):
    filled = between + [""] * len(pieces)
    text = "".join(piece + other for piece, other in zip(pieces[:-1], filled, strict=False)) + pieces[-1]
    assert type_matches(["*".join(pieces)], text)


def test_many_stars_are_no_way_to_keep_it_busy():
    """A regular expression would look at more ways than there are atoms."""
    assert not type_matches(["*a" * 99 + "*b"], "a" * 200)


FILTERS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"$.type": "invoice.paid"}, True),
    ({"$.type": "invoice"}, False),
    ({"$.type": ["charge.failed", "invoice.paid"]}, True),
    ({"$.type": ["charge.failed"]}, False),
    ({"$.type": []}, False),
    ({"$.livemode": True}, True),
    ({"$.livemode": 1}, False),
    ({"$.livemode": [1, 0]}, False),
    ({"$.data.object.amount": {"gte": 4200, "lt": 5000}}, True),
    ({"$.data.object.amount": {"gt": 4200}}, False),
    ({"$.data.object.amount": {"ne": 1}}, True),
    ({"$.data.object.amount": "4200"}, False),
    ({"$.data.object.tags[0]": "a"}, True),
    ({"$.data.object.tags[9]": "a"}, False),
    ({"$.data.object.tags": {"contains": "b"}}, True),
    ({"$.data.object.note": ""}, True),
    ({"$.type": {"matches": "^invoice\\."}}, True),
    ({"$.missing": "x"}, False),
    ({"$.missing": None}, False),
    ({"$.missing": {"exists": False}}, True),
    ({"$.missing": {"ne": 1}}, False),
    ({"$.type": {"exists": True}, "$.livemode": False}, False),
]


@pytest.mark.parametrize(("filters", "holds"), FILTERS)
def test_every_condition_must_hold(filters: dict[str, Any], holds: bool):
    assert payload_matches(filters, payload()) is holds


@pytest.mark.parametrize("operand", [[1], {}], ids=["a list", "a mapping"])
def test_an_operand_that_does_not_go_with_the_value_does_not_hold_and_breaks_nothing(operand: Any):
    assert not payload_matches({"$.data": {"contains": operand}}, payload())


class TestPatternsThatTakeTooLong:
    """What cannot be decided in time counts as matching: nothing is lost."""

    ENDLESS = "^(a|aa)+$"

    @pytest.fixture(autouse=True)
    def _nothing_is_known_to_be_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routing, "_slow", {})

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """How long each search may take; those for the endless pattern use all of it up."""
        times: list[float] = []
        clock = [100.0]

        def search(pattern: str, text: str, timeout: float) -> object:
            times.append(timeout)
            if pattern == self.ENDLESS:
                clock[0] += timeout
                raise TimeoutError
            return regex.search(pattern, text)

        monkeypatch.setattr(routing.regex, "search", search)
        monkeypatch.setattr(routing.time, "monotonic", lambda: clock[0])
        self.clock = clock
        return times

    def slow(self, path: str = "$.text") -> dict[str, Any]:
        return {path: {"matches": self.ENDLESS}}

    def test_one_counts_as_matching_for_real(self):
        assert payload_matches(self.slow(), payload({"text": "a" * 5_000 + "!"}))
        assert not payload_matches(self.slow(), payload({"text": "!"}))

    def test_the_other_conditions_count_all_the_same(self, asked: list[float]):
        text = payload({"text": "a!", "kind": "x"})
        assert not payload_matches(self.slow() | {"$.kind": "y"}, text)
        assert not payload_matches({"$.text": {"matches": self.ENDLESS, "eq": "b"}}, text)
        assert payload_matches({"$.text": {"matches": self.ENDLESS, "eq": "a!"}}, text)

    def test_all_of_one_event_share_one_budget(self, asked: list[float]):
        one = payload({"text": "a!"})
        for _ in range(20):
            assert payload_matches(self.slow(), one)
        assert sum(asked) == pytest.approx(routing.PATTERN_SECONDS)
        assert payload_matches({"$.text": {"matches": "never"}}, one)  # nothing is left to find out
        assert not payload_matches({"$.text": {"matches": "never"}}, payload({"text": "a!"}))

    def test_one_that_took_too_long_gets_little_time_for_a_while(self, asked: list[float]):
        for _ in range(3):
            payload_matches(self.slow(), payload({"text": "a!"}))
        assert asked == [routing.PATTERN_SECONDS, routing.SLOW_SECONDS, routing.SLOW_SECONDS]
        self.clock[0] += routing.SLOW_FOR
        payload_matches(self.slow(), payload({"text": "a!"}))
        assert asked[-1] == routing.PATTERN_SECONDS

    def test_a_text_that_is_too_long_is_not_looked_at(self, asked: list[float]):
        longest = payload({"text": "a" * routing.LONGEST_TEXT})
        assert not payload_matches({"$.text": {"matches": "b"}}, longest)
        assert payload_matches({"$.text": {"matches": "b"}}, payload({"text": "a" * (routing.LONGEST_TEXT + 1)}))
        assert len(asked) == 1

    def test_where_there_is_nothing_or_no_text_it_does_not_match(self):
        assert not payload_matches(self.slow("$.missing"), payload({"text": "a"}))
        assert not payload_matches(self.slow("$.text"), payload({"text": 7}))
        assert not payload_matches({"$.text": {"matches": "("}}, payload({"text": "a"}))


NOT_JSON = [b"", b"plain text", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"9" * 10_000]


@pytest.mark.parametrize("body", NOT_JSON, ids=["empty", "text", "bytes", "cut", "deep", "an endless number"])
def test_of_a_body_that_cannot_be_read_nothing_is_known(body: bytes):
    assert not payload_matches({"$.type": "x"}, Payload(body, "application/json"))
    assert payload_matches({}, Payload(body, "application/json"))
    assert not payload_matches({"$.type": "x"}, Payload(body, FORM))


def test_a_form_is_an_object_of_its_first_values():
    body = urlencode(
        [("MessageStatus", "sent"), ("To", "+49 1"), ("MessageStatus", "failed"), ("Empty", "")]
    ).encode()
    form = Payload(body, FORM)
    assert payload_matches({"$.MessageStatus": "sent", "$.Empty": "", "$.To": "+49 1"}, form)
    assert not payload_matches({"$.MessageStatus": "failed"}, form)
    assert not payload_matches({"$.MessageStatus": "sent"}, Payload(body, "text/plain"))


def test_of_a_repeated_name_the_last_one_counts():
    assert payload_matches({"$.a": 2}, Payload(b'{"a": 1, "a": 2}'))


def test_the_body_is_only_parsed_when_a_route_asks(monkeypatch: pytest.MonkeyPatch):
    asked: list[bytes] = []
    monkeypatch.setattr(routing, "_parse", lambda body, **_: (asked.append(body), (True, {"a": 1}))[1])
    one = Payload(b"x")
    assert payload_matches({}, one)
    assert asked == []
    assert payload_matches({"$.a": 1, "$.b": {"exists": False}}, one)
    assert asked == [b"x"]


EVENT = Found("evt_1", "invoice.paid", subject="in_1")
KEYS = [
    ("", ""),
    ("subject", "in_1"),
    ("$.data.object.amount", "4200"),
    ("$.livemode", "True"),
    ("$.missing", ""),
    ("$.nothing", ""),
    ("$.nul", "ab"),
    ("$.half", "?"),
]


@pytest.mark.parametrize(("order_by", "key"), KEYS)
def test_the_key_of_an_order(order_by: str, key: str):
    found = payload(BODY | {"nothing": None, "nul": "a\0b", "half": "\ud83d"})
    assert order_key(order_by, EVENT, found) == key


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_key_can_always_be_stored(value: Any):
    key = order_key("$.k", EVENT, payload({"k": value}))
    assert len(key) <= routing.LONGEST_KEY
    assert "\0" not in key
    key.encode()
