"""Which routes an event takes: patterns of its type, and conditions on its payload. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from providers import expectations
from providers.hooks import Found
from wsmon.http import HttpError
from wsmon.vocabulary import JSON

SUBJECT = "subject"
"""As ``order_by``: what the event is about, instead of a path of its payload."""
LONGEST_KEY = 255


class Payload:
    """A body that is parsed only when a route asks for it."""

    def __init__(self, body: bytes, content_type: str = "") -> None:
        self._body = body
        self._form = "x-www-form-urlencoded" in content_type.lower()
        self._value: tuple[bool, JSON] | None = None

    def find(self, path: str) -> tuple[bool, JSON]:
        """What stands at ``path``, and whether anything does; a form is an object of its first values."""
        if self._value is None:
            self._value = _parse(self._body, form=self._form)
        known, value = self._value
        return expectations.find(value, path) if known else (False, None)


def _parse(body: bytes, *, form: bool) -> tuple[bool, JSON]:
    try:
        if form:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10_000)
            return True, dict(reversed(pairs))
        return True, json.loads(body)
    except (ValueError, RecursionError):
        return False, None


def type_matches(patterns: Sequence[str], event_type: str) -> bool:
    """Whether one of ``patterns`` fits, in which ``*`` stands for anything; none at all fits everything."""
    return not patterns or any(_fits(pattern, event_type) for pattern in patterns)


def _fits(pattern: str, text: str) -> bool:
    """In linear time, however many stars: each piece as early as it can stand, the last one at the end."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == first
    if not text.startswith(first):
        return False
    place = len(first)
    for piece in rest[:-1]:
        found = text.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return len(text) - len(rest[-1]) >= place and text.endswith(rest[-1])


def payload_matches(filters: Mapping[str, JSON], payload: Payload) -> bool:
    """Whether every condition holds: a value, a list of values, or operators as in a check's ``json``."""
    return all(_holds(payload, path, condition) for path, condition in filters.items())


def _holds(payload: Payload, path: str, condition: JSON) -> bool:
    found, value = payload.find(path)
    if isinstance(condition, list):
        condition = {"in": condition}
    try:
        return expectations.holds(found, value, condition) is None
    except (HttpError, TypeError, ValueError):
        # A regular expression that takes too long on this payload, or an operand that does not go with what
        # stands there: the event must not be lost for it.
        return False


def order_key(order_by: str, event: Found, payload: Payload) -> str:
    """By what a destination's deliveries are put in order; empty: by nothing."""
    if not order_by:
        return ""
    if order_by == SUBJECT:
        return event.subject[:LONGEST_KEY]
    found, value = payload.find(order_by)
    # PostgreSQL stores neither NUL nor half a surrogate pair.
    text = "" if not found or value is None else str(value).replace("\x00", "")
    return text.encode("utf-8", "replace").decode()[:LONGEST_KEY]
