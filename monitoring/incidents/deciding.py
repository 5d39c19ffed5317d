"""When an incident opens, gets worse, and closes: pure decisions, no database, no clock.

An incident is of a service, not of a check, so a second check that fails changes nothing but its words. ``error``
(our own fault) opens none; one that is open stays open while the service is in ``error``, for nobody has seen it
recover. A person may resolve an incident while the service still fails: then it stays resolved until the service
was healthy, unless it gets worse than it was when they did.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from monitoring.alertmodels import Severity
from wsmon.vocabulary import Category, Criticality, Status

BADNESS = {Status.HEALTHY: 0, Status.ERROR: 1, Status.DEGRADED: 2, Status.CRITICAL: 3}
"""How bad a status is for the target; one that stands not here was not probed."""

OPENING = (Status.DEGRADED, Status.CRITICAL)
NOT_PROBED = (Status.PAUSED, Status.NOT_CONFIGURED)


class Step(StrEnum):
    """What happens to a service's incident."""

    NOTHING = "nothing"
    OPEN = "open"
    CHANGE = "change"
    """It stays open, and its status is another one."""
    WORSE = "worse"
    """The same, and it was never so bad."""
    CLOSE = "close"
    """The recovery is confirmed."""
    ABANDON = "abandon"
    """Nothing is probed any more, so nobody would see it recover."""
    REOPEN = "reopen"
    """A person resolved it, the service never recovered, and now it is worse."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The incident of a service that is open, or that a person closed since the service was last healthy."""

    status: Status
    worst: Status
    dismissed: bool = False


def next_step(standing: Standing | None, status: Status) -> Step:
    """What follows from a service's new status."""
    if standing is None:
        return Step.OPEN if status in OPENING else Step.NOTHING
    if standing.dismissed:
        worse = status in OPENING and BADNESS[status] > BADNESS.get(standing.status, 0)
        return Step.REOPEN if worse else Step.NOTHING
    if status is Status.HEALTHY:
        return Step.CLOSE
    if status in NOT_PROBED:
        return Step.ABANDON
    if status is Status.UNKNOWN or status is standing.status:
        return Step.NOTHING
    return Step.WORSE if BADNESS[status] > BADNESS.get(standing.worst, 0) else Step.CHANGE


OUTAGE = "outage"
"""As in ``breakers.machine.Cause``, which cannot be imported here: breakers settle statuses, and so incidents."""


def cuts_off(cause: str, forced: str) -> bool:
    """Whether a breaker that is not closed says that the service fails: real calls to it did, and opened it.

    Not when a person holds it open, nor when our credential or our pace is to blame.
    """
    return cause == OUTAGE and not forced


def severity(status: Status, criticality: Criticality, *, cut_off: bool = False) -> Severity:
    """How urgent an incident is. What matters little never wakes anybody: a step lower.

    ``cut_off``: its breaker opened because calls failed (:func:`cuts_off`). Nobody can use it from then on, whatever
    its checks still say; that they will fail too is no news.
    """
    little = criticality is Criticality.LOW
    if status is Status.CRITICAL or (cut_off and status is Status.DEGRADED):
        return Severity.WARNING if little else Severity.CRITICAL
    return Severity.INFO if little else Severity.WARNING


_FAILS = {
    Category.NETWORK_ERROR: "cannot be reached",
    Category.DNS_ERROR: "cannot be found: its name does not resolve",
    Category.TLS_ERROR: "has a certificate that is not accepted",
    Category.TIMEOUT_ERROR: "does not answer in time",
    Category.AUTHENTICATION_ERROR: "refuses our credential",
    Category.RATE_LIMITED: "limits our calls",
    Category.CLIENT_ERROR: "refuses our requests",
    Category.SERVER_ERROR: "answers with errors of its own",
    Category.VALIDATION_ERROR: "answers, but not what is expected",
    Category.CONFIGURATION_ERROR: "cannot be probed as configured",
    Category.BREAKER_OPEN: "is held back by its breaker",
}


_OF_KIND = {"status_page": "says itself that it has trouble", "heartbeat": "did not run as it should"}
"""Where nobody was called: what the only kind of checks that fails found."""


def title(label: str, status: Status, category: str, kinds: Collection[str] = ()) -> str:
    """An incident in one sentence: "Stripe does not answer in time". ``kinds`` are those of the checks that fail."""
    (only,) = kinds if len(kinds) == 1 else ("",)
    if only in _OF_KIND and status is not Status.ERROR:
        return f"{label} {_OF_KIND[only]}"[:200]
    if not category:
        return f"{label} answers slowly" if status is Status.DEGRADED else f"{label} does not work"
    try:
        words = _FAILS.get(Category(category))
    except ValueError:
        words = None
    partly = " at times" if status is Status.DEGRADED and category != Category.BREAKER_OPEN else ""
    return f"{label} {words}{partly}"[:200] if words else f"{label} does not work"
