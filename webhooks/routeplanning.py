"""From the routes a file wishes for to a plan.

A route is known by its source, its destination and what it selects; by the rows of these two, so that a
source that is renamed in the same file keeps its routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from webhooks import changes
from webhooks.models import Destination, Route, Source
from webhooks.planning import published
from webhooks.routeschema import EVERYTHING, RouteSpec, priority_word, selection_of
from wsmon.config.named import in_use
from wsmon.config.problems import Finding, not_one_of, shorten
from wsmon.config.section import Change, Plan

Identity = tuple[int | None, int | None, tuple[frozenset[str], str]]


class RoutePlanner:
    """Compares specs with the rows as they are."""

    def __init__(
        self,
        wish: Sequence[tuple[int, RouteSpec]],
        prune: bool,
        sources: Mapping[str, int | None],
        destinations: Mapping[str, int | None],
    ) -> None:
        self.wish = wish
        """With the position of the entry that each comes from."""
        self.prune = prune
        self.sources = sources
        self.destinations = destinations
        self.result = Plan(finish=changes.told)

    def plan(self) -> Plan:
        """Look at every route of the file, then at what the file does not mention."""
        present = self.present()
        used: set[int] = set()
        for index, spec in self.wish:
            if not self.known(index, spec):
                continue
            source, destination = self.sources[spec.source], self.destinations[spec.destination]
            new = source is None or destination is None
            row = None if new else present.get((source, destination, spec.selection))
            used |= {row.id} if row else set()
            self.one(spec, row)
        for row in present.values():
            if row.archived_at is None and row.id not in used:
                self.leave(row)
        return self.result

    def present(self) -> dict[Identity, Route]:
        """Every route; of several that select the same the last one in use, else the last one."""
        routes = Route.objects.select_related("source", "destination").order_by("id")
        ranked = sorted(routes, key=lambda route: route.archived_at is None)
        return {(one.source_id, one.destination_id, selection_of(one.events, one.filters)): one for one in ranked}

    def known(self, index: int, spec: RouteSpec) -> bool:
        """Whether both ends will be there; else the file is refused."""
        found = [
            Finding((index, *path), not_one_of(name, names, what))
            for name, names, what, path in (
                (spec.source, self.sources, "a source", ("source",)),
                (spec.destination, self.destinations, "a destination", spec.path),
            )
            if name not in names
        ]
        self.result.findings += [one for one in found if one not in self.result.findings]
        return not found

    def one(self, spec: RouteSpec, row: Route | None) -> None:
        """Plan one route."""
        target = f"route {spec.source} to {spec.destination} ({_selected(spec.events, spec.filters)})"
        save = partial(self.save, spec, row)
        if row is None:
            self.result.changes.append(Change("+", f"{target}: {priority_word(spec.priority)}", save))
        elif row.archived_at is not None:
            self.result.changes.append(Change("+", f"{target}: revived, {priority_word(spec.priority)}", save))
        elif row.priority != spec.priority:
            words = f"priority {priority_word(row.priority)} -> {priority_word(spec.priority)}"
            self.result.changes.append(Change("~", f"{target}: {words}", save))

    def save(self, spec: RouteSpec, row: Route | None) -> None:
        """Write one route, between what the sections before this one have made."""
        if row is not None:
            row.priority, row.archived_at = spec.priority, None
            row.save(update_fields=["priority", "archived_at"])
            return
        Route.objects.create(
            source=changes.source_named(spec.source),
            destination=Destination.objects.get(slug=spec.destination),
            events=list(spec.events),
            filters=dict(spec.filters),
            priority=spec.priority,
        )

    def leave(self, row: Route) -> None:
        """A route is not in the file."""
        target = f"route {row.source} to {row.destination} ({_selected(row.events, row.filters)})"
        if self.prune:
            archive = partial(changes.archive_route, row)
            self.result.changes.append(Change("-", f"{target} (archived)", archive))
        else:
            self.result.not_in_file.append(target)


def sources_in_use(earlier: Mapping[str, Plan]) -> Mapping[str, int | None]:
    """The sources that can be named: those of the file, or of the database when it has none."""
    return {**in_use("sources", Source, earlier), **published()}


def _selected(events: Sequence[str], filters: Mapping[str, object]) -> str:
    words = shorten(", ".join(events or EVERYTHING))
    return words + (f", {len(filters)} filter{'s' if len(filters) > 1 else ''}" if filters else "")
