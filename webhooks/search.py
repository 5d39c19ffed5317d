"""Finding events by what stands in them, although payloads are encrypted: a blind index.

An event's texts are kept as keyed hashes ("tokens"): of ``path=value`` for each scalar of the payload, of
each whole value, and of the words of short texts. A query becomes the tokens that an event must have,
all of them. Nothing readable is stored, and without the key nothing can be guessed.

What a query may be: an event's id or key; a type, with ``*``; words, each of which must occur;
``"several words"`` that are a whole value; ``data.object.customer=cus_1`` (``$.`` in front may stand,
places in lists are left out); ``#17``, a delivery's id. Letters' case does not matter.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from webhooks import sealing
from webhooks.configmodels import Source
from webhooks.eventmodels import Event, EventTokens
from webhooks.sealing import Content
from wsmon.secrets import Unresolvable

log = structlog.get_logger(__name__)

MOST_TOKENS = 300
"""Of one event: about 2.4 kB."""
LONGEST = 200
"""Characters of a value that is found whole, and of a text whose words are."""
DEEPEST = 40
MOST_TERMS = 10
"""Of one query."""
FEW = 200
"""Up to so many events that are found by their tokens are named by their ids."""
_LARGEST = 262_144
"""Bytes of a body that are looked at."""

_TERM = re.compile(r'(?:[^\s"]|"[^"]*")+')
_PATH = re.compile(r"(?:\$\.?)?([^\s=\"]{1,200})=(.+)", re.DOTALL)
_PLACE = re.compile(r"\[[^\]]*\]|\.\d+(?=\.|$)")
_WORD = re.compile(r"\w+")
_TEXT = "t\0"
"""What stands before a text that is hashed without its path."""
_EDGES = " \t\r\n.,;:!?()[]{}<>'\"`"


@dataclass(frozen=True, slots=True)
class Query:
    """What a text asks for. ``events`` and ``number`` are exact; else ``types`` and ``tokens`` must all fit."""

    events: Sequence[uuid.UUID] = ()
    number: int | None = None
    """A delivery's id."""
    types: Sequence[str] = ()
    """Patterns."""
    tokens: Sequence[int] = ()


def understand(text: str) -> Query | None:
    """Read a query, looking up whether it is an id; None when it asks for nothing."""
    text = text.strip()
    if not text:
        return None
    if re.fullmatch(r"#\d{1,18}", text):
        return Query(number=int(text[1:]))
    exact = _exact(text)
    if exact:
        return Query(events=exact)
    terms = _terms(text)
    patterns = [term for term in terms if "*" in term and "=" not in term and '"' not in term]
    return Query(types=patterns, tokens=_tokens_of(term for term in terms if term not in patterns))


def tokens_of(query: str) -> list[int]:
    """The tokens that an event must have, all of them, to be found by ``query``; none: anything goes."""
    return _tokens_of(_terms(query))


def holding(tokens: Sequence[int]) -> list[uuid.UUID] | QuerySet[EventTokens, Any]:
    """The ids of the events that have all these tokens: themselves while they are few, else as a subquery.

    The planner can only guess how often a rare token stands, and prepares for a thousand events (with a second
    process, even) where there is none. The index knows, in a tenth of a millisecond.
    """
    rows = EventTokens.objects.filter(tokens__contains=list(tokens))
    few = list(rows.values_list("event_id", flat=True)[: FEW + 1])
    return few if len(few) <= FEW else rows.values("event_id")


_CLAIM = """
SELECT id, key, type, subject, sealed FROM webhooks_event WHERE NOT indexed
ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
"""
# One array of numbers for all events, cut by `ends`: psycopg and PostgreSQL have no arrays of arrays of
# unequal lengths.
_KEEP = """
INSERT INTO webhooks_eventtokens (event_id, tokens)
SELECT e.id, (%(tokens)s::bigint[])[e.first : e.last]
FROM unnest(%(ids)s::uuid[], %(firsts)s::int[], %(lasts)s::int[]) AS e(id, first, last)
ON CONFLICT (event_id) DO UPDATE SET tokens = excluded.tokens
"""


def index_some(limit: int = 500) -> int:
    """Index up to ``limit`` events that are not yet; returns how many there were. Any number may run at once."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CLAIM, [limit])
        rows = cursor.fetchall()
        if not rows:
            return 0
        tokens: list[int] = []
        firsts, lasts = [], []
        for _id, key, type_, subject, sealed in rows:
            firsts.append(len(tokens) + 1)
            tokens += tokens_in((key, type_, subject), _opened(sealed))
            lasts.append(len(tokens))
        ids = [row[0] for row in rows]
        cursor.execute(_KEEP, {"tokens": tokens, "ids": ids, "firsts": firsts, "lasts": lasts})
        cursor.execute("UPDATE webhooks_event SET indexed = true WHERE id = ANY(%s)", [ids])
    return len(rows)


def tokens_in(names: Iterable[str], content: Content | None) -> list[int]:
    """Every token of one event: of its names (key, type, subject), then of what stands in its payload."""
    found = dict.fromkeys(_TEXT + _folded(name) for name in names if name)
    spoken: list[str] = []
    for path, value in _scalars(content) if content else ():
        if len(found) >= MOST_TOKENS:
            break
        text = _folded(value)
        if path and len(text) <= LONGEST:
            found[f"{path}\0{text}"] = None
        if value in ("true", "false"):
            continue
        if len(text) <= LONGEST:
            found[_TEXT + text] = None
        spoken.append(text[:LONGEST])
    for word in _words(spoken):
        if len(found) >= MOST_TOKENS:
            break
        found[_TEXT + word] = None
    return _hashed(list(found)[:MOST_TOKENS])


def _exact(text: str) -> list[uuid.UUID]:
    """The events of that id or key."""
    try:
        found = list(Event.objects.filter(id=uuid.UUID(text)).values_list("id", flat=True))
    except ValueError:
        found = []
    # Named by source too, so that the unique index serves it.
    sources = list(Source.objects.values_list("id", flat=True))
    return found or list(Event.objects.filter(source_id__in=sources, key=text).values_list("id", flat=True)[:50])


def _terms(text: str) -> list[str]:
    if text.count('"') % 2:  # one that is not closed means itself
        text = text.replace('"', " ")
    return [term[0] for term in _TERM.finditer(text)][:MOST_TERMS] or [text]


def _tokens_of(terms: Iterable[str]) -> list[int]:
    return _hashed(dict.fromkeys(_read(term) for term in terms))


def _read(term: str) -> str:
    """A term as it is hashed."""
    if term.startswith('"'):
        return _TEXT + _folded(term.strip('"'))
    path = _PATH.fullmatch(term)
    if path:
        return f"{_path(path[1])}\0{_folded(path[2].strip(chr(34)))}"
    return _TEXT + (_folded(term).strip(_EDGES) or _folded(term))


def _path(text: str) -> str:
    """A path as it is indexed: without the places in lists."""
    return "p:" + _PLACE.sub("", text.strip("."))


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for term in text.split():
            whole = term.strip(_EDGES)
            if whole:
                yield whole
            yield from (word for word in _WORD.findall(term) if word != whole and len(word) > 1)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _hashed(texts: Iterable[str]) -> list[int]:
    """Their tokens: 64 bits each, of a hash that takes the key."""
    key = hashlib.blake2b(settings.SECRET_KEY.encode(), digest_size=32, person=b"wsmon.search").digest()
    fresh = hashlib.blake2b(digest_size=8, key=key)
    tokens = []
    for text in texts:
        one = fresh.copy()
        one.update(text.encode("utf-8", "replace"))
        tokens.append(int.from_bytes(one.digest(), "big", signed=True))
    return tokens


def _opened(sealed: bytes | None) -> Content | None:
    if sealed is None:
        return None
    try:
        return sealing.unseal(sealed)
    except Unresolvable:
        log.warning("search_cannot_open_an_event")  # found by its names only
        return None


def _scalars(content: Content) -> Iterator[tuple[str, str]]:
    """(path, value) of a payload: JSON, else a form, else the text as one value without a path."""
    body = content.body[:_LARGEST]
    kind = next((value for name, value in content.headers if name.lower() == "content-type"), "").lower()
    text = body.decode("utf-8", "replace")
    if "x-www-form-urlencoded" in kind:
        for name, value in parse_qsl(text, max_num_fields=None)[:MOST_TOKENS]:
            yield "p:" + name, value
        return
    try:
        document = json.loads(content.body, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        yield "", text
        return
    yield from _walk(document)


def _walk(document: Any) -> Iterator[tuple[str, str]]:
    """Every scalar of a JSON value, in its order; without recursion, as payloads may be deep."""
    stack: list[tuple[str, Any, int]] = [("p:", document, 0)]
    while stack:
        path, value, depth = stack.pop()
        if isinstance(value, Mapping) and depth < DEEPEST:
            dot = "" if path == "p:" else "."
            stack += [(f"{path}{dot}{key}", item, depth + 1) for key, item in reversed(list(value.items()))]
        elif isinstance(value, list) and depth < DEEPEST:
            stack += [(path, item, depth + 1) for item in reversed(value)]
        elif isinstance(value, bool):
            yield path, "true" if value else "false"
        elif isinstance(value, str) and value:
            yield path, value
