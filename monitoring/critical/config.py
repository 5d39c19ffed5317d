"""The ``critical_days`` section of wsmon.yaml: rules by name. What a rule may say is in ``critical.schema``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from django.db.models.functions import Now

from monitoring.critical import inforce, rules
from monitoring.critical.schema import RuleSpec, read_rule
from monitoring.critical.wording import days_words
from monitoring.literals import mask
from monitoring.models import CriticalRule
from wsmon.config.named import read_entries
from wsmon.config.problems import Finding, dotted
from wsmon.config.section import Change, Exported, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON

_DURATIONS = ("lead", "trail")
_ORDER = (
    "every", "dates", "ranges", "rrule", "starts_at", "lasts", "ical", "holidays", "country", "subdivision", "match",
    "except", "freeze", "read_only",
)  # fmt: skip


class CriticalDaysSection:
    """Reads, plans and exports rules."""

    key = "critical_days"

    def read(self, data: Any) -> tuple[list[RuleSpec], list[Finding]]:
        """Judge every rule; the specs are only complete when there is no finding."""
        return read_entries(data, read_rule)

    def plan(self, wish: Sequence[RuleSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:  # noqa: ARG002
        """Compare with the database."""
        plan = Plan(finish=inforce.look_again)
        present = {row.slug: row for row in CriticalRule.objects.order_by("id")}
        for spec in wish:
            change = _change(spec, present.get(spec.slug))
            plan.changes += [change] if change else []
            plan.names[spec.slug] = present[spec.slug].id if spec.slug in present else None
        wished = {spec.slug for spec in wish}
        for row in present.values():
            if row.archived_at is None and row.slug not in wished:
                _leave(row, plan, prune)
        return plan

    def export(self) -> Exported:
        """Every rule in use, in the order they were made."""
        exported = Exported({})
        for row in CriticalRule.objects.filter(archived_at=None).order_by("id"):
            exported.data[row.slug] = export_rule(row, exported.remarks)
        return exported


critical_days_section = CriticalDaysSection()


def export_rule(row: CriticalRule, remarks: list[str] | None = None) -> dict[str, JSON]:
    """A rule as in the file, defaults left out."""
    found: dict[str, JSON] = {"name": row.name} if row.name else {}
    spec, masked = mask(row.spec)
    if remarks is not None:
        remarks += [
            f"{dotted(('critical_days', row.slug, *path))}: a secret stands here in clear; it is masked, put it"
            " behind env: or file:"
            for path in masked
        ]
    found |= {key: _short(key, spec[key]) for key in _ordered(spec)}
    if row.time_zone:
        found["time_zone"] = row.time_zone
    if row.lead != rules.LEAD:
        found["lead"] = format_duration(row.lead)
    if row.trail != rules.TRAIL:
        found["trail"] = format_duration(row.trail)
    return found


def save_rule(spec: RuleSpec, row: CriticalRule | None) -> CriticalRule:
    """Write one rule; an archived one is taken into use again."""
    rule = row if row is not None else CriticalRule(slug=spec.slug)
    for name, value in spec.values.items():
        setattr(rule, name, value)
    rule.archived_at = None
    rule.save()
    return rule


def _ordered(spec: Mapping[str, JSON]) -> list[str]:
    """The keys as people write them; the database keeps them in another order."""
    return [key for key in _ORDER if key in spec] + sorted(set(spec) - set(_ORDER))


def _short(key: str, value: JSON) -> JSON:
    """As people write it: one word instead of a list of one."""
    if key == "lasts" and isinstance(value, int | float):
        return format_duration(value)
    if key == "holidays" and isinstance(value, Mapping):
        if list(value) == ["country"]:
            return value["country"]
        return {name: _short(name, value[name]) for name in _ordered(value)}
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _change(spec: RuleSpec, row: CriticalRule | None) -> Change | None:
    save = partial(save_rule, spec, row)
    target = f"critical day {spec.slug}"
    if row is None:
        return Change("+", f"{target}: {days_words(spec.spec)}", save)
    differences = list(_differences(spec, row))
    if row.archived_at is not None:
        return Change("+", f"{target}: " + ", ".join(["revived", *differences]), save)
    return Change("~", f"{target}: " + ", ".join(differences), save) if differences else None


def _differences(spec: RuleSpec, row: CriticalRule) -> Iterator[str]:
    if dict(spec.spec) != row.spec:
        old, new = days_words(row.spec), days_words(spec.spec)
        yield f"{old} -> {new}" if old != new else "its days changed"
    for name in ("name", "time_zone"):
        old, new = getattr(row, name), getattr(spec, name)
        if old != new:
            yield f"{name} {old or 'none'} -> {new or 'none'}"
    for name in _DURATIONS:
        before, after = getattr(row, name), getattr(spec, name)
        if before != after:
            yield f"{name} {format_duration(before)} -> {format_duration(after)}"


def _leave(row: CriticalRule, plan: Plan, prune: bool) -> None:
    target = f"critical day {row.slug}"
    if prune:
        plan.changes.append(Change("-", f"{target} (archived)", partial(archive, row)))
    else:
        plan.not_in_file.append(target)
        plan.names[row.slug] = row.id


def archive(row: CriticalRule) -> None:
    """Take a rule out of use."""
    CriticalRule.objects.filter(id=row.id, archived_at=None).update(archived_at=Now())
