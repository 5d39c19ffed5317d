"""The section ``alerts`` of wsmon.yaml: from when on wsmon's own rules raise alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.alertrules import thresholds
from monitoring.alertrules.thresholds import Thresholds
from monitoring.models import AlertThresholds, Service
from wsmon.config.named import in_use
from wsmon.config.problems import Finding, not_one_of, shorten
from wsmon.config.section import Change, Exported, Plan
from wsmon.durations import format_duration
from wsmon.vocabulary import JSON

_DURATIONS = {"within", "warning", "critical", "ahead", "scheduler_late", "p95"}


class AlertsSection:
    """Reads, plans and exports the thresholds; what the file leaves out has its default."""

    key = "alerts"

    def read(self, data: Any) -> tuple[dict[str, JSON], list[Finding]]:
        """Judge them."""
        return thresholds.read(data)

    def plan(self, wish: dict[str, JSON], *, prune: bool, earlier: Mapping[str, Plan]) -> Plan:  # noqa: ARG002
        """Compare with the database."""
        result = Plan()
        result.findings += unknown(wish, earlier)
        present = stored()
        for name in sorted({*wish, *present}):
            if wish.get(name) != present.get(name):
                words = f"alerts {name}: {say(present.get(name))} -> {say(wish.get(name))}"
                result.changes.append(Change("~", words, None if result.changes else lambda: save(wish)))
        return result

    def export(self) -> Exported:
        """What differs from the defaults."""
        return Exported(written(stored()))


alerts_section = AlertsSection()


def unknown(values: Mapping[str, JSON], earlier: Mapping[str, Plan]) -> list[Finding]:
    """The services that have thresholds of their own and are not there."""
    services = in_use("services", Service, earlier)
    named = values.get("services", {})
    return [
        Finding(("services", slug), not_one_of(slug, services, "a service")) for slug in named if slug not in services
    ]


def stored() -> dict[str, JSON]:
    """What is stored, without what is no use any more."""
    return thresholds.kept(thresholds.present())


def save(values: Mapping[str, JSON]) -> None:
    """Store what differs from the defaults."""
    AlertThresholds.objects.update_or_create(id=1, defaults={"values": dict(values)})


def written(values: Mapping[str, JSON]) -> dict[str, JSON]:
    """As people write it: durations with their units, keys in the order of the README."""
    order = [*Thresholds.model_fields]
    return {name: _write(name, values[name]) for name in sorted(values, key=order.index)}


def _write(name: str, value: JSON) -> JSON:
    if isinstance(value, Mapping):
        return {key: _write(key, item) for key, item in value.items()}
    if name in _DURATIONS and isinstance(value, int | float):
        return format_duration(value)
    return value


def say(value: JSON) -> str:
    """A threshold in one line."""
    if value is None:
        return "default"
    if isinstance(value, Mapping):
        return shorten(", ".join(f"{key} {say(_write(key, item))}" for key, item in value.items()))
    return shorten(", ".join(map(str, value)) if isinstance(value, list) else str(value))
