"""The admin's half of configuration: the same objects as in wsmon.yaml, under the same rules.

Superusers configure; everybody else sees what their permissions allow. Nothing is deleted here: services
and checks are archived, maintenance is cancelled. Every change leaves an audit row, makes the checks it
touches due, and tells the open pages.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import models, transaction
from django.db.models import QuerySet
from django.forms import CharField, TextInput
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from monitoring import actions, changes, renaming
from monitoring.forms import (
    SERVICE_COLUMNS,
    CheckForm,
    CheckFormSet,
    CredentialForm,
    MaintenanceForm,
    OfServiceFormSet,
    ServiceForm,
)
from monitoring.literals import mask
from monitoring.models import Check, Credential, MaintenanceWindow, Service
from monitoring.notifications.planning import told
from wsmon import live
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration
from wsmon.durations import format_duration

if TYPE_CHECKING:
    _ServiceAdmin = admin.ModelAdmin[Service]
    _MaintenanceAdmin = admin.ModelAdmin[MaintenanceWindow]
    _CheckInline = admin.StackedInline[Check, Service]
    _CredentialInline = admin.StackedInline[Credential, Service]
    _AnyAdmin = admin.ModelAdmin[Any]
else:  # Django's classes take no parameters at run time
    _ServiceAdmin = _MaintenanceAdmin = _AnyAdmin = admin.ModelAdmin
    _CheckInline = _CredentialInline = admin.StackedInline


class SuperusersConfigure:
    """Adding, changing and taking away is for superusers, whatever other permissions say."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Superusers only."""
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))

    def has_change_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Superusers only."""
        return self.has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Superusers only."""
        return self.has_add_permission(request)


class KeepsRows:
    """What the admin calls deleting takes out of use (``delete_model``) and leaves the row."""

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        """Nothing is deleted along with it."""
        return [str(one) for one in objs], {}, set(), []

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Not a deletion; the audit row says what happened."""
        return []


class CheckInline(SuperusersConfigure, _CheckInline):
    """The checks in use of a service."""

    model = Check
    form = CheckForm
    formset = CheckFormSet
    extra = 0
    readonly_fields = ("schedule", "settings")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Check]:
        """Without archived checks; they come back when their name does."""
        return super().get_queryset(request).filter(archived_at=None).select_related("service")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form for superusers, a summary for others."""
        if self.has_change_permission(request):
            return [
                ("kind", "name"), ("interval", "timeout", "degraded_over"), ("confirm_down", "confirm_up"), "options",
            ]  # fmt: skip
        return ["kind", "name", "schedule", "confirm_down", "confirm_up", "settings"]

    @admin.display(description="Schedule")
    def schedule(self, check: Check) -> str:
        """Interval, timeout and limit in words."""
        limit = f", degraded over {format_duration(check.degraded_over)}" if check.degraded_over else ""
        return f"every {format_duration(check.interval)}, timeout {format_duration(check.timeout)}{limit}"

    @admin.display(description="Options")
    def settings(self, check: Check) -> str:
        """The options, secrets masked."""
        return json.dumps(mask(check.options)[0], ensure_ascii=False)


class WriteOnly:
    """Of an inline whose rows hold a reference or an encrypted value: stored values are written, never read."""

    readonly_fields: Any = ("kept",)
    named_by = ""
    """The field that comes first."""

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fields for entering are for superusers."""
        entered = ["value"] if self.has_change_permission(request) else []  # type: ignore[attr-defined]
        return [self.named_by, "reference", *entered, "kept"]

    @admin.display(description="Now")
    def kept(self, row: Any) -> str:
        """Whether a value is stored, and since when; never the value."""
        if row.encrypted is None:
            return "a reference" if row.pk else "–"
        return f"set on {timezone.localtime(row.changed_at):%-d %b %Y %H:%M}"


class CredentialInline(SuperusersConfigure, WriteOnly, _CredentialInline):
    """The variables set for a service."""

    model = Credential
    form = CredentialForm
    formset = OfServiceFormSet
    extra = 0
    named_by = "variable"
    verbose_name = "credential"


class InUse(admin.SimpleListFilter):
    """Archived services are hidden unless asked for."""

    title = "use"
    parameter_name = "use"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Besides "in use", which stands for no choice."""
        return [("archived", "Archived"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Django calls the first choice "All"; here it is what is in use."""
        for index, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "In use"} if index == 0 else choice

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by ``archived_at``."""
        if self.value() == "all":
            return queryset
        return queryset.filter(archived_at__isnull=self.value() != "archived")


class ReasonForm(ActionForm):
    """The row of actions above the list, with the reason that pausing asks for."""

    reason = CharField(required=False, max_length=500, widget=TextInput(attrs={"placeholder": "Reason (for pause)"}))


@admin.register(Service)
class ServiceAdmin(SuperusersConfigure, KeepsRows, _ServiceAdmin):
    """Services with their checks and credentials."""

    form = ServiceForm
    inlines = (CheckInline, CredentialInline)
    list_display = ("slug", "label", "provider", "criticality", "status", "paused", "archived_at")
    list_filter = (InUse, "criticality", "provider", "status")
    search_fields = ("slug", "name", "provider")
    readonly_fields = ("page",)
    action_form = ReasonForm
    actions = ("pause", "resume", "archive", "revive")
    delete_confirmation_template = "admin/monitoring/archive_confirmation.html"

    # Who ----------------------------------------------------------------------------------------

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Operators pause and resume."""
        return request.user.has_perm("monitoring.operate")

    def has_configure_permission(self, request: HttpRequest) -> bool:
        """Superusers archive and revive."""
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is archived cannot be archived again."""
        return super().has_delete_permission(request) and (obj is None or obj.archived_at is None)

    # What is shown --------------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Django's own deletion is not among them."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Service]:
        """With what ``paused`` counts."""
        in_use = models.Q(checks__archived_at=None)
        return (
            super()
            .get_queryset(request)
            .annotate(
                _checks=models.Count("checks", filter=in_use),
                _paused=models.Count("checks", filter=in_use & models.Q(checks__paused_at__isnull=False)),
            )
        )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form's fields, and a way to the service's page."""
        return ["slug", "name", "provider", "criticality", "breaker", *(["page"] if obj else [])]

    @admin.display(description="Paused")
    def paused(self, service: Any) -> str:
        """How many of its checks are paused."""
        return f"{service._paused} of {service._checks}" if service._paused else ""

    @admin.display(description="Page")
    def page(self, service: Service) -> str:
        """A link to what people look at."""
        url = reverse("service", args=[service.slug])
        return format_html('<a href="{}">{}</a>', url, url)

    # Changes --------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Service, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too."""
        lock_configuration()
        changes.lock_checks()
        if obj._state.adding:
            obj.save()
        else:
            old = Service.objects.values_list("slug", flat=True).get(pk=obj.pk)
            obj.save(update_fields=[*SERVICE_COLUMNS, "archived_at"])  # workers write the rest
            renaming.follow(obj, old)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save checks and credentials, with the rows a check needs."""
        formset.save()
        if formset.model is Check:
            for check in [*formset.new_objects, *(one for one, _ in formset.changed_objects)]:
                changes.equip(check)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """After everything is saved: audit, make due, tell."""
        super().save_related(request, form, formsets, change)
        service = form.instance
        details: dict[str, Any] = {one.model._meta.model_name: _what_changed(one) for one in formsets}
        details = {key: value for key, value in details.items() if value}
        if not (form.has_changed() or details):
            return
        action = "service.change" if change else "service.create"
        record(Actor.of(request), action, f"service:{service.slug}", fields=list(form.changed_data), **details)
        self._changed(service)

    def _changed(self, service: Service) -> None:
        ids = service.checks.filter(archived_at=None).values_list("id", flat=True)
        changes.changed(list(ids), [service.id])

    def delete_model(self, request: HttpRequest, obj: Service) -> None:
        """Archive; the history stays."""
        lock_configuration()
        changes.lock_checks()
        changes.archive_service(obj)
        record(Actor.of(request), "service.archive", f"service:{obj.slug}")
        changes.changed([], [obj.id])

    # Actions --------------------------------------------------------------------------------------

    @admin.action(description="Pause all checks of the selected services", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Service]) -> None:
        """Pause, with the reason beside the button."""
        try:
            count = actions.pause(_checks(queryset), Actor.of(request), request.POST.get("reason", ""))
        except actions.Refused as refused:
            self.message_user(request, f"Nothing was paused: {refused}.", messages.ERROR)
            return
        self.message_user(request, f"Paused {count} checks.", messages.SUCCESS)

    @admin.action(description="Resume all checks of the selected services", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Service]) -> None:
        """Resume."""
        count = actions.resume(_checks(queryset), Actor.of(request), request.POST.get("reason", ""))
        self.message_user(request, f"Resumed {count} checks.", messages.SUCCESS)

    @admin.action(description="Archive the selected services (history is kept)", permissions=["configure"])
    @transaction.atomic
    def archive(self, request: HttpRequest, queryset: QuerySet[Service]) -> None:
        """Archive several."""
        services = [service for service in queryset if service.archived_at is None]
        for service in services:
            self.delete_model(request, service)
        self.message_user(request, f"Archived {len(services)} services.", messages.SUCCESS)

    @admin.action(description="Take the selected services into use again", permissions=["configure"])
    @transaction.atomic
    def revive(self, request: HttpRequest, queryset: QuerySet[Service]) -> None:
        """Undo archiving, of the checks that went along too."""
        lock_configuration()
        changes.lock_checks()
        services = [service for service in queryset if service.archived_at is not None]
        for service in services:
            changes.revive_service(service)
            record(Actor.of(request), "service.revive", f"service:{service.slug}")
            self._changed(service)
        self.message_user(request, f"{len(services)} services are in use again.", messages.SUCCESS)


@admin.register(MaintenanceWindow)
class MaintenanceAdmin(SuperusersConfigure, KeepsRows, _MaintenanceAdmin):
    """Planned work. Taking a window away cancels it."""

    form = MaintenanceForm
    list_display = ("reason", "service", "starts_at", "ends_at", "recurrence", "created_by", "cancelled_at")
    list_filter = (("cancelled_at", admin.EmptyFieldListFilter), "service")
    search_fields = ("reason", "service__slug")
    readonly_fields = ("created_by", "cancelled_at")
    delete_confirmation_template = "admin/monitoring/cancel_confirmation.html"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is cancelled cannot be cancelled again."""
        return super().has_delete_permission(request) and (obj is None or obj.cancelled_at is None)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What can be said, then what is known."""
        known = ["created_by", "cancelled_at"] if obj else []
        return ["service", "starts_at", "ends_at", "recurrence", "time_zone", "reason", *known]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Windows are cancelled one by one."""
        return {}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Only services in use."""
        if db_field.name == "service":
            kwargs["queryset"] = Service.objects.filter(archived_at=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: MaintenanceWindow, form: Any, change: bool) -> None:
        """Plan by the same function as the service's page does; change in place."""
        actor = Actor.of(request)
        if change:
            super().save_model(request, obj, form, change)
            target = f"service:{obj.service.slug}" if obj.service else "service:*"
            record(actor, "maintenance.change", target, obj.reason, fields=list(form.changed_data))
            services = Service.objects.filter(archived_at=None)
            ids = [obj.service_id] if obj.service_id else list(services.values_list("id", flat=True))
            live.publish("state", {"services": ids})
            return
        window = actions.start_maintenance(
            obj.service, obj.starts_at, obj.ends_at, obj.reason, actor, obj.recurrence, obj.time_zone
        )
        obj.pk = window.pk

    def delete_model(self, request: HttpRequest, obj: MaintenanceWindow) -> None:
        """Cancel; the row stays."""
        actions.cancel_maintenance(obj, Actor.of(request))


class AsInFileAdmin(SuperusersConfigure, KeepsRows, _AnyAdmin):
    """Something with a slug and settings as in the file, of the sections about who is told and when."""

    list_filter: ClassVar[Any] = (InUse,)
    search_fields = ("slug",)
    readonly_fields: ClassVar[Any] = ("shown",)
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

    def write(self, row: Any) -> None:
        """Write one, and what follows from it."""
        row.save()

    def put_away(self, row: Any) -> None:
        """Archive one, and do what follows from it."""
        changes.archive(row)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too, and say who did."""
        lock_configuration()
        self.write(obj)
        if form.has_changed():
            name, verb = obj._meta.model_name, "change" if change else "create"
            record(Actor.of(request), f"{name}.{verb}", f"{name}:{obj.slug}", fields=list(form.changed_data))
            told()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Archive."""
        lock_configuration()
        self.put_away(obj)
        record(Actor.of(request), f"{obj._meta.model_name}.archive", f"{obj._meta.model_name}:{obj.slug}")
        told()


def _checks(services: QuerySet[Service]) -> list[Check]:
    return list(Check.objects.filter(service__in=services.values("id"), archived_at=None))


def _what_changed(formset: Any) -> dict[str, Any]:
    """Names of what was added, changed (and in which fields) and removed; no values."""
    found = {
        "added": [str(one) for one in formset.new_objects],
        "changed": {str(one): fields for one, fields in formset.changed_objects},
        "removed": [str(one) for one in formset.deleted_objects],
    }
    return {key: value for key, value in found.items() if value}


# Parts of this room that have things to configure register them; they use what stands above.
import monitoring.alertrules.admin  # noqa: E402
import monitoring.critical.admin  # noqa: E402
import monitoring.escalation.admin  # noqa: E402
import monitoring.notifications.admin  # noqa: E402, F401
