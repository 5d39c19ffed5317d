"""Making what targets and people send fit for PostgreSQL: no NUL, no half characters, no NaN, no excess."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from wsmon.vocabulary import JSON

DETAILS_LIMIT = 8_192
"""Bytes of details kept of one result."""


def text(value: str, limit: int) -> str:
    """``value`` without what PostgreSQL cannot hold, cut to ``limit`` characters."""
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()
    return value.replace("\x00", "")[:limit]


def details(value: Mapping[str, Any]) -> dict[str, JSON]:
    """``value`` as plain JSON that PostgreSQL can hold; only its keys when it is too large."""
    cleaned = {text(str(key), 100): _clean(item) for key, item in value.items()}
    if cleaned and len(json.dumps(cleaned)) > DETAILS_LIMIT:
        return {"too_large": sorted(cleaned)[:50]}
    return cleaned


def _clean(value: Any) -> JSON:
    if isinstance(value, str):
        return text(value, DETAILS_LIMIT)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {text(str(key), 100): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return text(str(value), DETAILS_LIMIT)
