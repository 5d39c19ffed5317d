"""Where a person may be named outside events: what operators typed, searched and repeated.

Replays keep the filter they were started with, requests with an idempotency key their answer, the audit its
reasons and details. Only the words that name the person are replaced, by a keyed hash: who did what, when and
with which filter remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Model

from webhooks.eventmodels import Refusal
from webhooks.mentions import Subject
from webhooks.replaymodels import Erasure, IdempotencyKey, Replay
from wsmon.models import AuditEntry
from wsmon.vocabulary import JSON

_PLACES: tuple[tuple[type[Model], tuple[str, ...]], ...] = (
    (Replay, ("reason", "selection")),
    (Erasure, ("reason",)),
    (Refusal, ("message",)),
    (AuditEntry, ("target", "reason", "details")),
)


def count(subject: Subject) -> int:
    """How many rows name the subject."""
    return sum(1 for _ in _rows(subject)) + len(_keys(subject))


def erase(subject: Subject) -> int:
    """Replace the subject wherever it is named; how many rows did. In the caller's transaction."""
    rows = 0
    for model, row_id, values in _rows(subject):
        model._default_manager.filter(pk=row_id).update(**values)
        rows += 1
    keys = _keys(subject)
    IdempotencyKey.objects.filter(id__in=keys).delete()
    return rows + len(keys)


def _rows(subject: Subject) -> Iterator[tuple[type[Model], Any, dict[str, JSON]]]:
    """Each row that names the subject, with the columns that do as they may stay."""
    for model, columns in _PLACES:
        for row_id, *values in model._default_manager.values_list("pk", *columns).iterator(1_000):
            pairs = zip(columns, values, strict=True)
            changed = {name: without(subject, value) for name, value in pairs if _named(subject, value)}
            if changed:
                yield model, row_id, changed


def _keys(subject: Subject) -> list[int]:
    rows = IdempotencyKey.objects.values_list("id", "scope", "key", "answer").iterator(1_000)
    return [row_id for row_id, *values in rows if _named(subject, values)]


def _named(subject: Subject, value: JSON) -> bool:
    if isinstance(value, str):
        return subject.in_text(value)
    if isinstance(value, dict):
        return any(_named(subject, item) for pair in value.items() for item in pair)
    return isinstance(value, list) and any(_named(subject, item) for item in value)


def without(subject: Subject, value: JSON) -> JSON:
    """A JSON value in which a hash stands where the subject was named."""
    if isinstance(value, str):
        instead = f"erased:{subject.digest[:12]}"
        replaced = subject.pattern.sub(instead, value)
        return instead if subject.in_text(replaced) else replaced  # it was escaped
    if isinstance(value, dict):
        return {without(subject, key): without(subject, item) for key, item in value.items()}
    return [without(subject, item) for item in value] if isinstance(value, list) else value
