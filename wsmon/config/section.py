"""What a room contributes to wsmon.yaml: a section, named in ``settings.CONFIG_SECTIONS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsmon.config.problems import Finding


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. ``sign`` is ``+`` (new), ``~`` (changed) or ``-`` (leaves)."""

    sign: str
    text: str
    act: Callable[[], object] | None = None
    """Carries it out, inside the transaction; None when another change does it along with itself."""

    def __str__(self) -> str:
        return f"{self.sign} {self.text}"


@dataclass(slots=True)
class Plan:
    """What applying a section would do."""

    changes: list[Change] = field(default_factory=list)
    not_in_file: list[str] = field(default_factory=list)
    """Objects that exist without being in the file, e.g. ``service stripe``."""
    findings: list[Finding] = field(default_factory=list)
    """Mistakes that only a look at the database shows; they refuse the file too."""
    finish: Callable[[], object] | None = None
    """Called once after the changes, inside the transaction."""
    names: dict[str, int | None] = field(default_factory=dict)
    """What is in use afterwards, for the sections that may name it: name -> its row, None for a new one."""


@dataclass(slots=True)
class Exported:
    """A section as it would stand in a file, and remarks to put above it."""

    data: Any
    remarks: list[str] = field(default_factory=list)


class Section(Protocol):
    """A top-level key of wsmon.yaml. Paths of findings begin below that key."""

    key: str

    def read(self, data: Any) -> tuple[Any, list[Finding]]:
        """Judge the value under the key; return what it wishes for, and every mistake."""
        ...

    def plan(self, wish: Any, *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:
        """Compare a wish with the database, changing nothing.

        ``earlier`` holds, by key, the plans of the sections that are applied before this one, as far as they
        are in the file.
        """
        ...

    def export(self) -> Exported:
        """The present state such that applying it changes nothing; empty data is left out."""
        ...
