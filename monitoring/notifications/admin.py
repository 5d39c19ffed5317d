"""The admin of channels: the same objects as in wsmon.yaml, under the same rules; and the messages, only read.

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
from monitoring.models import Channel, Notification, PushSubscription
from monitoring.notifications import channels, planning
from monitoring.notifications.config import export_channel
from monitoring.notifications.forms import ChannelForm
from wsmon.admin import ReadOnly
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration

if TYPE_CHECKING:
    _AnyAdmin = admin.ModelAdmin[Any]
else:  # Django's classes take no parameters at run time
    _AnyAdmin = admin.ModelAdmin


@admin.register(Channel)
class ChannelAdmin(SuperusersConfigure, KeepsRows, _AnyAdmin):
    """Where messages go."""

    form = ChannelForm
    list_display = ("slug", "kind", "min_severity", "sent_at", "problem", "archived_at")
    list_filter = (InUse, "min_severity")
    search_fields = ("slug",)
    readonly_fields = ("shown", "kept")
    delete_confirmation_template = "admin/monitoring/archive_alerting.html"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is archived cannot be archived again; it comes back when its name is entered again."""
        return super().has_delete_permission(request) and (obj is None or obj.archived_at is None)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """They are archived one by one."""
        return {}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form for superusers, what the file would say for others."""
        if self.has_change_permission(request):
            return ["slug", "value", "reference", "kept", "settings"]
        return ["slug", "shown"]

    @admin.display(description="Kind")
    def kind(self, row: Channel) -> str:
        """What it is."""
        return channels.kind_of(row)

    @admin.display(description="Now")
    def kept(self, row: Channel) -> str:
        """Whether an address is stored; never the address."""
        return "stored, encrypted" if row.encrypted is not None else row.reference or "–"

    @admin.display(description="Settings")
    def shown(self, row: Channel) -> str:
        """As in wsmon.yaml."""
        text = yaml.safe_dump({row.slug: export_channel(row)}, sort_keys=False, allow_unicode=True)
        return format_html("<pre>{}</pre>", text)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too, and say who did."""
        lock_configuration()
        if change:
            renaming.follow_channel(Channel.objects.values_list("slug", flat=True).get(pk=obj.pk), obj.slug)
        planning.save(obj)
        Channel.objects.filter(id=obj.id).update(fallback=obj.fallback)
        if form.has_changed():
            verb = "change" if change else "create"
            record(Actor.of(request), f"channel.{verb}", f"channel:{obj.slug}", fields=list(form.changed_data))
            planning.told()

    def delete_model(self, request: HttpRequest, obj: Channel) -> None:
        """Archive."""
        lock_configuration()
        changes.archive(obj)
        record(Actor.of(request), "channel.archive", f"channel:{obj.slug}")
        planning.told()


@admin.register(Notification)
class NotificationAdmin(ReadOnly, _AnyAdmin):
    """Every message and what became of it."""

    show_full_result_count = False
    list_display = ("created_at", "channel", "kind", "title", "state", "tries", "sent_at", "problem")
    list_filter = ("state", "kind", "channel")
    list_select_related = ("channel",)
    fields = (*list_display, "severity", "body", "url", "recipient", "due_at")


@admin.register(PushSubscription)
class PushSubscriptionAdmin(ReadOnly, _AnyAdmin):
    """Who subscribed which browser."""

    list_display = ("user", "label", "created_at", "used_at")
    list_select_related = ("user",)
    fields = list_display
