"""Is it us? Our own way to the outside: a control target, and how many services fail at once.

When everything fails at once it is hardly everybody else. Then there is one alert, ``own-connectivity``, and the
incidents that look the same tell nobody until it is over. A control target that does not answer proves nothing by
itself: many networks let out what they need and nothing else. Only together with services that cannot be reached
it counts (:func:`is_ours`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

import providers
from monitoring import alerts, storable
from monitoring.models import Alert, CheckState, ControlTarget
from providers.base import NOT_A_CALL
from wsmon.http import HttpError, guarded_connect
from wsmon.net import Guard, is_numeric
from wsmon.vocabulary import Category, Outcome

if TYPE_CHECKING:
    from monitoring.incidents.findings import Found

logger = structlog.get_logger(__name__)

KEY = "own-connectivity"
NETWORK = (Category.NETWORK_ERROR, Category.DNS_ERROR, Category.TIMEOUT_ERROR, Category.TLS_ERROR)
"""Failures in which nobody answered: the way may be broken as well as the end."""

ENOUGH = 3
"""So many must fail together, and nothing else work, before they alone say that it is us."""
MANY = 5
"""The same while the control target answers: then it takes more to believe."""
TOGETHER = 0.5
"""The share of all that must fail along with the control target."""

TIMEOUT = 2.0
EVERY, EVERY_IN_TROUBLE = 60.0, 5.0
FRESH = timedelta(seconds=90)
"""How long a look at the control target holds."""
JUST_NOW = timedelta(minutes=10)
"""Incidents that opened so shortly before are taken for the same trouble."""
_RECENT = timedelta(minutes=5)
_PORT = 443


@dataclass(frozen=True, slots=True)
class Reach:
    """What of the outside can be reached now. ``control``: None when it is not known."""

    control: bool | None
    failing: int
    """Vendors, and services of our own kind, whose latest probe found nobody."""
    working: int
    """Those whose latest probe was answered, whatever the answer was."""
    took_ms: float | None = None


def is_ours(reach: Reach) -> bool:
    """Whether it is our own network, rather than that of all the others at once."""
    if reach.control is None:
        return reach.failing >= ENOUGH and reach.working == 0
    if reach.control:
        return reach.failing >= MANY and reach.working == 0
    known = reach.failing + reach.working
    return reach.failing > 0 and (reach.working == 0 or (reach.failing > 1 and reach.failing >= TOGETHER * known))


def is_network(category: str) -> bool:
    """Whether a failure is one in which nobody answered."""
    return category in NETWORK


# Looking ----------------------------------------------------------------------------------------------


def reach(now: datetime | None = None) -> Reach:
    """What can be reached; two queries."""
    moment = now or timezone.now()
    targets = [row for row in ControlTarget.objects.filter(tried_at__gt=moment - FRESH) if row.address in _targets()]
    control = any(row.reachable for row in targets) if targets else None
    took = min((row.took_ms for row in targets if row.took_ms is not None), default=None)
    failing, working = _counts(moment)
    return Reach(control, failing, working, took)


_LATEST = """
SELECT DISTINCT ON (v.id) v.id, v.provider, c.options ->> 'url', c.options ->> 'host', s.outcome, s.category
FROM monitoring_checkstate s
JOIN monitoring_configuration c ON c.id = s.check_id
JOIN monitoring_service v ON v.id = c.service_id
WHERE c.archived_at IS NULL AND v.archived_at IS NULL AND s.outcome <> '' AND NOT c.kind = ANY(%(no_calls)s)
  AND s.checked_at > %(now)s - greatest(%(recent)s::interval, make_interval(secs => c.interval * 3))
ORDER BY v.id, s.checked_at DESC
"""


def _counts(now: datetime) -> tuple[int, int]:
    """How many ends cannot be reached, and how many can; a vendor counts once. Ours nearby are left out."""
    found: dict[str, bool] = {}
    values: dict[str, Any] = {"no_calls": list(NOT_A_CALL), "now": now, "recent": _RECENT}
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, values)
        for service_id, provider, url, host, outcome, category in cursor.fetchall():
            generic = _is_generic(provider)
            if not (generic and is_near(url or "", host or "")):
                lost = outcome in (Outcome.CRITICAL, Outcome.ERROR) and is_network(category)
                key = f"{provider}:{service_id}" if generic else provider
                found[key] = found.get(key, True) and lost
    failing = sum(found.values())
    return failing, len(found) - failing


def _is_generic(slug: str) -> bool:
    provider = providers.find(slug)
    return provider is not None and provider.generic


def is_near(url: str, host: str = "") -> bool:
    """Whether a check's target is on this host or in our own network: that says nothing of the outside."""
    try:
        name = urlsplit(url if url else f"//{host}").hostname or ""
    except ValueError:
        return False
    if is_numeric(name):
        return Guard().refuses(name) is not None
    return bool(name) and "." not in name.strip(".")


# Acting -----------------------------------------------------------------------------------------------


def in_trouble() -> str:
    """The key of our own alert while it is open; empty when we are fine."""
    return KEY if Alert.objects.filter(key=KEY, resolved_at=None).exists() else ""


def heed(found: Sequence[Found]) -> str:
    """Called before incidents open: raise our own alert when it is us. Returns :func:`in_trouble`."""
    if not any(is_network(one.category) for one in found):
        return ""
    if trouble := in_trouble():
        return trouble
    now = reach()
    return _raise(now) if is_ours(now) else ""


def _raise(found: Reach) -> str:
    control = {True: " The control target answers.", False: " The control target does not answer either."}
    words = f"{found.failing} vendors and services cannot be reached, {found.working} can."
    alerts.raise_alert(
        KEY,
        "own_connectivity",
        "critical",
        "Our own network: nearly everything is out of reach at once",
        words if found.control is None else words + control[found.control],
        "/incidents/",
    )
    # What opened a moment before it was clear. Messages that are out stay out; none follows.
    same = Alert.objects.filter(incident__category__in=NETWORK, resolved_at=None, inhibited_by="")
    same = same.filter(opened_at__gt=timezone.now() - JUST_NOW).order_by("id")
    # In the order in which incidents that close resolve theirs.
    ids = list(same.select_for_update(of=("self",), no_key=True).values_list("id", flat=True))
    Alert.objects.filter(id__in=ids).update(inhibited_by=KEY)
    return KEY


def settle(now: datetime | None = None) -> bool:
    """Raise or resolve our own alert by what can be reached; whether we are in trouble."""
    found = reach(now)
    ours = is_ours(found)
    with transaction.atomic():
        if ours and not in_trouble():
            _raise(found)
        elif not ours:
            alerts.resolve(KEY)
    return ours


_next_look = 0.0


def look(now: datetime | None = None) -> bool:
    """Each few seconds: try the control targets when it is time, and act on it; whether they were tried.

    Opens TCP connections, so never call it in a transaction. A minute apart while all is well.
    """
    global _next_look  # noqa: PLW0603  of this process: others look for themselves
    if time.monotonic() < _next_look and not _is_wanted():
        return False
    _next_look = time.monotonic() + EVERY
    if _targets() and _is_due(now or timezone.now()):
        _store(_try(_targets()), timezone.now())
    settle(now)
    return True


def _is_wanted() -> bool:
    """Whether some probe found nobody, or we are in trouble already."""
    lost = CheckState.objects.filter(outcome__in=(Outcome.CRITICAL, Outcome.ERROR), category__in=NETWORK)
    return lost.filter(check_ref__archived_at=None).exists() or bool(in_trouble())


def _is_due(now: datetime) -> bool:
    """Of several workers one is enough."""
    newest = ControlTarget.objects.order_by("-tried_at").values_list("tried_at", flat=True).first()
    return newest is None or not timedelta(0) <= now - newest < timedelta(seconds=EVERY_IN_TROUBLE - 1)


def _targets() -> list[str]:
    return [text.strip() for text in settings.CONTROL_TARGETS if text.strip()]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one try."""

    address: str
    took_ms: float | None
    problem: str = ""


def _try(addresses: Sequence[str]) -> list[Tried]:
    with ThreadPoolExecutor(len(addresses), "control") as threads:
        return list(threads.map(_connect, addresses))


def _connect(address: str) -> Tried:
    host, _, port = address.rpartition(":") if ":" in address else (address, "", "")
    try:
        opened, timings = guarded_connect(host, int(port or _PORT), TIMEOUT)
    except HttpError as error:
        return Tried(address, None, error.message)
    except ValueError:
        logger.error("WSMON_CONTROL_TARGETS: not host:port", address=address)
        return Tried(address, None, "not host:port")
    with contextlib.suppress(OSError):
        opened.close()
    return Tried(address, timings.total_ms or sum(filter(None, (timings.dns_ms, timings.connect_ms))))


def _store(tried: Iterable[Tried], now: datetime) -> None:
    for one in tried:
        reachable = one.took_ms is not None
        values: dict[str, Any] = {
            "reachable": reachable,
            "took_ms": one.took_ms,
            "problem": storable.text(one.problem, 300),
            "tried_at": now,
        }
        known = ControlTarget.objects.filter(address=one.address[:200]).first()
        if known is None or known.reachable != reachable:
            values["since"] = now
        ControlTarget.objects.update_or_create(address=one.address[:200], defaults=values)
    ControlTarget.objects.exclude(address__in=_targets()).delete()
