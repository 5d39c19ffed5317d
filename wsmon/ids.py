"""Identifiers that sort by time."""

from __future__ import annotations

import os
import time
import uuid


def uuid7(seconds: float | None = None) -> uuid.UUID:
    """A UUID of version 7 (RFC 9562, 5.7): unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000 if seconds is None else int(seconds * 1000)
    number = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=number)


def earliest(seconds: float) -> uuid.UUID:
    """The smallest identifier of a moment: everything made later is greater."""
    return uuid.UUID(int=int(seconds * 1000) << 80 | 0x7 << 76 | 0x2 << 62)
