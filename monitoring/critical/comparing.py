"""What a critical day would change: the values of every check, the usual ones beside those in force. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monitoring.critical import effects
from monitoring.critical.effects import MATTERING, Strictness, Values, effective
from monitoring.critical.wording import span

MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class Facts:
    """A check as configured. ``strict`` is what is in force for its service alone; None: what is for all."""

    service: str
    service_label: str
    name: str
    kind: str
    provider: str
    criticality: str
    usual: Values
    recovery: float
    """Seconds for which its service's breaker stays open at first."""
    healthy: bool = True
    strict: Strictness | None = None

    @property
    def matters(self) -> bool:
        """Whether it is watched harder on critical days."""
        return self.criticality in MATTERING


@dataclass(frozen=True, slots=True)
class Line:
    """One policy: what it usually is and what it is then."""

    policy: str
    usual: str
    then: str
    meaning: str = ""

    @property
    def differs(self) -> bool:
        """Whether it is another one then."""
        return self.usual != self.then


@dataclass(frozen=True, slots=True)
class Compared:
    """A check, and how it is made then."""

    facts: Facts
    then: Values

    @property
    def more(self) -> float:
        """Further probes in a minute; negative when there are fewer."""
        return 60 / self.then.interval - 60 / self.facts.usual.interval


@dataclass(frozen=True, slots=True)
class Load:
    """Calls in a minute that a vendor gets."""

    provider: str
    usual: float
    then: float


@dataclass(frozen=True, slots=True)
class Posed:
    """What would be, or is, in force for everything."""

    strict: Strictness
    frozen: bool = False
    read_only: bool = False


def then_of(facts: Facts, posed: Posed) -> Values:
    """The values of one check then."""
    strict = facts.strict or posed.strict
    return effective(facts.usual, strict, facts.criticality, facts.kind, facts.healthy)


def lines(checks: Sequence[Facts], posed: Posed) -> list[Line]:
    """Each policy, as far as there is anything that it holds for."""
    compared = _compared(checks, posed)
    matters = [one for one in compared if one.facts.matters]
    others = [one for one in compared if not one.facts.matters]
    found: list[Line] = []
    if matters:
        found += [_interval("Check interval, critical and high", matters, ""), _timeout(matters), _confirm(matters)]
    if others:
        found.append(_interval("Check interval, normal and low", others, _spared(others)))
    if checks:
        found.append(_recovery(checks, posed))
    return [*found, *_policies(posed)]


def changed(checks: Iterable[Facts], posed: Posed) -> list[Compared]:
    """The checks that are made in another way, those first that are probed more often by most."""
    differing = [one for one in _compared(checks, posed) if one.then != one.facts.usual]
    return sorted(differing, key=lambda one: (-one.more, one.facts.service, one.facts.name))


def loads(checks: Iterable[Facts], posed: Posed) -> list[Load]:
    """What each vendor gets, those first that get more."""
    usual: dict[str, float] = defaultdict(float)
    then: dict[str, float] = defaultdict(float)
    for one in _compared(checks, posed):
        usual[one.facts.provider] += 60 / one.facts.usual.interval
        then[one.facts.provider] += 60 / one.then.interval
    found = [Load(provider, usual[provider], then[provider]) for provider in usual]
    differing = [one for one in found if abs(one.then - one.usual) > 1e-9]
    return sorted(differing, key=lambda one: (one.usual - one.then, one.provider))


def _compared(checks: Iterable[Facts], posed: Posed) -> list[Compared]:
    return [Compared(facts, then_of(facts, posed)) for facts in checks]


def _interval(policy: str, checks: Sequence[Compared], why: str) -> Line:
    now = [one.then.interval for one in checks]
    usual = [one.facts.usual.interval for one in checks]
    words = _rates(now, usual) if now != usual else ""
    return Line(policy, _spans(usual), _spans(now), "; ".join(part for part in (words, why) if part))


def _rates(now: Sequence[float], usual: Sequence[float]) -> str:
    """How many probes there are, both in the unit that suits the lesser number."""
    then, before = (sum(1 / seconds for seconds in intervals) for intervals in (now, usual))
    factor, unit = (1, "s") if min(then, before) >= 1 else (60, "min")
    return f"{then * factor:,.1f} probes/{unit} instead of {before * factor:,.1f}"


def _spared(checks: Sequence[Compared]) -> str:
    names = sorted({one.facts.service_label for one in checks if one.then.interval > one.facts.usual.interval})
    if not names:
        return ""
    return f"saves quota while they are healthy: {_some(names)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _timeout(checks: Sequence[Compared]) -> Line:
    now = [one.then.timeout for one in checks]
    return Line("Probe timeout", _spans([one.facts.usual.timeout for one in checks]), _spans(now))


def _confirm(checks: Sequence[Compared]) -> Line:
    usual = [one.facts.usual.confirm_down for one in checks]
    now = [one.then.confirm_down for one in checks]
    words = f"alert within {effects.ALERT_WITHIN:.0f} s of the first failure" if usual != now else ""
    return Line("Confirm down", _probes(usual), _probes(now), words)


def _recovery(checks: Sequence[Facts], posed: Posed) -> Line:
    services = {one.service: one for one in checks}.values()
    usual = [one.recovery for one in services]
    now = [one.recovery * _recovery_factor(one, posed) for one in services]
    words = "also for breakers already open" if now != usual else ""
    everybodys = posed.strict.factors.recovery
    sooner = sorted(one.service_label for one in services if _recovery_factor(one, posed) < everybodys)
    if sooner:
        words = f"shorter for {_some(sooner)}; {words}"
    return Line("Breaker open time", _spans(usual), _spans(now), words)


def _recovery_factor(facts: Facts, posed: Posed) -> float:
    """The lesser of everybody's and the service's own."""
    own = facts.strict.factors.recovery if facts.strict else 1.0
    return min(posed.strict.factors.recovery, own)


def _policies(posed: Posed) -> list[Line]:
    strict = posed.strict.critical
    emergency = posed.strict.emergency
    step = "all steps at once" if emergency else "step 2" if strict else "step 1"
    return [
        Line(
            "Retries of critical webhooks",
            "as configured",
            "waits halved" if strict else "as configured",
            "up to 10 min; critical first in every lane" if strict else "critical first in every lane",
        ),
        Line("Escalation starts at", "step 1", step),
        Line(
            "Deploys",
            "allowed",
            "frozen" if posed.frozen else "allowed",
            "GET /api/admin/freeze answers 423" if posed.frozen else "",
        ),
        Line(
            "Applications",
            "read and write",
            "asked for read-only" if posed.read_only else "read and write",
            "read_only in GET /api/admin/freeze" if posed.read_only else "",
        ),
    ]


def _spans(values: Sequence[float]) -> str:
    low, high = _short(min(values)), _short(max(values))
    return low if low == high else f"{low} to {high}"


def _short(seconds: float) -> str:
    """In one unit where that says it: "2.5 s", "10 min", "90 s"."""
    if seconds >= 120 and seconds % 60 == 0:
        return span(seconds)
    return f"{seconds:,.3g} s" if seconds < 1000 else span(round(seconds))


def _probes(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    words = f"{low}" if low == high else f"{low} to {high}"
    return f"{words} probe" if high == 1 else f"{words} probes"
