"""What may stand under ``sources:`` and ``destinations:`` of wsmon.yaml, and in the admin's forms.

One judge for both, as ``monitoring.schema`` is for services. ``read_source`` and ``read_destination`` take
plain values and return a spec with every default filled in, or the findings. They know the providers, not
the database: whether a service of that name exists is for ``webhooks.planning``. Routes: ``webhooks.routeschema``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

import providers
from monitoring.schema import STORED, Slug, between, read_breaker, read_options, read_reference, slug_findings
from providers.base import Provider
from providers.expectations import check_path
from providers.hooks import Scheme
from providers.options import Url
from webhooks import signingsecrets
from webhooks.circuits import DEFAULT_POLICY
from webhooks.routing import SUBJECT
from webhooks.vocabulary import DEFAULT_RETRY, PUBLISHED
from wsmon import secrets
from wsmon.config.problems import Finding, did_you_mean, not_one_of, show
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration
from wsmon.sizes import Size
from wsmon.vocabulary import JSON

LARGEST_BODY = 33_554_432
"""Bytes that a source may let through; bodies are held in memory, and kept encrypted."""
MOST_SECRETS = 10
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""RFC 9110, 5.6.2."""
_OURS = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
}


def _field_name(name: str) -> str:
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError("is not the name of a header")
    if name.lower() in _OURS or name.lower().startswith("webhook-"):
        raise ValueError("this header is set by wsmon itself")
    return name


def _field_value(value: str) -> str:
    if len(value) > 4_096 or not value.isprintable() or not value.isascii():
        raise ValueError("must be one line of at most 4096 ASCII characters")
    return value


def _once(headers: dict[str, str]) -> dict[str, str]:
    if len({name.lower() for name in headers}) != len(headers):
        raise ValueError("names a header twice (upper and lower case are the same)")
    return headers


def _order_by(value: str) -> str:
    if value in ("", SUBJECT):
        return value
    if len(value) > 200:
        raise ValueError("is longer than 200 characters")
    try:
        check_path(value)
    except ValueError as error:
        raise ValueError(f"must be subject, or a path: {error}") from None
    return value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SourceEntry(_Entry):
    """The keys of every source; the scheme's own options stand beside them."""

    provider: str | None = None
    secrets: Any = None
    url: Any = None
    max_bytes: Annotated[Size, Field(ge=1, le=LARGEST_BODY)] | None = None
    service: Slug | None = None
    watch_silence: bool = True
    reconcile: bool = False
    renamed_from: Slug | None = None


class _Calls(_Entry):
    """What of a source may be a reference."""

    url: Annotated[Url, Field(max_length=300)] = ""


class DestinationEntry(_Entry):
    """The keys of a destination that are plain values; see :class:`Targets` for the others."""

    timeout: Annotated[Duration, between(0.1, 60)] = 10.0
    max_per_second: Annotated[float, Field(ge=0.01, le=10_000)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    order_by: Annotated[str, AfterValidator(_order_by)] = ""
    signing_secret: Any = None
    retry: Annotated[list[Annotated[Duration, between(0.1, 604_800)]], Field(max_length=20)] = list(DEFAULT_RETRY)
    forward_headers: bool = True
    service: Slug | None = None
    breaker: Any = None
    disable_after: Annotated[Duration, between(60, 7_776_000)] = 432_000.0
    paused: bool | None = None
    renamed_from: Slug | None = None


class Targets(_Entry):
    """What of a destination may be, or hold, references."""

    url: Url
    headers: Annotated[
        dict[Annotated[str, AfterValidator(_field_name)], Annotated[str, AfterValidator(_field_value)]],
        Field(max_length=50),
        AfterValidator(_once),
    ] = {}
    health_url: Url = ""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source as wished for. ``secrets`` are references and ``stored``; ``options`` are as written."""

    slug: str
    provider: str
    secrets: tuple[str, ...] = ()
    options: Mapping[str, JSON] = field(default_factory=dict)
    url: str = ""
    max_bytes: int | None = None
    service: str | None = None
    watch_silence: bool = True
    reconcile: bool = False
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """A destination as wished for. Durations are seconds; ``breaker`` is empty for the default."""

    slug: str
    url: str
    timeout: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict)
    max_per_second: float | None = None
    concurrency: int = 8
    order_by: str = ""
    secrets: tuple[str, ...] = ()
    retry: tuple[float, ...] = DEFAULT_RETRY
    forward_headers: bool = True
    service: str | None = None
    breaker: Mapping[str, JSON] = field(default_factory=dict)
    disable_after: float = 432_000.0
    health_url: str = ""
    paused: bool | None = None
    renamed_from: str | None = None


def with_webhooks() -> list[str]:
    """The providers that send webhooks."""
    return [name for name in providers.names() if providers.get(name).hooks]


def default_secrets(scheme: Scheme) -> tuple[str, ...]:
    """References to the variables that hold a vendor's secrets unless somebody says otherwise."""
    return tuple(f"env:{name}" for name in scheme.secrets)


# Sources ------------------------------------------------------------------------------------------


def read_source(name: str, data: Any) -> tuple[SourceSpec | None, list[Finding]]:
    """Judge one source. A spec is returned only when nothing is wrong with it."""
    if not isinstance(data, Mapping):
        return None, [Finding((), "has no value; write {} for the defaults" if data is None else wrong_mapping(data))]
    findings = slug_findings(name)
    if name == PUBLISHED:
        findings.append(Finding((), "this name is reserved for the events that the team itself publishes"))
    common = {key: value for key, value in data.items() if key in SourceEntry.model_fields}
    entry, found = check(SourceEntry, common)
    findings += found
    provider, scheme, found = _scheme(name, data)
    findings += found
    options: dict[str, JSON] = {}
    references: tuple[str, ...] = ()
    if provider is not None and scheme is not None:
        own = {key: value for key, value in data.items() if key not in common}
        options, found = read_options(scheme.options, own, SourceEntry.model_fields)
        findings += found
        references, found = read_source_secrets(provider, scheme, data)
        findings += found + list(_unable(provider, scheme, data))
    address, found = read_options(_Calls, {"url": data["url"]} if data.get("url") is not None else {})
    findings += found
    if findings or entry is None or provider is None:
        return None, findings
    return (
        SourceSpec(
            name,
            provider.slug,
            references,
            options,
            address.get("url", "").strip(),
            entry.max_bytes,
            entry.service,
            entry.watch_silence,
            entry.reconcile,
            entry.renamed_from,
        ),
        [],
    )


def read_source_secrets(
    provider: Provider, scheme: Scheme, data: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[Finding]]:
    """``secrets`` of a source, or the vendor's own variables, which may still be unset."""
    if "secrets" in data:
        found, findings = read_secrets("secrets", data["secrets"], scheme.secret_problem)
        if not findings and not found and scheme.needs_secret and data["secrets"] is not None:
            findings = [Finding(("secrets",), f"is empty: without one, {provider.slug}'s signatures prove nothing")]
        return found, findings
    references = default_secrets(scheme)
    if scheme.needs_secret and not references:
        return (), [Finding(("secrets",), f"is missing: {provider.slug} has no variable of its own to look in")]
    return references, [one for one in map(_flawed_default(scheme), references) if one]


def read_secrets(key: str, data: Any, problem: Callable[[str], str | None]) -> tuple[tuple[str, ...], list[Finding]]:
    """Judge one reference (or ``stored``) or a list of them; ``problem`` judges what stands behind each."""
    if data is None:
        return (), []  # "has no value" is told by check()
    items = data if isinstance(data, list) else [data]
    findings: list[Finding] = []
    seen: dict[str, int] = {}
    for index, one in enumerate(items):
        wrong = _wrong_secret(one, problem)
        if not wrong and one != STORED and seen.setdefault(one, index) != index:
            wrong = f"stands here twice, first as {key}[{seen[one]}]"
        if wrong:
            findings.append(Finding((key, index) if isinstance(data, list) else (key,), wrong))
    if len(items) > MOST_SECRETS:
        findings.append(Finding((key,), f"lists more than {MOST_SECRETS} secrets"))
    return (() if findings else tuple(items)), findings


def _wrong_secret(one: Any, problem: Callable[[str], str | None]) -> str | None:
    wrong = read_reference(one)
    if wrong or one == STORED:
        return wrong
    flaw = problem(secrets.resolve(one))
    return f"what {show(one)} leads to {flaw}" if flaw else None


def _flawed_default(scheme: Scheme) -> Callable[[str], Finding | None]:
    def judge(reference: str) -> Finding | None:
        try:
            flaw = scheme.secret_problem(secrets.resolve(reference))
        except secrets.Unresolvable:
            return None  # not configured yet, which its page says
        return Finding(("secrets",), f"what {show(reference)} leads to {flaw}") if flaw else None

    return judge


def _scheme(name: str, data: Mapping[str, Any]) -> tuple[Provider | None, Scheme | None, list[Finding]]:
    wanted = data.get("provider", name)
    if not isinstance(wanted, str):
        return None, None, []  # its type is told by SourceEntry
    path = ("provider",) if "provider" in data else ()
    try:
        provider = providers.get(wanted)
    except providers.UnknownProvider:
        if path:
            return None, None, [Finding(path, not_one_of(wanted, with_webhooks(), "a provider"))]
        hint = did_you_mean(wanted, with_webhooks())
        message = f"{show(wanted)} is not a provider, so `provider` must say which one it is{hint}"
        return None, None, [Finding(path, message)]
    if provider.hooks is None:
        hint = did_you_mean("", with_webhooks())
        return None, None, [Finding(path, f"{show(wanted)} is a provider without webhooks{hint}")]
    return provider, provider.hooks, []


def _unable(provider: Provider, scheme: Scheme, data: Mapping[str, Any]) -> list[Finding]:
    if data.get("reconcile") is True and scheme.missed is None:
        return [Finding(("reconcile",), f"{provider.slug} has no list of its events to compare with")]
    return []


# Destinations -------------------------------------------------------------------------------------


def read_destination(name: str, data: Any) -> tuple[DestinationSpec | None, list[Finding]]:
    """Judge one destination. A spec is returned only when nothing is wrong with it."""
    if not isinstance(data, Mapping):
        return None, [Finding((), wrong_mapping(data))]
    common = {key: value for key, value in data.items() if key in DestinationEntry.model_fields}
    entry, found = check(DestinationEntry, common)
    findings = slug_findings(name) + found
    own = {key: value for key, value in data.items() if key not in common}
    targets, found = read_options(Targets, own, DestinationEntry.model_fields)
    findings += found
    references, found = read_secrets("signing_secret", data.get("signing_secret"), signingsecrets.problem_of)
    findings += found
    breaker, found = read_own_breaker(data.get("breaker"), data.get("service"))
    findings += found
    if findings or entry is None:
        return None, findings
    return (
        DestinationSpec(
            name,
            targets["url"].strip(),
            entry.timeout,
            targets.get("headers", {}),
            entry.max_per_second,
            entry.concurrency,
            entry.order_by,
            references,
            tuple(entry.retry),
            entry.forward_headers,
            entry.service,
            breaker,
            entry.disable_after,
            targets.get("health_url", "").strip(),
            entry.paused,
            entry.renamed_from,
        ),
        [],
    )


def read_own_breaker(data: Any, service: Any = None) -> tuple[dict[str, JSON], list[Finding]]:
    """Judge a destination's own breaker; return its policy, empty for the default (durations in seconds)."""
    if data is None:
        return {}, []
    if isinstance(data, Mapping):
        data = {**DEFAULT_POLICY, **data}
    found, findings = read_breaker(data)
    if not findings and service is not None:
        findings = [Finding(("breaker",), f"has no use beside service: {show(service)}, whose breaker it shares")]
    if findings:
        return {}, findings
    policy = {"policy": data["policy"]} | found
    return ({} if policy == DEFAULT_POLICY else policy), []


def words_of(rows: Iterable[Any]) -> tuple[str, ...]:
    """Secrets as the file has them, from their rows in order: references, and ``stored``."""
    return tuple(row.reference or STORED for row in rows)
