"""Whether something mentions a person: in any writing that webhooks use, and nobody else by mistake.

A subject is an e-mail address, a phone number, or an identifier such as ``cus_1``. ``jane@example.com`` is
mentioned by ``{"to": "Jane@Example.com"}``, ``To=jane%40example.com`` and ``"jane\\u0040example.com"``, but
neither by ``mary-jane@example.com`` nor by ``jane@example.com.au``. Phone numbers are compared by their digits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote, unquote_plus

from django.conf import settings

from webhooks.sealing import Content, Exchanged

SHORTEST = 4
LONGEST = 255
_PHONE = re.compile(r"\+?[\d\s().\-/]{7,25}")
_BETWEEN = r"[\s().\-/]{0,3}"
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class BadSubject(ValueError):
    """Nothing can be erased by this; the message says why and does not quote it."""


@dataclass(frozen=True)
class Subject:
    """Whose data it is. Raises :class:`BadSubject` for what is too short to mean one person."""

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.strip())
        if not SHORTEST <= len(self.text) <= LONGEST:
            raise BadSubject(f"a subject has {SHORTEST} to {LONGEST} characters")
        if "\x00" in self.text or not any(character.isalnum() for character in self.text):
            raise BadSubject("a subject is an e-mail address, a phone number or an identifier")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What mentions it, in text without escapes."""
        digits = re.sub(r"\D", "", self.text)
        if _PHONE.fullmatch(self.text) and len(digits) >= 7:
            digits = digits.removeprefix("00")
            return re.compile(rf"(?<!\d)(?:00)?{_BETWEEN.join(digits)}(?!\d)")
        words = re.escape(self.text)
        if "@" in self.text:
            return re.compile(rf"(?<![\w.+%-]){words}(?![\w-]|\.\w)", re.IGNORECASE)
        return re.compile(rf"(?<![\w-]){words}(?![\w-])", re.IGNORECASE)

    @cached_property
    def digest(self) -> str:
        """A keyed hash: what receipts and the audit keep instead of it."""
        return keyed_hash(self.text.casefold())

    def in_text(self, text: str) -> bool:
        """Whether ``text`` mentions it, however it is escaped."""
        return any(self.pattern.search(reading) for reading in _readings(text))

    def in_bytes(self, body: bytes) -> bool:
        """The same of a body in whatever encoding."""
        if not body:
            return False
        encoding = json.detect_encoding(body)
        encodings = {"utf-8", encoding} if encoding != "utf-8" else {"utf-8"}
        return any(self.in_text(body.decode(name, "replace")) for name in encodings)

    def in_pairs(self, pairs: Iterable[tuple[str, str]]) -> bool:
        """The same of headers."""
        return any(self.in_text(f"{name}: {value}") for name, value in pairs)

    def in_content(self, content: Content) -> bool:
        """Whether a request mentions it, in its body, URL or headers."""
        return self.in_bytes(content.body) or self.in_text(content.url) or self.in_pairs(content.headers)

    def in_exchange(self, exchange: Exchanged) -> bool:
        """Whether what a try sent or got mentions it."""
        return self.in_bytes(exchange.body) or self.in_pairs([*exchange.sent, *exchange.answered])


def keyed_hash(text: str) -> str:
    """32 hexadecimal digits that only this installation can make of ``text``."""
    key = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"wsmon.erasing").digest()
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16, key=key).hexdigest()


def _readings(text: str) -> set[str]:
    """A text as it is, and without the escapes of JSON, of URLs and of forms."""
    readings = {text}
    if "%" in text:
        readings |= {unquote(text), unquote_plus(text)}
    elif "+" in text:
        readings.add(text.replace("+", " "))
    for _ in range(2):  # JSON inside a string of JSON
        readings |= {_ESCAPE.sub(_unescaped, reading) for reading in readings if "\\" in reading}
    return readings


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)
