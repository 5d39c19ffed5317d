"""What a critical day, or an emergency, does to the values that are configured. Pure, but for what is read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from django.db import connection

from wsmon.vocabulary import Criticality

MATTERING = (Criticality.CRITICAL, Criticality.HIGH)
"""Services that are watched harder; the others make room for them."""
EMERGENCY_INTERVAL = 5.0
"""Seconds between probes in an emergency, where they are not closer already."""
SHORTEST_INTERVAL = 1.0
SHORTEST_TIMEOUT = 1.0
LONGEST_SPARED = 600.0
"""Seconds; no check is put off further than this for the sake of quota."""
ALERT_WITHIN = 15.0
"""Seconds from the first failure to the alert, on a critical day."""
CALLS_NOBODY = "heartbeat"
"""A kind of check that costs no quota, since it is only looked at."""


@dataclass(frozen=True, slots=True)
class Factors:
    """What configured values are multiplied by; 1 is a usual day."""

    interval: float = 1.0
    spare: float = 1.0
    """Of the intervals of services that matter less, while they are healthy."""
    timeout: float = 1.0
    confirm: float = 1.0
    recovery: float = 1.0
    """Of the open time of breakers."""


USUAL = Factors()
CRITICAL_DAY = Factors(interval=0.5, spare=3.0, timeout=0.5, confirm=0.5, recovery=0.5)
EMERGENCY = Factors(interval=0.5, spare=1.0, timeout=0.5, confirm=0.0, recovery=0.25)


@dataclass(frozen=True, slots=True)
class Strictness:
    """What is in force for one check's service."""

    factors: Factors = USUAL
    critical: bool = False
    emergency: bool = False


AS_USUAL = Strictness()
ON_A_CRITICAL_DAY = Strictness(CRITICAL_DAY, critical=True)
IN_AN_EMERGENCY = Strictness(EMERGENCY, critical=True, emergency=True)


@dataclass(frozen=True, slots=True)
class Values:
    """How a check is made; durations in seconds. ``hurried``: a failure is confirmed at once, not at the interval."""

    interval: float
    timeout: float
    confirm_down: int
    degraded_over: float | None = None
    hurried: bool = False


def effective(usual: Values, strict: Strictness, criticality: str, kind: str, healthy: bool) -> Values:
    """How a check is made now. What matters is watched harder; what matters less is asked less while healthy.

    A timeout is never cut below the time from which an answer counts as slow, or slow answers would fail.
    """
    if not strict.critical:
        return usual
    if not (strict.emergency or criticality in MATTERING):
        spared = healthy and kind != CALLS_NOBODY
        return replace(usual, interval=_spared(usual.interval, strict.factors.spare)) if spared else usual
    confirm = max(1, int(usual.confirm_down * strict.factors.confirm))
    return replace(
        usual,
        interval=_interval(usual.interval, strict),
        timeout=_timeout(usual, strict.factors.timeout),
        confirm_down=confirm,
        hurried=confirm > 1,
    )


def _spared(interval: float, factor: float) -> float:
    return max(interval, min(interval * factor, LONGEST_SPARED))


def _interval(interval: float, strict: Strictness) -> float:
    shorter = max(interval * strict.factors.interval, min(interval, SHORTEST_INTERVAL))
    return min(shorter, EMERGENCY_INTERVAL) if strict.emergency else shorter


def _timeout(usual: Values, factor: float) -> float:
    least = min(usual.timeout, max(SHORTEST_TIMEOUT, usual.degraded_over or 0.0))
    return max(usual.timeout * factor, least)


# Webhooks ------------------------------------------------------------------------------------------

FRESH_SECONDS = 1.0
RETRY_FACTOR = 0.5

_lock = threading.Lock()
_retry_factor = 1.0
_read_at = float("-inf")


def retry_factor() -> float:
    """What waits between tries of critical-priority webhooks are multiplied by now: 1, or less while it matters.

    Reads the database once a second at most in each process, and raises ``django.db.Error``.
    """
    global _retry_factor, _read_at  # one per process by design
    with _lock:
        if time.monotonic() < _read_at + FRESH_SECONDS:
            return _retry_factor
        with connection.cursor() as cursor:
            cursor.execute("SELECT critical FROM monitoring_posture WHERE service_id IS NULL")
            row = cursor.fetchone()
        _retry_factor, _read_at = (RETRY_FACTOR if row and row[0] else 1.0), time.monotonic()
        return _retry_factor


def forget() -> None:
    """Know nothing (for tests)."""
    global _retry_factor, _read_at
    with _lock:
        _retry_factor, _read_at = 1.0, float("-inf")
