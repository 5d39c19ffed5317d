"""The admin of critical days: the same rules as in wsmon.yaml, judged by the same code.

Superusers configure; nothing is deleted, it is archived. Every change leaves an audit row and counts at once.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from monitoring.admin import AsInFileAdmin
from monitoring.critical import config, inforce
from monitoring.critical.config import export_rule
from monitoring.critical.schema import RuleSpec, read_rule
from monitoring.critical.wording import rule_words
from monitoring.escalation.forms import AsInFileForm
from monitoring.forms import YamlField
from monitoring.models import CriticalRule
from wsmon.audit import Actor, record
from wsmon.config.applying import lock_configuration
from wsmon.config.problems import Finding


class CriticalRuleForm(AsInFileForm):
    """A rule."""

    settings = YamlField(
        help_text="As in wsmon.yaml, with one of every, dates, ranges, rrule (with starts_at, lasts), ical (with"
        " match) and holidays; and lead, trail, time_zone, except, freeze, read_only."
    )
    judge = staticmethod(read_rule)

    class Meta:
        model = CriticalRule
        fields = ["slug"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["settings"] = export_rule(self.instance)

    def unknown(self, spec: RuleSpec) -> list[Finding]:
        """A rule names nothing that may not be there."""
        return []


@admin.register(CriticalRule)
class CriticalRuleAdmin(AsInFileAdmin):
    """When a critical day is."""

    form = CriticalRuleForm
    list_display = ("slug", "days", "time_zone", "archived_at")

    @admin.display(description="Days")
    def days(self, row: CriticalRule) -> str:
        """In words."""
        return rule_words(row.spec, row.lead, row.trail)

    def exported(self, row: CriticalRule) -> Any:
        """As under ``critical_days``."""
        return {row.slug: export_rule(row)}

    def save_model(self, request: HttpRequest, obj: CriticalRule, form: Any, change: bool) -> None:
        """Save, and let it count within a second."""
        super().save_model(request, obj, form, change)
        inforce.look_again()

    def delete_model(self, request: HttpRequest, obj: CriticalRule) -> None:
        """Archive."""
        lock_configuration()
        config.archive(obj)
        record(Actor.of(request), "criticalrule.archive", f"criticalrule:{obj.slug}")
        inforce.look_again()
