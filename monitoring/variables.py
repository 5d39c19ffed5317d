"""The values a provider reads: a service's own credentials first, then the environment."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from functools import lru_cache

from django.db import connection
from pydantic import BaseModel

import providers
from providers.base import Provider
from wsmon import secrets

FRESH_SECONDS = 10
"""How long resolved values are used before files and the environment are read again."""

CREDENTIALS = """coalesce((SELECT json_object_agg(k.variable,
    json_build_array(k.reference, encode(k.encrypted, 'base64')) ORDER BY k.variable)
    FROM monitoring_credential k WHERE k.service_id = v.id), '{}')::text"""
"""SQL: the credentials of service ``v`` as JSON text."""


def resolve(provider: Provider, credentials: str) -> dict[str, str]:
    """Every variable of ``provider`` that has a value, by name; references resolved, secrets in clear.

    ``credentials`` is what :func:`credentials_of` gives. Needs no database, so that probing goes on
    without it. Raises :class:`wsmon.secrets.Unresolvable` when a reference leads nowhere.
    """
    return _resolve(provider.slug, credentials, _era())


def credentials_of(service_id: int) -> str:
    """A service's own credentials as JSON: variable -> [reference, encrypted value in base64 or null]."""
    with connection.cursor() as cursor:
        query = f"SELECT {CREDENTIALS} FROM monitoring_service v WHERE v.id = %s"  # noqa: S608  a constant
        cursor.execute(query, [service_id])
        row = cursor.fetchone()
    return row[0] if row else "{}"


def resolve_options(provider: Provider, kind: str, options: str) -> BaseModel:
    """A check's options (JSON text) as the kind's model, with every ``env:``/``file:`` value resolved."""
    return _resolve_options(provider.slug, kind, options, _era())


def forget() -> None:
    """Read everything anew at the next use: a credential or an option was changed."""
    _resolve.cache_clear()
    _resolve_options.cache_clear()


def _era() -> int:
    return int(time.monotonic() // FRESH_SECONDS)


@lru_cache(maxsize=4096)
def _resolve(slug: str, credentials: str, era: int) -> dict[str, str]:
    del era  # part of the key: values are read again in the next one
    return dict(_values(providers.get(slug), json.loads(credentials)))


def _values(provider: Provider, own: dict[str, tuple[str, str | None]]) -> Iterator[tuple[str, str]]:
    names = [(variable.name, variable.aliases) for variable in provider.variables]
    names += [(name, ()) for name in (*provider.base_urls, provider.status_base) if name]
    for name, aliases in names:
        value = _own(*own[name]) if name in own else _from_environment(name, aliases)
        if value:
            yield name, value


def _own(reference: str, encrypted: str | None) -> str:
    return secrets.resolve(reference) if encrypted is None else secrets.decrypt(base64.b64decode(encrypted))


def _from_environment(name: str, aliases: tuple[str, ...]) -> str | None:
    found = (secrets.lookup(candidate) for candidate in (name, *aliases))
    return next((value for value in found if value), None)


@lru_cache(maxsize=8192)
def _resolve_options(slug: str, kind: str, options: str, era: int) -> BaseModel:
    del era
    model = providers.kind(providers.get(slug), kind).options
    return model.model_validate(secrets.dereference(json.loads(options)))
