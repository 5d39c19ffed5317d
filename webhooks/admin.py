"""The admin's half of configuration: the same objects as in wsmon.yaml, under the same rules.

Superusers configure; everybody else sees what their permissions allow, secrets masked. Nothing is deleted
here: sources, destinations and routes are archived. Every change leaves an audit row and is told to every
process.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from monitoring.admin import InUse, KeepsRows, ReasonForm, SuperusersConfigure, WriteOnly
from webhooks import actions, changes
from webhooks.addresses import url_of
from webhooks.config import export_destination, export_route, export_source
from webhooks.forms import (
    DESTINATION_FIELDS,
    ROUTE_FIELDS,
    SOURCE_FIELDS,
    DestinationForm,
    RouteForm,
    SignatureForm,
    SignatureFormSet,
    SourceForm,
    scheme_of,
)
from webhooks.models import Destination, Erasure, Refusal, Replay, Route, Secret, Source
from webhooks.schema import default_secrets
from webhooks.vocabulary import PUBLISHED
from wsmon.admin import ReadOnly
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration

if TYPE_CHECKING:
    _AnyAdmin = admin.ModelAdmin[Any]
    _SecretInline = admin.TabularInline[Secret, Any]
else:  # Django's classes take no parameters at run time
    _AnyAdmin = admin.ModelAdmin
    _SecretInline = admin.TabularInline


class SecretInline(SuperusersConfigure, WriteOnly, _SecretInline):
    """The secrets of a source or destination."""

    model = Secret
    form = SignatureForm
    formset = SignatureFormSet
    extra = 0
    named_by = "position"
    verbose_name = "secret"


class Configured(SuperusersConfigure, KeepsRows, _AnyAdmin):
    """What sources, destinations and routes have in common."""

    delete_confirmation_template = "admin/webhooks/archive_confirmation.html"
    actions: Any = ("archive", "revive")
    form_fields: tuple[str, ...] | list[str] = ()

    def has_configure_permission(self, request: HttpRequest) -> bool:
        """Superusers archive and revive."""
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is archived cannot be archived again."""
        return super().has_delete_permission(request) and (obj is None or obj.archived_at is None)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Django's own deletion is not among them."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form for superusers; for others what the file would say, since that has no secret in it."""
        if self.has_change_permission(request):
            return [*self.form_fields, *(self.known if obj else ())]
        return ["settings", *self.known]

    known: tuple[str, ...] = ()
    """Read-only fields of what is there already."""

    @admin.display(description="Settings")
    def settings(self, row: Any) -> str:
        """As in wsmon.yaml."""
        text = yaml.safe_dump(self.exported(row), sort_keys=False, allow_unicode=True)
        return format_html("<pre>{}</pre>", text)

    def exported(self, row: Any) -> Any:
        """What the file would say of one."""
        raise NotImplementedError

    def name_of(self, row: Any) -> str:
        """One of them, for the audit trail."""
        return f"{row._meta.model_name}:{row.slug}"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too."""
        lock_configuration()
        obj.save()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """After everything is saved: equip, audit, tell."""
        super().save_related(request, form, formsets, change)
        row = form.instance
        self.equip(row, form)
        secrets = {key: value for one in formsets for key, value in _what_changed(one).items()}
        if not (form.has_changed() or secrets):
            return
        verb = "change" if change else "create"
        details: dict[str, Any] = {"secrets": secrets} if secrets else {}
        record(
            Actor.of(request),
            f"{row._meta.model_name}.{verb}",
            self.name_of(row),
            fields=list(form.changed_data),
            **details,
        )
        changes.told()

    def equip(self, row: Any, form: Any) -> None:
        """Make the rows that go along with it."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Archive; the history stays."""
        lock_configuration()
        self.archive_one(obj)
        record(Actor.of(request), f"{obj._meta.model_name}.archive", self.name_of(obj))
        changes.told()

    def archive_one(self, row: Any) -> None:
        """Take one out of use."""
        raise NotImplementedError

    def revive_one(self, row: Any) -> bool:
        """Take one into use again; False when it cannot be."""
        changes.revive(row)
        return True

    @admin.action(description="Archive the selected ones (history is kept)", permissions=["configure"])
    @transaction.atomic
    def archive(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Archive several."""
        rows = [row for row in queryset if row.archived_at is None]
        for row in rows:
            self.delete_model(request, row)
        self.message_user(request, f"Archived {len(rows)}.", messages.SUCCESS)

    @admin.action(description="Take the selected ones into use again", permissions=["configure"])
    @transaction.atomic
    def revive(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Undo archiving."""
        lock_configuration()
        rows = [row for row in queryset if row.archived_at is not None and self.revive_one(row)]
        for row in rows:
            record(Actor.of(request), f"{row._meta.model_name}.revive", self.name_of(row))
        changes.told()
        self.message_user(request, f"{len(rows)} in use again.", messages.SUCCESS)


@admin.register(Source)
class SourceAdmin(Configured):
    """Sources with their secrets."""

    form = SourceForm
    form_fields = SOURCE_FIELDS
    known = ("address",)
    inlines = (SecretInline,)
    list_display = ("slug", "provider", "service", "watch_silence", "reconcile", "archived_at")
    list_filter = (InUse, "provider")
    list_select_related = ("service",)
    search_fields = ("slug", "provider")
    readonly_fields = ("settings", "address")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Source]:
        """Without wsmon's own."""
        return super().get_queryset(request).exclude(slug=PUBLISHED)

    @admin.display(description="URL to enter at the vendor")
    def address(self, source: Source) -> str:
        """Where the vendor is to send."""
        return url_of(source.slug, source.url)

    def exported(self, row: Source) -> Any:
        """As under ``sources``."""
        return {row.slug: export_source(row, [])}

    def equip(self, row: Source, form: Any) -> None:
        """Without a secret the vendor's own variables are looked at, as in the file."""
        scheme = scheme_of(row)
        if scheme is not None and not row.secrets.exists():
            changes.write_secrets(row, default_secrets(scheme))

    def archive_one(self, row: Source) -> None:
        """With its routes."""
        changes.archive_source(row)


@admin.register(Destination)
class DestinationAdmin(Configured):
    """Destinations with their signing secrets, breakers and pauses."""

    form = DestinationForm
    form_fields = DESTINATION_FIELDS
    inlines = (SecretInline,)
    list_display = ("slug", "target", "service", "state_of", "archived_at")
    list_filter = (InUse, "service")
    list_select_related = ("service", "state")
    search_fields = ("slug",)
    readonly_fields = ("settings",)
    action_form = ReasonForm
    actions = ("pause", "resume", "enable", "archive", "revive")

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Operators pause and resume."""
        return request.user.has_perm("webhooks.replay")

    @admin.display(description="URL")
    def target(self, destination: Destination) -> str:
        """Where it is, as the file would say it."""
        return str(export_destination(destination, [])["url"])

    @admin.display(description="State")
    def state_of(self, destination: Destination) -> str:
        """Whether it is paused or disabled."""
        state = getattr(destination, "state", None)
        words = {"disabled": state and state.disabled_at, "paused": state and state.paused_at}
        return ", ".join(word for word, since in words.items() if since)

    def exported(self, row: Destination) -> Any:
        """As under ``destinations``."""
        return {row.slug: export_destination(row, [])}

    def equip(self, row: Destination, form: Any) -> None:
        """Its state and its breaker."""
        changes.equip(row, form.was)

    def archive_one(self, row: Destination) -> None:
        """With its routes and its breaker."""
        changes.archive_destination(row)

    @admin.action(description="Pause the selected destinations; their backlog waits", permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Destination]) -> None:
        """Pause, with the reason beside the button."""
        reason = request.POST.get("reason", "").strip()
        if not reason:
            self.message_user(request, "Nothing was paused: a reason is needed.", messages.ERROR)
            return
        self._act(request, queryset, "Paused", actions.pause_destination)

    @admin.action(description="Resume the selected destinations", permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Destination]) -> None:
        """Resume."""
        self._act(request, queryset, "Resumed", actions.resume_destination)

    @admin.action(description="Enable the selected destinations again", permissions=["act"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Destination]) -> None:
        """Enable what failed for too long."""
        self._act(request, queryset, "Enabled", actions.enable_destination)

    def _act(self, request: HttpRequest, queryset: QuerySet[Destination], done: str, act: Any) -> None:
        reason, actor = request.POST.get("reason", ""), Actor.of(request)
        count = sum(act(destination, actor, reason) for destination in queryset.filter(archived_at=None))
        self.message_user(request, f"{done} {count} destinations.", messages.SUCCESS)


@admin.register(Route)
class RouteAdmin(Configured):
    """Routes."""

    form = RouteForm
    form_fields = ROUTE_FIELDS
    list_display = ("__str__", "selected", "priority", "archived_at")
    list_filter = (InUse, "source", "destination", "priority")
    list_select_related = ("source", "destination")
    search_fields = ("source__slug", "destination__slug")
    readonly_fields = ("settings",)

    @admin.display(description="Events")
    def selected(self, route: Route) -> str:
        """The patterns in a row."""
        return ", ".join(route.events) or "*"

    def exported(self, row: Route) -> Any:
        """As under ``routes``."""
        return [export_route(row)]

    def name_of(self, row: Route) -> str:
        """By its number, since it has no name."""
        return f"route:{row.pk}"

    def archive_one(self, row: Route) -> None:
        """Take a route out of use."""
        changes.archive_route(row)

    def revive_one(self, row: Route) -> bool:
        """Unless an end of it is archived, or there is the same one by now."""
        return changes.revive_route(row)


class Log(ReadOnly, _AnyAdmin):
    """What happened; only read."""

    show_full_result_count = False


@admin.register(Refusal)
class RefusalAdmin(Log):
    """Requests that were refused, counted by the minute."""

    list_display = ("at", "source", "code", "message", "address", "size", "count", "last_at")
    list_filter = ("code", "source")
    fields = list_display


@admin.register(Replay)
class ReplayAdmin(Log):
    """Replays and how far they are."""

    list_display = ("created_at", "created_by", "reason", "status", "total", "made", "skipped", "finished_at")
    list_filter = ("status",)
    search_fields = ("created_by", "reason")
    fields = (*list_display, "destination", "max_retries", "force", "per_second", "skips")


@admin.register(Erasure)
class ErasureAdmin(Log):
    """Receipts of what was erased; of the person there is a keyed hash only."""

    list_display = ("at", "by", "reason", "status", "events", "attempts", "messages", "finished_at")
    fields = ("id", *list_display, "digest", "scanned")


def _what_changed(formset: Any) -> dict[str, Any]:
    """Names of what was added, changed (and in which fields) and removed; no values."""
    found = {
        "added": [str(one) for one in formset.new_objects],
        "changed": {str(one): fields for one, fields in formset.changed_objects},
        "removed": [str(one) for one in formset.deleted_objects],
    }
    return {key: value for key, value in found.items() if value}
