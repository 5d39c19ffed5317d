"""Vendor adapters, one module each. Found by name, never by import order.

``get("stripe")`` imports ``providers.stripe`` and returns its ``PROVIDER``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from providers.base import Kind, Provider
from providers.runner import run

__all__ = ["UnknownKind", "UnknownProvider", "find", "get", "kind", "kinds", "names", "run"]


class UnknownProvider(LookupError):
    """No module of that name under ``providers/``."""


class UnknownKind(LookupError):
    """The provider does not offer that kind of check."""


@cache
def names() -> tuple[str, ...]:
    """The slugs of every provider, sorted."""
    modules = (info.name for info in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if _load(name) is not None))


@cache
def get(slug: str) -> Provider:
    """Return a provider by slug; raise :class:`UnknownProvider`."""
    known = {info.name for info in pkgutil.iter_modules(__path__)}
    provider = _load(slug) if slug in known else None
    if provider is None:
        raise UnknownProvider(slug)
    return provider


def find(slug: str) -> Provider | None:
    """Return a provider by slug, or None: another version of wsmon may have had more of them."""
    try:
        return get(slug)
    except UnknownProvider:
        return None


def kinds(provider: Provider) -> dict[str, Kind]:
    """Every kind a service of ``provider`` may use: its own, and the generic ones."""
    return _generic_kinds() | dict(provider.kinds)


def kind(provider: Provider, name: str) -> Kind:
    """Return one kind of check; raise :class:`UnknownKind`."""
    found = provider.kinds.get(name) or _generic_kinds().get(name)
    if found is None:
        raise UnknownKind(name)
    return found


@cache
def _generic_kinds() -> dict[str, Kind]:
    generic = (provider for provider in map(get, names()) if provider.generic)
    return {name: kind for provider in generic for name, kind in provider.kinds.items()}


def _load(name: str) -> Provider | None:
    module = importlib.import_module(f"{__name__}.{name}")
    found = getattr(module, "PROVIDER", None)
    return found if isinstance(found, Provider) else None
