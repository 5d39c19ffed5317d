"""The values a provider reads: a service's own credentials first, then the environment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

import providers
from monitoring.models import Credential
from providers.base import Provider
from wsmon import secrets

FRESH_SECONDS = 10
"""How long resolved values are used before files, the environment and the database are read again."""


def resolve(service_id: int, provider: Provider) -> dict[str, str]:
    """Every variable of ``provider`` that has a value, by name; references resolved, secrets in clear.

    Raises :class:`wsmon.secrets.Unresolvable` when a reference set for the service leads nowhere.
    """
    return _resolve(service_id, provider.slug, _era())


def resolve_options(provider: Provider, kind: str, options: str) -> BaseModel:
    """A check's options (JSON text) as the kind's model, with every ``env:``/``file:`` value resolved."""
    return _resolve_options(provider.slug, kind, options, _era())


def forget() -> None:
    """Read everything anew at the next use: a credential or an option was changed."""
    _resolve.cache_clear()
    _resolve_options.cache_clear()


def source(service_id: int, variable: str) -> str | None:
    """Where a variable's value comes from, in words for a page; None when it has none."""
    own = Credential.objects.filter(service=service_id, variable=variable).first()
    if own is not None:
        return own.reference or "stored, encrypted"
    return "environment" if secrets.lookup(variable) is not None else None


def _era() -> int:
    return int(time.monotonic() // FRESH_SECONDS)


@lru_cache(maxsize=4096)
def _resolve(service_id: int, slug: str, era: int) -> dict[str, str]:
    del era  # part of the key: values are read again in the next one
    return dict(_values(service_id, providers.get(slug)))


def _values(service_id: int, provider: Provider) -> Iterator[tuple[str, str]]:
    own = {row.variable: row for row in Credential.objects.filter(service=service_id)}
    names = [(variable.name, variable.aliases) for variable in provider.variables]
    names += [(name, ()) for name in provider.base_urls]
    for name, aliases in names:
        value = _own(own[name]) if name in own else _from_environment(name, aliases)
        if value:
            yield name, value


def _own(credential: Credential) -> str:
    if credential.encrypted is not None:
        return secrets.decrypt(bytes(credential.encrypted))
    return secrets.resolve(credential.reference)


def _from_environment(name: str, aliases: tuple[str, ...]) -> str | None:
    found = (secrets.lookup(candidate) for candidate in (name, *aliases))
    return next((value for value in found if value), None)


@lru_cache(maxsize=8192)
def _resolve_options(slug: str, kind: str, options: str, era: int) -> BaseModel:
    del era
    model = providers.kind(providers.get(slug), kind).options
    return model.model_validate(_dereference(json.loads(options)))


def _dereference(value: Any) -> Any:
    if isinstance(value, str):
        return secrets.resolve(value) if secrets.is_reference(value) else value
    if isinstance(value, Mapping):
        return {key: _dereference(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dereference(item) for item in value]
    return value
