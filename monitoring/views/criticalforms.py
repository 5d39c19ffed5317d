"""What a person may do about critical days: what each action asks, says beforehand, and does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms

from monitoring.critical import actions
from monitoring.critical.inforce import InForce
from monitoring.models import Emergency, Service
from monitoring.templatetags.wsmon_ui import clock_text, span_words
from monitoring.views.forms import FIELD, SELECT
from wsmon.audit import Actor

HOURS = {"2": "in 2 h", "6": "in 6 h", "12": "in 12 h", "24": "in 24 h", "72": "in 3 days", "168": "in 7 days"}
LONGER = {"1": "by 1 h", "2": "by 2 h", "6": "by 6 h", "12": "by 12 h", "24": "by 24 h"}
END = "end"


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label="Reason, shown to everyone and kept in the audit",
        max_length=500,
        widget=forms.TextInput(attrs={**FIELD, "autocomplete": "off"}),
        error_messages={"required": "Say why: others will read it."},
    )

    def __init__(self, *args: Any, found: InForce, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.found = found
        self.fields["reason"].widget.attrs["placeholder"] = example


class OptionalReasonForm(ReasonForm):
    """Why, where that may stay unsaid."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False
        self.fields["reason"].label = "Reason (optional), kept in the audit"


class UntilForm(ReasonForm):
    """Why and until when."""

    until = forms.ChoiceField(
        label="Expires",
        widget=forms.Select(SELECT),
        error_messages={"required": "Choose when it ends.", "invalid_choice": "Choose when it ends."},
    )

    def choices(self) -> dict[str, str]:
        """What can be chosen."""
        return HOURS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["until"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101
        field.choices = list(self.choices().items())

    @property
    def ends_at(self) -> datetime:
        """The moment that was chosen."""
        return self.found.at + timedelta(hours=float(self.cleaned_data["until"]))


class OffForm(UntilForm):
    """Off until the critical day would have ended, or shorter."""

    def choices(self) -> dict[str, str]:
        """Its end comes first."""
        found = self.found
        if found.until is None:
            return HOURS
        left = (found.until - found.at).total_seconds() / 3600
        shorter = {hours: words for hours, words in HOURS.items() if float(hours) < left}
        return {END: f"{clock_text(found.until)}, its end"} | shorter

    @property
    def ends_at(self) -> datetime:
        """The moment that was chosen."""
        if self.cleaned_data["until"] == END and self.found.until is not None:
            return min(self.found.until, self.found.at + actions.LONGEST_OVERRIDE)
        return super().ends_at


class LongerForm(UntilForm):
    """By how much longer."""

    def choices(self) -> dict[str, str]:
        """Hours on top of its end."""
        return LONGER

    @property
    def ends_at(self) -> datetime:
        """Its end and so much more."""
        return (self.found.until or self.found.at) + timedelta(hours=float(self.cleaned_data["until"]))


class EmergencyForm(ReasonForm):
    """For everything or for one service, and why."""

    service = forms.ModelChoiceField(
        label="For",
        queryset=Service.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label="all services",
        widget=forms.Select(SELECT),
        error_messages={"invalid_choice": "This service does not exist any more."},
    )
    field_order = ("service", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["service"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = Service.objects.filter(archived_at=None).order_by("slug")


class CalmForm(OptionalReasonForm):
    """Which emergency is over."""

    emergency = forms.ModelChoiceField(
        label="Of", queryset=Emergency.objects.none(), empty_label=None, widget=forms.Select(SELECT)
    )
    field_order = ("emergency", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ids = [one.id for one in self.found.emergencies]
        names = {one.id: one.service or "all services" for one in self.found.emergencies}
        field = self.fields["emergency"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101
        field.queryset = Emergency.objects.filter(id__in=ids)
        field.label_from_instance = lambda obj: names.get(obj.pk, "")  # type: ignore[method-assign]
        field.error_messages |= {"required": "Choose one.", "invalid_choice": "It is over already."}


@dataclass(frozen=True, slots=True)
class Act:
    """One action on critical days."""

    name: str
    ask: str
    do: str
    form: type[ReasonForm]
    effect: Callable[[InForce], Sequence[str]]
    run: Callable[[Any, Actor], str]
    """Does it; returns what to tell."""
    example: str = ""
    possible: Callable[[InForce], bool] = lambda _found: True
    gone: str = ""
    """What is said when it is not possible any more."""
    submit: str = "danger-fill"
    status: str = "critical"
    keep: str = "Keep as it is"


def _left(found: InForce) -> str:
    return span_words((found.until - found.at).total_seconds()) if found.until else ""


def _on(form: UntilForm, actor: Actor) -> str:
    made = actions.override(True, form.ends_at, form.cleaned_data["reason"], actor)
    return f"A critical day is in force until {clock_text(made.ends_at)}"


def _longer(form: LongerForm, actor: Actor) -> str:
    made = actions.override(True, form.ends_at, form.cleaned_data["reason"], actor)
    return f"The critical day lasts until {clock_text(made.ends_at)}"


def _off(form: OffForm, actor: Actor) -> str:
    made = actions.override(False, form.ends_at, form.cleaned_data["reason"], actor)
    return f"No critical day is in force until {clock_text(made.ends_at)}"


def _calendar(form: OptionalReasonForm, actor: Actor) -> str:
    ended = actions.end_override(actor, form.cleaned_data["reason"])
    return "The calendar decides again" if ended else "The calendar decided already"


def _allow(form: ReasonForm, actor: Actor) -> str:
    made = actions.allow_deploy(form.cleaned_data["reason"], actor)
    return f"The next pipeline that asks before {clock_text(made.expires_at)} may deploy"


def _emergency(form: EmergencyForm, actor: Actor) -> str:
    service = form.cleaned_data["service"]
    made = actions.start_emergency(service, form.cleaned_data["reason"], actor)
    named = service.label if service else "all services"
    return f"Emergency mode of {named} is on until {clock_text(made.ends_at)}"


def _calm(form: CalmForm, actor: Actor) -> str:
    row = form.cleaned_data["emergency"]
    ended = actions.end_emergency(row, actor, form.cleaned_data["reason"])
    named = row.service.label if row.service else "all services"
    return f"Emergency mode of {named} is over" if ended else f"Emergency mode of {named} was over already"


def _back(found: InForce) -> list[str]:
    if found.held_off is not None:
        return [f"The critical day goes on at once, until {clock_text(found.held_off.ends_at)}."]
    if found.reasons:
        return ["The calendar has a critical day now, so it goes on until that ends."]
    return ["Intervals, breakers and escalation return to their usual values, and deploys are allowed."]


ACTS = {
    act.name: act
    for act in (
        Act(
            "on",
            "Switch a critical day on now?",
            "Switch critical day on",
            UntilForm,
            lambda _found: [
                "Critical and high services are checked twice as often, one failure is an alert, breakers try again"
                " after half the time, the escalation starts at step 2, and deploys are frozen."
            ],
            _on,
            "e.g. the launch of the new shop",
            lambda found: not found.critical,
            "a critical day is in force already",
            submit="primary",
            status="info",
            keep="Not now",
        ),
        Act(
            "longer",
            "Extend the critical day?",
            "Extend critical day",
            LongerForm,
            lambda found: [f"It would end in {_left(found)}, at {clock_text(found.until)}." if found.until else ""],
            _longer,
            "e.g. the party goes on",
            lambda found: found.critical,
            "no critical day is in force any more",
            submit="primary",
            status="info",
        ),
        Act(
            "off",
            "End the critical day now?",
            "End critical day now",
            OffForm,
            lambda found: [
                "Intervals, breakers and escalation return to their usual values and deploys are allowed"
                + (f" for the {_left(found)} that remain." if found.until else ".")
            ],
            _off,
            "e.g. the event was cancelled",
            lambda found: found.critical and found.everywhere is None,
            "no critical day is in force any more",
        ),
        Act(
            "calendar",
            "Let the calendar decide again?",
            "Let the calendar decide",
            OptionalReasonForm,
            _back,
            _calendar,
            possible=lambda found: found.override is not None,
            gone="the calendar decides already",
            submit="primary",
            status="info",
        ),
        Act(
            "allow",
            "Let one deploy through the freeze?",
            "Allow one deploy",
            ReasonForm,
            lambda _found: [
                "The next pipeline that asks within 1 h gets a 200, whichever it is; the one after it waits."
            ],
            _allow,
            "e.g. the fix for the outage",
            lambda found: found.frozen,
            "deployments are not frozen any more",
            keep="Keep everything frozen",
        ),
        Act(
            "emergency",
            "Start emergency mode?",
            "Start emergency mode",
            EmergencyForm,
            lambda _found: [
                "Checks run every 5 s and one failure is an alert. Everyone on the escalation is told at once.",
                "For all services it is a critical day too: deploys are frozen, and applications are asked to switch"
                " to read-only. It ends by itself after 2 h.",
            ],
            _emergency,
            "e.g. bookings fail, and the vendor does not answer",
            keep="Do not start it",
        ),
        Act(
            "calm",
            "End emergency mode?",
            "End emergency mode",
            CalmForm,
            lambda _found: ["What the calendar says counts again, and its alert is resolved."],
            _calm,
            possible=lambda found: bool(found.emergencies),
            gone="no emergency is on any more",
            submit="primary",
            status="info",
        ),
    )
}
