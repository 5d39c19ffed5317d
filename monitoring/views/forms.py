"""The forms of the service page: test now, pause, maintenance. They check what a person enters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

FIELD = {"class": "form-control ws-in"}
SELECT = {"class": "form-select ws-in"}
TIMEOUT_MS = 5000

PAUSE_FOR = [
    ("", "until I resume"),
    ("30", "30 min"),
    ("60", "1 h"),
    ("240", "4 h"),
    ("1440", "1 day"),
    ("10080", "7 days"),
]
REPEATS = [("once", "once"), ("daily", "every day"), ("weekly", "every week")]
LONGEST_MAINTENANCE = timedelta(days=31)
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def _reason(example: str) -> forms.CharField:
    return forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.TextInput(attrs={**FIELD, "placeholder": example, "autocomplete": "off"}),
        error_messages={"required": "Say why: others will read it."},
    )


class TestForm(forms.Form):
    """What to test now, and when to give up (ms)."""

    kind = forms.CharField(max_length=60, required=False)
    check = forms.IntegerField(required=False, min_value=1)
    timeout_ms = forms.IntegerField(
        min_value=1000,
        max_value=30_000,
        initial=TIMEOUT_MS,
        error_messages={
            "required": "Enter a time between 1,000 and 30,000 ms.",
            "invalid": "Enter a time between 1,000 and 30,000 ms.",
            "min_value": "Enter a time between 1,000 and 30,000 ms.",
            "max_value": "Enter a time between 1,000 and 30,000 ms.",
        },
    )

    def clean(self) -> dict[str, Any]:
        """Exactly one thing is tested."""
        data = super().clean() or {}
        if bool(data.get("kind")) == bool(data.get("check")):
            raise forms.ValidationError("Choose what to test.")
        return data


class PauseForm(forms.Form):
    """Which checks to pause, why, and for how long."""

    checks = forms.TypedMultipleChoiceField(coerce=int, widget=forms.CheckboxSelectMultiple)
    reason = _reason("e.g. the shop moves to a new account")
    minutes = forms.ChoiceField(label="For", choices=PAUSE_FOR, required=False, widget=forms.Select(SELECT))

    def __init__(self, choices: list[tuple[int, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["checks"]
        assert isinstance(field, forms.TypedMultipleChoiceField)  # noqa: S101
        field.choices = choices
        field.initial = [number for number, _name in choices]
        field.error_messages["required"] = "Choose at least one check."

    def until(self, now: datetime) -> datetime | None:
        """When the pause ends by itself; ``None`` for never."""
        minutes = self.cleaned_data["minutes"]
        return now + timedelta(minutes=int(minutes)) if minutes else None


class MaintenanceForm(forms.Form):
    """From when to when alerts are held, why, and how often that repeats. Times are the site's local ones."""

    starts_at = forms.DateTimeField(
        label="From",
        required=False,
        widget=forms.DateTimeInput({**FIELD, "type": "datetime-local"}, "%Y-%m-%dT%H:%M"),
    )
    ends_at = forms.DateTimeField(
        label="To",
        widget=forms.DateTimeInput({**FIELD, "type": "datetime-local"}, "%Y-%m-%dT%H:%M"),
        error_messages={"required": "Enter when it ends."},
    )
    recurrence = forms.ChoiceField(label="Repeats", choices=REPEATS, initial="once", widget=forms.Select(SELECT))
    reason = _reason("e.g. database move, announced by mail")

    @classmethod
    def fresh(cls) -> MaintenanceForm:
        """The empty form: from now, for an hour."""
        now = timezone.localtime().replace(second=0, microsecond=0)
        return cls(initial={"starts_at": now, "ends_at": now + timedelta(hours=1)}, prefix="maintenance")

    def clean(self) -> dict[str, Any]:
        """The end follows the start, lies ahead, and a repeated window does not overlap itself."""
        data = super().clean() or {}
        ends = data.get("ends_at")
        if ends is None or "starts_at" not in data:
            return data
        starts = data["starts_at"] = data["starts_at"] or timezone.now()
        longest = {"daily": timedelta(days=1), "weekly": timedelta(days=7)}.get(data.get("recurrence", ""))
        if ends <= starts:
            self.add_error("ends_at", "It must end after it starts.")
        elif ends - starts > LONGEST_MAINTENANCE:
            self.add_error("ends_at", "It may last 31 days at most.")
        elif longest and ends - starts >= longest:
            self.add_error("ends_at", "It must end before it starts again.")
        elif ends <= timezone.now() and not longest:
            self.add_error("ends_at", "This is over already.")
        return data

    def rrule(self) -> str:
        """The recurrence as an RFC 5545 RRULE, empty for a single window."""
        match self.cleaned_data["recurrence"]:
            case "daily":
                return "FREQ=DAILY"
            case "weekly":
                day = timezone.localtime(self.cleaned_data["starts_at"]).weekday()
                return f"FREQ=WEEKLY;BYDAY={WEEKDAYS[day]}"
            case _:
                return ""
