"""How mistakes in a configuration are told: where, what is wrong, and what was probably meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from wsmon.redact import redact

Path: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value."""

_SHOWN = 60
_LISTED = 24


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, without a line: ``path`` leads to the value from where the finder began."""

    path: Path
    message: str

    def under(self, *prefix: str | int) -> Finding:
        """The same finding, seen from further up."""
        return Finding((*prefix, *self.path), self.message)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file. ``line`` counts from 1; None when the file as a whole is meant."""

    file: str
    line: int | None
    path: Path
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, dotted(self.path), self.message) if part)


class ConfigError(Exception):
    """A configuration is refused as a whole; ``problems`` holds every mistake found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(map(str, self.problems)))


def dotted(path: Path) -> str:
    """``("services", "site", "checks", 0)`` as ``services.site.checks[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{shorten(part)}" if text else shorten(part)
    return text


def show(value: object) -> str:
    """A value for use in a message: short, quoted when it is text, secrets masked."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return json.dumps(shorten(redact(value)), ensure_ascii=False)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return shorten(json.dumps(value))


def shorten(text: str) -> str:
    """Cut ``text`` to what fits into a message, line breaks and the like made visible."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """``; did you mean "interval"?`` when something is near enough, else the choices, else nothing."""
    known = sorted(set(choices))
    folded = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(word.lower()[:_SHOWN], folded, n=2, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f'"{folded[match]}"' for match in near) + "?"
    if known and len(known) <= _LISTED:
        return "; known: " + ", ".join(known)
    return ""


def not_one_of(value: object, choices: Iterable[str], what: str) -> str:
    """``"hgih" is not a criticality; did you mean "high"?``"""
    if not isinstance(value, str):
        return f"{show(value)} is not {what}{did_you_mean('', choices)}"
    return f"{show(value)} is not {what}{did_you_mean(value, choices)}"
