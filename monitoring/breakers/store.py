"""The shared half of the breakers, in PostgreSQL. Every change of a state goes through :func:`_change`.

Times are the database's own clock. Each function is one short transaction on the connection of the thread
that calls; none is called by whoever is being guarded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from monitoring.breakermodels import kind_of
from monitoring.breakers import machine
from monitoring.breakers.machine import Cause, Fold, Mode, Override, State, Trial, Trigger, Window
from monitoring.breakers.policy import Ending, Policy
from monitoring.models import Breaker, BreakerTransition, RecoveryFactor
from monitoring.statuses import settle_services
from wsmon import live

CHANNEL = "wsmon_breakers"
"""Notified with the id of what it guards at each change of a breaker."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the store knows of one breaker, at one moment of its clock."""

    service_id: int
    """A service's or a circuit's: no two of them have the same."""
    name: str
    state: State
    window: Window
    policy: Policy
    factor: float
    """By what open times are multiplied: the critical day's, or the lesser one of its service's own emergency."""
    now: datetime
    label: str = ""
    url: str = ""
    """The page of what it guards; empty for a service, whose page follows from its name."""

    @property
    def kind(self) -> str:
        """What it guards: "service", "destination"."""
        return kind_of(self.name)

    @property
    def due_in(self) -> float | None:
        """Seconds until a trial may be made; None when it is closed."""
        due = machine.due_at(self.state, self.factor)
        return None if due is None else (due - self.now).total_seconds()


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls of one process since its last flush, of one breaker and generation."""

    ok: int = 0
    fail: int = 0
    credential: int = 0
    limited: int = 0
    rejected: int = 0
    retry_after: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to write."""
        return bool(self.ok or self.fail or self.rejected)


# Reading ------------------------------------------------------------------------------------------

_READ = """
SELECT v.id, v.name, v.policy::text, b::text, w.ok, w.fail, w.credential, w.limited, w.retry_at,
    least((SELECT factor FROM monitoring_recoveryfactor),
        (SELECT p.recovery FROM monitoring_posture p WHERE p.service_id = v.id), 1), clock_timestamp(), v.label, v.url
FROM monitoring_guarded v
LEFT JOIN LATERAL (SELECT to_jsonb(c) AS b FROM circuit_breaker_status c WHERE c.service_id = v.id) s ON true
LEFT JOIN LATERAL (
    SELECT sum(ok) AS ok, sum(fail) AS fail, sum(credential) AS credential, sum(limited) AS limited,
        max(retry_at) AS retry_at
    FROM monitoring_breakerslot t
    WHERE t.service_id = v.id AND t.generation = coalesce((b ->> 'generation')::bigint, 0)
      AND t.start > clock_timestamp() - make_interval(secs => coalesce((v.policy ->> 'window')::float8, 10))
) w ON true
WHERE v.archived_at IS NULL AND {condition}
"""


def read(names: Iterable[str] | None = None) -> dict[str, Shared]:
    """The breakers of some services and circuits by name, or of all; those that do not exist are left out."""
    condition = "true" if names is None else "v.name = ANY(%(names)s)"
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(condition=condition), {"names": list(names or ())})
        return {row[1]: _shared(row) for row in cursor.fetchall()}


def _shared(row: Sequence[Any]) -> Shared:
    service_id, name, policy, stored, ok, fail, credential, limited, retry_at, factor, now, label, url = row
    window = Window(int(ok or 0), int(fail or 0), int(credential or 0), int(limited or 0), retry_at)
    return Shared(service_id, name, _state(stored), window, Policy.of(json.loads(policy)), factor, now, label, url)


def _state(stored: str | None) -> State:
    if stored is None:
        return State()
    return state_of(Breaker(**{name: _time(name, value) for name, value in json.loads(stored).items()}))


_TIMES = {"since", "opened_at", "not_before", "forced_at", "forced_until"}


def _time(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name in _TIMES and value is not None else value


def state_of(row: Breaker) -> State:
    """The state that a row holds."""
    override = None
    if row.forced:
        at = row.forced_at or row.since
        assert at is not None  # noqa: S101  written together with `forced`
        override = Override(Mode(row.forced), row.forced_by, row.forced_reason, at, row.forced_until)
    return State(
        mode=Mode(row.state),
        generation=row.generation,
        since=row.since,
        opened_at=row.opened_at,
        openings=row.openings,
        open_for=row.open_for,
        not_before=row.not_before,
        score=row.score,
        successes=row.successes,
        trials=tuple(Trial(one["token"], datetime.fromisoformat(one["until"]), one["by"]) for one in row.trials),
        cause=Cause(row.cause),
        reason=row.reason,
        override=override,
    )


# Counting -----------------------------------------------------------------------------------------

_COUNT_SLOTS = """
INSERT INTO monitoring_breakerslot (service_id, generation, start, ok, fail, credential, limited, retry_at)
SELECT service_id, generation,
    date_bin(make_interval(secs => greatest(slot, 0.001)), coalesce(at, clock_timestamp()), 'epoch'),
    sum(ok), sum(fail), sum(credential), sum(limited),
    max(coalesce(at, clock_timestamp()) + make_interval(secs => retry_after))
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(service_id bigint, generation bigint, slot float8,
    ok int, fail int, credential int, limited int, rejected int, retry_after float8, at timestamptz)
WHERE (ok > 0 OR fail > 0) AND EXISTS (SELECT FROM monitoring_guarded v WHERE v.id = service_id)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (service_id, generation, start) DO UPDATE SET
    ok = monitoring_breakerslot.ok + excluded.ok, fail = monitoring_breakerslot.fail + excluded.fail,
    credential = monitoring_breakerslot.credential + excluded.credential,
    limited = monitoring_breakerslot.limited + excluded.limited,
    retry_at = greatest(monitoring_breakerslot.retry_at, excluded.retry_at)
"""

_COUNT_MINUTES = """
INSERT INTO monitoring_breakerminute (service_id, start, ok, fail, rejected)
SELECT service_id, date_trunc('minute', coalesce(at, clock_timestamp())), sum(ok), sum(fail), sum(rejected)
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(service_id bigint, ok int, fail int, rejected int, at timestamptz)
WHERE EXISTS (SELECT FROM monitoring_guarded v WHERE v.id = service_id)
GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (service_id, start) DO UPDATE SET
    ok = monitoring_breakerminute.ok + excluded.ok, fail = monitoring_breakerminute.fail + excluded.fail,
    rejected = monitoring_breakerminute.rejected + excluded.rejected
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of one breaker, to be added; ``at``: when the calls ended, now if None."""

    service_id: int
    generation: int
    slot_seconds: float
    counts: Counts
    at: datetime | None = None


def count(rows: Sequence[Counted]) -> None:
    """Add what a process counted, in one transaction of two statements whatever the number of breakers."""
    if not rows:
        return
    # In one order, so that two processes that count for the same breakers never wait for each other in a circle.
    ordered = sorted(rows, key=lambda row: row.service_id)
    with transaction.atomic(), connection.cursor() as cursor:
        parameters = {"rows": _as_json(ordered)}
        cursor.execute(_COUNT_SLOTS, parameters)
        cursor.execute(_COUNT_MINUTES, parameters)


def _as_json(rows: Iterable[Counted]) -> str:
    return json.dumps(
        [
            {
                "service_id": row.service_id,
                "generation": row.generation,
                "slot": row.slot_seconds,
                "ok": row.counts.ok,
                "fail": row.counts.fail,
                "credential": row.counts.credential,
                "limited": row.counts.limited,
                "rejected": row.counts.rejected,
                "retry_after": row.counts.retry_after,
                "at": row.at and row.at.isoformat(),
            }
            for row in rows
        ]
    )


# Changing -----------------------------------------------------------------------------------------

Step = Callable[[Shared], State | None]


def open_if_crossed(service_id: int, generation: int) -> Shared | None:
    """Open a closed breaker if the calls of all processes cross its threshold: of many who try, one does."""

    def step(shared: Shared) -> State | None:
        if shared.state.generation != generation:
            return None
        return machine.opened(shared.state, shared.window, shared.state.score, shared.policy, shared.now)

    return _change(service_id, step, Trigger.THRESHOLD)


def add_to_score(service_id: int, generation: int, fold: Fold) -> Shared | None:
    """counting: add a sequence of calls to the score, and open at the threshold."""

    def step(shared: Shared) -> State | None:
        if shared.state.generation != generation:
            return None
        _score, peak = fold.apply(shared.state.score)
        opened = machine.opened(shared.state, shared.window, peak, shared.policy, shared.now)
        return opened or machine.counted(shared.state, fold)

    return _change(service_id, step, Trigger.THRESHOLD)


def admit(service_id: int, token: str, by: str) -> Shared | None:
    """Take a trial's place; None when there is none (then nothing is written)."""
    return _change(
        service_id,
        lambda shared: machine.admitted(shared.state, token, by, shared.policy, shared.factor, shared.now),
        Trigger.TRIAL,
        by,
    )


def renew(service_id: int, token: str) -> None:
    """Lengthen a trial's lease."""
    _change(service_id, lambda shared: machine.renewed(shared.state, token, shared.now), Trigger.TRIAL)


def end_trial(service_id: int, token: str, ending: Ending, by: str = "") -> Shared | None:
    """Tell how a trial ended; None when its token is not known any more."""
    trigger = Trigger.TRIAL_FAILED if ending.failed else Trigger.TRIAL_OK
    return _change(
        service_id,
        lambda shared: machine.ended(shared.state, token, ending, shared.policy, shared.now),
        trigger,
        by,
    )


def sweep(service_id: int) -> Shared | None:
    """Do what time alone does: end an override that is over, reopen when a trial was lost."""

    def step(shared: Shared) -> State | None:
        return machine.released(shared.state, shared.now)

    released = _change(service_id, step, Trigger.RELEASED)
    return released or _change(
        service_id, lambda shared: machine.lapsed(shared.state, shared.policy, shared.now), Trigger.TRIAL_LOST
    )


def force(service_id: int, mode: Mode | None, by: str, reason: str, seconds: float | None) -> Shared | None:
    """Put a person's word above the state, for a time or for good; None takes it away.

    Returns None when there was nothing to take away.
    """

    def step(shared: Shared) -> State | None:
        until = shared.now + timedelta(seconds=seconds) if seconds is not None else None
        override = Override(mode, by, reason, shared.now, until) if mode else None
        return machine.forced(shared.state, override, shared.now)

    return _change(service_id, step, Trigger.FORCED if mode else Trigger.RELEASED, by, reason)


def reset(service_id: int, by: str, reason: str) -> Shared | None:
    """CLOSED, the next generation, nothing forced."""
    return _change(service_id, lambda shared: machine.reset(shared.state, shared.now), Trigger.RESET, by, reason)


def set_recovery_factor(factor: float) -> None:
    """Multiply every open time by ``factor`` (0 to 1), also of breakers that are open already.

    That of one service in an emergency of its own is read from its Posture, see :func:`announce`.
    """
    with transaction.atomic():
        RecoveryFactor.objects.update_or_create(id=1, defaults={"factor": factor})
        _notify("*")
        live.publish("breaker", {"services": []})


def announce(service_id: int, *, listed: bool = True) -> None:
    """Let processes, pages and programs read a breaker anew: its policy or its factor changed, or it came.

    Not ``listed``: it went, or has another name; who knows a list of all reads that.
    """
    _notify(str(service_id))
    live.publish("state", {"services": [service_id]})
    live.publish("breaker", {"services": [service_id] if listed else []})


def _change(service_id: int, step: Step, trigger: Trigger, by: str = "", reason: str = "") -> Shared | None:
    """Lock a breaker, ask ``step`` for its next state, and write it, its log and the service's status.

    Returns what the store then knows, None when the step changed nothing.
    """
    seen = _one(service_id)
    if seen is None or step(seen) is None:
        return None  # without a lock: whoever is refused writes nothing and waits for nobody
    with transaction.atomic():
        Breaker.objects.bulk_create([Breaker(service_id=service_id)], ignore_conflicts=True)
        row = Breaker.objects.select_for_update().get(service_id=service_id)
        shared = _one(service_id)
        new = step(shared) if shared else None
        if shared is None or new is None:
            return None
        _write(row, new)
        if new.generation != shared.state.generation:
            _log(shared, new, trigger, by, reason)
            _tell(shared)
        else:
            _notify(str(service_id))
    window = Window() if new.generation != shared.state.generation else shared.window
    return replace(shared, state=new, window=window)


def _one(service_id: int) -> Shared | None:
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(condition="v.id = %(id)s"), {"id": service_id})
        row = cursor.fetchone()
    return _shared(row) if row else None


def _write(row: Breaker, new: State) -> None:
    override = new.override
    row.state, row.generation, row.since, row.opened_at = new.mode, new.generation, new.since, new.opened_at
    row.openings, row.open_for, row.not_before = new.openings, new.open_for, new.not_before
    row.score, row.successes, row.cause, row.reason = new.score, new.successes, new.cause, new.reason[:500]
    row.trials = [{"token": one.token, "until": one.until.isoformat(), "by": one.by} for one in new.trials]
    row.forced = override.mode if override else ""
    row.forced_by, row.forced_reason = (override.by[:200], override.reason[:500]) if override else ("", "")
    row.forced_at, row.forced_until = (override.at, override.until) if override else (None, None)
    row.save()


def _log(shared: Shared, new: State, trigger: Trigger, by: str, reason: str) -> None:
    BreakerTransition.objects.create(
        at=shared.now,
        service_id=shared.service_id,
        generation=new.generation,
        old=shared.state.mode,
        new=new.mode,
        trigger=trigger,
        by=by[:200],
        cause=new.cause,
        reason=(reason or new.reason)[:500],
        openings=new.openings,
        open_for=new.open_for,
        not_before=new.not_before,
        forced=new.override.mode if new.override else "",
        forced_until=new.override.until if new.override else None,
    )


def _tell(shared: Shared) -> None:
    """Settle the service's status, which a breaker has a say in, and tell processes and pages.

    Of what is no service no status is settled; pages that count breakers are told of it all the same.
    """
    settle_services({shared.service_id: shared.now})
    _notify(str(shared.service_id))
    live.publish("state", {"services": [shared.service_id]})
    live.publish("breaker", {"services": [shared.service_id]})


def _notify(payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
