"""What is shown of an answer: safe to store and to read, without secrets that are not ours to show."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from wsmon.http import Response
from wsmon.vocabulary import JSON, Timings

TEXT_LIMIT = 200
LIST_LIMIT = 20
RANDOM_SEGMENT = re.compile(r"(?=[^/]*[0-9A-Z])[A-Za-z0-9_\-]{16,}")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def header_details(response: Response, names: Mapping[str, str], now: datetime) -> dict[str, JSON]:
    """The answer headers worth showing, numbers as numbers and reset times as UTC timestamps."""
    found: dict[str, JSON] = {}
    for header, key in names.items():
        value = response.headers.get(header)
        if value is None:
            continue
        number = int(value) if re.fullmatch(r"\d{1,15}", value) else None
        found[key] = moment(number, now) if key.endswith("_reset") and number is not None else value
        if number is not None and not key.endswith("_reset"):
            found[key] = number
    return found


def moment(seconds: int, now: datetime) -> str:
    """A reset time given either as epoch seconds or as seconds from now, as an ISO timestamp."""
    when = now + timedelta(seconds=min(seconds, 10**9))
    if seconds > 10**9:
        when = datetime.fromtimestamp(min(seconds, 4 * 10**9), UTC)
    return when.isoformat(timespec="seconds")


def retry_after(response: Response, now: datetime) -> dict[str, JSON]:
    """``retry_after`` in seconds, from a number or an HTTP date; empty when the vendor gave none."""
    value = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", value):
        return {"retry_after": int(value)}
    try:
        return {"retry_after": max(0, round((parsedate_to_datetime(value) - now).total_seconds()))}
    except (ValueError, TypeError):
        return {}


def dig(value: JSON, *path: str | int) -> JSON:
    """The value at ``path`` of nested objects and lists, or ``None`` where there is none."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def clip(text: str, limit: int = TEXT_LIMIT) -> str:
    """One printable line of at most ``limit`` characters."""
    line = " ".join(UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean(value: JSON, depth: int = 4) -> JSON:
    """A copy that PostgreSQL's jsonb accepts: short, printable, finite, shallow."""
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) and abs(value) < 10**18 else clip(str(value)[:40])
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {clip(str(key), 60): clean(each, depth - 1) for key, each in list(value.items())[:40]}
    if isinstance(value, list | tuple):
        return [clean(each, depth - 1) for each in value[:LIST_LIMIT]]
    return clip(str(value))


def public_url(url: JSON) -> str | None:
    """A URL fit to be shown: no query, no user, and path segments that look like tokens left out."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{host}{port}{RANDOM_SEGMENT.sub('…', parts.path)}"


def content_type(response: Response) -> str:
    """The media type, for a message; "no body" when there is none."""
    if not response.body:
        return "no body"
    return clip(response.headers.get("Content-Type", "").split(";")[0], 40) or "no content type"


def total(timings: list[Timings]) -> Timings:
    """Several exchanges as one: each phase added up."""
    if len(timings) == 1:
        return timings[0]
    summed = Timings()
    for each in timings:
        for name in ("dns_ms", "connect_ms", "tls_ms", "first_byte_ms", "total_ms"):
            more, sofar = getattr(each, name), getattr(summed, name)
            if more is not None:
                summed = replace(summed, **{name: round((sofar or 0.0) + more, 3)})
    return summed
