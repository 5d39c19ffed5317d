"""The page of failures: groups with what to do, replays under way, refused requests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring.templatetags.wsmon_ui import clock_text
from providers.hooks import CODES
from webhooks import failures as read
from webhooks import reads
from webhooks.advice import advice
from webhooks.failures import Group, Refused
from webhooks.filters import Filter
from webhooks.models import EventCount
from webhooks.reads import PERIODS, Standing
from webhooks.views.common import may_read
from webhooks.views.lists import PERIOD_LABELS, Choice
from webhooks.vocabulary import DeliveryStatus
from wsmon.asks import is_live

BY_LABELS = {
    "error": "Error and answer",
    "destination": "Destination",
    "service": "Source",
    "error_type": "Error type",
    "response": "Answer",
    "time": "Time",
}
LEAST = ("1", "5", "20")
NAMES_SHOWN = 3
GROUPS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Params:
    """What the page's URL says; unknown values mean the default."""

    by: str = "error"
    period: str = "24h"
    least: int = 1

    @classmethod
    def of(cls, request: HttpRequest) -> Params:
        """Read the request's query."""
        by, period, least = (request.GET.get(name, "") for name in ("by", "period", "min"))
        return cls(
            by if by in read.BY else "error",
            period if period in PERIODS else "24h",
            int(least) if least.isascii() and least.isdigit() and 0 < int(least[:6]) < 100_000 else 1,
        )

    def url(self, **changes: str) -> str:
        """The page's address with changes."""
        told = {"by": self.by, "period": self.period, "min": str(self.least)} | changes
        defaults = {"by": "error", "period": "24h", "min": "1"}
        query = {name: value for name, value in told.items() if value != defaults[name]}
        return reverse("failures") + (f"?{urlencode(query)}" if query else "")


@dataclass(frozen=True)
class GroupView:
    """A group as the page shows it."""

    group: Group
    standing: Standing | None
    since: datetime
    period: str
    is_capped: bool = False
    """Whether it may have more failures than were counted."""

    @property
    def anchor(self) -> str:
        """The start of its elements' ids: the same as long as its failures have the same in common."""
        told = repr(sorted(self.group.common.items(), key=str))
        return f"g-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    @property
    def wanted(self) -> Filter:
        """What finds its failed deliveries."""
        return self.group.filter(self.since)

    @property
    def replay_query(self) -> str:
        """For the address that asks before all of it is replayed."""
        return f"all=1&{self._query}&{_back()}"

    @cached_property
    def _query(self) -> str:
        """The filter; as a time ago where it is one, so that the address stays the same from look to look."""
        wanted = self.wanted
        told = wanted.params()
        if wanted.tried_since == self.since:
            told["tried_since"] = self.period
        if not self.group.failed and self.group.waiting:
            told["status"] = DeliveryStatus.RETRYING
        return urlencode(told)

    @property
    def list_url(self) -> str:
        """The list of its deliveries: the failed ones, or those that wait when none failed."""
        return f"{_list_address()}?{self._query}"

    @property
    def title(self) -> str:
        """What its failures have in common: "500 at app", "timeout at ledger", "14:00 to 15:00"."""
        group, row = self.group, self.group.sample
        answer = str(row.http_status or row.category.removesuffix("_ERROR").replace("_", " ").lower())
        return {
            "error": f"{answer} at {row.destination}",
            "response": f"{answer} at {row.destination}",
            "service": f"from {row.source}",
            "destination": f"at {row.destination}",
            "error_type": _names(group.destination_names),
            "time": f"from {clock_text(group.common['hour'])}" if "hour" in group.common else "",
        }[group.by]

    @property
    def rest(self) -> str:
        """Where the others come from or go to, unless the title says it."""
        group = self.group
        if group.by == "service":
            return f"to {_names(group.destination_names)}"
        if group.by in ("error_type", "time"):
            to = f" to {_names(group.destination_names)}" if group.by == "time" else ""
            return f"from {_names(group.source_names)}{to}"
        return f"from {_names(group.source_names)}"

    @property
    def advice(self) -> str:
        """What to do, by its newest failure."""
        group, row = self.group, self.group.sample
        at = row.destination if len(group.destinations) == 1 else "the destination"
        hold = self.standing.hold if self.standing and len(group.destinations) == 1 else ""
        return advice(
            at, row.category, row.http_status, failed=group.failed, waiting=group.waiting, hold=hold
        )  # fmt: skip

    @property
    def mark(self) -> str:
        """Its colour: failed, tried again, or over."""
        if self.group.failed:
            return "failed"
        return "retrying" if self.group.waiting else "cancelled"

    @property
    def number(self) -> int:
        """The number that counts first."""
        return self.group.failed or self.group.waiting or self.group.replayed

    @property
    def number_word(self) -> str:
        """What that number is of."""
        if self.group.failed:
            return "failed"
        return "waiting" if self.group.waiting else "replayed"

    @property
    def others(self) -> str:
        """The rest of its numbers: "3 more are tried again, 2 were replayed"."""
        parts = []
        if self.group.failed and self.group.waiting:
            parts.append(f"{self.group.waiting:,} more {'is' if self.group.waiting == 1 else 'are'} tried again")
        if self.group.replayed and (self.group.failed or self.group.waiting):
            parts.append(f"{self.group.replayed:,} {'was' if self.group.replayed == 1 else 'were'} replayed since")
        return ", ".join(parts)

    @property
    def replay_label(self) -> str:
        """ "Replay all 4 to ledger…"."""
        to = f" to {self.group.destination_names[0]}" if len(self.group.destination_names) == 1 else ""
        if self.is_capped:
            return f"Replay all{to}…"  # how many is asked for then
        return f"Replay {'it' if self.group.failed == 1 else f'all {self.group.failed:,}'}{to}…"


# Looking for an address by its name takes longer than the rest of a line, and a page has two dozen.
@cache
def _list_address() -> str:
    return reverse("webhooks")


@cache
def _back() -> str:
    return urlencode({"back": reverse("failures")})


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


@require_safe
@may_read
def failures(request: HttpRequest) -> HttpResponse:
    """The page; for htmx its groups alone, for the live script what changes."""
    params = Params.of(request)
    context = _context(params)
    target = "" if request.htmx.history_restore_request else request.htmx.target  # type: ignore[attr-defined]
    if is_live(request):
        return render(request, "webhooks/failures/_live.html", context)
    template = "webhooks/failures/_groups.html" if target == "groups" else "webhooks/failures.html"
    return render(request, template, context)


def _context(params: Params) -> dict[str, Any]:
    since = timezone.now() - PERIODS[params.period]
    waits = reads.waiting()
    standing = reads.standings(reads.destinations(), waits)
    seen = read.look(params.by, PERIODS[params.period], params.least, GROUPS_SHOWN + 1)
    found = [
        GroupView(group, standing.get(group.sample.destination_id), since, params.period, seen.is_capped)
        for group in seen.groups
    ]
    everything = {"all": "1", "status": "failed", "tried_since": params.period, "back": reverse("failures")}
    return {
        "params": params,
        "period": params.period,
        "groups": found[:GROUPS_SHOWN],
        "more_groups": len(found) > GROUPS_SHOWN,
        "is_capped": seen.is_capped,
        "most_counted": read.COUNTED,
        "failed": reads.failed(),
        "failed_here": sum(view.group.failed for view in found),
        "most_failed": reads.FAILED_COUNTED,
        "replay_all": urlencode(everything),
        "held": [one for one in standing.values() if one.hold and one.waiting],
        "capped": reads.WAITING_COUNTED,
        "choices": [
            Choice(f"by-{key}", label, params.url(by=key), key == params.by) for key, label in BY_LABELS.items()
        ],
        "periods": [
            Choice(f"period-{key}", label, params.url(period=key), key == params.period)
            for key, label in PERIOD_LABELS.items()
        ],
        "leasts": [Choice(f"min-{key}", key, params.url(min=key), int(key) == params.least) for key in LEAST],
        "jobs": read.jobs(),
        "refused": [(row, refusal_words(row)) for row in read.refused()],
        "anything": EventCount.objects.exists(),
    }


def refusal_words(row: Refused) -> str:
    """Why, for people."""
    return CODES.get(row.code, row.code.replace("_", " "))
