"""From the rotations and escalations a file wishes for to a plan: which rows are made, changed, archived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from django.db import models
from django.utils import timezone

from monitoring import changes
from monitoring.escalation.oncall import PREFIX
from monitoring.escalation.schema import EscalationSpec, RotationSpec
from monitoring.models import Channel, Escalation, Rotation, Service
from monitoring.planning import match
from wsmon import live
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.section import Change, Plan
from wsmon.durations import format_duration

Spec = TypeVar("Spec", bound=RotationSpec | EscalationSpec)
Row = TypeVar("Row", bound=Rotation | Escalation)
Names = Mapping[str, int | None]


class Planner(ABC, Generic[Spec, Row]):
    """Compares specs with the rows as they are."""

    noun: ClassVar[str]
    model: ClassVar[type[models.Model]]

    def __init__(self, wish: Sequence[Spec], prune: bool) -> None:
        self.wish = wish
        self.prune = prune
        self.result = Plan(finish=told)

    def plan(self) -> Plan:
        """Look at everything in the file, then at what the file does not mention."""
        present: dict[str, Any] = {row.slug: row for row in self.model._default_manager.order_by("pk")}  # type: ignore[attr-defined]
        wished = {spec.slug for spec in self.wish}
        used: set[int] = set()
        for spec in self.wish:
            row, aside, problem = match(spec.slug, spec.renamed_from, present, wished)
            self.result.names[spec.slug] = row.id if row else None
            if problem:
                self.result.findings.append(Finding((spec.slug, "renamed_from"), problem))
                continue
            used |= {row.id} if row else set()
            self.result.findings += [one.under(spec.slug) for one in self.unknown(spec)]
            self.one(spec, row, aside)
        for row in present.values():
            if row.archived_at is None and row.id not in used:
                self.result.names |= {} if self.prune else {row.slug: row.id}
                self.leave(row)
        return self.result

    @abstractmethod
    def unknown(self, spec: Spec) -> Iterator[Finding]:
        """What it names and what is not there."""

    def one(self, spec: Spec, row: Row | None, aside: Row | None) -> None:
        """Plan one of them."""
        target = f"{self.noun} {spec.slug}"
        save = partial(self.save, spec, row, aside)
        differences = list(_differences(spec, row)) if row else []
        if row is None:
            self.result.changes.append(Change("+", f"{target} ({_what(spec)})", save))
        elif row.archived_at is not None:
            words = ", ".join(["revived", *differences])
            self.result.changes.append(Change("+", f"{target}: {words}", save))
        elif differences:
            self.result.changes.append(Change("~", f"{target}: {', '.join(differences)}", save))

    def save(self, spec: Spec, row: Any, aside: Any) -> None:
        """Write one; an archived holder of its name makes room."""
        if aside:
            move_aside(aside)
        found: Any = row if row is not None else self.model()
        found.slug, found.archived_at = spec.slug, None
        for name, value in spec.values.items():
            setattr(found, name, value)
        found.save()

    def leave(self, row: Row) -> None:
        """Something is not in the file."""
        if self.prune:
            act = partial(archive, row)
            self.result.changes.append(Change("-", f"{self.noun} {row.slug} (archived)", act))
        else:
            self.result.not_in_file.append(f"{self.noun} {row.slug}")


class RotationPlanner(Planner[RotationSpec, Rotation]):
    """Plans rotations; their people's channels must be there."""

    noun = "rotation"
    model = Rotation

    def __init__(self, wish: Sequence[RotationSpec], prune: bool, channels: Names) -> None:
        super().__init__(wish, prune)
        self.channels = channels

    def unknown(self, spec: RotationSpec) -> Iterator[Finding]:
        """Channels that are not there."""
        for path, name in spec.channels:
            if name not in self.channels:
                yield Finding(path, not_one_of(name, self.channels, "a channel"))


class EscalationPlanner(Planner[EscalationSpec, Escalation]):
    """Plans escalations; the channels, rotations and services they name must be there."""

    noun = "escalation"
    model = Escalation

    def __init__(
        self, wish: Sequence[EscalationSpec], prune: bool, channels: Names, rotations: Names, services: Names
    ) -> None:
        super().__init__(wish, prune)
        self.targets = {*channels, *(f"{PREFIX}{name}" for name in rotations)}
        self.services = services

    def unknown(self, spec: EscalationSpec) -> Iterator[Finding]:
        """Channels, rotations and services that are not there."""
        for path, name in spec.targets:
            if name not in self.targets:
                what = "a rotation" if name.startswith(PREFIX) else "a channel"
                yield Finding(path, not_one_of(name, self.targets, what))
        for index, name in enumerate(spec.values["services"]):
            if name not in self.services:
                yield Finding(("services", index), not_one_of(name, self.services, "a service"))


def archive(row: Any) -> None:
    """Take one out of use."""
    row.archived_at = timezone.now()
    row.save(update_fields=["archived_at"])


def move_aside(row: Any) -> None:
    """Rename an archived one because its name is wanted."""
    others = type(row)._default_manager
    row.slug = changes.free_name(row.slug, lambda slug: others.filter(slug=slug).exists())
    row.save(update_fields=["slug"])


def told() -> None:
    """After changes: pages that show who is on call look again."""
    live.publish("alert", {"alerts": []})


def in_use(key: str, model: Any, earlier: Mapping[str, Plan]) -> Names:
    """What can be named: those of the file, or of the database when it has none."""
    if key in earlier:
        return earlier[key].names
    return dict(model._default_manager.filter(archived_at=None).values_list("slug", "id"))


def channels_in_use(earlier: Mapping[str, Plan]) -> Names:
    """The channels that can be named."""
    return in_use("channels", Channel, earlier)


def rotations_in_use(earlier: Mapping[str, Plan]) -> Names:
    """The same for rotations."""
    return in_use("rotations", Rotation, earlier)


def services_in_use(earlier: Mapping[str, Plan]) -> Names:
    """The same for services."""
    return in_use("services", Service, earlier)


def _differences(spec: RotationSpec | EscalationSpec, row: Any) -> Iterator[str]:
    if row.slug != spec.slug:
        yield f"renamed from {row.slug}"
    for name, wanted in spec.values.items():
        present = getattr(row, name)
        if present == wanted:
            continue
        if isinstance(wanted, list):
            yield f"{name} changed"
        else:
            yield f"{name} {_say(name, present)} -> {_say(name, wanted)}"


def _say(name: str, value: Any) -> str:
    if value in ("", None):
        return "none"
    if name == "remind_every":
        return format_duration(value)
    return f"{value:%H:%M}" if name == "handover" else show(str(value)).strip('"')


def _what(spec: RotationSpec | EscalationSpec) -> str:
    if isinstance(spec, RotationSpec):
        return ", ".join(person["name"] for person in spec.values["people"][:5])
    number = len(spec.values["steps"])
    return f"{number} step{'' if number == 1 else 's'}"
