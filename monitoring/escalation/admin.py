"""The admin of rotations and escalations: the same objects as in wsmon.yaml, under the same rules.

Superusers configure; nothing is deleted, it is archived. Every change leaves an audit row.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from monitoring import changes, renaming
from monitoring.admin import InUse, KeepsRows, SuperusersConfigure
from monitoring.escalation.config import export_escalation, export_rotation
from monitoring.escalation.forms import EscalationForm, RotationForm
from monitoring.models import Escalation, Rotation
from monitoring.notifications.planning import told
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration
from wsmon.durations import format_duration

if TYPE_CHECKING:
    _AnyAdmin = admin.ModelAdmin[Any]
else:  # Django's classes take no parameters at run time
    _AnyAdmin = admin.ModelAdmin


class AsInFileAdmin(SuperusersConfigure, KeepsRows, _AnyAdmin):
    """Something with a slug and settings as in the file."""

    list_filter = (InUse,)
    search_fields = ("slug",)
    readonly_fields = ("shown",)
    delete_confirmation_template = "admin/monitoring/archive_alerting.html"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is archived cannot be archived again; it comes back when its name is entered again."""
        return super().has_delete_permission(request) and (obj is None or obj.archived_at is None)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """They are archived one by one."""
        return {}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form for superusers, what the file would say for others."""
        return ["slug", "settings"] if self.has_change_permission(request) else ["slug", "shown"]

    @admin.display(description="Settings")
    def shown(self, row: Any) -> str:
        """As in wsmon.yaml."""
        return format_html("<pre>{}</pre>", yaml.safe_dump(self.exported(row), sort_keys=False, allow_unicode=True))

    def exported(self, row: Any) -> Any:
        """What the file would say of one."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too, and say who did."""
        lock_configuration()
        obj.save()
        if form.has_changed():
            name = obj._meta.model_name
            fields = list(form.changed_data)
            record(
                Actor.of(request), f"{name}.{'change' if change else 'create'}", f"{name}:{obj.slug}", fields=fields
            )
            told()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Archive."""
        lock_configuration()
        changes.archive(obj)
        record(Actor.of(request), f"{obj._meta.model_name}.archive", f"{obj._meta.model_name}:{obj.slug}")
        told()


@admin.register(Rotation)
class RotationAdmin(AsInFileAdmin):
    """Who is on call when."""

    form = RotationForm
    list_display = ("slug", "people_named", "time_zone", "archived_at")

    @admin.display(description="People")
    def people_named(self, row: Rotation) -> str:
        """In their order."""
        return ", ".join(str(person["name"]) for person in row.people)

    def save_model(self, request: HttpRequest, obj: Rotation, form: Any, change: bool) -> None:
        """Escalations name it: they follow."""
        lock_configuration()
        if change:
            renaming.follow_rotation(Rotation.objects.values_list("slug", flat=True).get(pk=obj.pk), obj.slug)
        super().save_model(request, obj, form, change)

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

    def exported(self, row: Escalation) -> Any:
        """As under ``escalations``."""
        return {row.slug: export_escalation(row)}
