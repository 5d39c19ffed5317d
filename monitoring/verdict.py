"""From single outcomes to a confirmed status: pure decisions, no database, no clock.

A check gets worse only when ``confirm_down`` outcomes in a row are worse than its status, and better
only when ``confirm_up`` in a row are better. It then takes the mildest (getting worse) or the harshest
(getting better) of those outcomes, so that what it is said to be was seen that many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from providers.base import ProbeOutcome
from wsmon.vocabulary import Category, Outcome, Status

SEVERITY = {Outcome.HEALTHY: 0, Outcome.DEGRADED: 1, Outcome.ERROR: 2, Outcome.CRITICAL: 3}
LONGEST_CONFIRMATION = 20
"""How many outcomes are remembered: as many as ``confirm_down`` and ``confirm_up`` may ask for."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many outcomes in a row it takes, and from which response time on (ms) one counts as slow."""

    confirm_down: int = 2
    confirm_up: int = 2
    degraded_over_ms: float | None = None
    hurried: bool = False
    """A check that gets worse is probed again at once until that is confirmed, whatever its interval."""

    @classmethod
    def of(cls, confirm_down: int, confirm_up: int, degraded_over: float | None, *, hurried: bool = False) -> Policy:
        """The policy of a check's configuration, whose ``degraded_over`` is in seconds."""
        return cls(confirm_down, confirm_up, None if degraded_over is None else degraded_over * 1000, hurried)


def with_threshold(outcome: ProbeOutcome, policy: Policy) -> ProbeOutcome:
    """Turn a healthy outcome that took too long into a degraded one."""
    limit, took = policy.degraded_over_ms, outcome.timings.total_ms
    if outcome.outcome is not Outcome.HEALTHY or limit is None or took is None or took <= limit:
        return outcome
    slow = f"slow: {took:,.0f} ms, limit {limit:,.0f} ms"
    message = f"{outcome.message}; {slow}" if outcome.message else slow
    return replace(outcome, outcome=Outcome.DEGRADED, message=message)


def remember(recent: Sequence[str], outcome: Outcome) -> list[str]:
    """``recent`` with one more outcome at its end, no longer than any confirmation needs."""
    return [*recent[-(LONGEST_CONFIRMATION - 1) :], outcome.value]


def judge(status: Status, recent: Sequence[str], policy: Policy) -> Status:
    """The status after ``recent`` outcomes (oldest first, the newest included).

    ``unknown``, ``paused`` and ``not_configured`` are left at the first healthy outcome, or when
    ``confirm_down`` outcomes in a row were not healthy.
    """
    severities = [SEVERITY[Outcome(word)] for word in recent]
    if not severities:
        return status
    judged = status.value in SEVERITY
    now = SEVERITY[Outcome(status.value)] if judged else 0
    worse = _run(severities, lambda severity: severity > now)
    if worse >= policy.confirm_down:
        return _status(min(severities[-policy.confirm_down :]))
    if not judged:
        return Status.HEALTHY if severities[-1] == 0 else status
    better = _run(severities, lambda severity: severity < now)
    if better >= policy.confirm_up:
        return _status(max(severities[-policy.confirm_up :]))
    return status


def unconfirmed(status: Status, outcome: Outcome, policy: Policy | None = None) -> bool:
    """Whether confirmation is awaited, so that the check is probed again at once.

    That is so while it has no status yet, and while it gets worse if its policy is in a hurry.
    """
    if status.value not in SEVERITY:
        return outcome is not Outcome.HEALTHY
    return policy is not None and policy.hurried and SEVERITY[outcome] > SEVERITY[Outcome(status.value)]


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """What a service's status is made of."""

    status: Status
    name: str = ""
    message: str = ""
    category: Category | str = ""


@dataclass(frozen=True, slots=True)
class ServiceVerdict:
    """The worst of a service's checks, and why."""

    status: Status
    reason: str = ""
    category: str = ""


def service_status(checks: Iterable[CheckVerdict], breaker: str = "") -> ServiceVerdict:
    """The worst status of the checks that count; paused and not configured ones do not.

    ``breaker`` says why the service's breaker lets no call through; empty when it does. A service whose
    breaker is open is degraded at best: nobody can use it.

    Without any that counts: ``unknown`` if some check is not judged yet, else ``not_configured`` if some
    check lacks a credential, else ``paused`` if some check is paused, else ``unknown``.
    """
    known = list(checks)
    counted = [check for check in known if check.status.value in SEVERITY]
    if counted:
        worst = max(counted, key=lambda check: SEVERITY[Outcome(check.status.value)])
        bad = worst.status is not Status.HEALTHY
        if breaker and not bad:
            return ServiceVerdict(Status.DEGRADED, breaker[:500], Category.BREAKER_OPEN.value)
        reason = f"{worst.name}: {worst.message}" if bad and worst.message else ""
        return ServiceVerdict(worst.status, reason[:500], str(worst.category) if bad else "")
    present = {check.status for check in known}
    for status in (Status.UNKNOWN, Status.NOT_CONFIGURED, Status.PAUSED):
        if status in present:
            return ServiceVerdict(status)
    return ServiceVerdict(Status.UNKNOWN)


def overall_status(healthy: int, counted: int) -> Status:
    """Healthy when more than 80% of the counted services are, degraded when more than 50%, else critical."""
    if not counted:
        return Status.UNKNOWN
    if healthy * 100 > counted * 80:
        return Status.HEALTHY
    return Status.DEGRADED if healthy * 100 > counted * 50 else Status.CRITICAL


def _run(severities: Sequence[int], matches: Callable[[int], bool]) -> int:
    length = 0
    for severity in reversed(severities):
        if not matches(severity):
            break
        length += 1
    return length


def _status(severity: int) -> Status:
    words = {number: word for word, number in SEVERITY.items()}
    return Status(words[severity].value)
