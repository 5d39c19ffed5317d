"""Payloads, headers and answers as people may see them: without personal data and secrets.

Personal data is found by the name of its field and by its shape (webhooks/personal.py), in JSON at any
depth, in form bodies, in JSON inside forms, and in text; secrets by ``wsmon.redact``. Masking what is
masked changes nothing, and whatever comes in, nothing raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from webhooks import personal
from wsmon.redact import MASK as REDACTED
from wsmon.redact import redact, redact_json
from wsmon.vocabulary import JSON

SHOWN = 262_144
"""At most so many characters of a payload are shown; ``Masked.truncated`` says that there is more."""
ANSWER = 16_384
"""At most so many bytes of a destination's answer are kept."""
PATHS = 1_000
_DEPTH = 64
_PARSED = 4_194_304
"""Larger bodies are not parsed: their beginning is masked as text."""
_TAIL = 512
"""Of a text that is cut, so much more is dropped: an address or a number may have been cut in two."""
_FIELDS = 2_000


@dataclass(frozen=True, slots=True)
class Mask:
    """Stands where something was masked. ``kind`` is a word for people: "email", "phone", "secret", ..."""

    kind: str

    def __str__(self) -> str:
        return f"[masked {self.kind}]"


@dataclass(slots=True)
class Masked:
    """A payload as it may be shown.

    ``text`` is JSON with indents, a form body, or the text as it was; ``value`` is the JSON with
    :class:`Mask` objects (a text may also hold their words), None when it is no JSON; ``fields`` are a form's
    pairs. ``masked`` lists where something was masked ("data.items[0].email"), at most ``PATHS``.
    """

    text: str = ""
    value: JSON = None
    fields: list[tuple[str, str]] | None = None
    masked: list[str] = field(default_factory=list)
    truncated: bool = False


def mask_payload(body: bytes, content_type: str = "", limit: int = SHOWN) -> Masked:
    """Mask a body; ``content_type`` may be empty or wrong. At most about ``limit`` characters are shown."""
    text = _decode(body[:_PARSED])
    if "urlencoded" in content_type.lower() or _FORM.match(text):
        return _mask_form(text, limit)
    if len(body) <= _PARSED and text.lstrip()[:1] in ("{", "[", '"'):
        try:
            return _mask_json(json.loads(text), limit)
        except (ValueError, RecursionError):
            pass
    shown, cut = _mask_start(text, limit)
    return Masked(shown, masked=["text"] if shown != text[: len(shown)] else [], truncated=cut or len(body) > _PARSED)


def mask_answer(body: bytes, content_type: str = "") -> bytes:
    """A destination's answer as it may be kept: masked, at most ``ANSWER`` bytes of UTF-8."""
    kept = mask_payload(body, content_type, ANSWER).text.encode("utf-8", "replace")[:ANSWER]
    return kept.decode("utf-8", "ignore").encode()


def mask_headers(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with credentials, signatures, addresses and the like masked; order and repetition stay."""
    return [(name, _mask_header(name, value)) for name, value in pairs]


def mask_text(text: str) -> str:
    """A text of any kind (a message, a URL, a log line) without personal data and secrets."""
    for _ in range(4):
        before, text = text, _mask_once(text)
        if text == before:
            break
    return text


def _mask_once(text: str) -> str:
    """What is masked no longer hides the beginning of what stands beside it, hence again until nothing changes."""
    cleaned = _clean(redact(text))
    cleaned = _QUOTED.sub(_quoted, cleaned)
    cleaned = _LINE.sub(_line, cleaned)
    cleaned = _QUERY.sub(_query, cleaned)
    return personal.replace_shapes(cleaned, _written)


def _written(kind: str) -> str:
    return f"[masked {kind}]"


_MASKED = re.compile(rf"\[masked ({'|'.join(map(re.escape, personal.KINDS))})\]|\*\*\*")
_SECRET_HEADER = re.compile(
    r"auth|cookie|secret|token|passw|api-?key|access-?key|signature|hmac|session", re.IGNORECASE
)
# In text: "name": "value" of JSON that cannot be parsed; Name: value on a line of its own; name=value.
_QUOTED = re.compile(
    r"""(?P<label>(?P<q>["'])(?P<name>[\w.-]{1,60})(?P=q)\s{0,20}:\s{0,20})(?P<value>"(?:[^"\\]|\\.)*+"?|-?\d[\d.]*)"""
)
_LINE = re.compile(r"^(?P<label>[ \t]{0,20}(?P<name>[A-Za-z][\w -]{0,60}):[ \t]+)(?P<value>\S[^\r\n]*)", re.MULTILINE)
_FORM = re.compile(r"[^\s={}<>\"']{0,600}=[^\s{}<>\"']*+\Z")
"""A form body that says it is something else."""
_QUERY = re.compile(r"""(?P<label>(?<![\w.\[\]-])(?P<name>[\w.\[\]-]{1,60})=)(?P<value>[^&\s"'<>;]+)""")


def _quoted(match: re.Match[str]) -> str:
    kind = personal.kind_of_field(match["name"])
    value = match["value"].strip('"')
    if not kind and personal.is_phone_of(match["name"], value):
        kind = "phone"
    if not kind or not value or _MASKED.fullmatch(value):
        return match[0]
    return f'{match["label"]}"{_written(kind)}"'


def _line(match: re.Match[str]) -> str:
    kind = personal.kind_of_field(match["name"])
    return match["label"] + _written(kind) if kind and not _MASKED.fullmatch(match["value"]) else match[0]


def _query(match: re.Match[str]) -> str:
    kind = personal.kind_of_field(match["name"].rstrip("]").rpartition("[")[2])
    return match["label"] + _written(kind) if kind and not match["value"].startswith("[masked") else match[0]


def _mask_header(name: str, value: str) -> str:
    if not value:
        return value
    kind = personal.kind_of_field(name)
    if _SECRET_HEADER.search(name):
        return REDACTED
    return _written(kind) if kind else mask_text(value)


def _mask_start(text: str, limit: int) -> tuple[str, bool]:
    """The beginning of a text, masked; whether there is more."""
    if len(text) <= limit:
        return mask_text(text), False
    return mask_text(text[:limit])[:-_TAIL], True


def _mask_form(text: str, limit: int) -> Masked:
    """A form body: names and values in clear (``%``, ``&`` and ``+`` escaped), JSON inside it masked as JSON."""
    try:
        pairs = parse_qsl(text.strip("\r\n"), keep_blank_values=True, max_num_fields=_FIELDS, errors="replace")
    except ValueError:
        shown, cut = _mask_start(text, limit)
        return Masked(shown, masked=["text"], truncated=cut)
    fields: list[tuple[str, str]] = []
    walk = _Walk(limit)
    for name, value in pairs:
        if walk.left <= 0:
            break
        fields.append((mask_text(name[:200]), _form_value(walk, name, value)))
    written = "&".join("=".join(map(_escaped, pair)) for pair in fields)
    return Masked(written, None, fields, walk.masked, walk.truncated or walk.left <= 0)


def _form_value(walk: _Walk, name: str, value: str) -> str:
    if value[:1] in ("{", "["):
        try:
            inner = walk.value(json.loads(value), name, "", 0, name)
            return json.dumps(inner, default=str, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    # name[first] and data.email: the last part says what it is.
    return str(walk.value(value, re.split(r"[\[.]", name.rstrip("]"))[-1], "", 0, name))


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26").replace("+", "%2B").replace("\n", "%0A").replace("\r", "%0D")


def _mask_json(parsed: JSON, limit: int) -> Masked:
    walk = _Walk(limit)
    value = walk.value(parsed, "", "", 0, "")
    text = json.dumps(value, default=str, indent=2, ensure_ascii=False)
    return Masked(_clean(text), value, None, walk.masked, walk.truncated)


class _Walk:
    """One way through a JSON value. It stops adding when what it made would be longer than may be shown."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.masked: list[str] = []
        self.truncated = False

    def value(self, value: JSON, name: str, parent: str, depth: int, path: str, kind: str = "") -> JSON:
        """``value``, which stands as ``name`` in an object under ``parent``, masked.

        ``kind`` is what all of it is, once a field above it was personal as a whole.
        """
        kind = kind or personal.kind_of_field(name, parent)
        if isinstance(value, dict | list):
            self.left -= 4 * depth + 8
            if depth > _DEPTH:
                self.truncated = True
                return "…"
            if isinstance(value, list):
                return self._list(value, name, parent, depth, path, kind)
            return self._object(value, name, depth, path, kind)
        masked = self._scalar(value, name, kind)
        if masked is not value and masked != value and len(self.masked) < PATHS:
            self.masked.append(path)
        self.left -= 2 * depth + len(str(masked)) + 6
        return masked

    def _object(self, items: dict[str, Any], name: str, depth: int, path: str, kind: str) -> JSON:
        made: dict[str, Any] = {}
        for count, (key, item) in enumerate(items.items()):
            if self.left <= 0:
                self.truncated = True
                made["…"] = f"{len(items) - count} more"
                break
            shown = _free(made, _mask_key(key))
            self.left -= len(shown)
            made[shown] = self.value(item, key, name, depth + 1, f"{path}.{shown}" if path else shown, kind)
        return made

    def _list(self, items: list[Any], name: str, parent: str, depth: int, path: str, kind: str) -> JSON:
        made: list[Any] = []
        for count, item in enumerate(items):
            if self.left <= 0:
                self.truncated = True
                made.append(f"… {len(items) - count} more")
                break
            made.append(self.value(item, name, parent, depth + 1, f"{path}[{count}]", kind))
        return made

    def _scalar(self, value: JSON, name: str, kind: str) -> JSON:
        if value is None or isinstance(value, bool) or value == "":
            return value
        text = value if isinstance(value, str) else json.dumps(value)
        if already := _MASKED.fullmatch(text):
            return Mask(already[1] or "secret")
        if kind:
            return Mask(kind)
        if personal.is_phone_of(name, text):
            return Mask("phone")
        masked = self._text(text, name)
        if whole := _MASKED.fullmatch(masked):
            return Mask(whole[1] or "secret")
        return value if masked == text else masked

    def _text(self, text: str, name: str) -> str:
        word = personal.words_of(name)
        if redact_json({word: text[:100]}).get(word, REDACTED) == REDACTED:
            return REDACTED
        masked, cut = _mask_start(text, max(self.left, 2 * _TAIL))
        self.truncated |= cut
        return masked + "…" if cut else masked


def _mask_key(key: str) -> str:
    """A key is data, too, where objects are maps: ``{"jane@example.com": 3}``."""
    return _clean(personal.replace_shapes(redact(key[:200]), _written))


def _free(made: dict[str, Any], key: str) -> str:
    """``key``, numbered when another one looks the same since it was masked."""
    if key not in made:
        return key
    return next(
        f"{key} {number}" for number in range(len(made) + 1, 2 * len(made) + 3) if f"{key} {number}" not in made
    )


def _decode(body: bytes) -> str:
    return body.decode(json.detect_encoding(body), "replace").lstrip("\ufeff")


def _clean(text: str) -> str:
    """Neither NUL, behind which a number might hide, nor half a surrogate pair, which no page can send."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
