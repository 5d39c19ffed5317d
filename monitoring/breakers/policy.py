"""What makes a breaker open and close: the two policies with all their parameters, and what a call counts as.

Durations are seconds. Everything here is a plain value: no database, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal

BUCKETS = 10
"""A rolling window is counted in so many buckets."""


class Kind(StrEnum):
    """How one call ended, as a breaker counts it.

    ``credential`` and ``limited`` are failures too, but of our own making: the vendor refused our
    credential, or told us that we call too often. A breaker that opens because of them says so.
    """

    OK = "ok"
    FAIL = "fail"
    CREDENTIAL = "credential"
    LIMITED = "limited"
    NEUTRAL = "neutral"
    """Counted nowhere: an excluded outcome, a cancelled call. A trial that ends so gives its place back."""


FAILURES = (Kind.FAIL, Kind.CREDENTIAL, Kind.LIMITED)


@dataclass(frozen=True, slots=True)
class Ending:
    """How one call ended. ``retry_after``: seconds that the other side asked us to wait."""

    kind: Kind
    retry_after: float | None = None

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure."""
        return self.kind in FAILURES


OK = Ending(Kind.OK)
FAIL = Ending(Kind.FAIL)
NEUTRAL = Ending(Kind.NEUTRAL)

OUR_STATUSES = {401: Kind.CREDENTIAL, 403: Kind.CREDENTIAL, 429: Kind.LIMITED}
TARGET_STATUSES = frozenset({408, 425})
"""4xx that the server sends for its own reasons (RFC 9110, 15.5.9; RFC 8470)."""
LONGEST_RETRY_AFTER = 3600.0
"""Longer waits are taken for a mistake: a trial is made after an hour all the same."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A breaker's parameters, as ``breaker:`` in wsmon.yaml has them."""

    policy: Literal["rolling", "counting"] = "rolling"
    error_threshold: float = 0.5
    """rolling: opens when at least this share of the window's calls failed ..."""
    min_volume: int = 20
    """... and the window holds so many calls."""
    window: float = 10.0
    failure_threshold: int = 5
    """counting: opens when the count of failures, from which each success takes one, gets here."""
    success_threshold: int = 1
    """Trials in a row that must succeed to close it."""
    recovery_timeout: float = 30.0
    """From opening to the first trial; doubled each time it opens again soon ..."""
    recovery_max: float = 300.0
    """... up to here."""
    trials: int = 1
    """Calls let through at a time while HALF_OPEN, over all processes."""
    slow_over: float | None = None
    """Slower calls count as failed."""
    ignore_status: frozenset[int] = field(default_factory=frozenset)
    """HTTP statuses that count neither as failure nor as success, beside the 4xx that are our requests' fault."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Policy:
        """The policy that a service's ``breaker`` column holds: what differs from the defaults."""
        known = {one.name for one in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        if values.get("policy") == "counting":
            values.setdefault("success_threshold", 2)
        values["ignore_status"] = frozenset(values.get("ignore_status", ()))
        return cls(**values)

    @property
    def slot_seconds(self) -> float:
        """Length of one bucket of the window."""
        return self.window / BUCKETS

    def open_for(self, openings: int) -> float:
        """How long it stays open the ``openings``-th time in a row, before the critical day's factor."""
        return float(min(self.recovery_timeout * 2 ** min(openings - 1, 30), self.recovery_max_effective))

    @property
    def recovery_max_effective(self) -> float:
        """The cap, never below the first wait."""
        return max(self.recovery_max, self.recovery_timeout)

    def of_status(self, status: int, retry_after: float | None = None) -> Ending:
        """What an answer with this HTTP status counts as.

        A 4xx is our request's fault (a wrong id, a declined card), so neutral, with the exceptions above.
        """
        if status in self.ignore_status:
            return NEUTRAL
        if status in OUR_STATUSES:
            return Ending(OUR_STATUSES[status], retry_after)
        if status >= 500:
            return Ending(Kind.FAIL, retry_after)
        if 400 <= status < 500:
            return FAIL if status in TARGET_STATUSES else NEUTRAL
        return OK

    def timed(self, ending: Ending, seconds: float) -> Ending:
        """The same, once it is known how long it took: too slow is failed."""
        if ending.kind is Kind.OK and self.slow_over is not None and seconds > self.slow_over:
            return FAIL
        return ending
