"""ETags of answers that are looked for again and again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.http import HttpRequest


def tag_of(told: Any) -> str:
    """The same while what is told is: JSON, with whatever else in it as its text."""
    return f'"{hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:32]}"'


def known(request: HttpRequest, tag: str) -> bool:
    """Whether the asker has that answer already (``If-None-Match``), so that 304 says it all."""
    return tag in [one.strip() for one in request.headers.get("If-None-Match", "").split(",")]
