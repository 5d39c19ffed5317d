"""The sections ``rotations`` and ``escalations`` of wsmon.yaml.

Rotations name channels, escalations channels, rotations and services: they stand after those in
``settings.CONFIG_SECTIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.alertmodels import Severity
from monitoring.escalation.planning import EscalationPlanner, RotationPlanner
from monitoring.escalation.schema import (
    HANDOVER,
    ZONE,
    EscalationSpec,
    RotationSpec,
    read_escalation,
    read_rotation,
)
from monitoring.models import Channel, Escalation, Rotation, Service
from wsmon import secrets
from wsmon.config.named import in_use, read_named
from wsmon.config.problems import Finding
from wsmon.config.section import Exported, Plan
from wsmon.durations import format_duration
from wsmon.redact import redact
from wsmon.vocabulary import JSON


class RotationsSection:
    """Reads, plans and exports rotations."""

    key = "rotations"

    def read(self, data: Any) -> tuple[list[RotationSpec], list[Finding]]:
        """Judge every rotation."""
        return read_named(data, read_rotation)

    def plan(self, wish: list[RotationSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        return RotationPlanner(wish, prune, in_use("channels", Channel, earlier)).plan()

    def export(self) -> Exported:
        """Every rotation in use, in the order they were made."""
        rows = Rotation.objects.filter(archived_at=None).order_by("id")
        return Exported({row.slug: export_rotation(row) for row in rows})


class EscalationsSection:
    """Reads, plans and exports escalations."""

    key = "escalations"

    def read(self, data: Any) -> tuple[list[EscalationSpec], list[Finding]]:
        """Judge every escalation."""
        return read_named(data, read_escalation)

    def plan(self, wish: list[EscalationSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        channels, rotations = in_use("channels", Channel, earlier), in_use("rotations", Rotation, earlier)
        return EscalationPlanner(wish, prune, channels, rotations, in_use("services", Service, earlier)).plan()

    def export(self) -> Exported:
        """Every escalation in use, in the order they were made."""
        rows = Escalation.objects.filter(archived_at=None).order_by("id")
        return Exported({row.slug: export_escalation(row) for row in rows})


rotations_section = RotationsSection()
escalations_section = EscalationsSection()


def export_rotation(row: Rotation) -> dict[str, JSON]:
    """A rotation as in the file: keys in the order of the README, defaults left out."""
    found: dict[str, JSON] = {"people": [{"name": one["name"], "channels": one["channels"]} for one in row.people]}
    if row.starts_on:
        found["starts_on"] = row.starts_on.isoformat()
    if f"{row.handover:%H:%M}" != HANDOVER:
        found["handover"] = f"{row.handover:%H:%M}"
    if row.time_zone != ZONE:
        found["time_zone"] = row.time_zone
    if row.ical:
        found["ical"] = row.ical if secrets.is_reference(row.ical) else redact(row.ical)
    return found


def export_escalation(row: Escalation) -> dict[str, JSON]:
    """An escalation as in the file."""
    found: dict[str, JSON] = {
        "steps": [{"after": format_duration(step["after"]), "notify": step["notify"]} for step in row.steps]
    }
    if row.remind_every is not None:
        found["remind_every"] = format_duration(row.remind_every)
    if row.services:
        found["services"] = list(row.services)
    if row.min_severity != Severity.CRITICAL:
        found["min_severity"] = row.min_severity
    return found
