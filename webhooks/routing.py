"""Which routes an event takes: patterns of its type, and conditions on its payload. Pure, but for a watch.

A person's regular expression can take years for some texts, and here everything that comes in waits for it: all
those of one event together get ``PATTERN_SECONDS``. What they cannot decide in that time counts as matching, for
then nothing is lost: at worst a destination gets an event that it did not ask for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

import regex
import structlog

from providers import expectations
from providers.hooks import Found
from wsmon.http import HttpError
from wsmon.vocabulary import JSON

SUBJECT = "subject"
"""As ``order_by``: what the event is about, instead of a path of its payload."""
LONGEST_KEY = 255
LONGEST_TEXT = 262_144
"""Characters; no regular expression looks at longer texts."""
PATTERN_SECONDS = 0.05
SLOW_SECONDS = 0.005
"""Of a regular expression that took too long less than ``SLOW_FOR`` seconds ago: events are stored many at once."""
SLOW_FOR = 10.0
LEAST_SECONDS = 0.001
PATTERN = "matches"

log = structlog.get_logger(__name__)

_slow: dict[str, float] = {}
"""Regular expressions that took too long, and until when that is held against them; no more than are configured."""


class Payload:
    """One event's body, parsed only when a route asks for it, and the time that is left for looking at it."""

    def __init__(self, body: bytes, content_type: str = "") -> None:
        self.seconds = PATTERN_SECONDS
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
    pattern = None
    if isinstance(condition, Mapping) and PATTERN in condition and set(condition) <= set(expectations.OPERATORS):
        pattern = condition[PATTERN]
        condition = {"exists": True} | {name: operand for name, operand in condition.items() if name != PATTERN}
    try:
        if expectations.holds(found, value, condition) is not None:
            return False
        return pattern is None or (isinstance(value, str) and _matches(str(pattern), value, payload))
    except (HttpError, TypeError, ValueError, regex.error):
        # An operand that does not go with what stands there: nothing else may be lost for it.
        return False


def _matches(pattern: str, text: str, payload: Payload) -> bool:
    """Whether ``pattern`` is found in ``text``; also when that cannot be known in time."""
    now = time.monotonic()
    seconds = min(payload.seconds, SLOW_SECONDS if now < _slow.get(pattern, 0.0) else PATTERN_SECONDS)
    if len(text) > LONGEST_TEXT or seconds < LEAST_SECONDS:
        return True
    try:
        return regex.search(pattern, text, timeout=seconds) is not None
    except TimeoutError:
        if now >= _slow.get(pattern, 0.0):
            log.warning("a route's regular expression takes too long: its events are sent", pattern=pattern[:100])
        _slow[pattern] = time.monotonic() + SLOW_FOR
        return True
    finally:
        payload.seconds -= time.monotonic() - now


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
