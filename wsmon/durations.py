"""Durations as people write them: ``250ms``, ``5s``, ``2m``, ``1h``, ``1d``, and ``1m30s`` for mixtures."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST = 10 * 365 * 86_400.0
_PART = r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)"
_WHOLE = re.compile(rf"{_PART}(?:\s*{_PART})*", re.ASCII)
_EXAMPLES = "is not a duration such as 250ms, 5s, 2m, 1h"


def parse_duration(value: object) -> float:
    """Return seconds. Texts carry their unit; plain numbers are seconds. Raise ValueError otherwise."""
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} {_EXAMPLES}")  # noqa: TRY004 - pydantic wants ValueErrors
    if not 0 <= value <= _LONGEST:
        raise ValueError(f"{value} {_EXAMPLES}")
    return round(float(value), 6)


def format_duration(seconds: float) -> str:
    """The shortest exact text for ``seconds``: 90 -> "90s", 120 -> "2m", 0.25 -> "250ms"."""
    if seconds and seconds % 1:
        milliseconds = seconds * 1000
        if math.isclose(milliseconds, round(milliseconds), rel_tol=1e-12):
            return f"{round(milliseconds)}ms"
        return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{round(seconds / _UNITS[unit])}{unit}"
    return f"{round(seconds)}s"


def _parse_text(text: str) -> float:
    shown = text if len(text) <= 40 else text[:39] + "…"
    whole = text.strip()
    if not _WHOLE.fullmatch(whole):
        raise ValueError(f'"{shown}" {_EXAMPLES}')
    parts = re.findall(_PART, whole, re.ASCII)
    seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f'"{shown}" {_EXAMPLES}')
    return round(seconds, 6)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"a {type(value).__name__}"


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""A pydantic field of seconds that reads ``"800ms"`` and the like."""
