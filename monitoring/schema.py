"""What may stand under ``services:`` of wsmon.yaml, and in the admin's forms: one judge for both.

``read_service`` and ``read_check`` take plain values and return a spec with every default filled in, or
the findings. They know the providers, not the database.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

import providers
from monitoring.literals import literal_secrets
from providers.base import Kind, Provider
from wsmon import secrets
from wsmon.config.problems import Finding, Path, did_you_mean, not_one_of, show
from wsmon.config.schema import check, wrong_mapping
from wsmon.durations import Duration, format_duration
from wsmon.vocabulary import JSON, Criticality

STORED = "stored"
"""In ``credentials``: the value was entered in the admin and is kept encrypted."""
DEFAULT_KINDS = ("connectivity", "authentication", "functionality")
_SLUG = re.compile(r"[-a-zA-Z0-9_]{1,60}")


def slug(value: str) -> str:
    """Accept a name of a service or check; raise ValueError."""
    if not _SLUG.fullmatch(value):
        raise ValueError(f"{show(value)} is not a name: letters, digits, - and _, at most 60 of them")
    return value


def _label(value: str) -> str:
    if len(value) > 100 or not value.isprintable():
        raise ValueError(f"{show(value)} must be one line of at most 100 characters")
    return value


def between(least: float, most: float) -> AfterValidator:
    """A duration that must lie between two others, seconds."""

    def judge(seconds: float) -> float:
        if not least <= seconds <= most:
            low, high = format_duration(least), format_duration(most)
            raise ValueError(f"{format_duration(seconds)} is not between {low} and {high}")
        return seconds

    return AfterValidator(judge)


Slug = Annotated[str, AfterValidator(slug)]
Confirmations = Annotated[int, Field(ge=1, le=20)]
Recovery = Annotated[Duration, between(0.1, 86_400)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _BreakerEntry(_Entry):
    """What both policies have."""

    recovery_timeout: Recovery = 30.0
    recovery_max: Recovery = 300.0
    trials: Annotated[int, Field(ge=1, le=100)] = 1
    slow_over: Annotated[Duration, between(0.001, 3600)] | None = None
    ignore_status: list[Annotated[int, Field(ge=100, le=599)]] = []


class RollingBreaker(_BreakerEntry):
    """Opens when too large a part of the last ``window`` failed."""

    policy: Literal["rolling"] = "rolling"
    error_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_volume: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    window: Annotated[Duration, between(1, 3600)] = 10.0
    success_threshold: Annotated[int, Field(ge=1, le=1_000)] = 1


class CountingBreaker(_BreakerEntry):
    """Opens when the failures, less the successes, come to so many."""

    policy: Literal["counting"] = "counting"
    failure_threshold: Annotated[int, Field(ge=1, le=1_000)] = 5
    success_threshold: Annotated[int, Field(ge=1, le=1_000)] = 2


BREAKERS: Mapping[str, type[_Entry]] = {"rolling": RollingBreaker, "counting": CountingBreaker}


class CheckEntry(_Entry):
    """The keys every check may have; the kind's own stand beside them."""

    kind: str
    name: Slug | None = None
    interval: Annotated[Duration, between(1, 86_400)] | None = None
    timeout: Annotated[Duration, between(0.1, 120)] | None = None
    degraded_over: Annotated[Duration, between(0.001, 120)] | None = None
    confirm_down: Confirmations = 2
    confirm_up: Confirmations = 2
    renamed_from: Slug | None = None


class ServiceEntry(_Entry):
    """The keys of a service; ``breaker`` and ``checks`` are judged one by one."""

    provider: str | None = None
    name: Annotated[str, AfterValidator(_label)] = ""
    criticality: str = Criticality.NORMAL.value
    breaker: Any = None
    credentials: Any = None
    renamed_from: Slug | None = None
    paused: bool | None = None
    checks: Any = None


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A check as wished for. Durations are seconds; ``options`` are as written, defaults left out."""

    name: str
    kind: str
    interval: float
    timeout: float
    degraded_over: float | None = None
    confirm_down: int = 2
    confirm_up: int = 2
    options: Mapping[str, JSON] = field(default_factory=dict)
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as wished for. ``breaker`` holds what differs from its policy's defaults."""

    slug: str
    provider: str
    name: str = ""
    criticality: str = Criticality.NORMAL.value
    breaker: Mapping[str, JSON] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict)
    renamed_from: str | None = None
    paused: bool | None = None
    checks: tuple[CheckSpec, ...] = ()


def read_service(name: str, data: Any) -> tuple[ServiceSpec | None, list[Finding]]:
    """Judge one service. A spec is returned only when nothing is wrong with it."""
    if not isinstance(data, Mapping):
        return None, [Finding((), "has no value; write {} for the defaults" if data is None else wrong_mapping(data))]
    findings = slug_findings(name)
    entry, found = check(ServiceEntry, data)
    findings += found
    provider, found = _provider(name, data)
    findings += found
    if isinstance(data.get("criticality"), str) and data["criticality"] not in set(Criticality):
        known = [word.value for word in Criticality]
        findings.append(Finding(("criticality",), not_one_of(data["criticality"], known, "a criticality")))
    breaker, found = read_breaker(data.get("breaker"))
    findings += found
    credentials, found = _credentials(provider, data.get("credentials"))
    findings += found
    checks, found = _checks(provider, data)
    findings += found
    if findings or entry is None or provider is None:
        return None, findings
    return (
        ServiceSpec(
            name,
            provider.slug,
            entry.name,
            entry.criticality,
            breaker,
            credentials,
            entry.renamed_from,
            entry.paused,
            tuple(checks),
        ),
        [],
    )


def read_breaker(data: Any) -> tuple[dict[str, JSON], list[Finding]]:
    """Judge a breaker's policy; return what differs from the defaults (durations in seconds)."""
    if data is None:
        return {}, []
    if not isinstance(data, Mapping):
        return {}, [Finding(("breaker",), wrong_mapping(data))]
    policy = data.get("policy", "rolling")
    if not isinstance(policy, str) or policy not in BREAKERS:
        return {}, [Finding(("breaker", "policy"), not_one_of(policy, BREAKERS, "a policy"))]
    entry, findings = check(BREAKERS[policy], data)
    if entry is None:
        return {}, [finding.under("breaker") for finding in findings]
    found = entry.model_dump(exclude_defaults=True)
    return ({"policy": policy} if policy != "rolling" else {}) | found, []


def read_check(provider: Provider, data: Any) -> tuple[CheckSpec | None, list[Finding]]:
    """Judge one check of a service of ``provider``."""
    if not isinstance(data, Mapping):
        return None, [Finding((), wrong_mapping(data))]
    common = {key: value for key, value in data.items() if key in CheckEntry.model_fields}
    options = {key: value for key, value in data.items() if key not in common}
    name, kind, findings = _kind(provider, data)
    entry, found = check(CheckEntry, common)
    findings += [one for one in found if one.path != ("kind",) or not findings]
    kept: dict[str, JSON] = {}
    if kind is not None:
        kept, found = read_options(kind.options, options, CheckEntry.model_fields)
        findings += found
    if entry is None or kind is None:
        return None, findings
    interval, timeout = _times(kind, entry)
    findings += _time_findings(entry, interval, timeout)
    if not _SLUG.fullmatch(entry.name or name):
        findings.append(Finding(("name",), "is missing: the kind is no name"))
    if findings:
        return None, findings
    return (
        CheckSpec(
            entry.name or name,
            name,
            interval,
            timeout,
            entry.degraded_over,
            entry.confirm_down,
            entry.confirm_up,
            kept,
            entry.renamed_from,
        ),
        [],
    )


def read_options(
    model: type[BaseModel], options: Mapping[str, JSON], known: Iterable[str] = ()
) -> tuple[dict[str, JSON], list[Finding]]:
    """Judge options (a kind's own) with their references resolved; return them as written, no defaults.

    ``known`` are the keys that may stand beside them.
    """
    known_secrets: list[str] = []
    resolved, findings = _resolve(options, (), known_secrets)
    keys = {field.alias or name for name, field in model.model_fields.items()}  # of others check() tells more
    findings += [Finding(path, message) for path, message in literal_secrets(options) if path[0] in keys]
    judged, found = check(model, resolved, shown=options, secrets=known_secrets, known=known)
    told = {finding.path for finding in findings}
    findings += [one for one in found if one.path not in told]
    if judged is None:
        return {}, findings
    wanted = judged.model_dump(exclude_defaults=True, by_alias=True)
    return {key: value for key, value in options.items() if key in wanted}, findings


def default_interval(kind: Kind) -> float:
    """Seconds between probes when the file says nothing."""
    return kind.default_interval


def default_timeout(kind: Kind, interval: float) -> float:
    """Seconds a probe may take when the file says nothing; never longer than the interval."""
    return min(kind.default_timeout, interval)


def variables(provider: Provider) -> list[str]:
    """The names that ``credentials`` may set, in the provider's order."""
    bases = [name for name in (*provider.base_urls, provider.status_base) if name]
    return [variable.name for variable in provider.variables] + bases


def read_reference(value: Any, *, stored: bool = True) -> str | None:
    """What is wrong with a credential's value, or None. The value itself is never told: it may be a secret."""
    allowed = "env:NAME, file:PATH or stored" if stored else "env:NAME or file:PATH"
    if stored and value == STORED:
        return None
    if not isinstance(value, str) or not secrets.is_reference(value):
        return f"must be {allowed}: a value itself does not belong here"
    if len(value) > 300:
        return "is longer than 300 characters"
    try:
        secrets.resolve(value)
    except secrets.Unresolvable as error:
        return f"{show(value)} leads nowhere: {error.why}"
    return None


def slug_findings(name: str) -> list[Finding]:
    """What is wrong with a key that is to be a name."""
    try:
        slug(name)
    except ValueError as error:
        return [Finding((), str(error))]
    return []


def _provider(name: str, data: Mapping[str, Any]) -> tuple[Provider | None, list[Finding]]:
    wanted = data.get("provider", name)
    if not isinstance(wanted, str):
        return None, []  # its type is told by ServiceEntry
    try:
        return providers.get(wanted), []
    except providers.UnknownProvider:
        pass
    if "provider" in data:
        return None, [Finding(("provider",), not_one_of(wanted, providers.names(), "a provider"))]
    hint = did_you_mean(wanted, providers.names())
    return None, [Finding((), f"{show(wanted)} is not a provider, so `provider` must say which one it is{hint}")]


def _credentials(provider: Provider | None, data: Any) -> tuple[dict[str, str], list[Finding]]:
    if data is None:
        return {}, []
    if not isinstance(data, Mapping):
        return {}, [Finding(("credentials",), wrong_mapping(data))]
    findings: list[Finding] = []
    for variable, value in data.items():
        path = ("credentials", variable)
        if provider is not None and variable not in variables(provider):
            hint = did_you_mean(variable, variables(provider))
            findings.append(Finding(path, f"{provider.slug} reads no such variable{hint}"))
        wrong = "has no value" if value is None else read_reference(value)
        if wrong:
            findings.append(Finding(path, wrong))
    return ({} if findings else dict(data)), findings


def _checks(provider: Provider | None, data: Mapping[str, Any]) -> tuple[Sequence[CheckSpec], list[Finding]]:
    """The checks in the file, or the provider's default ones. Without a provider only their form counts."""
    checks = data.get("checks")
    if "checks" not in data:
        return _default_checks(provider) if provider else ([], [])
    if checks is None:
        return [], []  # "has no value" is told by check()
    if not isinstance(checks, list):
        return [], [Finding(("checks",), f"{show(checks)} stands where a list belongs")]
    specs: list[CheckSpec] = []
    findings: list[Finding] = []
    for index, one in enumerate(checks):
        spec, found = read_check(provider, one) if provider else (None, _form(one))
        findings += [finding.under("checks", index) for finding in found]
        specs += [spec] if spec else []
    findings += _repeated(checks)
    return specs, findings


def _form(one: Any) -> list[Finding]:
    if not isinstance(one, Mapping):
        return [Finding((), wrong_mapping(one))]
    common = {key: value for key, value in one.items() if key in CheckEntry.model_fields}
    return check(CheckEntry, common)[1]


def _default_checks(provider: Provider) -> tuple[list[CheckSpec], list[Finding]]:
    """Connectivity, authentication and functionality, as far as the provider has them.

    A generic provider has none without options, so its services must list their checks.
    """
    kinds = [name for name in DEFAULT_KINDS if name in provider.kinds]
    if not kinds:
        return [], [Finding(("checks",), f"is missing: {provider.slug} has no checks of its own accord")]
    specs = [read_check(provider, {"kind": name})[0] for name in kinds]
    return [spec for spec in specs if spec], []


def _repeated(checks: Iterable[Any]) -> list[Finding]:
    findings: list[Finding] = []
    seen: dict[str, int] = {}
    sources: dict[str, int] = {}
    for index, one in enumerate(checks):
        if not isinstance(one, Mapping):
            continue
        name, source = one.get("name", one.get("kind")), one.get("renamed_from")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            key = "name" if "name" in one else "kind"
            hint = "" if "name" in one else " (a check's name defaults to its kind)"
            message = f"duplicate name {show(name)}, as checks[{seen[name]}]{hint}"
            findings.append(Finding(("checks", index, key), message))
        if isinstance(source, str) and sources.setdefault(source, index) != index:
            message = f"checks[{sources[source]}] is renamed from {show(source)} too"
            findings.append(Finding(("checks", index, "renamed_from"), message))
    return findings


def _kind(provider: Provider, data: Mapping[str, Any]) -> tuple[str, Kind | None, list[Finding]]:
    wanted = data.get("kind")
    if not isinstance(wanted, str):
        return "", None, []  # missing or no text: told by CheckEntry
    kinds = providers.kinds(provider)
    if wanted in kinds:
        return wanted, kinds[wanted], []
    message = not_one_of(wanted, kinds, f"a kind of check that {provider.slug} has")
    return wanted, None, [Finding(("kind",), message)]


def _times(kind: Kind, entry: CheckEntry) -> tuple[float, float]:
    interval = default_interval(kind) if entry.interval is None else entry.interval
    return interval, default_timeout(kind, interval) if entry.timeout is None else entry.timeout


def _time_findings(entry: CheckEntry, interval: float, timeout: float) -> list[Finding]:
    findings = []
    if timeout > interval:
        which = "the interval" if entry.interval else "this kind's default interval"
        message = f"{format_duration(timeout)} is longer than {which}, {format_duration(interval)}"
        findings.append(Finding(("timeout",), message))
    if entry.degraded_over is not None and entry.degraded_over >= timeout:
        message = (
            f"{format_duration(entry.degraded_over)} is not shorter than the timeout, {format_duration(timeout)}"
        )
        findings.append(Finding(("degraded_over",), message))
    return findings


def _resolve(value: JSON, path: Path, found: list[str]) -> tuple[JSON, list[Finding]]:
    """``value`` with its references replaced; the secrets behind them are added to ``found``."""
    if isinstance(value, str) and secrets.is_reference(value):
        try:
            found.append(secrets.resolve(value))
        except secrets.Unresolvable as error:
            return value, [Finding(path, f"{show(value)} leads nowhere: {error.why}")]
        return found[-1], []
    items: Collection[tuple[Any, JSON]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return value, []
    results = {key: _resolve(item, (*path, key), found) for key, item in items}
    findings = [finding for _, more in results.values() for finding in more]
    plain = {key: item for key, (item, _) in results.items()}
    return (plain if isinstance(value, Mapping) else list(plain.values())), findings
