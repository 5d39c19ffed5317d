"""The result log of the service page: results or state changes, filtered, in pages by key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from django.conf import settings
from django.db.models import Q

from monitoring import history
from monitoring.models import Check, StateChange
from monitoring.overview import ServiceView
from monitoring.rollups import Counts
from monitoring.views.params import SHOWS, Choice, Params
from monitoring.views.servicechart import UNHEALTHY
from wsmon.vocabulary import Category

PAGE_SIZE = 25


@dataclass(frozen=True, slots=True)
class LogRow:
    """One result with its check's name."""

    result: history.Result
    check: str


class Log:
    """One page of the log. A cursor that none of our pages gave out means the newest page."""

    result_days = settings.RESULT_DAYS
    categories = [category.value for category in Category]

    def __init__(self, service: ServiceView, params: Params) -> None:
        self._service = service
        self._params = params

    @cached_property
    def names(self) -> dict[int, str]:
        """Every check's name by id, archived ones too: they are in the log."""
        return dict(Check.objects.filter(service=self._service.id).order_by("id").values_list("id", "name"))

    @property
    def _ids(self) -> list[int]:
        chosen = [number for number, name in self.names.items() if name == self._params.check]
        return chosen or list(self.names)

    @cached_property
    def _page(self) -> history.ResultPage:
        try:
            return self._read(self._params.before or None)
        except history.BadCursor:
            return self._read(None)

    def _read(self, before: str | None) -> history.ResultPage:
        return history.results(
            self._ids,
            outcomes=UNHEALTHY if self._params.show == "unhealthy" else None,
            categories=[self._params.category] if self._params.category else None,
            before=before,
            limit=PAGE_SIZE,
        )

    @property
    def rows(self) -> list[LogRow]:
        """The results, newest first."""
        return [LogRow(result, self.names.get(result.check_id, "–")) for result in self._page.rows]

    @cached_property
    def _changes(self) -> list[StateChange]:
        found = StateChange.objects.filter(service=self._service.id).select_related("check_ref")
        if self._params.check:
            found = found.filter(check_ref__name=self._params.check)
        if self._params.category:
            found = found.filter(category=self._params.category)
        cursor = _parse(self._params.before)
        if cursor:
            at, number = cursor
            found = found.filter(Q(at__lt=at) | Q(at=at, id__lt=number))
        return list(found.order_by("-at", "-id")[: PAGE_SIZE + 1])

    @property
    def changes(self) -> list[StateChange]:
        """State changes of the service and of its checks, newest first."""
        return self._changes[:PAGE_SIZE]

    @property
    def is_empty(self) -> bool:
        """Whether this page of the log has no row."""
        return not (self._changes if self._params.show == "changes" else self._page.rows)

    @property
    def _next(self) -> str:
        if self._params.show != "changes":
            return self._page.next_cursor or ""
        return _cursor(self._changes[PAGE_SIZE - 1]) if len(self._changes) > PAGE_SIZE else ""

    @property
    def older(self) -> Choice | None:
        """The next older page, if there is one."""
        return self._link("older", "Older results", self._next) if self._next else None

    @property
    def newest(self) -> Choice | None:
        """The newest page, when an older one is shown."""
        return self._link("newest", "Newest results", "") if self._params.before else None

    @property
    def links(self) -> list[Choice]:
        """The links below the log."""
        return [link for link in (self.newest, self.older) if link]

    def _link(self, name: str, label: str, before: str) -> Choice:
        page, fragment = self._params.url(before=before), self._params.url("service-results", before=before)
        return Choice(name, label, page, current=False, fragment=fragment)

    @property
    def refresh_url(self) -> str:
        """What an open page fetches when there are new results; empty on older pages, which never change."""
        return "" if self._params.before else self._params.url("service-results")

    @cached_property
    def _counts(self) -> Counts:
        found = Counts()
        for one in history.counts(self._ids, self._params.period, times=False).values():
            found.add(one)
        return found

    @property
    def total(self) -> str:
        """All results in the period: "9,412"."""
        return f"{self._counts.total:,}"

    @property
    def shows(self) -> list[Choice]:
        """The three views of the log."""
        counts = {"unhealthy": self._counts.total - self._counts.healthy}
        return [
            Choice(
                f"show-{value}",
                label,
                self._params.url(show=value),
                value == self._params.show,
                self._params.url("service-results", show=value),
                counts.get(value),
            )
            for value, label in SHOWS.items()
        ]


def _cursor(change: StateChange) -> str:
    return f"{int(change.at.timestamp() * 1_000_000)}-{change.id}"


def _parse(text: str) -> tuple[datetime, int] | None:
    moment, _, number = text.partition("-")
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(moment)), int(number)
    except (ValueError, OverflowError):
        return None
