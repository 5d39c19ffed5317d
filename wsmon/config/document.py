"""A YAML file as plain values, with the line of each, and every mistake of form.

Only what JSON can say is accepted: no tags, no dates, text as keys. PyYAML composes the nodes (nothing is
constructed, so a file can run nothing); aliases and ``<<`` work, but may not blow up.
"""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from wsmon.config.problems import ConfigError, Finding, Path, Problem, show

LARGEST = 1_048_576
"""Bytes a configuration may have."""
_MOST_VALUES = 200_000
_DEEPEST = 40
_TAG = "tag:yaml.org,2002:"
# libyaml is ten times faster; both give the same nodes and marks.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class _TooMuch(Exception):
    """The document expands beyond every use; what was read so far is no good."""


@dataclass(slots=True)
class Document:
    """What stands in a file. ``name`` is how messages call it."""

    name: str
    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of ``path``, or of the nearest thing around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def locate(self, finding: Finding) -> Problem:
        """The finding with its place in this file."""
        return Problem(self.name, self.line(finding.path), finding.path, finding.message)

    def complain(self, line: int | None, message: str, path: Path = ()) -> None:
        """Add a problem."""
        self.problems.append(Problem(self.name, line, path, message))


def load(path: str | os.PathLike[str]) -> Document:
    """Read a file. Raises :class:`ConfigError` when there is nothing to look at any further."""
    name = os.fspath(path)
    document = parse(_text(FilePath(path), name), name)
    if document.problems and document.data is None:
        raise ConfigError(document.problems)
    return document


def parse(text: str, name: str = "") -> Document:
    """Read a text. ``data`` is None when it is no YAML at all, or empty."""
    document = Document(name)
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        document.complain(line, f"there is a control character ({control.group()!r}) in the text")
        return document
    try:
        too_deep = _line_too_deep(text)
        if too_deep:
            document.complain(too_deep, f"is nested deeper than {_DEEPEST} levels")
            return document
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        _complain_of_syntax(document, error, text)
        return document
    if root is None:
        return document
    try:
        document.data = _Reader(document).value(root, ())
    except _TooMuch as error:
        document.complain(None, str(error))
    return document


def _text(path: FilePath, name: str) -> str:
    """The file's text; only regular files (reading a pipe would wait for ever)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refusal(name, "is not a regular file")
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise _refusal(name, f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    except ValueError:
        raise _refusal(name, "is not the name of a file") from None
    if len(content) > LARGEST:
        raise _refusal(name, "is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(name, "is not UTF-8 text: save the file as UTF-8", line) from None


def _line_too_deep(text: str) -> int | None:
    """The line where collections nest too deeply. Events come one by one, whereas composing nodes recurses:
    in C, where nothing stops it before the stack ends.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                return event.start_mark.line + 1 if event.start_mark else 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _refusal(name: str, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem(name, line, (), message)])


def _complain_of_syntax(document: Document, error: yaml.YAMLError, text: str) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else None
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[line - 1]) if line and line <= len(lines) else None
    if indent and "\t" in indent.group():
        document.complain(line, "there is a tab at the start of the line: YAML is indented with spaces")
        return
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    context = getattr(error, "context", None)
    document.complain(line, f"is not valid YAML: {what}" + (f" ({context})" if context else ""))


class _Reader:
    """Turns composed nodes into values, noting lines; counts, so that aliases cannot blow up."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.constructor = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES:
            raise _TooMuch(f"holds more than {_MOST_VALUES} values; check its aliases")
        if len(path) > _DEEPEST:
            raise _TooMuch(f"is nested deeper than {_DEEPEST} levels; check its aliases")
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, path)
        return self.scalar(node, path)

    def sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any]:
        self.known_tag(node, path, "seq")
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self.known_tag(node, path, "map")
        found: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                merged.append(value_node)
                continue
            key = self.key(key_node, path)
            if key is None:
                continue
            if key in found:
                first = self.document.lines[(*path, key)]
                self.document.complain(line, f"this key stands here twice, first on line {first}", (*path, key))
                continue
            self.document.lines[(*path, key)] = line
            found[key] = self.value(value_node, (*path, key))
        for value_node in merged:
            self.merge(value_node, path, found)
        return found

    def merge(self, node: yaml.Node, path: Path, into: dict[str, Any]) -> None:
        """``<<: *defaults``: keys that are not there yet."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for one in nodes:
            if not isinstance(one, yaml.MappingNode):
                self.document.complain(node.start_mark.line + 1, "<< needs a mapping", path)
                continue
            for key, value in self.value(one, path).items():
                into.setdefault(key, value)

    def key(self, node: yaml.Node, path: Path) -> str | None:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.document.complain(line, "a key must be text, not a list or a mapping", path)
            return None
        if node.tag != _TAG + "str":
            self.document.complain(line, f"the key {show(node.value)} must be text: put it in quotes", path)
            return None
        if not self.storable(node.value):
            self.document.complain(line, "a key holds a character that cannot be stored", path)
            return None
        return str(node.value)

    def known_tag(self, node: yaml.Node, path: Path, tag: str) -> None:
        if node.tag != _TAG + tag:
            self.document.complain(node.start_mark.line + 1, f"the tag {show(node.tag)} is not supported", path)

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        line, text, tag = node.start_mark.line + 1, str(node.value), node.tag.removeprefix(_TAG)
        if tag in {"str", "timestamp", "value", "merge"} or (tag in {"int", "float"} and ":" in text):
            # 2026-11-21 and 1:30 are a date and a number of seconds for YAML 1.1, but text for people.
            if not self.storable(text):
                self.document.complain(line, "there is a character in it that cannot be stored", path)
            return text
        if tag not in {"null", "bool", "int", "float"}:
            self.document.complain(line, f"the tag {show(node.tag)} is not supported", path)
            return None
        try:
            value = self.constructor.construct_object(node)
        except (ValueError, yaml.YAMLError, KeyError):
            value = math.nan
        if (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) >= 2**63
        ):
            self.document.complain(line, f"{show(text)} is not a number one can count with", path)
            return None
        return value

    @staticmethod
    def storable(text: str) -> bool:
        """False for NUL and for halves of surrogate pairs, which "\\0" and "\\ud800" may bring in."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
        return "\x00" not in text
