"""Breakers of what is no service, such as a destination of webhooks: ``breaker("destination:app")`` once it is here.

Whoever owns such a thing says so with :func:`ensure`, in the transaction that makes or changes it. Nothing is
deleted: an archived one keeps its history, and goes on with it when it is ensured again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from django.db import connection, transaction
from django.utils import timezone

from monitoring import storable
from monitoring.breakermodels import Circuit, kind_of
from monitoring.breakers import store
from monitoring.breakers.policy import Policy
from wsmon.vocabulary import JSON

KINDS = ("destination",)
LONGEST_NAME = 80
"""Shorter than the column: what an archived one's name is lengthened by has room, see :func:`rename`."""

_NAME = re.compile(r"[a-z]+:[-a-zA-Z0-9_]+")

_ENSURE = """
INSERT INTO monitoring_circuit (name, label, policy, url) VALUES (%(name)s, %(label)s, %(policy)s, %(url)s)
ON CONFLICT (name) DO UPDATE SET
    label = excluded.label, policy = excluded.policy, url = excluded.url, archived_at = NULL
RETURNING id
"""


def ensure(name: str, *, label: str, policy: Mapping[str, JSON], url: str = "") -> int:
    """Make it, bring it back, or take over what is new of it; its id. Writes nothing when nothing is.

    ``policy`` as ``Service.breaker`` holds it, empty for the default; ``url``: its page on this site. Raises
    ``ValueError`` for what cannot be. What changes is told to every process when the transaction commits.
    """
    _check_name(name)
    label, kept, url = _label(label, name), _policy(policy), _url(url)
    present = Circuit.objects.filter(name=name, archived_at=None).first()
    if present is not None and (present.label, present.policy, present.url) == (label, kept, url):
        return present.id
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ENSURE, {"name": name, "label": label, "policy": json.dumps(kept), "url": url})
        circuit_id = int(cursor.fetchone()[0])
        store.announce(circuit_id)
    return circuit_id


@transaction.atomic
def rename(old: str, new: str, label: str, url: str = "") -> int:
    """Give it another name, under which its state, its counts and its history go on; its id.

    Raises ``LookupError`` when there is none of that name, ``ValueError`` when the new one is taken. One that is
    archived under the new name makes room.
    """
    _check_name(new)
    rows = {row.name: row for row in Circuit.objects.select_for_update().filter(name__in=[old, new]).order_by("id")}
    row, taken = rows.get(old), rows.get(new)
    if row is None or row.archived_at is not None:
        raise LookupError(f"there is no {old}")
    if taken is not None and taken is not row:
        if taken.archived_at is None:
            raise ValueError(f"there is a {new} already")
        taken.name = f"{new}-{taken.id}"
        taken.save(update_fields=["name"])
    row.name, row.label, row.url = new, _label(label, new), _url(url)
    row.save(update_fields=["name", "label", "url"])
    store.announce(row.id, listed=False)
    return row.id


@transaction.atomic
def archive(name: str) -> bool:
    """Take it off every page; False when there is none of that name. Guards that are left protect by themselves."""
    row = Circuit.objects.select_for_update().filter(name=name, archived_at=None).first()
    if row is None:
        return False
    row.archived_at = timezone.now()
    row.save(update_fields=["archived_at"])
    store.announce(row.id, listed=False)
    return True


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or kind_of(name) not in KINDS:
        raise ValueError(f"{name[:100]!r} is no name of a circuit, as destination:app is")


def _label(label: str, name: str) -> str:
    return storable.text(label.strip(), 100) or name.partition(":")[2]


def _policy(policy: Mapping[str, JSON]) -> dict[str, JSON]:
    """It is read by SQL together with everybody else's: one that is no policy would break them all."""
    try:
        window = float(Policy.of(policy).window)
    except (TypeError, ValueError) as problem:
        raise ValueError("this is no breaker's policy") from problem
    if not (math.isfinite(window) and window > 0):
        raise ValueError("a breaker's window must be longer than 0")
    return dict(policy)


def _url(url: str) -> str:
    if url and (not url.startswith("/") or url.startswith("//") or len(url) > 500):
        raise ValueError("its page must be one of this site")
    return url
