"""What a person may do to a breaker: what each action asks, says beforehand, and does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms

from monitoring.breakers import actions
from monitoring.breakers.machine import Mode
from monitoring.breakers.policy import Policy
from monitoring.breakers.reads import BreakerView
from monitoring.templatetags.wsmon_ui import clock_text, span_words
from monitoring.views.forms import FIELD, SELECT
from wsmon.audit import Actor

EXPIRES = [("600", "in 10 min"), ("3600", "in 1 h"), ("28800", "in 8 h"), ("never", "never")]
HELD_FOR = {"600": "for 10 min", "3600": "for 1 h", "28800": "for 8 h", "never": "until somebody ends that"}


class ReasonForm(forms.Form):
    """Why, where that may stay unsaid."""

    reason = forms.CharField(
        label="Reason (optional), kept in the audit",
        required=False,
        max_length=500,
        widget=forms.TextInput(
            attrs={**FIELD, "autocomplete": "off", "placeholder": "e.g. the vendor says it is over"}
        ),
    )


class ForceForm(forms.Form):
    """Why and for how long."""

    reason = forms.CharField(
        label="Reason, shown to everyone and kept in the audit",
        max_length=500,
        widget=forms.TextInput(
            attrs={**FIELD, "autocomplete": "off", "placeholder": "e.g. pool doubled, testing with real traffic"}
        ),
        error_messages={"required": "Say why: others will read it."},
    )
    expires = forms.ChoiceField(
        label="Expires by itself",
        choices=EXPIRES,
        widget=forms.Select(SELECT),
        error_messages={"required": "Choose when it ends.", "invalid_choice": "Choose when it ends."},
    )

    @property
    def seconds(self) -> float | None:
        """For how long; None for good."""
        expires = self.cleaned_data["expires"]
        return None if expires == "never" else float(expires)


@dataclass(frozen=True, slots=True)
class Act:
    """One action. ``danger``: "" is harmless, "quiet" shows it on hover only, "fill" at once."""

    name: str
    label: str
    ask: str
    """With the service's name as ``{}``, as all that follow."""
    do: str
    form: type[ReasonForm | ForceForm]
    effect: Callable[[BreakerView], list[str]]
    run: Callable[[BreakerView, Actor, Any], str]
    """Does it; returns what to tell, or nothing when there was nothing to do."""
    css: str = ""
    submit: str = "danger-fill"
    status: str = "critical"
    keep: str = "Keep as it is"


def _force_open(view: BreakerView) -> list[str]:
    lines = [f"Every process stops calling {view.label} within a second; checks of wsmon go on."]
    if view.effective is not Mode.CLOSED:
        lines.append("Calls are refused already. What changes: no trial is made, so it cannot recover by itself.")
    elif view.calls:
        rate = view.calls / view.policy.window
        lines.append(
            f"{_calls(view.calls)} ended in the last {view.policy.window:g} s, {view.fail:,} failed: "
            f"about {rate:,.1f} calls a second will be refused."
        )
    else:
        lines.append(f"No call ended in the last {view.policy.window:g} s.")
    return lines


def _force_closed(view: BreakerView) -> list[str]:
    lines = [f"Every call goes to {view.label} at once, in every process, however many fail."]
    if view.effective is Mode.CLOSED:
        lines.append(f"{_lately(view)}. It will not open while this holds.")
    elif view.state.override:
        lines.append(f"{view.rejected:,} calls were refused in the last 24 h.")
    else:
        lines.append(
            f"It opened because {view.state.reason or 'too many calls failed'}; "
            f"{view.rejected:,} calls were refused in the last 24 h. If it still fails, those calls fail."
        )
    return lines


def _release(view: BreakerView) -> list[str]:
    if view.state.mode is Mode.CLOSED:
        return [f"The state underneath counts again: CLOSED. Calls go to {view.label}; {_opens(view.policy)}."]
    return [
        f"The state underneath counts again: {view.state.mode}. "
        f"Calls to {view.label} are refused until a trial succeeds."
    ]


def _reset(view: BreakerView) -> list[str]:
    lines = [f"Calls go to {view.label} at once, in every process; {_opens(view.policy)}."]
    if view.state.override:
        lines.append(f"This also ends the force by {view.state.override.by or 'somebody'}.")
    if view.state.openings > 1:
        lines.append(f"That it opened {view.state.openings} times in a row is forgotten, so it waits less next time.")
    lines.append(f"{view.rejected:,} calls were refused in the last 24 h.")
    return lines


def _opens(policy: Policy) -> str:
    if policy.policy == "counting":
        return f"it opens again at {policy.failure_threshold} failures"
    share = f"{policy.error_threshold * 100:g}%"
    return f"it opens again when {share} of at least {policy.min_volume} calls in {policy.window:g} s fail"


def _lately(view: BreakerView) -> str:
    return f"{view.fail:,} of {_calls(view.calls)} failed in the last {view.policy.window:g} s"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number:,} calls"


def _forcing(mode: Mode) -> Callable[[BreakerView, Actor, ForceForm], str]:
    def run(view: BreakerView, actor: Actor, form: ForceForm) -> str:
        actions.force(view, mode, actor, form.cleaned_data["reason"], form.seconds)
        return f"{view.label} is forced {mode.lower()} {HELD_FOR[form.cleaned_data['expires']]}"

    return run


def _releasing(view: BreakerView, actor: Actor, form: ReasonForm) -> str:
    if actions.release(view, actor, form.cleaned_data["reason"]):
        return f"The force on {view.label} has ended"
    return ""


def _resetting(view: BreakerView, actor: Actor, form: ReasonForm) -> str:
    actions.reset(view, actor, form.cleaned_data["reason"])
    return f"{view.label}’s breaker was reset"


ACTS = {
    act.name: act
    for act in (
        Act("reset", "Reset…", "Reset {}’s breaker?", "Reset {}’s breaker", ReasonForm, _reset, _resetting,
            submit="primary", status="degraded"),
        Act("release", "End the force…", "End the force on {}?", "End the force on {}", ReasonForm, _release,
            _releasing, submit="primary", status="info", keep="Keep it forced"),
        Act("force-open", "Force open…", "Force {} open?", "Force {} open", ForceForm, _force_open,
            _forcing(Mode.OPEN), "danger-quiet"),
        Act("force-closed", "Force closed…", "Force {} closed?", "Force {} closed", ForceForm, _force_closed,
            _forcing(Mode.CLOSED), "danger-quiet"),
    )
}  # fmt: skip


def offered(view: BreakerView, *, everything: bool = False) -> list[Act]:
    """What makes sense in its present state. Closed ones offer one thing in a list, ``everything`` on their page."""
    override = view.state.override
    if override:
        other = "force-closed" if override.mode is Mode.OPEN else "force-open"
        names = ["release", "reset", other]
    elif view.effective is Mode.CLOSED:
        names = ["force-open", "force-closed"] if everything else ["force-open"]
    else:
        names = ["reset", "force-open", "force-closed"]
    return [ACTS[name] for name in names]


def held_words(view: BreakerView) -> str:
    """How long a force holds: "until Mon 08:00", "until somebody ends it"."""
    until = view.state.override.until if view.state.override else None
    if until is None:
        return "until somebody ends it"
    return f"until {clock_text(until)}, in {span_words((until - view.now).total_seconds())}"
