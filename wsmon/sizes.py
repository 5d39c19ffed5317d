"""Sizes as people write them: ``20000``, ``64kB``, ``1MB`` (1,000,000 bytes), ``1MiB`` (1,048,576 bytes)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"": 1, "b": 1, "kb": 1_000, "kib": 1_024, "mb": 1_000_000, "mib": 1_048_576}
_NAMES = {1_048_576: "MiB", 1_000_000: "MB", 1_024: "KiB", 1_000: "kB"}
_TEXT = re.compile(r"(\d{1,12})\s*([a-z]{1,3})", re.ASCII | re.IGNORECASE)
_EXAMPLES = "is not a size such as 20000, 64kB, 1MB"


def parse_size(value: object) -> int:
    """Return bytes. Texts carry their unit; plain whole numbers are bytes. Raise ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(_EXAMPLES)
    return int(match[1]) * _UNITS[match[2].lower()]


def format_size(size: int) -> int | str:
    """The shortest exact way to write so many bytes: 1_048_576 -> "1MiB", 2_000 -> "2kB", 1_500 -> 1500."""
    for unit, name in _NAMES.items():
        if size >= unit and size % unit == 0:
            return f"{size // unit}{name}"
    return size


Size = Annotated[int, BeforeValidator(parse_size)]
"""A pydantic field of bytes that reads ``"1MB"`` and the like."""
