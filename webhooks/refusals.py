"""Refused requests: counted in memory and written once a second, so that garbage cannot fill the disk.

A kind (minute, source, reason, address) has one row, with the last request's size and hash. Beyond
``KINDS`` of a minute the address is left out, and names that no source has share the name "?".
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection

from providers.hooks import Refused

UNKNOWN = "?"
KINDS = 200
"""Rows of one process in one minute, about; then addresses are left out."""
KEPT = 2_000
"""Kinds that are kept while the database is away; then no new ones."""

Kind = tuple[datetime, str, str, str | None]


@dataclass(slots=True)
class _Seen:
    message: str
    size: int
    sha256: bytes | None
    last_at: datetime
    count: int = 1


@dataclass(slots=True)
class Refusals:
    """What one process refused since it last wrote. Thread-safe."""

    _seen: dict[Kind, _Seen] = field(default_factory=dict)
    _minute: datetime | None = None
    _kinds: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, at: datetime, source: str, refused: Refused, address: str | None, body: bytes, size: int) -> None:
        """Count one; ``size`` is of the whole body, of which ``body`` may be a part."""
        minute = at.replace(second=0, microsecond=0)
        with self._lock:
            if minute != self._minute:
                self._minute, self._kinds = minute, 0
            kind: Kind = (minute, source, refused.code, address)
            if kind not in self._seen:
                if self._kinds >= KINDS:
                    kind = (minute, source, refused.code, None)
                self._kinds += kind not in self._seen
            seen = self._seen.get(kind)
            if seen is None and len(self._seen) >= KEPT:
                return
            digest = hashlib.sha256(body).digest() if len(body) == size else None
            count = seen.count + 1 if seen else 1
            self._seen[kind] = _Seen(_plain(refused.message)[:300], size, digest, at, count)

    def write(self) -> int:
        """Store what was counted; return how many rows. Raises ``django.db.Error``, and then keeps all."""
        with self._lock:
            taken, self._seen = self._seen, {}
        if not taken:
            return 0
        try:
            _write(taken)
        except Exception:
            with self._lock:
                for kind, seen in taken.items():
                    later = self._seen.get(kind)
                    if later is None:
                        self._seen[kind] = seen
                    else:
                        later.count += seen.count
            raise
        return len(taken)


_WRITE = """
INSERT INTO webhooks_refusal (at, source, code, address, message, size, sha256, count, last_at)
SELECT at, source, code, address::inet, message, size, decode(sha256, 'hex'), count, last_at
FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::int[],
    %s::timestamptz[]) AS r(at, source, code, address, message, size, sha256, count, last_at)
ORDER BY at, source, code, address
ON CONFLICT (at, source, code, address) DO UPDATE SET count = webhooks_refusal.count + excluded.count,
    message = excluded.message, size = excluded.size, sha256 = excluded.sha256, last_at = excluded.last_at
"""


def _write(taken: dict[Kind, _Seen]) -> None:
    kinds = list(taken)
    seen = [taken[kind] for kind in kinds]
    columns: list[list[object]] = [[kind[number] for kind in kinds] for number in range(4)]
    columns += [[one.message for one in seen], [one.size for one in seen]]
    columns += [[one.sha256.hex() if one.sha256 else None for one in seen]]
    columns += [[one.count for one in seen], [one.last_at for one in seen]]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, columns)


def _plain(text: str) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


refusals = Refusals()
