"""The admin of the thresholds: one row, as under ``alerts:`` of wsmon.yaml and under the same rules."""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html

from monitoring.admin import SuperusersConfigure
from monitoring.alertrules import config, thresholds
from monitoring.forms import YamlField, complain
from monitoring.models import AlertThresholds
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration

if TYPE_CHECKING:
    _ThresholdsAdmin = admin.ModelAdmin[AlertThresholds]
    _ThresholdsForm = forms.ModelForm[AlertThresholds]
else:  # Django's classes take no parameters at run time
    _ThresholdsAdmin = admin.ModelAdmin
    _ThresholdsForm = forms.ModelForm


class ThresholdsForm(_ThresholdsForm):
    """Everything as in the file."""

    values = YamlField(help_text="As under alerts: of wsmon.yaml. What is left out has its default.")

    class Meta:
        model = AlertThresholds
        fields = ["values"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["values"] = config.written(config.stored())

    def clean(self) -> dict[str, Any]:
        """Judge as the file's section would be judged."""
        cleaned = dict(super().clean() or {})
        if "values" in cleaned:
            cleaned["values"], findings = thresholds.read(cleaned["values"])
            complain(self, findings + config.unknown(cleaned["values"], {}), "values")
        return cleaned


@admin.register(AlertThresholds)
class ThresholdsAdmin(SuperusersConfigure, _ThresholdsAdmin):
    """From when on wsmon's own rules raise alerts."""

    form = ThresholdsForm
    list_display = ("__str__", "differing")
    readonly_fields = ("shown",)

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Superusers, while there is no row yet: it is the only one."""
        return super().has_add_permission(request) and not AlertThresholds.objects.exists()

    def has_change_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Superusers only."""
        return super().has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Nobody: it is emptied instead."""
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form for superusers, what the file would say for others."""
        return ["values"] if self.has_change_permission(request) else ["shown"]

    @admin.display(description="Differing from the defaults")
    def differing(self, row: AlertThresholds) -> str:
        """Their names."""
        return ", ".join(config.written(config.stored())) or "nothing"

    @admin.display(description="Thresholds")
    def shown(self, row: AlertThresholds) -> str:
        """As in wsmon.yaml."""
        return format_html("<pre>{}</pre>", yaml.safe_dump(config.written(config.stored()), sort_keys=False))

    def save_model(self, request: HttpRequest, obj: AlertThresholds, form: Any, change: bool) -> None:
        """Save under the lock that apply takes too, and say who did."""
        lock_configuration()
        obj.save()
        if form.has_changed():
            record(Actor.of(request), "alerts.change", "alerts:thresholds", values=config.written(obj.values))
