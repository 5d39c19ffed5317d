"""The admin's forms of rotations and escalations: a name, and the rest as in wsmon.yaml, judged by the same code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monitoring.escalation.config import export_escalation, export_rotation
from monitoring.escalation.planning import EscalationPlanner, RotationPlanner
from monitoring.escalation.schema import EscalationSpec, RotationSpec, read_escalation, read_rotation
from monitoring.forms import NamedForm, YamlField, complain
from monitoring.models import Channel, Escalation, Rotation, Service
from wsmon.config.named import in_use
from wsmon.config.problems import Finding


class AsInFileForm(NamedForm):
    """One thing with a slug and the settings that its entry in wsmon.yaml would have."""

    settings = YamlField()
    judge: Callable[[str, Any], tuple[Any, list[Finding]]]
    spec: Any = None

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged."""
        cleaned = dict(super().clean() or {})
        slug = cleaned.get("slug")
        if slug is None or "settings" not in cleaned:
            return cleaned
        if "renamed_from" in cleaned["settings"]:
            self.add_error("settings", "renamed_from: has no use here: change the name above")
            return cleaned
        self.spec, findings = type(self).judge(slug, cleaned["settings"])
        complain(self, findings or list(self.unknown(self.spec)), "settings")
        self.find_holder(slug)
        if not self.errors:
            for name, value in self.spec.values.items():
                setattr(self.instance, name, value)
        return cleaned

    def unknown(self, spec: Any) -> list[Finding]:
        """What it names and what is not there."""
        raise NotImplementedError


class RotationForm(AsInFileForm):
    """A rotation."""

    settings = YamlField(
        help_text="As in wsmon.yaml: people: [{name: .., channels: [..]}], starts_on, handover, time_zone, ical."
    )
    judge = staticmethod(read_rotation)

    class Meta:
        model = Rotation
        fields = ["slug"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["settings"] = export_rotation(self.instance)

    def unknown(self, spec: RotationSpec) -> list[Finding]:
        """Channels that are not there."""
        return list(RotationPlanner([], False, in_use("channels", Channel, {})).unknown(spec))


class EscalationForm(AsInFileForm):
    """An escalation."""

    settings = YamlField(
        help_text="As in wsmon.yaml: steps: [{after: 5m, notify: [..]}], remind_every, services, min_severity."
    )
    judge = staticmethod(read_escalation)

    class Meta:
        model = Escalation
        fields = ["slug"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["settings"] = export_escalation(self.instance)

    def unknown(self, spec: EscalationSpec) -> list[Finding]:
        """Channels, rotations and services that are not there."""
        names = in_use("channels", Channel, {}), in_use("rotations", Rotation, {}), in_use("services", Service, {})
        return list(EscalationPlanner([], False, *names).unknown(spec))
