"""From the channels a file wishes for to a plan: which rows are made, changed, renamed, revived, archived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from django.utils import timezone

from monitoring import changes
from monitoring.models import Channel, Service
from monitoring.notifications.schema import ChannelSpec
from monitoring.planning import match
from monitoring.schema import STORED
from wsmon import live
from wsmon.config.problems import Finding, not_one_of, show
from wsmon.config.section import Change, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON

Names = Mapping[str, int | None]


class ChannelPlanner:
    """Compares specs with the rows as they are."""

    def __init__(self, wish: Sequence[ChannelSpec], prune: bool, services: Names) -> None:
        self.wish = wish
        self.prune = prune
        self.services = services
        self.result = Plan(finish=told)
        self.rows: dict[str, Channel] = {}

    def plan(self) -> Plan:
        """Look at everything in the file, then at what the file does not mention."""
        present = {row.slug: row for row in Channel.objects.order_by("id").select_related("fallback")}
        wished = {spec.slug for spec in self.wish}
        used: set[int] = set()
        later: list[Change] = []
        for spec in self.wish:
            row, aside, problem = match(spec.slug, spec.renamed_from, present, wished)
            self.result.names[spec.slug] = row.id if row else None
            if problem:
                self.result.findings.append(Finding((spec.slug, "renamed_from"), problem))
                continue
            used |= {row.id} if row else set()
            self.one(spec, row, aside)
            later += self.fallback(spec, row)
        for row in present.values():
            if row.archived_at is None and row.id not in used:
                self.result.names |= {} if self.prune else {row.slug: row.id}
                self.leave(row)
        self.result.findings += [one for spec in self.wish for one in self.unknown(spec)]
        self.result.changes += later
        return self.result

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
            return
        target = f"channel {spec.slug}"
        save = partial(self.save, spec, row, aside)
        differences = list(_differences(spec, row)) if row else []
        if row is None:
            self.add("+", f"{target} ({spec.url})", save)
        elif row.archived_at is not None:
            self.add("+", f"{target}: " + ", ".join(["revived", *differences]), save)
        elif differences:
            self.add("~", f"{target}: " + ", ".join(differences), save)
        else:
            self.rows[spec.slug] = row

    def fallback(self, spec: ChannelSpec, row: Channel | None) -> Iterator[Change]:
        """The channel that is told instead, once all of them are there."""
        before = fallback_of(row) if row else None
        if before != spec.fallback:
            act = partial(self.set_fallback, spec.slug, spec.fallback)
            text = f"channel {spec.slug}: fallback {before or 'none'} -> {spec.fallback or 'none'}"
            yield Change("~" if row else "+", text, act)

    def add(self, sign: str, text: str, act: Callable[[], object]) -> None:
        """Append a change."""
        self.result.changes.append(Change(sign, text, act))

    def save(self, spec: ChannelSpec, row: Channel | None, aside: Channel | None) -> None:
        """Write one; an archived holder of its name makes room."""
        if aside:
            move_aside(aside)
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

    def leave(self, row: Channel) -> None:
        """A channel is not in the file."""
        if self.prune:
            self.add("-", f"channel {row.slug} (archived, its history is kept)", partial(archive, row))
        else:
            self.result.not_in_file.append(f"channel {row.slug}")


def save(channel: Channel) -> None:
    """Write what was configured of a channel; what its messages say of it is others'."""
    if channel._state.adding:
        channel.save()
        return
    channel.save(update_fields=[*_COLUMNS, "slug", "reference", "encrypted", "archived_at"])


def archive(channel: Channel) -> None:
    """Take a channel out of use; what waits for it is dropped."""
    channel.archived_at = timezone.now()
    channel.save(update_fields=["archived_at"])


def move_aside(channel: Channel) -> None:
    """Rename an archived channel because its name is wanted."""
    channel.slug = changes.free_name(channel.slug, lambda slug: Channel.objects.filter(slug=slug).exists())
    channel.save(update_fields=["slug"])


def told() -> None:
    """After changes: open pages look again."""
    live.publish("alert", {"alerts": []})


def services_in_use(earlier: Mapping[str, Plan]) -> Names:
    """The services that can be named: those of the file, or of the database when it has none."""
    if "services" in earlier:
        return earlier["services"].names
    return dict(Service.objects.filter(archived_at=None).values_list("slug", "id"))


def url_of(channel: Channel) -> str:
    """A channel's address as the file has it."""
    return STORED if channel.encrypted is not None else channel.reference


def fallback_of(channel: Channel) -> str | None:
    """The slug of the channel that is told instead, unless that is archived."""
    other = channel.fallback
    return other.slug if other is not None and other.archived_at is None else None


_COLUMNS = ("min_severity", "services", "quiet_hours", "digest", "max_per_hour", "direct")


def _differences(spec: ChannelSpec, row: Channel) -> Iterator[str]:
    if row.slug != spec.slug:
        yield f"renamed from {row.slug}"
    if url_of(row) != spec.url:
        yield f"url {url_of(row)} -> {spec.url}"
    for name, wanted in spec.values.items():
        present = getattr(row, name)
        if present != wanted:
            yield f"{name} {_say(name, present)} -> {_say(name, wanted)}"


def _say(name: str, value: JSON) -> str:
    if value in ("", None, [], {}):
        return "none"
    if name == "digest":
        return format_duration(value)
    if name == "quiet_hours":
        return f"{value['from']}-{value['to']}"
    return ", ".join(value) if isinstance(value, list) else show(value).strip('"')
