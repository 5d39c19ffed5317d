"""What a provider is: the vendor adapter's vocabulary. Plain Python, no Django.

A provider is one module in this package with a module-level ``PROVIDER``. It declares the variables
it reads, its base URLs and its kinds of checks; each kind is a function from a :class:`ProbeContext`
to a :class:`ProbeOutcome`. Nothing else in wsmon has to change for a new vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from providers.hooks import Scheme
from wsmon.http import Client
from wsmon.vocabulary import JSON, Category, Outcome, Timings


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """The result of one probe, judged by its provider. ``message`` and ``details`` hold no secret."""

    outcome: Outcome
    category: Category | None = None
    message: str = ""
    timings: Timings = field(default_factory=Timings)
    http_status: int | None = None
    details: Mapping[str, JSON] = field(default_factory=dict)


class NotConfigured(Exception):
    """A probe cannot run because variables are absent; ``variables`` names what to set."""

    def __init__(self, *variables: str) -> None:
        super().__init__("set " + ", ".join(variables))
        self.variables = variables


@dataclass(frozen=True, slots=True)
class Variable:
    """A name from the environment (or the service's ``credentials``) that a provider reads."""

    name: str
    help: str = ""
    secret: bool = True
    aliases: tuple[str, ...] = ()
    """Other names under which the value may be found, e.g. ``NEXT_PUBLIC_SUPABASE_URL``."""


class NoOptions(BaseModel):
    """The options of a kind that takes none."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class HeartbeatFacts:
    """What is known of a cron job's calls, for the ``heartbeat`` kind (all times aware UTC)."""

    created_at: datetime
    last_success_at: datetime | None = None
    last_start_at: datetime | None = None
    last_fail_at: datetime | None = None
    watching_since: datetime | None = None
    """Since when wsmon could receive calls without a gap; lateness is never counted before it."""


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """Everything one probe may use. ``timeout`` is the whole probe's budget in seconds."""

    http: Client
    timeout: float
    now: datetime
    variables: Mapping[str, str] = field(default_factory=dict)
    """Resolved values by variable name: credentials, settings and base-URL overrides."""
    options: Any = None
    """An instance of the kind's ``options`` model, references in it resolved."""
    heartbeat: HeartbeatFacts | None = None
    provider: Provider | None = None
    """The service's provider, filled in by :func:`providers.run`; a generic kind may read its facts."""

    def need(self, *names: str) -> tuple[str, ...]:
        """Return the values of ``names``; raise :class:`NotConfigured` naming every absent one."""
        missing = [name for name in names if not self.variables.get(name)]
        if missing:
            raise NotConfigured(*missing)
        return tuple(self.variables[name] for name in names)


Probe = Callable[[ProbeContext], ProbeOutcome]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of check a provider offers."""

    probe: Probe
    options: type[BaseModel] = NoOptions
    needs: tuple[str, ...] = ()
    """Variables without which the check is *not configured*."""
    default_interval: float = 60.0
    default_timeout: float = 5.0
    help: str = ""


NOT_A_CALL = ("heartbeat", "status_page")
"""Kinds of checks that say nothing about a call to the service: nobody called, or a third party speaks."""


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Where a vendor says how it is doing, and in which format."""

    url: str
    format: str = "statuspage"
    components: tuple[str, ...] = ()
    page_id: str | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor adapter. ``slug`` equals the module's name."""

    slug: str
    label: str
    kinds: Mapping[str, Kind]
    variables: tuple[Variable, ...] = ()
    base_urls: Mapping[str, str] = field(default_factory=dict)
    """Override variable -> default base URL, e.g. ``{"STRIPE_API_BASE": "https://api.stripe.com"}``."""
    status_page: StatusPage | None = None
    docs_url: str = ""
    hooks: Scheme | None = None
    """How its webhooks are signed and what is in them; None: it sends none."""
    generic: bool = False
    """True for http, tcp, dns, tls, heartbeat, status_page: one provider for many targets."""

    @property
    def status_base(self) -> str:
        """The variable that overrides where its status page is, e.g. ``STRIPE_STATUS_BASE``; empty without a page."""
        return f"{self.slug.upper()}_STATUS_BASE" if self.status_page else ""

    def status_page_with(self, variables: Mapping[str, str]) -> StatusPage | None:
        """Its status page; scheme, host and port are those of the override, where ``variables`` has one."""
        page, base = self.status_page, variables.get(self.status_base, "")
        if page is None or not base:
            return page
        parts = urlsplit(page.url)
        query = f"?{parts.query}" if parts.query else ""
        return replace(page, url=f"{base.rstrip('/')}{parts.path}{query}")
