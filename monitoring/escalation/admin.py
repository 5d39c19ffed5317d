"""The admin of rotations and escalations: the same objects as in wsmon.yaml, under the same rules.

Superusers configure; nothing is deleted, it is archived. Every change leaves an audit row.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from monitoring.admin import AsInFileAdmin
from monitoring.escalation import planning
from monitoring.escalation.config import export_escalation, export_rotation
from monitoring.escalation.forms import EscalationForm, RotationForm
from monitoring.models import Escalation, Rotation
from wsmon.durations import format_duration


@admin.register(Rotation)
class RotationAdmin(AsInFileAdmin):
    """Who is on call when."""

    form = RotationForm
    list_display = ("slug", "people_named", "time_zone", "archived_at")

    @admin.display(description="People")
    def people_named(self, row: Rotation) -> str:
        """In their order."""
        return ", ".join(str(person["name"]) for person in row.people)

    def write(self, row: Rotation) -> None:
        """Escalations name it: they follow."""
        planning.save(row)

    def exported(self, row: Rotation) -> Any:
        """As under ``rotations``."""
        return {row.slug: export_rotation(row)}


@admin.register(Escalation)
class EscalationAdmin(AsInFileAdmin):
    """Who is told next while nobody acknowledges."""

    form = EscalationForm
    list_display = ("slug", "min_severity", "told_in_order", "archived_at")

    @admin.display(description="Steps")
    def told_in_order(self, row: Escalation) -> str:
        """When whom."""
        return "; ".join(f"{format_duration(step['after'])}: {', '.join(step['notify'])}" for step in row.steps)

    def write(self, row: Escalation) -> None:
        """Alerts climb it: they go on."""
        planning.save(row)

    def exported(self, row: Escalation) -> Any:
        """As under ``escalations``."""
        return {row.slug: export_escalation(row)}
