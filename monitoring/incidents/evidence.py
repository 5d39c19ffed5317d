"""What points to whom: facts about an incident in, pieces of evidence out. Pure; ``facts`` reads the facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.breakers.machine import Cause
from monitoring.incidents.connectivity import NETWORK, Reach, is_ours
from monitoring.incidents.verdict import Evidence, Side
from monitoring.templatetags.wsmon_ui import clock_text, span_words
from wsmon.vocabulary import Category

PHASES = {"dns": "DNS", "connect": "connect", "tls": "TLS", "first_byte": "first byte"}
ROSE = 2.0
"""A phase that takes so many times as long as before, and ..."""
ROSE_MS = 50.0
"""... so many milliseconds longer, has changed."""
FEW_CALLS = 10
FAILING, WORKING = 0.1, 0.02
"""The share of real calls that fail from which on they fail too, and up to which they work."""
OTHERS = 3
"""So many other vendors that work say that our network does."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What our probes of the failing checks found since it began, and how long their phases took before."""

    total: int = 0
    checks: tuple[str, ...] = ()
    categories: dict[str, int] = field(default_factory=dict)
    http_status: int | None = None
    """The most frequent one of those that failed."""
    now: dict[str, float] = field(default_factory=dict)
    """Median milliseconds by phase, of the results that were not healthy."""
    before: dict[str, float] = field(default_factory=dict)
    """The same of the healthy ones in the hours before."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The service's real calls since it began, by its breaker; probes are left out."""

    ok: int = 0
    failed: int = 0
    cause: str = ""
    """Why the breaker opened, a :class:`~monitoring.breakers.machine.Cause`; empty while it is closed."""
    forced_by: str = ""
    """Who forced it open; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Page:
    """The vendor's own status page. ``indicator`` is empty while it is not known."""

    host: str
    indicator: str
    text: str
    read_at: datetime | None
    admits_after: float | None = None
    """Seconds until it admitted an incident before, on average."""
    admitted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another service of the same vendor."""

    label: str
    healthy: bool
    text: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one incident."""

    began_at: datetime
    category: str
    label: str
    is_vendor: bool
    probes: Probes
    calls: Calls
    reach: Reach
    page: Page | None = None
    siblings: Sequence[Sibling] = ()
    vendor_word: str = ""
    """What a check that reads the vendor's page says, while it is not healthy."""
    late_job: str = ""
    """What a heartbeat's check says, while it is not healthy."""
    elsewhere: Sequence[Evidence] = ()
    """What other rooms know."""


def gather(facts: Facts) -> list[Evidence]:
    """Every piece of evidence that the facts give."""
    found = [*_probes(facts), *_calls(facts), *facts.elsewhere, *_control(facts), *_page(facts), *_siblings(facts)]
    return [piece for piece in found if piece.text]


# Our probes -------------------------------------------------------------------------------------------

# How much more often a failure of this kind is the side's fault than the other's.
_BY_CATEGORY: dict[str, tuple[Side, float, str]] = {
    Category.SERVER_ERROR: (Side.THEM, 2.0, "they answer with an error of their own"),
    Category.VALIDATION_ERROR: (Side.THEM, 0.7, "they answer, but not what they used to"),
    Category.TLS_ERROR: (Side.THEM, 1.1, "their certificate is not accepted"),
    Category.TIMEOUT_ERROR: (Side.THEM, 0.4, "they do not answer in time"),
    Category.NETWORK_ERROR: (Side.THEM, 0.4, "the connection is refused or breaks off"),
    Category.DNS_ERROR: (Side.UNCLEAR, 0.0, "the name does not resolve: their zone or our resolver"),
    Category.AUTHENTICATION_ERROR: (Side.US, 2.3, "they answer, and refuse our credential"),
    Category.CLIENT_ERROR: (Side.US, 1.6, "they answer, and refuse our request"),
    Category.RATE_LIMITED: (Side.US, 1.1, "we call more often than they allow"),
    Category.CONFIGURATION_ERROR: (Side.US, 2.3, "our configuration is at fault"),
    Category.UNKNOWN_ERROR: (Side.US, 1.6, "wsmon itself failed to probe"),
}


def _probes(facts: Facts) -> Iterator[Evidence]:
    probes = facts.probes
    names = ", ".join(probes.checks[:4])
    sub = f"{probes.total:,} probe{'' if probes.total == 1 else 's'} since {clock_text(facts.began_at)}"
    sub += f", {names}" if names else ""
    if probes.categories:
        category = max(probes.categories, key=lambda name: probes.categories[name])
        side, weight, words = _BY_CATEGORY.get(category, (Side.UNCLEAR, 0.0, "they failed"))
        answer = f" ({probes.http_status})" if probes.http_status and category not in NETWORK else ""
        share = f", {probes.categories[category]:,} of {probes.total:,}" if probes.total else ""
        yield Evidence("probes", side, weight, "Our probes", f"{words}{answer}{share}", sub)
    elif probes.now:
        yield _phases(probes, sub)
    if facts.late_job:
        yield Evidence("job", Side.US, 1.1, "The job", facts.late_job, "it calls wsmon, not the other way round")


# Where the time goes: a server that thinks is theirs, a name that takes long is rather ours.
_SLOW = {
    "first_byte": (Side.THEM, 1.6),
    "tls": (Side.THEM, 0.7),
    "connect": (Side.UNCLEAR, 0.0),
    "dns": (Side.US, 0.7),
}


def _phases(probes: Probes, sub: str) -> Evidence:
    rose = [name for name in PHASES if has_risen(probes.now.get(name), probes.before.get(name))]
    if not rose:
        return Evidence("probes", Side.UNCLEAR, 0.0, "Our probes", "slow, and no phase of it stands out", sub)
    worst = max(rose, key=lambda name: probes.now[name] - probes.before.get(name, 0.0))
    side, weight = _SLOW[worst]
    before = probes.before.get(worst)
    text = f"{PHASES[worst]} {_ms(probes.now[worst])}" + (f", was {_ms(before)}" if before is not None else "")
    same = [PHASES[name] for name in PHASES if name not in rose and name in probes.now and name in probes.before]
    text += f"; {_and(same)} unchanged" if same else ""
    return Evidence("probes", side, weight, "Our probes", text, sub)


def has_risen(now: float | None, before: float | None) -> bool:
    """Whether a phase takes notably longer than before."""
    if now is None:
        return False
    return now - (before or 0.0) >= ROSE_MS and now >= ROSE * (before or 0.0)


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:,.0f} ms"


def _and(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""


# Our real calls ---------------------------------------------------------------------------------------


def _calls(facts: Facts) -> Iterator[Evidence]:
    calls, title = facts.calls, "Our real calls"
    total = calls.ok + calls.failed
    if calls.forced_by:
        text = f"{calls.forced_by} forced its breaker open"
        yield Evidence("calls", Side.US, 2.3 if facts.category == Category.BREAKER_OPEN else 0.0, title, text)
        return
    if calls.cause == Cause.CREDENTIAL:
        yield Evidence("calls", Side.US, 1.6, title, "its breaker opened because our credential is refused")
        return
    if calls.cause == Cause.RATE_LIMIT:
        yield Evidence("calls", Side.US, 1.1, title, "its breaker opened because we call too often")
        return
    if total < FEW_CALLS:
        return
    share = calls.failed / total
    sub = f"breaker, {total:,} calls since {clock_text(facts.began_at)}"
    if share >= FAILING:
        yield Evidence("calls", Side.THEM, 1.1, title, f"{share:.0%} fail", sub)
    elif share <= WORKING:
        yield Evidence("calls", Side.US, 0.7, title, f"{1 - share:.0%} succeed, so it may be how we probe", sub)
    else:
        yield Evidence("calls", Side.UNCLEAR, 0.0, title, f"{share:.0%} fail", sub)


# Our own network --------------------------------------------------------------------------------------


def _control(facts: Facts) -> Iterator[Evidence]:
    reach, title = facts.reach, "Control target"
    known = {True: f"reachable in {_ms(reach.took_ms or 0)}", False: "does not answer"}
    text = "not known" if reach.control is None else known[reach.control]
    others = f"{reach.working} of our other services reachable"
    if is_ours(reach):
        sub = f"{reach.failing} vendors and services fail at once: hardly all of them"
        yield Evidence("control", Side.US, 3.0, title, text, sub)
    elif reach.control is None and reach.working < OTHERS:
        return
    elif reach.control is False and reach.working < OTHERS:
        yield Evidence("control", Side.US, 1.1, title, text, others)
    elif reach.control is False:
        yield Evidence("control", Side.UNCLEAR, 0.0, title, f"{text}, yet {others}", "it may be closed to us")
    else:
        text = others if reach.control is None else f"{text}, {others}"
        yield _works(facts, title if reach.control else "Other services", text)


def _works(facts: Facts, title: str, text: str) -> Evidence:
    """Our network works, which says much when nobody answers, and nothing when they refuse us."""
    sub = "so our network works"
    if facts.category in NETWORK:
        return Evidence("control", Side.THEM, 1.6, title, text, sub)
    if not facts.category or facts.category == Category.SERVER_ERROR:
        return Evidence("control", Side.THEM, 0.4, title, text, sub)
    return Evidence("control", Side.UNCLEAR, 0.0, title, text, f"{sub}, which was not the question")


# The vendor's own word, and its other services ----------------------------------------------------------

_INDICATORS = {"minor": 1.6, "major": 2.3, "critical": 2.6}


def _page(facts: Facts) -> Iterator[Evidence]:
    page, title = facts.page, "Vendor’s own page"
    if facts.vendor_word and (page is None or page.indicator not in _INDICATORS):
        yield Evidence("page", Side.THEM, 1.6, title, facts.vendor_word, "read by a check of this service")
        return
    if page is None:
        return
    read = f"{page.host}, read {clock_text(page.read_at)}" if page.read_at else page.host
    said = f"“{page.text}”" if page.text else "says nothing"
    if page.indicator in _INDICATORS:
        yield Evidence("page", Side.THEM, _INDICATORS[page.indicator], title, said, read, f"https://{page.host}/")
    elif page.admitted_at is not None:
        after = span_words((page.admitted_at - facts.began_at).total_seconds())
        yield Evidence("page", Side.THEM, 1.6, title, f"admitted it after {after}", read, f"https://{page.host}/")
    elif page.indicator == "none":
        little = "counts little: it says so late"
        if page.admits_after is not None:
            little = f"counts little: admits after {span_words(page.admits_after)} on average"
        yield Evidence("page", Side.US, 0.4, title, said, f"{read}; {little}", f"https://{page.host}/")
    else:
        yield Evidence("page", Side.UNCLEAR, 0.0, title, "cannot be read", read, f"https://{page.host}/")


def _siblings(facts: Facts) -> Iterator[Evidence]:
    for sibling in facts.siblings:
        if sibling.healthy:
            text = f"{sibling.label}, same vendor, works"
            yield Evidence("sibling", Side.UNCLEAR, 0.0, "Same vendor", text, sibling.text, sibling.url)
        else:
            text = f"{sibling.label} fails too"
            yield Evidence("sibling", Side.THEM, 0.7, "Same vendor", text, sibling.text, sibling.url)
