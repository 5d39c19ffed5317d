"""What pages and the API show of the breakers: a fixed number of queries, whatever their number."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Sum
from django.utils import timezone

from monitoring.breakermodels import kind_of
from monitoring.breakers import machine, store
from monitoring.breakers.machine import Mode, State
from monitoring.breakers.policy import BUCKETS, Policy
from monitoring.breakers.store import Shared
from monitoring.models import BreakerMinute, BreakerTransition, Guarded

TREND_MINUTES = 60
REJECTED_WITHIN = timedelta(hours=24)
TRANSITIONS = 50


@dataclass(frozen=True, slots=True)
class Bucket:
    """Calls in one tenth of the window, whatever the generation."""

    ok: int
    fail: int


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker as a page or the API shows it."""

    id: int
    """The service's, or the circuit's."""
    slug: str
    label: str
    url: str
    """The page of what it guards; empty for a service, whose page follows from its name."""
    state: State
    policy: Policy
    factor: float
    """The critical day's: 1 on usual days."""
    buckets: list[Bucket]
    """The window, oldest first."""
    trend: list[float | None]
    """Failure rate of each of the last 60 minutes, oldest first; None without calls."""
    rejected: int
    """Calls refused in the last 24 hours, over all processes."""
    now: datetime

    @property
    def kind(self) -> str:
        """What it guards: "service", "destination"."""
        return kind_of(self.slug)

    @property
    def effective(self) -> Mode:
        """What callers meet: the override, or the state below it."""
        return self.state.effective

    @property
    def ok(self) -> int:
        """Calls that succeeded in the window."""
        return sum(bucket.ok for bucket in self.buckets)

    @property
    def fail(self) -> int:
        """Calls that failed in the window."""
        return sum(bucket.fail for bucket in self.buckets)

    @property
    def calls(self) -> int:
        """Calls that ended in the window."""
        return self.ok + self.fail

    @property
    def failure_rate(self) -> float | None:
        """Share of the window's calls that failed, 0..1; None without calls."""
        return self.fail / self.calls if self.calls else None

    @property
    def next_attempt_at(self) -> datetime | None:
        """When a trial may be made, or was allowed from; None in CLOSED and under an override that holds."""
        return None if self.state.override else machine.due_at(self.state, self.factor)

    @property
    def retry_in(self) -> float | None:
        """Seconds until then, not below 0."""
        due = self.next_attempt_at
        return None if due is None else max((due - self.now).total_seconds(), 0.0)

    @property
    def open_seconds(self) -> float:
        """How long it stays open this time, the critical day's factor applied."""
        return self.state.open_for * self.factor

    @property
    def policy_words(self) -> str:
        """ "rolling · 50% of ≥ 20 in 10 s", "counting · 5 failures"."""
        policy = self.policy
        if policy.policy == "counting":
            return f"counting · {policy.failure_threshold} failures"
        return f"rolling · {policy.error_threshold * 100:g}% of ≥ {policy.min_volume} in {policy.window:g} s"


def views(slugs: Collection[str] | None = None) -> list[BreakerView]:
    """The breakers of some services and circuits, or of all: those that let nothing through first, then by name."""
    shared = store.read(slugs)
    ids = [one.service_id for one in shared.values()]
    buckets, trends, rejected = _buckets(ids), _trends(ids), _rejected(ids)
    found = [
        BreakerView(
            id=one.service_id,
            slug=one.name,
            label=one.label or one.name,
            url=one.url,
            state=_present(one),
            policy=one.policy,
            factor=one.factor,
            buckets=buckets[one.service_id],
            trend=trends[one.service_id],
            rejected=rejected.get(one.service_id, 0),
            now=one.now,
        )
        for one in shared.values()
    ]
    order = {Mode.OPEN: 0, Mode.HALF_OPEN: 1, Mode.CLOSED: 2}
    return sorted(found, key=lambda view: (order[view.effective], view.label.lower()))


def view(slug: str) -> BreakerView | None:
    """One breaker, or None when nothing has that name."""
    return next(iter(views([slug])), None)


def _present(shared: Shared) -> State:
    """The state, without an override that is over and that nobody has taken away yet."""
    return machine.released(shared.state, shared.now) or shared.state


_BUCKETS = """
SELECT t.service_id, floor(extract(epoch FROM clock_timestamp() - t.start) / w.slot)::int, sum(t.ok), sum(t.fail)
FROM monitoring_guarded v
CROSS JOIN LATERAL (SELECT coalesce((v.policy ->> 'window')::float8, 10) / %(number)s AS slot) w
JOIN monitoring_breakerslot t ON t.service_id = v.id
    AND t.start > clock_timestamp() - make_interval(secs => w.slot * %(number)s)
WHERE v.id = ANY(%(ids)s) GROUP BY 1, 2
"""


def _buckets(ids: list[int]) -> dict[int, list[Bucket]]:
    found = {service_id: [Bucket(0, 0)] * BUCKETS for service_id in ids}
    with connection.cursor() as cursor:
        cursor.execute(_BUCKETS, {"ids": ids, "number": BUCKETS})
        for service_id, back, ok, fail in cursor:
            if 0 <= back < BUCKETS:
                found[service_id][BUCKETS - 1 - back] = Bucket(int(ok), int(fail))
    return found


def _trends(ids: list[int]) -> dict[int, list[float | None]]:
    found: dict[int, list[float | None]] = {service_id: [None] * TREND_MINUTES for service_id in ids}
    now = timezone.now()
    rows = BreakerMinute.objects.filter(service__in=ids, start__gt=now - timedelta(minutes=TREND_MINUTES))
    for service_id, start, ok, fail in rows.values_list("service_id", "start", "ok", "fail"):
        back = int((now - start).total_seconds() // 60)
        if ok + fail and 0 <= back < TREND_MINUTES:
            found[service_id][TREND_MINUTES - 1 - back] = fail / (ok + fail)
    return found


def _rejected(ids: list[int]) -> dict[int, int]:
    rows = BreakerMinute.objects.filter(service__in=ids, start__gt=timezone.now() - REJECTED_WITHIN, rejected__gt=0)
    return dict(rows.values_list("service_id").annotate(Sum("rejected")))


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the log, and whose it is."""

    row: BreakerTransition
    of: Guarded


def transitions(slug: str | None = None, *, before: int | None = None, limit: int = TRANSITIONS) -> list[Transition]:
    """The newest transitions of one breaker or of all, newest first; ``before``: older than the one of that id."""
    rows = BreakerTransition.objects.order_by("-id")
    if slug is not None:
        rows = rows.filter(service__in=Guarded.objects.filter(slug=slug).order_by().values("id"))
    if before is not None:
        rows = rows.filter(id__lt=before)
    found = list(rows[:limit])
    of = Guarded.objects.in_bulk({row.service_id for row in found})
    return [Transition(row, of[row.service_id]) for row in found if row.service_id in of]


def not_closed() -> int:
    """How many breakers let no call through, for the navigation."""
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT count(*) FROM circuit_breaker_status b JOIN monitoring_guarded v ON v.id = b.service_id
            WHERE v.archived_at IS NULL AND 'CLOSED' <> CASE
                WHEN b.forced <> '' AND (b.forced_until IS NULL OR b.forced_until > now()) THEN b.forced
                ELSE b.state END
        """)
        return int(cursor.fetchone()[0])


# A timeframe --------------------------------------------------------------------------------------


def metrics(found: Sequence[BreakerView], length: timedelta) -> dict[int, dict[str, Any]]:
    """By id: calls, failures, refusals, openings and seconds not closed within a time up to now."""
    now = timezone.now()
    since = now - length
    ids = [one.id for one in found]
    minutes = BreakerMinute.objects.filter(service__in=ids, start__gt=since)
    counted = {row["service_id"]: row for row in _sums(minutes)}
    changes = BreakerTransition.objects.filter(service__in=ids, at__gt=since)
    openings = dict(
        changes.filter(new=Mode.OPEN).exclude(old=Mode.OPEN).values_list("service_id").annotate(Count("id"))
    )
    logs: dict[int, list[tuple[datetime, str, str]]] = defaultdict(list)
    for service_id, at, old, new in changes.order_by("at", "id").values_list("service_id", "at", "old", "new"):
        logs[service_id].append((at, old, new))
    answer = {}
    for one in found:
        sums = counted.get(one.id, {"calls_ok": 0, "calls_fail": 0, "calls_rejected": 0})
        calls = sums["calls_ok"] + sums["calls_fail"]
        answer[one.id] = {
            "calls": calls,
            "failures": sums["calls_fail"],
            "failure_rate": sums["calls_fail"] / calls if calls else None,
            "rejected": sums["calls_rejected"],
            "openings": openings.get(one.id, 0),
            "open_seconds": round(_open_seconds(logs[one.id], one.state.mode, since, now), 3),
        }
    return answer


def _sums(minutes: Any) -> Any:
    return minutes.values("service_id").annotate(
        calls_ok=Sum("ok"), calls_fail=Sum("fail"), calls_rejected=Sum("rejected")
    )


def _open_seconds(log: Sequence[tuple[datetime, str, str]], mode: Mode, since: datetime, now: datetime) -> float:
    """Seconds in which it was not closed between ``since`` and ``now``; ``log`` is (at, old, new), oldest first."""
    edges = [(since, log[0][1] if log else mode), *((at, new) for at, _old, new in log), (now, "")]
    return sum(
        (end - begin).total_seconds()
        for (begin, state), (end, _next) in itertools.pairwise(edges)
        if state != Mode.CLOSED
    )
