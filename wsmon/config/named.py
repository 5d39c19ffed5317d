"""Sections that hold things by their names: reading them, and planning what becomes of the rows they stand for.

A row is never deleted: what is no longer wished for is archived, and comes back when its name is wished for again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from wsmon.config.problems import Finding, show
from wsmon.config.schema import wrong_mapping
from wsmon.config.section import Change, Plan

Names = Mapping[str, int | None]
"""What can be named: name -> its row, None for one that is new."""
Judged = TypeVar("Judged")


# Reading ------------------------------------------------------------------------------------------


def read_entries(
    data: Any, judge: Callable[[str, Any], tuple[Judged | None, list[Finding]]]
) -> tuple[list[Judged], list[Finding]]:
    """Judge every entry of a section by its name; the specs are only complete when there is no finding."""
    if not isinstance(data, Mapping):
        return [], [Finding((), wrong_mapping(data))]
    specs: list[Judged] = []
    findings: list[Finding] = []
    for name, value in data.items():
        spec, found = judge(name, value)
        findings += [finding.under(name) for finding in found]
        specs += [spec] if spec else []
    return specs, findings


def read_named(
    data: Any, judge: Callable[[str, Any], tuple[Judged | None, list[Finding]]]
) -> tuple[list[Judged], list[Finding]]:
    """The same for entries that may be ``renamed_from`` another name."""
    specs, findings = read_entries(data, judge)
    return specs, findings + list(_same_origins(data) if isinstance(data, Mapping) else ())


def _same_origins(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Two entries that are renamed from the same one."""
    seen: dict[str, str] = {}
    for name, value in data.items():
        source = value.get("renamed_from") if isinstance(value, Mapping) else None
        if isinstance(source, str) and seen.setdefault(source, name) != name:
            yield Finding((name, "renamed_from"), f"{seen[source]} is renamed from {show(source)} too")


# Planning -----------------------------------------------------------------------------------------


class Kept(Protocol):
    """A row that is archived instead of being deleted."""

    id: Any
    archived_at: Any


class Wish(Protocol):
    """What a file says of one of them."""

    @property
    def slug(self) -> str:
        """Its name."""
        ...

    @property
    def renamed_from(self) -> str | None:
        """The name that it had."""
        ...


Row = TypeVar("Row", bound=Kept)
Spec = TypeVar("Spec", bound=Wish)


def match(
    name: str, renamed_from: str | None, present: Mapping[str, Row], wished: Collection[str]
) -> tuple[Row | None, Row | None, str]:
    """The row that is meant by a name: ``(row or None, archived row that holds the name, problem)``.

    ``renamed_from`` may stay in the file after it was done: it counts only while nothing in use has the
    new name.
    """
    row = present.get(name)
    source = present.get(renamed_from) if renamed_from and renamed_from != name else None
    if (
        source is None
        or renamed_from is None
        or (row is not None and (row.archived_at is None or source.archived_at is not None))
    ):
        return row, None, ""
    if renamed_from in wished:
        return row, None, f"{show(renamed_from)} is in the file too; it cannot be renamed and stay"
    return source, row, ""


def in_use(key: str, model: Any, earlier: Mapping[str, Plan]) -> Names:
    """What can be named: the section ``key`` of the file, or the rows of ``model`` when the file has none."""
    if key in earlier:
        return earlier[key].names
    return dict(model._default_manager.filter(archived_at=None).values_list("slug", "id"))


class Planner(ABC, Generic[Spec, Row]):
    """Compares specs with the rows as they are."""

    noun: ClassVar[str]
    revived: ClassVar[str] = "revived with its history"
    archived: ClassVar[str] = "archived, its history is kept"

    def __init__(self, wish: Sequence[Spec], prune: bool, finish: Callable[[], object]) -> None:
        self.wish = wish
        self.prune = prune
        self.result = Plan(finish=finish)
        self.rows: dict[str, Row] = {}
        """By name, as far as they are there: changes add what they make."""

    def plan(self) -> Plan:
        """Look at everything in the file, then at what the file does not mention."""
        present = self.present()
        wished = {spec.slug for spec in self.wish}
        used: set[int] = set()
        for spec in self.wish:
            row, aside, problem = match(spec.slug, spec.renamed_from, present, wished)
            self.result.names[spec.slug] = row.id if row else None
            if problem:
                self.result.findings.append(Finding((spec.slug, "renamed_from"), problem))
                continue
            used |= {row.id} if row else set()
            self.one(spec, row, aside)
        for name, row in present.items():
            if row.archived_at is None and row.id not in used:
                self.result.names |= {} if self.prune else {name: row.id}
                self.leave(f"{self.noun} {name}", partial(self.archive, row))
        return self.result

    def one(self, spec: Spec, row: Row | None, aside: Row | None) -> None:
        """Plan one of them; ``aside`` is archived and holds the name that it gets."""
        target = f"{self.noun} {spec.slug}"
        save = partial(self.save, spec, row, aside)
        differences = list(self.differences(spec, row)) if row else []
        if row is None:
            self.add("+", f"{target} ({self.what(spec)})", save)
        elif row.archived_at is not None:
            self.add("+", f"{target}: " + ", ".join([self.revived, *differences]), save)
        elif differences:
            self.add("~", f"{target}: " + ", ".join(differences), save)
        else:
            self.rows[spec.slug] = row

    def leave(self, target: str, archive: Callable[[], object]) -> None:
        """Something is not in the file."""
        if self.prune:
            self.add("-", f"{target} ({self.archived})", archive)
        else:
            self.result.not_in_file.append(target)

    def add(self, sign: str, text: str, act: Callable[[], object]) -> None:
        """Append a change."""
        self.result.changes.append(Change(sign, text, act))

    @abstractmethod
    def present(self) -> dict[str, Row]:
        """Every row by name, archived ones too."""

    @abstractmethod
    def what(self, spec: Spec) -> str:
        """What a new one is, in a word or two."""

    @abstractmethod
    def differences(self, spec: Spec, row: Row) -> Iterator[str]:
        """What a change would change, in words."""

    @abstractmethod
    def save(self, spec: Spec, row: Row | None, aside: Row | None) -> None:
        """Write one; an archived holder of its name makes room."""

    @abstractmethod
    def archive(self, row: Row) -> None:
        """Take one out of use."""
