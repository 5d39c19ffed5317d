"""The forms of the room's pages. They check what a person enters."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from webhooks.models import Destination
from webhooks.replaying import FASTEST, MAX_RETRIES, PER_SECOND
from wsmon.vocabulary import JSON

FIELD = {"class": "form-control ws-in", "autocomplete": "off"}
SELECT = {"class": "form-select ws-in"}
CHECK = {"class": "ws-check"}
SAY_WHY = "Say why: others will read it."
TRIES = f"Enter a number from 1 to {MAX_RETRIES}."
PACE = f"Enter a number above 0, at most {FASTEST:g}."
LARGEST = 1_000_000


def _reason(example: str, *, required: bool) -> forms.CharField:
    return forms.CharField(
        label="Reason" if required else "Reason, if others should know",
        required=required,
        max_length=500,
        widget=forms.TextInput({**FIELD, "placeholder": example}),
        error_messages={"required": SAY_WHY},
    )


class ReasonForm(forms.Form):
    """Why, which others will read."""

    reason = _reason("e.g. wrong data, the shop sends it again", required=True)


class NoteForm(forms.Form):
    """The same, where it may be left out."""

    reason = _reason("e.g. the new server is up", required=False)


class ReplayForm(forms.Form):
    """How to replay: where to, how often to try, how fast. No field is named like one of a filter."""

    to = forms.ModelChoiceField(
        label="Destination",
        queryset=Destination.objects.none(),
        to_field_name="slug",
        required=False,
        empty_label="where each went before",
        widget=forms.Select(SELECT),
        error_messages={"invalid_choice": "There is no such destination."},
    )
    max_retries = forms.IntegerField(
        label=f"Tries, 1 to {MAX_RETRIES}",
        min_value=1,
        max_value=MAX_RETRIES,
        initial=3,
        widget=forms.NumberInput({**FIELD, "class": "form-control ws-in num"}),
        error_messages=dict.fromkeys(("required", "invalid", "min_value", "max_value"), TRIES),
    )
    per_second = forms.FloatField(
        label="Per second, at most",
        min_value=0.01,
        max_value=FASTEST,
        initial=PER_SECOND,
        required=False,
        widget=forms.NumberInput({**FIELD, "class": "form-control ws-in num", "step": "any"}),
        error_messages=dict.fromkeys(("invalid", "min_value", "max_value"), PACE),
    )
    reason = _reason("e.g. tax rates are fixed", required=False)
    force = forms.BooleanField(
        label="Also what was delivered already", required=False, widget=forms.CheckboxInput(CHECK)
    )

    def __init__(self, *args: Any, many: bool, went_to: str = "", may_force: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["to"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = Destination.objects.filter(archived_at=None).order_by("slug")
        if went_to:
            field.empty_label = f"{went_to}, as before"
        if not many:
            del self.fields["per_second"]
        if not may_force:
            del self.fields["force"]

    @property
    def options(self) -> dict[str, Any]:
        """What ``webhooks.replaying`` takes; only after it is valid."""
        data = self.cleaned_data
        found = {"destination": data["to"]} | {name: data[name] for name in ("max_retries", "reason")}
        found["force"] = data.get("force", False)
        if "per_second" in data:
            found["per_second"] = data["per_second"] or PER_SECOND
        return found


class RevealForm(forms.Form):
    """Why somebody has to see personal data."""

    reason = _reason("e.g. the customer asks where the receipt went", required=True)


class PublishForm(forms.Form):
    """An event of our own."""

    type = forms.CharField(
        label="Type",
        max_length=200,
        widget=forms.TextInput({**FIELD, "placeholder": "e.g. booking.confirmed"}),
        error_messages={"required": "Enter what happened, e.g. booking.confirmed."},
    )
    key = forms.CharField(
        label="Idempotency key, optional",
        max_length=255,
        required=False,
        widget=forms.TextInput({**FIELD, "placeholder": "e.g. booking-4711-confirmed"}),
    )
    content = forms.CharField(
        label="Data, JSON",
        max_length=LARGEST,
        initial="{}",
        widget=forms.Textarea(
            {**FIELD, "class": "form-control ws-in mono wh-json", "rows": 6, "spellcheck": "false"}
        ),
        error_messages={"required": "Enter JSON, at least {}."},
    )

    def clean_content(self) -> JSON:
        """The JSON itself."""
        try:
            return json.loads(self.cleaned_data["content"])
        except ValueError as problem:
            where = f", line {problem.lineno}" if isinstance(problem, json.JSONDecodeError) else ""
            raise forms.ValidationError(f"This is no JSON{where}.") from None
        except RecursionError:
            raise forms.ValidationError("This is nested too deeply.") from None
