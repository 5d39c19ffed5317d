"""The section ``channels`` of wsmon.yaml. Channels name services: it stands after those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from monitoring.alertmodels import Severity
from monitoring.models import Channel, Service
from monitoring.notifications import planning
from monitoring.notifications.planning import ChannelPlanner
from monitoring.notifications.schema import MAX_PER_HOUR, ChannelSpec, read_channel
from wsmon.config.named import in_use, read_named
from wsmon.config.problems import Finding
from wsmon.config.section import Exported, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON


class ChannelsSection:
    """Reads, plans and exports channels."""

    key = "channels"

    def read(self, data: Any) -> tuple[list[ChannelSpec], list[Finding]]:
        """Judge every channel."""
        return read_named(data, read_channel)

    def plan(self, wish: list[ChannelSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare with the database."""
        return ChannelPlanner(wish, prune, in_use("services", Service, earlier)).plan()

    def export(self) -> Exported:
        """Every channel in use, in the order they were made."""
        rows = Channel.objects.filter(archived_at=None).select_related("fallback").order_by("id")
        return Exported({row.slug: export_channel(row) for row in rows})


channels_section = ChannelsSection()


def export_channel(row: Channel) -> dict[str, JSON]:
    """A channel as in the file: keys in the order of the README, defaults left out."""
    found: dict[str, JSON] = {"url": planning.url_of(row)}
    if row.min_severity != Severity.WARNING:
        found["min_severity"] = row.min_severity
    if row.services:
        found["services"] = list(row.services)
    if row.quiet_hours:
        found["quiet_hours"] = _hours(row.quiet_hours)
    if row.digest is not None:
        found["digest"] = format_duration(row.digest)
    if row.max_per_hour != MAX_PER_HOUR:
        found["max_per_hour"] = row.max_per_hour
    if other := planning.fallback_of(row):
        found["fallback"] = other
    if not row.direct:
        found["direct"] = False
    return found


def _hours(kept: Mapping[str, JSON]) -> dict[str, JSON]:
    found: dict[str, JSON] = {"from": kept["from"], "to": kept["to"]}
    if kept.get("days"):
        found["days"] = list(kept["days"])
    if kept["time_zone"] != settings.TIME_ZONE:
        found["time_zone"] = kept["time_zone"]
    return found
