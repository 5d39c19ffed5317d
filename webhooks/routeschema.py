"""What may stand under ``routes:`` of wsmon.yaml, and in the admin's form for a route: one judge for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitoring.schema import Slug
from providers.expectations import check_condition, check_path
from webhooks.vocabulary import Priority
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.schema import check, wrong_mapping
from wsmon.vocabulary import JSON

EVERYTHING = ("*",)
PRIORITIES = {word.name.lower(): word for word in Priority}
_MOST_FILTERS = 20
_LONGEST_CONDITION = 100
_LARGEST_FILTERS = 20_000


def _pattern(value: str) -> str:
    if not value or len(value) > 200 or not value.isprintable() or " " in value:
        raise ValueError("is not a pattern of event types such as invoice.*, at most 200 characters")
    return value


class RouteEntry(BaseModel):
    """The keys of a route; ``filters`` are judged one by one."""

    model_config = ConfigDict(extra="forbid")

    source: Slug
    destination: Slug | None = None
    destinations: Annotated[list[Slug], Field(min_length=1, max_length=50)] | None = None
    events: Annotated[list[Annotated[str, AfterValidator(_pattern)]], Field(min_length=1, max_length=100)] = ["*"]
    filters: Any = None
    priority: str = "normal"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route as wished for, to one destination; ``path`` leads to that destination's name in the file."""

    source: str
    destination: str
    events: tuple[str, ...] = EVERYTHING
    filters: Mapping[str, JSON] = field(default_factory=dict)
    priority: int = Priority.NORMAL
    path: tuple[str | int, ...] = ("destination",)

    @property
    def selection(self) -> tuple[frozenset[str], str]:
        """Which events: equal for routes that select the same."""
        return selection_of(self.events, self.filters)


def selection_of(events: Sequence[str], filters: Mapping[str, JSON]) -> tuple[frozenset[str], str]:
    """Which events of a source, whatever the order in which it was written; no events are all of them."""
    return frozenset(events or EVERYTHING), repr(_sorted(filters))


def priority_word(priority: int) -> str:
    """``critical``, ``high``, ``normal`` or ``low``."""
    return Priority(priority).name.lower()


def read_route(data: Any) -> tuple[list[RouteSpec], list[Finding]]:
    """Judge one entry; a spec for each of its destinations, or none when anything is wrong."""
    if not isinstance(data, Mapping):
        return [], [Finding((), wrong_mapping(data))]
    entry, findings = check(RouteEntry, data)
    findings += _whereto(data)
    word = data.get("priority")
    if isinstance(word, str) and word not in PRIORITIES:
        findings.append(Finding(("priority",), not_one_of(word, PRIORITIES, "a priority")))
    filters, found = read_filters(data.get("filters"))
    findings += found
    if findings or entry is None:
        return [], findings
    targets: list[tuple[str, tuple[str | int, ...]]] = [
        (name, ("destinations", index)) for index, name in enumerate(entry.destinations or ())
    ]
    if entry.destination is not None:
        targets = [(entry.destination, ("destination",))]
    events = tuple(dict.fromkeys(entry.events))
    priority = PRIORITIES[entry.priority]
    return [RouteSpec(entry.source, name, events, filters, priority, path) for name, path in targets], []


def read_filters(data: Any) -> tuple[dict[str, JSON], list[Finding]]:
    """Judge conditions on the payload: a path -> a value, a list of values, or operators such as ``{gte: 5}``."""
    if data is None:
        return {}, []
    if not isinstance(data, Mapping):
        return {}, [Finding(("filters",), wrong_mapping(data))]
    findings = [
        Finding(("filters", path), message) for path, condition in data.items() if (message := _flaw(path, condition))
    ]
    if len(data) > _MOST_FILTERS or len(repr(data)) > _LARGEST_FILTERS:
        findings.append(Finding(("filters",), f"is too much: at most {_MOST_FILTERS} short conditions"))
    return ({} if findings else dict(data)), findings


def _flaw(path: str, condition: JSON) -> str | None:
    try:
        check_path(path)
        check_condition(condition)
    except ValueError as error:
        return str(error)
    if not isinstance(condition, list):
        return None
    if not condition or len(condition) > _LONGEST_CONDITION:
        return f"must list 1 to {_LONGEST_CONDITION} values, of which one must stand there"
    odd = [one for one in condition if isinstance(one, Mapping | list)]
    return f"{show(odd[0])} stands where a plain value belongs" if odd else None


def _whereto(data: Mapping[str, Any]) -> list[Finding]:
    if "destination" in data and "destinations" in data:
        return [Finding(("destinations",), "has no use beside `destination`: name all of them here")]
    if "destination" not in data and "destinations" not in data:
        return [Finding(("destination",), "is missing")]
    names = data.get("destinations")
    repeated = [one for index, one in enumerate(names) if one in names[:index]] if isinstance(names, list) else []
    return [Finding(("destinations",), f"names {show(repeated[0])} twice")] if repeated else []


def _sorted(value: JSON) -> object:
    """The value with its keys in order, and numbers by their digits: the database gives 1e22 back as a whole one.

    ``repr`` then keeps 1, true and "1" apart.
    """
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value)).normalize() + 0  # no -0 either
    return [_sorted(item) for item in value] if isinstance(value, list) else value
