"""What rules are made of: findings, and what a rule is given to find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.alertrules.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is the case now and that a person should know. One alert for each ``key`` while it lasts."""

    key: str
    kind: str
    severity: str
    title: str
    detail: str = ""
    url: str = ""
    """A page of this site."""
    service: int | None = None
    """The id of the service that it is about."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule knows besides what it reads."""

    now: datetime
    thresholds: Thresholds = field(default_factory=Thresholds)
    open_keys: frozenset[str] = frozenset()
    """Of the rule's kind: what is open ends a little later than it would begin, so that alerts do not flicker."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing to look for. ``look`` reads, decides by a pure function and writes nothing; a few queries."""

    kind: str
    every: float
    """Seconds between looks."""
    look: Callable[[Context], Sequence[Finding]]
    echo: bool = False
    """It looks back over a window, which still holds a service's incident when that is over: then it is but an
    echo of what people were told, see ``inhibition``."""


def number(value: object) -> float | None:
    """A number out of a vendor's details, which may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if abs(found) < 1e15 else None  # no NaN either


def page_of(service: str) -> str:
    """The page of a service, by its slug; without the URLs of the whole site, which a worker does not need."""
    return f"/services/{service}/"


def rate_words(share: float) -> str:
    """A share (0..1) as percent: "2.1%", "0.04%"."""
    percent = share * 100
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"
