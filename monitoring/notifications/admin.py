"""The admin of channels: the same objects as in wsmon.yaml, under the same rules; and the messages, only read.

Superusers configure; nothing is deleted, it is archived. Every change leaves an audit row.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from monitoring.admin import AsInFileAdmin, InUse
from monitoring.models import Channel, Notification, PushSubscription
from monitoring.notifications import channels, planning
from monitoring.notifications.config import export_channel
from monitoring.notifications.forms import ChannelForm
from wsmon.admin import ReadOnly

if TYPE_CHECKING:
    _AnyAdmin = admin.ModelAdmin[Any]
else:  # Django's classes take no parameters at run time
    _AnyAdmin = admin.ModelAdmin


@admin.register(Channel)
class ChannelAdmin(AsInFileAdmin):
    """Where messages go."""

    form = ChannelForm
    list_display = ("slug", "kind", "min_severity", "sent_at", "problem", "archived_at")
    list_filter = (InUse, "min_severity")
    readonly_fields = ("shown", "kept")

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

    def exported(self, row: Channel) -> Any:
        """As under ``channels``."""
        return {row.slug: export_channel(row)}

    def write(self, row: Channel) -> None:
        """What was configured, and who is told instead."""
        planning.save(row)
        Channel.objects.filter(id=row.id).update(fallback=row.fallback)

    def put_away(self, row: Channel) -> None:
        """The alert about it goes along."""
        planning.archive(row)


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
