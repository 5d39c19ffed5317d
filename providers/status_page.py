"""Status page check: what the vendor itself says, by component.

A page that fails, redirects, answers HTML or has no such component tells nothing about the vendor:
the outcome is then ``error``, never ``critical``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from providers.base import Kind, ProbeContext, ProbeOutcome, Provider, StatusPage
from providers.options import Options, Texts, Url
from providers.status_formats import Component, Incident, Maintenance, NotAStatusPage, Report, Word, read
from wsmon.http import Client, HttpError, Response
from wsmon.vocabulary import JSON, Category, Outcome

_LARGEST = 8 * 1_048_576  # Google's archive of incidents is megabytes
_SHOWN = 20
_NOT_MODIFIED = 304
_OUTCOMES = {Word.OPERATIONAL: Outcome.HEALTHY, Word.MAJOR_OUTAGE: Outcome.CRITICAL}


class StatusPageOptions(Options):
    """The options of kind ``status_page``. A vendor's service may leave all of them out."""

    url: Url | None = None
    format: Literal["statuspage", "google", "slack", "apple", "betterstack", "rss", "aws"] | None = None
    components: Texts = ()
    """Only these parts count; a name also stands for those that begin with it."""
    page_id: str | None = Field(default=None, min_length=1, max_length=100)
    """The page's own id, so that a page that moved does not read as healthy."""

    @model_validator(mode="after")
    def _format_of_what(self) -> StatusPageOptions:
        if self.url is None and (self.format or self.page_id):
            raise ValueError("format and page_id need a url")
        return self


@dataclass(frozen=True, slots=True)
class Look:
    """What a page says of the parts that count."""

    report: Report
    components: list[Component]
    incidents: list[Incident]
    maintenances: list[Maintenance]
    etag: str = ""

    @property
    def word(self) -> Word:
        """The worst of what it says of them now; work that is announced counts as such."""
        told = [part.word for part in self.components] + [post.word for post in self.incidents]
        if not told and self.report.overall is not None:
            return self.report.overall
        return max(told, default=Word.OPERATIONAL)


class Unreadable(Exception):
    """The page tells nothing: which says nothing about the vendor."""

    def __init__(self, why: str, category: Category) -> None:
        super().__init__(why)
        self.why = why
        self.category = category


def probe(context: ProbeContext) -> ProbeOutcome:
    """Fetch the page and judge what it says."""
    page = _page(context)
    if page is None:
        message = "this provider has no known status page; set the option url"
        return ProbeOutcome(Outcome.ERROR, Category.CONFIGURATION_ERROR, message)
    try:
        response = context.http.get(page.url, timeout=context.timeout, max_bytes=_LARGEST)
    except HttpError as error:
        message = f"the status page itself cannot be read: {error.message}"
        return ProbeOutcome(Outcome.ERROR, error.category, message, error.timings)
    try:
        report = _read(page, response)
        components, incidents = _selected(report, page.components)
    except Unreadable as problem:
        message = f"the status page itself cannot be read: {problem.why}"
        return ProbeOutcome(Outcome.ERROR, problem.category, message, response.timings, response.status)
    outcome, category, message = judge(report, page.components, components, incidents)
    details: dict[str, JSON] = {
        "components": [{"name": each.name, "status": each.word.text} for each in _worst_first(components)],
        "incidents": [incident.title for incident in incidents[:_SHOWN]],
    }
    return ProbeOutcome(outcome, category, message, response.timings, response.status, details)


def look(http: Client, page: StatusPage, timeout: float, etag: str = "") -> Look | None:
    """Fetch a vendor's page and read what it says of the parts that count; None: the same as ``etag`` was.

    Raises :class:`Unreadable`.
    """
    headers = {"If-None-Match": etag} if etag else {}
    try:
        response = http.get(page.url, headers=headers, timeout=timeout, max_bytes=_LARGEST)
    except HttpError as error:
        raise Unreadable(error.message, error.category) from None
    if response.status == _NOT_MODIFIED and etag:
        return None
    report = _read(page, response)
    components, incidents = _selected(report, page.components)
    works = [each for each in report.maintenances if _is_about(each.components, page.components)]
    return Look(report, components, incidents, works, response.headers.get("etag", "")[:200])


def _is_about(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """What names no part is about all of them."""
    return not parts or not wanted or any(_matches(name, wanted) for name in parts)


def _page(context: ProbeContext) -> StatusPage | None:
    """The page the options name, else the vendor's own; the options may choose other components."""
    options: StatusPageOptions = context.options
    if options.url:
        return StatusPage(options.url, options.format or "statuspage", options.components, options.page_id)
    own = context.provider.status_page_with(context.variables) if context.provider else None
    if own is None:
        return None
    return StatusPage(own.url, own.format, options.components or own.components, own.page_id)


def _read(page: StatusPage, response: Response) -> Report:
    if response.status >= 500:
        raise Unreadable(f"it answered {response.status}", Category.SERVER_ERROR)
    if response.status == 429:
        raise Unreadable("it limits our rate (429)", Category.RATE_LIMITED)
    if response.status != 200:
        what = "redirects" if 300 <= response.status < 400 else "answered"
        raise Unreadable(f"it {what} ({response.status})", Category.VALIDATION_ERROR)
    try:
        report = read(page.format, response)
    except NotAStatusPage as error:
        raise Unreadable(str(error), Category.VALIDATION_ERROR) from None
    if page.page_id and report.page_id and page.page_id != report.page_id:
        raise Unreadable("it is another page than the one configured (page id)", Category.VALIDATION_ERROR)
    return report


def _selected(report: Report, wanted: tuple[str, ...]) -> tuple[list[Component], list[Incident]]:
    """The components and open incidents that count."""
    if not wanted:
        return list(report.components), list(report.incidents)
    incidents = [each for each in report.incidents if any(_matches(name, wanted) for name in each.components)]
    if report.lists_components:
        components = [each for each in report.components if _matches(each.name, wanted)]
        if not components:
            raise Unreadable(f"it lists no component {wanted[0]!r}", Category.VALIDATION_ERROR)
        return components, incidents
    return [Component(name, _worst(name, incidents)) for name in wanted], incidents


def _worst(name: str, incidents: list[Incident]) -> Word:
    about = (each.word for each in incidents if any(_matches(part, (name,)) for part in each.components))
    return max(about, default=Word.OPERATIONAL)


def _matches(name: str, wanted: tuple[str, ...]) -> bool:
    return name.strip().lower().startswith(tuple(each.strip().lower() for each in wanted))


def judge(
    report: Report, wanted: tuple[str, ...], components: list[Component], incidents: list[Incident]
) -> tuple[Outcome, Category | None, str]:
    """Outcome, category and message: the worst chosen component, or without a choice the page's summary."""
    worst = max(components, key=lambda each: each.word, default=None)
    word = worst.word if worst else Word.OPERATIONAL
    if not wanted and report.overall is not None:
        word = report.overall
    if word is Word.OPERATIONAL:
        count = f"all {len(components)} components operational" if len(components) > 1 else "operational"
        return Outcome.HEALTHY, None, count
    about = f"{worst.name}: {word.text}" if worst and worst.word is word else word.text
    title = f" ({incidents[0].title[:120]})" if incidents else ""
    category = None if word is Word.MAINTENANCE else Category.SERVER_ERROR
    return _OUTCOMES.get(word, Outcome.DEGRADED), category, f"the vendor says {about}{title}"


def _worst_first(components: list[Component]) -> list[Component]:
    return sorted(components, key=lambda each: (-each.word, each.name))[:_SHOWN]


PROVIDER = Provider(
    slug="status_page",
    label="Status page",
    kinds={
        "status_page": Kind(
            probe, StatusPageOptions, default_interval=120, default_timeout=10, help="the vendor's own word"
        )
    },
    generic=True,
)
