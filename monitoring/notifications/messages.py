"""The words of a message. Pure: from an alert and what happened to title and body, and to what is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from monitoring.alertmodels import RANKS, Severity
from monitoring.notifications.routing import What

TITLE_LIMIT = 200
SHORT_LIMIT = 300
"""Characters of an SMS: two parts, and the link."""
LISTED = 10
"""Lines of a gathered message; the others are counted."""
DIGEST, STORM, TEST = "digest", "storm", "test"
"""Kinds of messages besides :class:`What`: gathered by plan, gathered because they were too many, and a trial."""
GATHERED = (DIGEST, STORM)

_BEFORE = {
    What.OPENED: "",
    What.WORSE: "Worse: ",
    What.REMINDER: "Still: ",
    What.ESCALATED: "Nobody has acknowledged: ",
    What.RESOLVED: "Resolved: ",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Story:
    """What is told of an alert."""

    severity: str
    title: str
    detail: str
    service: str
    opened_at: datetime
    resolved_at: datetime | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Message:
    """What a channel sends. ``url`` and ``ack_url`` are absolute, "" for none."""

    id: str
    kind: str
    severity: str
    title: str
    body: str
    url: str = ""
    ack_url: str = ""
    thread: str = ""
    """Messages of one alert have the same."""
    at: datetime | None = None

    @property
    def resolved(self) -> bool:
        """Whether it says that something is over."""
        return self.kind == What.RESOLVED

    @property
    def text(self) -> str:
        """The body with its links, plain."""
        links = [f"{name}: {url}" for name, url in (("Acknowledge", self.ack_url), ("Look at it", self.url)) if url]
        return "\n\n".join(part for part in (self.body, "\n".join(links)) if part)

    @property
    def short(self) -> str:
        """One line for an SMS: severity, title, and the link to acknowledge, or to the page."""
        link = self.ack_url or self.url
        mark = "" if self.resolved else f"{self.severity.upper()} "
        words = _CONTROL.sub(" ", f"{mark}{self.title}").strip()
        room = SHORT_LIMIT - (len(link) + 1 if link else 0)
        words = words if len(words) <= room else words[: max(room - 1, 20)] + "…"
        return f"{words} {link}".strip()


def compose(what: What, story: Story, zone: ZoneInfo) -> tuple[str, str]:
    """Title and body of one message."""
    title = one_line(_BEFORE[what] + story.title)
    lines = [story.detail] if story.detail else []
    facts = [f"Service: {story.service}"] if story.service else []
    if what is What.RESOLVED and story.resolved_at is not None:
        lasted = duration((story.resolved_at - story.opened_at).total_seconds())
        facts.append(f"From {clock(story.opened_at, zone)} to {clock(story.resolved_at, zone)} ({lasted})")
    else:
        facts += [f"Severity: {story.severity}", f"Since {clock(story.opened_at, zone)}"]
    return title, "\n\n".join(["\n".join(lines), "\n".join(facts)] if lines else ["\n".join(facts)])


@dataclass(frozen=True, slots=True)
class Line:
    """One message that is gathered into another."""

    kind: str
    severity: str
    title: str
    at: datetime
    over: bool = False
    """What it tells of is over."""


def gather(lines: Sequence[Line], kind: str, zone: ZoneInfo) -> tuple[str, str, str]:
    """Severity, title and body of the one message that stands for many; the most urgent are named."""
    news = [line for line in lines if line.kind != What.RESOLVED]
    severity = max((line.severity for line in news or lines), key=RANKS.__getitem__)
    title = f"{_counted(lines)}{_worst(news)}"
    shown = sorted(lines, key=lambda line: (-RANKS[line.severity], line.over, line.at))[:LISTED]
    said = [f"{clock(line.at, zone)}  {line.title}{_over(line)}" for line in sorted(shown, key=lambda one: one.at)]
    if len(lines) > len(shown):
        said.append(f"and {len(lines) - len(shown):,} more")
    if kind == STORM:
        said.append("They are too many to be told one by one; the page lists them all.")
    return severity, one_line(title), "\n".join(said)


def _counted(lines: Sequence[Line]) -> str:
    over = sum(line.kind == What.RESOLVED for line in lines)
    news = len(lines) - over
    parts = [f"{news:,} alert{'' if news == 1 else 's'}"] if news else []
    return ", ".join([*parts, *([f"{over:,} resolved"] if over else [])])


def _worst(news: Sequence[Line]) -> str:
    critical = sum(line.severity == Severity.CRITICAL for line in news)
    return f" ({critical:,} critical)" if critical else ""


def _over(line: Line) -> str:
    return " (over)" if line.over and line.kind != What.RESOLVED else ""


def one_line(text: str) -> str:
    """A title: one line that fits its column."""
    cleaned = _CONTROL.sub(" ", text).strip()
    return cleaned if len(cleaned) <= TITLE_LIMIT else cleaned[: TITLE_LIMIT - 1] + "…"


def clock(at: datetime, zone: ZoneInfo) -> str:
    """``28 Nov 06:53 UTC`` in words that need no legend."""
    return f"{at.astimezone(zone):%-d %b %H:%M %Z}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, left = divmod(hours, 24)
    return f"{days} d {left} h" if left else f"{days} d"
