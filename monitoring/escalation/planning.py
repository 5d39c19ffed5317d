"""From the rotations and escalations a file wishes for to a plan: which rows are made, changed, archived."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from django.db import models

from monitoring import changes, renaming
from monitoring.escalation.oncall import PREFIX
from monitoring.escalation.schema import EscalationSpec, RotationSpec
from monitoring.models import Escalation, Rotation
from monitoring.notifications.planning import told
from wsmon.config import named
from wsmon.config.named import Names
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.durations import format_duration

Spec = TypeVar("Spec", bound=RotationSpec | EscalationSpec)
Row = TypeVar("Row", bound=Rotation | Escalation)


class Planner(named.Planner[Spec, Row]):
    """Compares specs with the rows as they are: what rotations and escalations have in common."""

    model: ClassVar[type[models.Model]]
    revived = "revived"
    archived = "archived"

    def __init__(self, wish: Sequence[Spec], prune: bool) -> None:
        super().__init__(wish, prune, told)

    def present(self) -> dict[str, Row]:
        """Every row."""
        rows: Any = self.model._default_manager.order_by("pk")
        return {row.slug: row for row in rows}

    def one(self, spec: Spec, row: Row | None, aside: Row | None) -> None:
        """Plan one of them; what it names must be there."""
        self.result.findings += [one.under(spec.slug) for one in self.unknown(spec)]
        super().one(spec, row, aside)

    @abstractmethod
    def unknown(self, spec: Spec) -> Iterator[Finding]:
        """What it names and what is not there."""

    def differences(self, spec: Spec, row: Row) -> Iterator[str]:
        """What a change would change."""
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

    def save(self, spec: Spec, row: Any, aside: Any) -> None:
        """Write one; an archived holder of its name makes room."""
        if aside:
            changes.move_aside(aside)
        found: Any = row if row is not None else self.model()
        found.slug, found.archived_at = spec.slug, None
        for name, value in spec.values.items():
            setattr(found, name, value)
        save(found)

    def archive(self, row: Row) -> None:
        """Take one out of use."""
        changes.archive(row)


class RotationPlanner(Planner[RotationSpec, Rotation]):
    """Plans rotations; their people's channels must be there."""

    noun = "rotation"
    model = Rotation

    def __init__(self, wish: Sequence[RotationSpec], prune: bool, channels: Names) -> None:
        super().__init__(wish, prune)
        self.channels = channels

    def what(self, spec: RotationSpec) -> str:
        """Whose turn it is."""
        return ", ".join(person["name"] for person in spec.values["people"][:5])

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

    def what(self, spec: EscalationSpec) -> str:
        """How many steps it has."""
        number = len(spec.values["steps"])
        return f"{number} step{'' if number == 1 else 's'}"

    def unknown(self, spec: EscalationSpec) -> Iterator[Finding]:
        """Channels, rotations and services that are not there."""
        for path, name in spec.targets:
            if name not in self.targets:
                what = "a rotation" if name.startswith(PREFIX) else "a channel"
                yield Finding(path, not_one_of(name, self.targets, what))
        for index, name in enumerate(spec.values["services"]):
            if name not in self.services:
                yield Finding(("services", index), not_one_of(name, self.services, "a service"))


def save(row: Rotation | Escalation) -> None:
    """Write one; the escalations that name a rotation, and the alerts that climb an escalation, follow its name."""
    follow = renaming.follow_rotation if isinstance(row, Rotation) else renaming.follow_escalation
    old = type(row)._default_manager.filter(id=row.id).values_list("slug", flat=True).first()
    row.save()
    if old is not None:
        follow(old, row.slug)


def _say(name: str, value: Any) -> str:
    if value in ("", None):
        return "none"
    if name == "remind_every":
        return format_duration(value)
    return f"{value:%H:%M}" if name == "handover" else show(str(value)).strip('"')
