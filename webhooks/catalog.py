"""What is configured, as each process keeps it: sources with their secrets in clear, and their routes.

:func:`current` is cheap and never waits; :func:`refresh` looks whether anything changed, at most once a
second, and is called by the threads that talk to the database anyway.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import structlog
from django.db import connection
from pydantic import ValidationError

import providers
from monitoring.critical import effects
from providers.hooks import Scheme, options_of
from webhooks import circuits, signingsecrets
from webhooks.models import CatalogVersion, Route, Secret
from webhooks.models import Destination as DestinationRow
from webhooks.models import Source as SourceRow
from wsmon import secrets
from wsmon.vocabulary import JSON

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
RELOAD_SECONDS = 30.0
"""Secrets in files and the environment may change without anybody telling."""


@dataclass(frozen=True, slots=True)
class Way:
    """A route as events need it."""

    id: int
    destination_id: int
    events: tuple[str, ...]
    filters: Mapping[str, JSON]
    priority: int
    order_by: str
    max_tries: int


@dataclass(frozen=True, slots=True)
class Source:
    """A source as requests need it. ``problem`` says why it can verify nothing (names variables, no secret)."""

    id: int
    slug: str
    provider: str
    scheme: Scheme | None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    options: Any = field(default=None, repr=False)
    url: str = ""
    max_bytes: int = 1_048_576
    problem: str = ""
    ways: tuple[Way, ...] = ()

    def secret_id(self, index: int) -> str:
        """What may be kept of a secret, to know later whether it is still there; "" when there is none."""
        return secret_id(self.secrets[index]) if index < len(self.secrets) else ""


@lru_cache(256)
def secret_id(secret: str) -> str:
    """The first 12 hexadecimal digits of a secret's SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination as the engine needs it. ``problem`` says why nothing can be sent (names variables, no secret)."""

    id: int
    slug: str
    url: str = field(repr=False)
    timeout: float
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    retry: tuple[float, ...]
    forward_headers: bool
    breaker: str
    """The name of its breaker."""
    problem: str = ""
    retry_factor: float = 1.0
    """Of the waits between tries of critical priority: less than 1 on critical days."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything at one moment."""

    version: int
    sources: Mapping[str, Source]
    destinations: Mapping[int, Destination] = field(default_factory=dict)
    """By id."""
    retry_factor: float = 1.0

    def source(self, slug: str) -> Source | None:
        """The source of that name; None when there is none."""
        return self.sources.get(slug)

    def of_provider(self, provider: str) -> Source | None:
        """The first source of a provider, by name."""
        found = (source for _slug, source in sorted(self.sources.items()) if source.provider == provider)
        return next(found, None)


_lock = threading.Lock()
_current: Catalog | None = None
_looked_at = float("-inf")
_loaded_at = float("-inf")


def current() -> Catalog | None:
    """The last known one, without any I/O; None before the first."""
    return _current


def refresh(max_age: float = LOOK_SECONDS, *, force: bool = False) -> Catalog:
    """The present one: looks at the database, if the last look is ``max_age`` ago. Raises ``django.db.Error``."""
    global _current, _looked_at, _loaded_at  # noqa: PLW0603  one per process by design
    with _lock:
        now = time.monotonic()
        if _current is not None and not force and now < _looked_at + max_age:
            return _current
        version = CatalogVersion.objects.values_list("version", flat=True).first() or 0
        factor = effects.retry_factor()
        known = _current and (_current.version, _current.retry_factor)
        if force or known != (version, factor) or now > _loaded_at + RELOAD_SECONDS:
            _current = load(version, factor)
            _loaded_at = now
        _looked_at = now
        assert _current is not None  # noqa: S101  loaded now or before
        return _current


def changed() -> None:
    """Make every process look again, when the present transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO webhooks_catalogversion (id, version) VALUES (1, 1)"
            " ON CONFLICT (id) DO UPDATE SET version = webhooks_catalogversion.version + 1"
        )


def forget() -> None:
    """Know nothing (for tests, and in a child process)."""
    global _current, _looked_at, _loaded_at
    with _lock:
        _current, _looked_at, _loaded_at = None, float("-inf"), float("-inf")


def load(version: int = 0, retry_factor: float = 1.0) -> Catalog:
    """Read everything: five queries."""
    keys: dict[int, list[Secret]] = defaultdict(list)
    for row in Secret.objects.filter(source__isnull=False).order_by("position", "id"):
        keys[row.source_id or 0].append(row)
    ways: dict[int, list[Way]] = defaultdict(list)
    routes = Route.objects.filter(archived_at=None, destination__archived_at=None)
    for route in routes.select_related("destination").order_by("id"):
        ways[route.source_id].append(_way(route))
    rows = SourceRow.objects.filter(archived_at=None)
    sources = {row.slug: _source(row, keys[row.id], ways[row.id]) for row in rows}
    return Catalog(version, sources, _destinations(retry_factor), retry_factor)


def _destinations(retry_factor: float) -> dict[int, Destination]:
    keys: dict[int, list[Secret]] = defaultdict(list)
    for row in Secret.objects.filter(destination__isnull=False).order_by("position", "id"):
        keys[row.destination_id or 0].append(row)
    rows = DestinationRow.objects.filter(archived_at=None).select_related("service")
    return {row.id: _destination(row, keys[row.id], retry_factor) for row in rows}


def _destination(row: DestinationRow, keys: Iterable[Secret], retry_factor: float) -> Destination:
    found, problems = values_of(keys)
    problems += [f"a signing secret {problem}" for problem in map(signingsecrets.problem_of, found) if problem]
    url, headers = "", {}
    try:
        url = secrets.dereference(row.url)
        headers = secrets.dereference(row.headers)
    except secrets.Unresolvable as problem:
        problems.append(str(problem))
    return Destination(
        row.id,
        row.slug,
        url,
        row.timeout,
        headers,
        found,
        tuple(row.retry),
        row.forward_headers,
        circuits.name_of(row),
        problem="; ".join(problems),
        retry_factor=retry_factor,
    )


def _way(route: Route) -> Way:
    destination = route.destination
    tries = len(destination.retry) + 1
    events = tuple(pattern for pattern in route.events)
    return Way(route.id, route.destination_id, events, route.filters, route.priority, destination.order_by, tries)


def _source(row: SourceRow, keys: Iterable[Secret], ways: Iterable[Way]) -> Source:
    plain: dict[str, Any] = {"id": row.id, "slug": row.slug, "provider": row.provider, "url": row.url}
    plain["ways"] = tuple(ways)
    try:
        scheme = providers.get(row.provider).hooks
    except providers.UnknownProvider:
        scheme = None
    if scheme is None:
        return Source(**plain, scheme=None, problem=f"the provider {row.provider} has no webhooks")
    found, problems = values_of(keys)
    options = None
    try:
        options = options_of(scheme, secrets.dereference(row.options))
    except secrets.Unresolvable as problem:
        problems.append(str(problem))
    except ValidationError:
        problems.append("its options are not what its provider takes")
    if not found and scheme.needs_secret and not problems:
        problems.append("no secret is configured")
    return Source(
        **plain,
        scheme=scheme,
        secrets=found,
        options=options,
        max_bytes=row.max_bytes or scheme.max_bytes,
        # With one good secret of several it works: the other may be one that is yet to come.
        problem="; ".join(problems) if options is None or (not found and scheme.needs_secret) else "",
    )


def values_of(keys: Iterable[Secret]) -> tuple[tuple[str, ...], list[str]]:
    """The secrets in clear, and what is wrong with those that cannot be had."""
    found: list[str] = []
    problems: list[str] = []
    for key in keys:
        try:
            found.append(value_of(key))
        except secrets.Unresolvable as problem:
            problems.append(str(problem))
    return tuple(found), problems


def value_of(key: Secret) -> str:
    """One secret in clear; raises :class:`wsmon.secrets.Unresolvable`."""
    return secrets.resolve(key.reference) if key.reference else secrets.decrypt(bytes(key.encrypted or b""))
