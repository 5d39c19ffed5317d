"""Applying a file, and exporting one. The one writer of wsmon.yaml's objects besides the admin."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from django.conf import settings
from django.db import connection, transaction
from django.utils.module_loading import import_string

from wsmon.audit import Actor, record
from wsmon.config.document import Document, load
from wsmon.config.problems import ConfigError, Finding
from wsmon.config.schema import unknown_key, wrong_mapping
from wsmon.config.section import Plan, Section

_LOCK = 0x7773_6D6F_6E01
"""The advisory lock of whoever changes the configuration ("wsmon", 1)."""


@dataclass(slots=True)
class Report:
    """What an apply did, or with ``dry_run`` would do."""

    changes: list[str] = field(default_factory=list)
    not_in_file: list[str] = field(default_factory=list)
    dry_run: bool = False
    prune: bool = False

    def lines(self) -> list[str]:
        """For people: the plan, and what the file does not mention."""
        lines = list(self.changes) or ["nothing to change"]
        if self.not_in_file:
            hint = "" if self.prune else " (--prune archives all but secrets)"
            lines.append(f"not in the file, left as they are{hint}:")
            lines += [f"  {name}" for name in self.not_in_file]
        if self.dry_run and self.changes:
            lines.append("dry run: nothing was changed")
        return lines


def apply_file(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    prune: bool = False,
    out: Callable[[str], object] | None = None,
) -> Report:
    """Make the database as the file says, in one transaction; ``out`` gets each line of the report.

    Without ``prune``, what the file does not mention stays; with it, that is archived (nothing is ever
    deleted). Raises :class:`ConfigError` with every problem, having changed nothing.
    """
    document = load(path)
    wishes = _read(document)
    with transaction.atomic():
        lock_configuration()
        plans = _plans(document, wishes, prune)
        report = _report(plans)
        report.dry_run, report.prune = dry_run, prune
        if report.changes and not dry_run:
            _carry_out(plans)
            _audit(document, report)
    if out:
        for line in report.lines():
            out(line)
    return report


def export_text() -> str:
    """The present configuration as YAML; applying it changes nothing. Secrets are references only."""
    exported = {section.key: section.export() for section in _sections()}
    remarks = [f"# {remark}\n" for one in exported.values() for remark in one.remarks]
    data = {key: one.data for key, one in exported.items() if one.data} or {"services": {}}
    return "".join(remarks) + yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )


def lock_configuration() -> None:
    """Wait until nobody else changes the configuration; lasts to the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


class _Dumper(yaml.SafeDumper):
    """Writes no aliases: equal parts are written out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def represent_int(self, data: int) -> yaml.ScalarNode:
        """A whole number too large to be read as one was a float: the database keeps both as the same number."""
        return super().represent_int(data) if abs(data) < 2**63 else self.represent_float(float(data))


_Dumper.add_representer(int, _Dumper.represent_int)


def _sections() -> list[Section]:
    return [import_string(dotted_path) for dotted_path in settings.CONFIG_SECTIONS]


def _read(document: Document) -> list[tuple[Section, Any]]:
    """Let each section judge its part; raise with everything that is wrong anywhere."""
    problems = list(document.problems)
    sections = {section.key: section for section in _sections()}
    findings: list[Finding] = []
    wishes: list[tuple[Section, Any]] = []
    data = document.data
    if data is None:
        findings.append(Finding((), "is empty: it needs at least `services:`"))
    elif not isinstance(data, Mapping):
        findings.append(Finding((), wrong_mapping(data)))
    else:
        for key, value in data.items():
            if key in sections:
                wish, found = sections[key].read(value)
                findings += [one.under(key) for one in found]
                wishes.append((sections[key], wish))
            else:
                findings.append(Finding((key,), unknown_key(key, [*sections])))
    problems += map(document.locate, findings)
    if problems:
        raise ConfigError(problems)
    order = list(sections)
    return sorted(wishes, key=lambda wish: order.index(wish[0].key))


def _plans(document: Document, wishes: list[tuple[Section, Any]], prune: bool) -> list[Plan]:
    plans: dict[str, Plan] = {}
    for section, wish in wishes:
        plans[section.key] = section.plan(wish, prune=prune, earlier=plans)
    findings = [one.under(key) for key, plan in plans.items() for one in plan.findings]
    if findings:
        raise ConfigError(map(document.locate, findings))
    return list(plans.values())


def _report(plans: list[Plan]) -> Report:
    return Report(
        changes=[str(change) for plan in plans for change in plan.changes],
        not_in_file=[name for plan in plans for name in plan.not_in_file],
    )


def _carry_out(plans: list[Plan]) -> None:
    for plan in plans:
        for change in plan.changes:
            if change.act:
                change.act()
        if plan.finish and plan.changes:
            plan.finish()


def _audit(document: Document, report: Report) -> None:
    record(
        Actor.system("apply"),
        "configuration.apply",
        f"file:{document.name}",
        prune=report.prune,
        changes=report.changes[:200],
        count=len(report.changes),
    )
