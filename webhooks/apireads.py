"""What the API answers, read from the database: a fixed number of queries, whatever is asked for."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Max
from django.utils import timezone

from monitoring.histogram import percentile
from webhooks import failures, filters, masking, sealing
from webhooks.counts import BUCKETS, LEVELS, buckets_after
from webhooks.eventmodels import Attempt, Delivery, Event, Refusal
from webhooks.failures import Example, Group
from webhooks.filters import Filter
from webhooks.models import Source
from webhooks.sealing import Content, Exchanged
from webhooks.vocabulary import WAITING, Lane, Priority
from wsmon.secrets import Unresolvable

LENGTHS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
MOST_DELIVERIES = 200
"""Of one event."""
GROUPS = {"fingerprint": "response"}
"""Names of ``failures.BY`` that the API calls otherwise."""

_SUMS = f"""
SELECT source_id, sum(tries), sum(tries_failed), sum(delivered), sum(failed), sum(sum_ms)
FROM webhooks_deliverycount WHERE {BUCKETS} GROUP BY 1
"""  # noqa: S608  of constants only
_BINS = f"""
SELECT source_id, place - 1, sum(number)
FROM webhooks_deliverycount CROSS JOIN unnest(histogram) WITH ORDINALITY AS h(number, place)
WHERE {BUCKETS} AND number > 0 GROUP BY 1, 2
"""  # noqa: S608  of constants only
_UNFINISHED = """
SELECT source_id, status, count(*) FROM webhooks_delivery
WHERE status IN ('pending', 'delivering', 'retrying', 'cancelled')
  AND (status <> 'retrying' OR tried_at >= %(since)s) AND (status <> 'cancelled' OR finished_at >= %(since)s)
GROUP BY 1, 2
"""


class BadCursor(ValueError):
    """The text is no cursor of ours."""


# Health ----------------------------------------------------------------------------------------------


def health(timeframe: str, webhook_type: str = "", status: str = "") -> dict[str, Any]:
    """How deliveries went, by source; of one source or provider, or only where some have ``status``."""
    rows = Source.objects.order_by("slug").values_list("id", "slug", "provider", "archived_at")
    numbers, statuses = _numbers(timeframe)
    services: dict[str, dict[str, Any]] = {}
    for source_id, slug, provider, archived_at in rows:
        found = numbers.get(source_id)
        if webhook_type not in ("", slug, provider) or (archived_at and found is None):
            continue
        if status and not statuses[source_id][status]:
            continue
        services[slug] = found or _rated({}, {}, 0)
    total = sum(one["total"] for one in services.values())
    successful = sum(one["successful"] for one in services.values())
    return {
        "overall_success_rate": successful / total if total else None,
        "total_deliveries": total,
        "failed_deliveries": sum(one["failed"] for one in services.values()),
        "services": services,
        "timeframe": timeframe,
        "last_updated": _last_try(timeframe),
    }


def _numbers(timeframe: str) -> tuple[dict[int, dict[str, Any]], dict[int, Counter[str]]]:
    """By source: what is told of it, and how many deliveries have which status."""
    level, since = LEVELS[timeframe], timezone.now() - LENGTHS[timeframe]
    parameters = buckets_after(since - timedelta(seconds=level.value), level) | {"since": since}
    bins: dict[int, dict[int, int]] = defaultdict(dict)
    statuses: dict[int, Counter[str]] = defaultdict(Counter)
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, parameters)
        sums = {source: row for source, *row in cursor.fetchall()}
        cursor.execute(_BINS, parameters)
        for source, place, number in cursor.fetchall():
            bins[source][place] = int(number)
        cursor.execute(_UNFINISHED, parameters)
        for source, status, number in cursor.fetchall():
            statuses[source][status] = number
    names = ("tries", "tries_failed", "delivered", "failed", "sum_ms")
    found = {}
    for source in {*sums, *statuses}:
        counts = dict(zip(names, sums.get(source, [0] * 5), strict=True))
        statuses[source]["delivered"], statuses[source]["failed"] = counts["delivered"], counts["failed"]
        found[source] = _rated(counts, bins[source], statuses[source]["retrying"])
    return found, statuses


def _rated(counts: Mapping[str, Any], bins: Mapping[int, int], retrying: int) -> dict[str, Any]:
    """A delivery that fails and is tried again counts as not successful: an outage shows while it lasts."""
    tries, delivered, failed = (int(counts.get(name, 0)) for name in ("tries", "delivered", "failed"))
    total = delivered + failed + retrying
    return {
        "total": total,
        "successful": delivered,
        "failed": failed,
        "retrying": retrying,
        "success_rate": delivered / total if total else None,
        "avg_response_time": counts["sum_ms"] / tries if tries else None,
        "p95_response_time": percentile(bins, 0.95),
        "tries": tries,
        "tries_failed": int(counts.get("tries_failed", 0)),
    }


def _last_try(timeframe: str) -> Any:
    """The newest try, of the few deliveries that were made or failed last."""
    latest = Delivery.objects.order_by("-id").values("id")[:200]
    found = Delivery.objects.filter(id__in=latest).aggregate(last=Max("tried_at"))["last"]
    return found if found and found >= timezone.now() - LENGTHS[timeframe] else None


# Failures --------------------------------------------------------------------------------------------


def failure_groups(group_by: str, timeframe: str, least: int) -> dict[str, Any]:
    """Failures in groups, as ``webhooks.failures`` makes them."""
    seen = failures.look(GROUPS.get(group_by, group_by), LENGTHS[timeframe], least)
    return {
        "group_by": group_by,
        "timeframe": timeframe,
        "total_failures": sum(group.count for group in seen.groups),
        "truncated": seen.is_capped,
        "groups": [_group(group_by, group) for group in seen.groups],
    }


def _group(group_by: str, group: Group) -> dict[str, Any]:
    return {
        "key": _key_of(group_by, group),
        "count": group.count,
        "waiting": group.waiting,
        "replayed": group.replayed,
        "first_seen": group.first_at,
        "last_seen": group.last_at,
        "sources": group.source_names,
        "destinations": group.destination_names,
        "examples": [_failed(row) for row in group.examples],
        "trend": group.trend,
    }


def _key_of(group_by: str, group: Group) -> str:
    match group_by:
        case "service":
            return ", ".join(group.source_names)
        case "destination":
            return ", ".join(group.destination_names)
        case "time":
            return str(group.common["hour"].isoformat().replace("+00:00", "Z"))
        case "error_type":
            return group.common["category"] or "UNKNOWN_ERROR"
        case _:
            return str(group.common["fingerprint"])


def _failed(row: Example) -> dict[str, Any]:
    return {
        "delivery": row.id,
        "event": row.event_id,
        "type": row.type,
        "destination": row.destination,
        "message": row.message,
        "tried_at": row.tried_at,
    }


def refusals(cursor: str, limit: int) -> dict[str, Any]:
    """A page of refused requests, newest first; raises :class:`BadCursor`."""
    rows = Refusal.objects.order_by("-id")
    if cursor:
        rows = rows.filter(id__lt=int.from_bytes(_opened(cursor), "big"))
    found = list(rows[: limit + 1])
    return {
        "refusals": [_refusal(row) for row in found[:limit]],
        "next_cursor": _closed(found[limit - 1].id.to_bytes(16, "big")) if len(found) > limit else None,
    }


def _refusal(row: Refusal) -> dict[str, Any]:
    plain = {
        name: getattr(row, name) for name in ("source", "code", "message", "address", "count", "size", "last_at")
    }
    return plain | {"first_at": row.at, "sha256": bytes(row.sha256).hex() if row.sha256 else None}


# Events ----------------------------------------------------------------------------------------------

_PLAIN = (
    *("id", "key", "type", "subject", "message_status"),
    *("occurred_at", "received_at", "size", "duplicates"),
)
_LISTED = (*_PLAIN, "source__slug")
"""What is told of each event of a list."""


def events(wanted: Filter, cursor: str, limit: int) -> dict[str, Any]:
    """A page of events, newest first; raises :class:`BadCursor`."""
    rows = wanted.events()
    if cursor:
        rows = rows.filter(id__lt=uuid.UUID(bytes=_opened(cursor)))
    # As they are, not as models: of two hundred, making those takes longer than all the rest.
    found = list(rows.order_by("-id").values(*_LISTED)[: limit + 1])
    page = found[:limit]
    counts, current = _counts([row["id"] for row in page])
    return {
        "events": [_event(row, current[row["id"]]) | {"deliveries": dict(counts[row["id"]])} for row in page],
        "next_cursor": _closed(page[-1]["id"].bytes) if len(found) > limit else None,
    }


def event(event_id: uuid.UUID) -> dict[str, Any] | None:
    """One event with all that is known of it; None when there is none."""
    found = Event.objects.select_related("source").filter(id=event_id).first()
    if found is None:
        return None
    listed = {name: getattr(found, name) for name in _PLAIN} | {"source__slug": found.source.slug}
    _, current = _counts([event_id])
    rows = list(
        Delivery.objects.filter(event_id=event_id).select_related("destination").order_by("-id")[:MOST_DELIVERIES]
    )
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in Attempt.objects.filter(delivery__in=[row.id for row in rows]).order_by("number", "id"):
        attempts[attempt.delivery_id].append(attempt)
    return (
        _event(listed, current[event_id])
        | _content(found)
        | {
            "address": masking.mask_text(found.address) if found.address else None,
            "sha256": bytes(found.sha256).hex(),
            "verification": found.verification,
            "erased_at": found.erased_at,
            "deliveries": [_delivery(row, attempts[row.id]) for row in rows],
        }
    )


def _counts(ids: Sequence[uuid.UUID]) -> tuple[dict[uuid.UUID, Counter[str]], dict[uuid.UUID, set[str]]]:
    """Of each event: its deliveries by status, and the statuses of the last one at each destination."""
    counts: dict[uuid.UUID, Counter[str]] = defaultdict(Counter)
    last: dict[tuple[uuid.UUID, int], str] = {}
    rows = Delivery.objects.filter(event_id__in=ids).order_by("id")
    for event_id, destination, status in rows.values_list("event_id", "destination_id", "status"):
        counts[event_id][status] += 1
        last[event_id, destination] = status
    current: dict[uuid.UUID, set[str]] = defaultdict(set)
    for (event_id, _destination), status in last.items():
        current[event_id].add(status)
    return counts, current


def _event(row: Mapping[str, Any], statuses: set[str]) -> dict[str, Any]:
    return {name: row[name] for name in _PLAIN} | {
        "source": row["source__slug"],
        "status": filters.worst(statuses),
        "subject": masking.mask_text(row["subject"]),
        "message_status": row["message_status"] or None,
    }


def _content(row: Event) -> dict[str, Any]:
    empty: dict[str, Any] = {"headers": None, "payload": None, "masked": [], "truncated": False}
    content = _unsealed(row)
    if content is None:
        return empty
    kind = next((value for name, value in content.headers if name.lower() == "content-type"), "")
    masked = masking.mask_payload(content.body, kind)
    return {
        "headers": masking.mask_headers(content.headers),
        "payload": masked.text,
        "masked": masked.masked,
        "truncated": masked.truncated,
    }


def _unsealed(row: Event) -> Content | None:
    try:
        return sealing.unseal(bytes(row.sealed)) if row.sealed is not None else None
    except Unresolvable:
        return None


def _delivery(row: Delivery, attempts: Iterable[Attempt]) -> dict[str, Any]:
    return {
        "id": row.id,
        "destination": row.destination.slug,
        "status": row.status,
        "lane": Lane(row.lane).name.lower(),
        "priority": Priority(row.priority).name.lower(),
        "created_at": row.created_at,
        "next_attempt_at": row.due_at if row.status in WAITING else None,
        "finished_at": row.finished_at,
        "tries": row.tries,
        "max_tries": row.max_tries,
        "http_status": row.http_status,
        "error_category": row.category or None,
        "message": masking.mask_text(row.message),
        "response_time": row.total_ms,
        "replay": row.replay_id,
        "replay_of": row.replay_of,
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def _attempt(row: Attempt) -> dict[str, Any]:
    exchanged = _exchanged(row)
    return {
        "number": row.number,
        "at": row.at,
        "ok": row.ok,
        "trial": row.trial,
        "http_status": row.http_status,
        "error_category": row.category or None,
        "message": masking.mask_text(row.message),
        "response_time": row.total_ms,
        "timings": {name: getattr(row, f"{name}_ms") for name in ("dns", "connect", "tls", "first_byte", "total")},
        "request_headers": masking.mask_headers(exchanged.sent) if exchanged else None,
        "response_headers": masking.mask_headers(exchanged.answered) if exchanged else None,
        "response_body": masking.mask_payload(exchanged.body).text if exchanged else None,
        "truncated": exchanged.truncated if exchanged else False,
    }


def _exchanged(row: Attempt) -> Exchanged | None:
    try:
        return sealing.unseal_exchange(bytes(row.sealed)) if row.sealed is not None else None
    except Unresolvable:
        return None


# Cursors ---------------------------------------------------------------------------------------------


def _closed(position: bytes) -> str:
    return base64.urlsafe_b64encode(position).rstrip(b"=").decode()


def _opened(cursor: str) -> bytes:
    try:
        position = base64.b64decode(cursor + "==", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise BadCursor from None
    if len(position) != 16:
        raise BadCursor
    return position
