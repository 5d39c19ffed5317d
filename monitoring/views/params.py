"""What the service page's URL chooses: period, checks of the chart, filters and page of the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.http import HttpRequest, QueryDict
from django.urls import reverse

from monitoring import history
from wsmon.vocabulary import Category

SHOWS = {"all": "All", "unhealthy": "Not healthy", "changes": "State changes"}
DEFAULTS = {"period": "24h", "chart": "", "show": "all", "check": "", "category": "", "before": ""}
LOG_FILTERS = ("check", "category", "before")


@dataclass(frozen=True, slots=True)
class Params:
    """The page's URL. Unknown values mean the default, so no link is ever broken."""

    slug: str
    period: str = "24h"
    chart: str = ""
    show: str = "all"
    check: str = ""
    category: str = ""
    before: str = ""

    @classmethod
    def of(cls, request: HttpRequest, slug: str) -> Params:
        """Read them from a request."""
        get = request.GET.get
        return cls(
            slug,
            period=_one_of(get("period"), history.PERIODS, "24h"),
            chart=(get("chart") or "")[:60],
            show=_one_of(get("show"), SHOWS, "all"),
            check=(get("check") or "").replace("\0", "")[:60],
            category=_one_of(get("category"), list(Category), ""),
            before=(get("before") or "")[:60],
        )

    def url(self, name: str = "service", **changes: str) -> str:
        """The URL of the page, or of one of its fragments, with ``changes``; the log's page is kept or reset.

        A changed filter starts at the newest results.
        """
        filtered = any(key in changes for key in ("show", "check", "category"))
        return (
            reverse(name, args=[self.slug]) + replace(self, **({"before": ""} if filtered else {}) | changes).query()
        )

    def query(self) -> str:
        """The query string; defaults are left out."""
        query = QueryDict(mutable=True)
        query.update(self._told())
        return f"?{query.urlencode()}" if query else ""

    @property
    def kept_by_chart(self) -> list[tuple[str, str]]:
        """What a form that chooses the chart's checks has to send along."""
        return [(name, value) for name, value in self._told().items() if name != "chart"]

    @property
    def kept_by_log(self) -> list[tuple[str, str]]:
        """What a form that filters the log has to send along."""
        return [(name, value) for name, value in self._told().items() if name not in LOG_FILTERS]

    @property
    def is_filtered(self) -> bool:
        """Whether the log shows less than everything."""
        return bool(self.show == "unhealthy" or self.check or self.category)

    @property
    def unfiltered(self) -> str:
        """The page with the whole log."""
        return self.url(show="all", check="", category="")

    def _told(self) -> dict[str, str]:
        return {name: getattr(self, name) for name, value in DEFAULTS.items() if getattr(self, name) != value}


def _one_of(value: str | None, known: Iterable[str], default: str) -> str:
    return value if value is not None and value in set(known) else default


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several links of which one is in force."""

    id: str
    label: str
    href: str
    current: bool
    fragment: str = ""
    count: int | None = None
