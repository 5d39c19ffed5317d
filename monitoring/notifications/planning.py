"""From the channels a file wishes for to a plan: which rows are made, changed, renamed, revived, archived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from monitoring import alerts, changes, renaming
from monitoring.models import Channel
from monitoring.notifications.outbox import CHANNEL_KIND
from monitoring.notifications.schema import ChannelSpec
from monitoring.schema import STORED
from wsmon import live
from wsmon.config.named import Names, Planner
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.section import Change, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON


class ChannelPlanner(Planner[ChannelSpec, Channel]):
    """Plans channels; the services and the channel that they name must be there afterwards."""

    noun = "channel"
    revived = "revived"

    def __init__(self, wish: Sequence[ChannelSpec], prune: bool, services: Names) -> None:
        super().__init__(wish, prune, told)
        self.services = services
        self.later: list[Change] = []
        """What needs all channels to be there."""

    def plan(self) -> Plan:
        """As the others; and a channel may name one that stands after it."""
        super().plan()
        self.result.findings += [one for spec in self.wish for one in self.unknown(spec)]
        self.result.changes += self.later
        return self.result

    def present(self) -> dict[str, Channel]:
        """Every channel."""
        return {row.slug: row for row in Channel.objects.order_by("id").select_related("fallback")}

    def unknown(self, spec: ChannelSpec) -> Iterator[Finding]:
        """The services and the fallback that are not there."""
        for index, name in enumerate(spec.values["services"]):
            if name not in self.services:
                yield Finding((spec.slug, "services", index), not_one_of(name, self.services, "a service"))
        if spec.fallback is not None and spec.fallback not in self.result.names:
            message = not_one_of(spec.fallback, set(self.result.names) - {spec.slug}, "a channel")
            yield Finding((spec.slug, "fallback"), message)

    def one(self, spec: ChannelSpec, row: Channel | None, aside: Channel | None) -> None:
        """Plan one channel."""
        if spec.url == STORED and (row is None or row.encrypted is None):
            message = "says stored, but no value is stored: enter it in the admin first, or use env:NAME"
            self.result.findings.append(Finding((spec.slug, "url"), message))
        else:
            super().one(spec, row, aside)
        self.later += self.fallback(spec, row)

    def what(self, spec: ChannelSpec) -> str:
        """Its address, or where that is."""
        return spec.url

    def differences(self, spec: ChannelSpec, row: Channel) -> Iterator[str]:
        """What a change would change."""
        if row.slug != spec.slug:
            yield f"renamed from {row.slug}"
        if url_of(row) != spec.url:
            yield f"url {url_of(row)} -> {spec.url}"
        for name, wanted in spec.values.items():
            present = getattr(row, name)
            if present != wanted:
                yield f"{name} {_say(name, present)} -> {_say(name, wanted)}"

    def fallback(self, spec: ChannelSpec, row: Channel | None) -> Iterator[Change]:
        """The channel that is told instead, once all of them are there."""
        before = fallback_of(row) if row else None
        if before != spec.fallback:
            act = partial(self.set_fallback, spec.slug, spec.fallback)
            text = f"channel {spec.slug}: fallback {before or 'none'} -> {spec.fallback or 'none'}"
            yield Change("~" if row else "+", text, act)

    def save(self, spec: ChannelSpec, row: Channel | None, aside: Channel | None) -> None:
        """Write one; an archived holder of its name makes room."""
        if aside:
            changes.move_aside(aside)
        channel = row if row is not None else Channel()
        channel.slug, channel.archived_at = spec.slug, None
        for name, value in spec.values.items():
            setattr(channel, name, value)
        if spec.url != STORED:
            channel.reference, channel.encrypted = spec.url, None
        save(channel)
        self.rows[spec.slug] = channel

    def set_fallback(self, slug: str, other: str | None) -> None:
        """Write who is told instead."""
        fallback = Channel.objects.get(slug=other) if other else None
        Channel.objects.filter(id=self.rows[slug].id).update(fallback=fallback)

    def archive(self, row: Channel) -> None:
        """Take a channel out of use."""
        archive(row)


def save(channel: Channel) -> None:
    """Write what was configured of a channel; what its messages say of it is others'.

    Whatever names it follows when it gets another name.
    """
    if channel._state.adding:
        channel.save()
        return
    old = Channel.objects.values_list("slug", flat=True).get(id=channel.id)
    channel.save(update_fields=[*_COLUMNS, "slug", "reference", "encrypted", "archived_at"])
    renaming.follow_channel(old, channel.slug)


def archive(channel: Channel) -> None:
    """Take a channel out of use; that it takes no messages is no news any more."""
    changes.archive(channel)
    alerts.resolve(f"{CHANNEL_KIND}:{channel.slug}")


def told() -> None:
    """After changes of channels, or of who is told: open pages look again."""
    live.publish("alert", {"alerts": []})


def url_of(channel: Channel) -> str:
    """A channel's address as the file has it."""
    return STORED if channel.encrypted is not None else channel.reference


def fallback_of(channel: Channel) -> str | None:
    """The slug of the channel that is told instead, unless that is archived."""
    other = channel.fallback
    return other.slug if other is not None and other.archived_at is None else None


_COLUMNS = ("min_severity", "services", "quiet_hours", "digest", "max_per_hour", "direct")


def _say(name: str, value: JSON) -> str:
    if value in ("", None, [], {}):
        return "none"
    if name == "digest":
        return format_duration(value)
    if name == "quiet_hours":
        return f"{value['from']}-{value['to']}"
    return ", ".join(value) if isinstance(value, list) else show(value).strip('"')
