"""Reconciliation: asks the vendor which events it sent, and fetches in those that never came.

Every ``EVERY`` one process, which holds a lease, asks for the last hours, skips what is known and stores the
rest as if it had arrived: routed and delivered like any other, its verification saying where it is from. What
happened within ``MARGIN`` may still be on its way and waits for the next time.

Stripe lists every event of the account, also types that its endpoint is not subscribed to. So an event is
fetched only if a route of the source wants its type, if its type has come before, or if the source has no
routes at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

import providers
from monitoring import alerts, storable, variables
from providers.base import NotConfigured
from providers.hooks import Found, Missed, Unlisted
from webhooks import catalog, erasing, routing, store
from webhooks.configmodels import Source
from webhooks.eventmodels import Event, EventCount
from webhooks.replaymodels import Reconciliation
from webhooks.sealing import Content
from wsmon.http import HttpError, http_client
from wsmon.redact import redact
from wsmon.secrets import Unresolvable

logger = structlog.get_logger(__name__)

EVERY = timedelta(minutes=10)
LEASE = timedelta(minutes=15)
FIRST = timedelta(hours=24)
AGAIN = timedelta(hours=2)
LONGEST = timedelta(days=7)
"""After a long time without success, so much is asked for at most."""
MARGIN = timedelta(minutes=3)
TIMEOUT = 20.0
"""Seconds, of each request to the vendor."""
AT_ONCE = 100
MOST = 5_000
"""Events fetched in one go; the next goes on."""
FAILURES = 3
"""In a row; then an alert is raised."""
KIND = "webhook_reconciliation"
VERIFICATION = {"scheme": "fetched from the vendor's API"}


def run_due(now: datetime | None = None) -> int:
    """Reconcile every source whose time has come; how many events were fetched. Called each minute."""
    moment = now or timezone.now()
    _ensure(moment)
    fetched = 0
    while (claimed := _claim(moment)) is not None:
        fetched += _reconcile(claimed, moment)
    return fetched


def missed_of(source: Source) -> Missed | None:
    """How the vendor of ``source`` lists its events; None when it does not."""
    try:
        scheme = providers.get(source.provider).hooks
    except providers.UnknownProvider:
        return None
    return scheme.missed if scheme else None


def _ensure(now: datetime) -> None:
    """Every source that is to be reconciled has its row."""
    new = Source.objects.filter(reconcile=True, archived_at=None, reconciliation=None)
    Reconciliation.objects.bulk_create(
        [Reconciliation(source=source, due_at=now) for source in new], ignore_conflicts=True
    )


def _claim(now: datetime) -> Reconciliation | None:
    with transaction.atomic():
        rows = Reconciliation.objects.filter(due_at__lte=now, source__reconcile=True, source__archived_at=None)
        free = rows.exclude(lease_until__gt=now).select_related("source__service").order_by("due_at")
        found = free.select_for_update(of=("self",), skip_locked=True).first()
        if found is not None:
            found.lease_until, found.started_at = now + LEASE, now
            found.due_at = now + EVERY
            found.save(update_fields=["lease_until", "started_at", "due_at"])
    return found


def _reconcile(row: Reconciliation, now: datetime) -> int:
    """One source: ask outside any transaction, store batch by batch. A problem is noted, never raised."""
    fetched, problem = 0, ""
    try:
        for saved in _fetch(row, now):
            fetched += saved
    except (Unlisted, HttpError, Unresolvable) as error:
        problem = str(error)
    except NotConfigured as error:
        problem = f"set {', '.join(error.variables)}"
    except (ValueError, LookupError, TypeError) as error:
        problem = f"the vendor's list could not be read ({type(error).__name__})"
    _settle(row, now, fetched, storable.text(redact(problem), 300))
    return fetched


def _fetch(row: Reconciliation, now: datetime) -> Iterator[int]:
    source = catalog.refresh(0).source(row.source.slug)
    missed = missed_of(row.source)
    if source is None or missed is None:
        raise Unlisted("its vendor has no list of events")
    if source.options is None:
        raise Unlisted(source.problem)
    events = missed(
        http_client(), _variables(row.source), source.options, since(row, now), TIMEOUT, known=_Known(source.id)
    )
    wanted = _Wanted(source)
    chosen = (one for one in events if _is_over(one[0], now) and wanted(one[0].type))
    limited = islice(chosen, MOST)
    while some := list(islice(limited, AT_ONCE)):
        yield _save(source, some, now)


def since(row: Reconciliation, now: datetime) -> datetime:
    """From when on the vendor is asked: two hours back, more after failures, a day the first time."""
    if row.done_at is None:
        return now - FIRST
    return max(now - LONGEST, min(now - AGAIN, row.done_at - MARGIN - EVERY))


def _is_over(found: Found, now: datetime) -> bool:
    return found.occurred_at is None or found.occurred_at <= now - MARGIN


def _variables(source: Source) -> dict[str, str]:
    """The credentials of the service that the source names, else the environment's."""
    provider = providers.get(source.provider)
    service = source.service
    own = service is not None and service.provider == source.provider
    return variables.resolve(provider, variables.credentials_of(service.id) if service is not None and own else "{}")


class _Known:
    """Whether an event of that key came, or came and was erased since."""

    def __init__(self, source_id: int) -> None:
        self.source_id = source_id

    def __call__(self, key: str) -> bool:
        keys = [key, erasing.replacement(key)]
        return Event.objects.filter(source_id=self.source_id, key__in=keys).exists()


class _Wanted:
    """Whether anybody wants events of a type from this source."""

    def __init__(self, source: catalog.Source) -> None:
        self.ways = source.ways
        counts = EventCount.objects.filter(level=EventCount.Level.HOUR, source_id=source.id)
        self.seen = set(counts.values_list("type", flat=True).distinct())

    def __call__(self, type_: str) -> bool:
        if not self.ways or type_ in self.seen:
            return True
        return any(routing.type_matches(way.events, type_) for way in self.ways)


def _save(source: catalog.Source, some: Iterable[tuple[Found, dict[str, str], bytes]], now: datetime) -> int:
    events = [
        store.NewEvent(
            source=source,
            key=found.key,
            type=found.type,
            received_at=now,
            content=Content(list(headers.items()), "", body),
            subject=found.subject,
            status=found.status,
            occurred_at=found.occurred_at,
            verification=dict(VERIFICATION),
            content_type=headers.get("content-type", ""),
        )
        for found, headers, body in some
    ]
    return sum(saved.new for saved in store.save(events))


def _settle(row: Reconciliation, now: datetime, fetched: int, problem: str) -> None:
    failures = row.failures + 1 if problem else 0
    with transaction.atomic():
        Reconciliation.objects.filter(source_id=row.source_id, started_at=now).update(
            lease_until=None,
            done_at=row.done_at if problem else now,
            found=F("found") + fetched,
            last_found=fetched,
            failures=failures,
            problem=problem,
        )
        _alert(row.source, failures, problem)
    if problem:
        logger.warning("reconciliation_failed", source=row.source.slug, problem=problem, failures=failures)
    elif fetched:
        logger.info("reconciliation_fetched", source=row.source.slug, events=fetched)


def _alert(source: Source, failures: int, problem: str) -> None:
    key = f"webhook-reconciliation:{source.slug}"
    if not failures:
        alerts.resolve(key)
    elif failures >= FAILURES:
        title = f"{source.slug} cannot be compared with its vendor's list of events"
        alerts.raise_alert(key, KIND, "warning", title, problem, f"/webhooks/?source={source.slug}", source.service)


def counts() -> Sequence[Reconciliation]:
    """How reconciliation goes, by source, for pages."""
    return list(Reconciliation.objects.filter(source__archived_at=None).select_related("source").order_by("source"))
