"""The ``services`` section of wsmon.yaml.

A service without ``checks`` gets its vendor's default ones (connectivity, authentication and functionality,
as far as the vendor's adapter has them); a service of a generic provider (http, tcp, ...) must list its own.
``checks: []`` means none. Keys that are left out have their defaults, with two exceptions that apply leaves
alone: values entered in the admin (``stored`` in ``credentials``) and pauses made by people. ``paused: true``
pauses every check of the service, ``paused: false`` resumes them whoever paused them, and a pause made by
the file ends when the key goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

import providers
from monitoring import literals
from monitoring.models import Check, Service
from monitoring.planning import ServicePlanner
from monitoring.schema import BREAKERS, STORED, ServiceSpec, default_interval, default_timeout, read_service
from providers.base import Kind
from wsmon.config.named import read_named
from wsmon.config.problems import Finding, dotted
from wsmon.config.section import Exported, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON, Criticality

CONFIRMATIONS = 2


class ServicesSection:
    """Reads, plans and exports services with their checks and credentials."""

    key = "services"

    def read(self, data: Any) -> tuple[list[ServiceSpec], list[Finding]]:
        """Judge every service; the specs are only complete when there is no finding."""
        return read_named(data, read_service)

    def plan(self, wish: list[ServiceSpec], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:  # noqa: ARG002
        """Compare with the database."""
        return ServicePlanner(wish, prune).plan()

    def export(self) -> Exported:
        """Every service in use, in the order they were made."""
        exported = Exported({})
        services = Service.objects.filter(archived_at=None).order_by("id")
        for service in services.prefetch_related("checks", "credentials"):
            exported.data[service.slug] = _service(service, exported.remarks)
        return exported


services_section = ServicesSection()


def _service(service: Service, remarks: list[str]) -> dict[str, JSON]:
    """A service as in the file: keys in the order of the README, defaults left out."""
    checks = sorted((one for one in service.checks.all() if one.archived_at is None), key=lambda one: one.id)
    found: dict[str, JSON] = {}
    if service.provider != service.slug:
        found["provider"] = service.provider
    if service.name:
        found["name"] = service.name
    if service.criticality != Criticality.NORMAL:
        found["criticality"] = service.criticality
    if service.breaker:
        found["breaker"] = export_breaker(service.breaker)
    credentials = {row.variable: row.reference or STORED for row in service.credentials.all()}
    if credentials:
        found["credentials"] = credentials
    if checks and all(check.paused_at and not check.paused_until for check in checks):
        found["paused"] = True
    found["checks"] = [
        _check(service, check, ("services", service.slug, "checks", index), remarks)
        for index, check in enumerate(checks)
    ]
    return found


def export_breaker(breaker: Mapping[str, JSON]) -> dict[str, JSON]:
    """A stored breaker policy with its durations as people write them."""
    policy = {"policy": breaker.get("policy", "rolling")}
    fields = BREAKERS[policy["policy"]].model_fields
    found = {name: breaker[name] for name in fields if name in breaker and name != "policy"}
    durations = ("window", "recovery_timeout", "recovery_max", "slow_over")
    times = {name: format_duration(found[name]) for name in durations if found.get(name) is not None}
    return policy | found | times


def _check(service: Service, check: Check, path: tuple[str | int, ...], remarks: list[str]) -> dict[str, JSON]:
    kind = kind_of(service.provider, check.kind)
    found: dict[str, JSON] = {"kind": check.kind}
    if check.name != check.kind:
        found["name"] = check.name
    if kind is None or check.interval != default_interval(kind):
        found["interval"] = format_duration(check.interval)
    if kind is None or check.timeout != default_timeout(kind, check.interval):
        found["timeout"] = format_duration(check.timeout)
    if check.degraded_over is not None:
        found["degraded_over"] = format_duration(check.degraded_over)
    if check.confirm_down != CONFIRMATIONS:
        found["confirm_down"] = check.confirm_down
    if check.confirm_up != CONFIRMATIONS:
        found["confirm_up"] = check.confirm_up
    options, masked = literals.mask(check.options)
    remarks += [
        f"{dotted((*path, *place))}: a secret stands here in clear; it is masked, put it behind env: or file:"
        for place in masked
    ]
    return found | export_options(kind.options if kind else None, options)


def export_options(model: type[BaseModel] | None, options: Mapping[str, JSON]) -> dict[str, JSON]:
    """Options in the order of their kind's model (the database keeps them in another)."""
    if model is None:
        return dict(options)
    order = [field.alias or name for name, field in model.model_fields.items()]
    known = {name: options[name] for name in order if name in options}
    return known | {name: value for name, value in options.items() if name not in known}


def kind_of(provider: str, kind: str) -> Kind | None:
    """None for what an older or newer version of wsmon has put there."""
    try:
        return providers.kind(providers.get(provider), kind)
    except (providers.UnknownProvider, providers.UnknownKind):
        return None
