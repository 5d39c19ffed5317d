"""Paths into JSON and conditions on what is found there, for ``expect: {json: {...}}``.

A path is ``$`` followed by ``.name``, ``["any name"]`` and ``[0]``; ``[-1]`` counts from the end. A
condition is a value to equal, or a mapping of operators, all of which must hold: ``{gte: 3, lt: 10}``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import regex

from wsmon.http import HttpError
from wsmon.vocabulary import JSON, Category

PATTERN_SECONDS = 1.0
"""How long a person's pattern may look at what a target sends; some patterns need years for some texts."""

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]"'\s]+)"""
    r"""|\[(?P<index>-?\d{1,6})\]"""
    r"""|\[(?P<quote>["'])(?P<quoted>.+?)(?P=quote)\]"""
)
_ABSENT = "is missing"


def check_path(path: str) -> None:
    """Raise ValueError unless ``path`` can be followed."""
    if not path.startswith("$") or len(path) > 300:
        raise ValueError(f"{_short(path)} is not a path such as $.status or $.items[0].name")
    rest = _STEP.sub("", path[1:])
    if rest:
        raise ValueError(f"{_short(path)} has a part that is not understood: {_short(rest)}")


def check_condition(condition: JSON) -> None:
    """Raise ValueError for a mapping that mixes operators with other keys, or has a bad operand."""
    if not isinstance(condition, Mapping) or not set(condition) & set(OPERATORS):
        return
    unknown = sorted(set(condition) - set(OPERATORS))
    if unknown:
        known = ", ".join(OPERATORS)
        raise ValueError(f"{_short(unknown[0])} is not an operator; there are {known}")
    for name, operand in condition.items():
        if name in ("gt", "gte", "lt", "lte") and not _is_number(operand):
            raise ValueError(f"{name} needs a number")
        if name == "in" and not isinstance(operand, list):
            raise ValueError("in needs a list")
        if name == "exists" and not isinstance(operand, bool):
            raise ValueError("exists needs true or false")
        if name == "matches":
            check_pattern(operand)


def check_pattern(text: JSON) -> None:
    """Raise ValueError, saying why, unless ``text`` is a regular expression."""
    try:
        regex.compile(text)
    except (regex.error, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"is not a valid regular expression ({error})") from None


def matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` is found in ``text``; HttpError (our own fault) when that takes too long.

    Not by ``re``, which cannot be interrupted and lets no other thread run meanwhile.
    """
    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        message = f"the regular expression {_short(pattern)} takes too long on this answer: make it simpler"
        raise HttpError(message, Category.CONFIGURATION_ERROR, ours=True) from None


def find(document: JSON, path: str) -> tuple[bool, JSON]:
    """Follow ``path``; return whether there is something, and what."""
    value = document
    for step in _STEP.finditer(path):
        if step["index"] is not None:
            index = int(step["index"])
            if not isinstance(value, list) or not -len(value) <= index < len(value):
                return False, None
            value = value[index]
        else:
            name = step["name"] or step["quoted"]
            if not isinstance(value, dict) or name not in value:
                return False, None
            value = value[name]
    return True, value


def holds(found: bool, value: JSON, condition: JSON) -> str | None:
    """Say how ``value`` fails ``condition`` ("is 3, expected 5"); None when it does not."""
    if not isinstance(condition, Mapping) or not condition or set(condition) - set(OPERATORS):
        if not found:
            return _ABSENT
        return None if _equal(value, condition) else f"is {_short(value)}, expected {_short(condition)}"
    for name, operand in condition.items():
        if name == "exists":
            if found != operand:
                return _ABSENT if operand else "exists, which it should not"
        elif not found:
            return _ABSENT
        elif not OPERATORS[name](value, operand):
            return f"is {_short(value)}, expected {name} {_short(operand)}"
    return None


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: JSON, wanted: JSON) -> bool:
    """Equality that does not take 1 for true."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def _numbers(compare: Callable[[Any, Any], bool]) -> Callable[[JSON, JSON], bool]:
    return lambda value, operand: _is_number(value) and compare(value, operand)


def _contains(value: JSON, operand: JSON) -> bool:
    if isinstance(value, str):
        return isinstance(operand, str) and operand in value
    return isinstance(value, list | dict) and operand in value


OPERATORS: Mapping[str, Callable[[JSON, JSON], bool]] = {
    "eq": _equal,
    "ne": lambda value, operand: not _equal(value, operand),
    "gt": _numbers(operator.gt),
    "gte": _numbers(operator.ge),
    "lt": _numbers(operator.lt),
    "lte": _numbers(operator.le),
    "in": lambda value, operand: any(_equal(value, each) for each in operand),
    "contains": _contains,
    "matches": lambda value, operand: isinstance(value, str) and matches(operand, value),
    "exists": lambda _value, _operand: True,
}


def _short(value: JSON) -> str:
    text = repr(value) if not isinstance(value, bool | None) else str(value).lower().replace("none", "null")
    return text if len(text) <= 60 else text[:57] + "..."
