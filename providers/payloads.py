"""What vendors send, read without trust: nothing in here raises, whatever the bytes are.

PostgreSQL's text holds neither NUL nor half a surrogate pair, so no text that comes from here does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit

from providers.details import UNPRINTABLE
from providers.hooks import Found, Inbound
from wsmon.vocabulary import JSON

KEY_LIMIT = 255
TYPE_LIMIT = 200
SUBJECT_LIMIT = 255
UNKNOWN = "unknown"
_FIELDS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


def read_json(body: bytes) -> JSON:
    """The body as JSON in UTF-8; None when it is none (or ``null``).

    Of a repeated name the last one counts, as everywhere in Python.
    """
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, an endless number, too deep
        return None


def read_object(body: bytes) -> dict[str, JSON]:
    """The body as a JSON object; empty when it is none."""
    value = read_json(body)
    return value if isinstance(value, dict) else {}


def compact(value: JSON) -> bytes | None:
    """JSON without spaces, UTF-8; None for what JSON cannot say (Infinity) or what is nested too deeply."""
    try:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except UnicodeEncodeError:  # half a surrogate pair, which UTF-8 has no bytes for
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def read_form(body: bytes) -> list[tuple[str, str]]:
    """The pairs of a form, in order, blanks kept; empty when it is none.

    Bytes that are not UTF-8 become lone surrogates (PEP 383), so that no two forms read alike.
    """
    return _pairs(body.decode("utf-8", "surrogateescape"))


def is_form(inbound: Inbound) -> bool:
    """Whether the request says that its body is a form."""
    content_type = inbound.headers.get("content-type", "").split(";")[0].strip().lower()
    return content_type == "application/x-www-form-urlencoded"


def query(url: str) -> list[tuple[str, str]]:
    """The pairs of a URL's query, in order; empty for what is no URL."""
    try:
        return _pairs(urlsplit(url).query)
    except ValueError:
        return []


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_FIELDS)
    except ValueError:
        return []


def text(value: JSON, limit: int = SUBJECT_LIMIT) -> str:
    """A text, or a whole number as text, in one printable line; "" for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    if not isinstance(value, str):
        return ""
    if value.isascii() and value.isprintable() and " " not in value:
        return value[:limit]
    line = " ".join(UNPRINTABLE.sub(" ", value).split())
    return line[:limit]


def event_type(*parts: JSON) -> str:
    """The parts joined by a dot, as an event's type; ``unknown`` when there are none."""
    return ".".join(filter(None, (text(part, TYPE_LIMIT) for part in parts)))[:TYPE_LIMIT] or UNKNOWN


def digest(body: bytes) -> str:
    """The key of what has no id."""
    return f"sha256:{sha256(body).hexdigest()}"


def event_key(body: bytes, *parts: JSON) -> str:
    """The parts joined by a colon, as an event's key; the body's digest when one of them is missing.

    A key that is too long, or cannot be stored, becomes its digest.
    """
    texts = [str(part) if isinstance(part, str | int) and not isinstance(part, bool) else "" for part in parts]
    if not texts or not all(texts):
        return digest(body)
    key = ":".join(texts)
    if len(key) <= KEY_LIMIT and not UNPRINTABLE.search(key):
        return key
    return digest(key.encode("utf-8", "surrogatepass"))


def from_unix(value: JSON) -> datetime | None:
    """A time in unix seconds: a number, or its digits as text (WhatsApp); None for anything absurd."""
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _plausible(_EPOCH + timedelta(seconds=value)) if 0 < value < 10**10 else None


def from_iso(value: JSON) -> datetime | None:
    """A time in ISO 8601, taken for UTC when it has no zone; None for anything absurd."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return _plausible(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _plausible(moment: datetime) -> datetime | None:
    return moment if _EPOCH < moment < _LATEST else None


def from_any(value: JSON) -> datetime | None:
    """A time in unix seconds or milliseconds, or in ISO 8601."""
    if isinstance(value, str) and re.fullmatch("[0-9]{12,14}", value, re.ASCII):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**11:
        value = value / 1000 if value < 10**14 else None
    return from_unix(value) or from_iso(value)


def unknown(inbound: Inbound, kind: str = UNKNOWN, key: str = "") -> list[Found]:
    """The one event of a request that was verified but is not understood."""
    return [Found(key or digest(inbound.body), kind)]


def rows(value: JSON) -> list[Mapping[str, JSON]]:
    """The objects of a list, whatever else it holds."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
