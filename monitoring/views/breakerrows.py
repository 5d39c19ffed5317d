"""A breaker in words: what a row of the breakers' page and the card of the service's page say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from monitoring.advice import BY_CATEGORY
from monitoring.breakers.machine import Cause, Mode, Trigger
from monitoring.breakers.reads import BreakerView, Transition
from monitoring.critical import effects
from monitoring.models import BreakerTransition, Guarded
from monitoring.templatetags.wsmon_ui import clock_text, span_words
from monitoring.views.breakerforms import Act, offered
from wsmon.vocabulary import Category

GROUPS = {"open": "Not closed", "forced": "Forced by a person", "closed": "Closed"}
NOT_AN_OUTAGE = {
    Cause.CREDENTIAL: "Our credential, not an outage",
    Cause.RATE_LIMIT: "Our rate limit, not an outage",
}
ADVICE = {
    Cause.CREDENTIAL: BY_CATEGORY[Category.AUTHENTICATION_ERROR],
    Cause.RATE_LIMIT: "It asks us to call less often: slow down or raise the limit.",
}
SHORT = {Cause.CREDENTIAL: "our credential", Cause.RATE_LIMIT: "our rate limit"}


@dataclass
class Row:
    """One breaker as a page shows it. ``place``: the page that its actions return to, "list" or "service"."""

    view: BreakerView
    place: str = "list"

    @property
    def id(self) -> int:
        """The breaker's."""
        return self.view.id

    @property
    def group(self) -> str:
        """The heading it stands under."""
        if self.view.state.override:
            return "forced"
        return "closed" if self.view.effective is Mode.CLOSED else "open"

    @property
    def mark(self) -> str:
        """The colour of its edge: the state's, or that of a person's word."""
        return "FORCED" if self.group == "forced" else self.view.effective

    @cached_property
    def acts(self) -> list[Act]:
        """The actions that make sense now."""
        return offered(self.view, everything=self.place == "service")

    @property
    def anchor(self) -> str:
        """The start of the ids of all its elements."""
        return f"brk-{self.id}"

    # since when, and until when --------------------------------------------------------------------

    @property
    def opened_times(self) -> int:
        """How often in a row it opened, where that is worth telling."""
        state = self.view.state
        return state.openings if self.group == "open" and state.openings > 1 else 0

    @property
    def counted(self) -> str:
        """counting: how near it is to opening, "3 of 5 counted"."""
        policy, score = self.view.policy, self.view.state.score
        if policy.policy != "counting" or self.group != "closed" or not score:
            return ""
        return f"{score} of {policy.failure_threshold} counted"

    # why ----------------------------------------------------------------------------------------------

    @property
    def ours(self) -> str:
        """That it is not closed because of ourselves; empty otherwise."""
        return NOT_AN_OUTAGE.get(self.view.state.cause, "") if self.view.state.mode is not Mode.CLOSED else ""

    @property
    def advice(self) -> str:
        """What to do about that."""
        return ADVICE.get(self.view.state.cause, "")

    @property
    def reason(self) -> str:
        """Why it opened, as a sentence."""
        return sentence(self.view.state.reason)

    @property
    def at_a_time(self) -> str:
        """How many calls a trial is."""
        trials = self.view.policy.trials
        return "one call at a time" if trials == 1 else f"{trials} calls at a time"

    @property
    def waits(self) -> str:
        """How long it stays open this time, and why so long."""
        view = self.view
        words = f"It stays open for {span_words(view.open_seconds)}"
        if view.state.openings > 1:
            longest = span_words(view.policy.recovery_max_effective * view.factor)
            words += f", doubled each time it opens again, up to {longest}"
        if view.factor < 1:
            reason = "emergency" if view.factor < effects.CRITICAL_DAY.recovery else "critical day"
            words += f"; without the {reason} it would be {span_words(view.state.open_for)}"
        return f"{words}."

    @property
    def to_go(self) -> str:
        """What it takes to close: "Closes after 1 more success"."""
        left = max(1, self.view.policy.success_threshold - self.view.state.successes)
        return f"Closes after {left} more success{'' if left == 1 else 'es'}"

    @property
    def holders(self) -> str:
        """Who makes the trials that are under way, and how long their leases last."""
        told = []
        for trial in self.view.state.trials:
            left = (trial.until - self.view.now).total_seconds()
            lease = f"lease {span_words(left)}" if left > 0 else "lease over"
            told.append(f"{trial.by or 'a process'}, {lease}")
        return "; ".join(told)

    @property
    def underneath(self) -> str:
        """The state below a person's word."""
        return self.view.state.mode

    # numbers ----------------------------------------------------------------------------------------------

    @property
    def failing(self) -> str:
        """The window's failure rate: "18%"; a dash without calls."""
        return share(self.view.failure_rate)


def share(rate: float | None) -> str:
    """A share of 0..1 as "18%", never rounded to nothing or to all."""
    if rate is None:
        return "–"
    if 0 < rate < 0.01:
        return "<1%"
    return f"{int(rate * 100 + 1e-9)}%"


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    text = text.strip()
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


@dataclass(frozen=True, slots=True)
class Step:
    """One transition in words."""

    row: BreakerTransition
    of: Guarded

    @property
    def old(self) -> str:
        """The state before; a force that ended says so, since the log keeps the state underneath."""
        return "FORCED" if self.row.trigger == Trigger.RELEASED else self.row.old

    @property
    def new(self) -> str:
        """What callers met from then on."""
        return self.row.forced or self.row.new

    @property
    def why(self) -> str:
        """What made it happen."""
        row = self.row
        match row.trigger:
            case Trigger.THRESHOLD:
                words = row.reason
            case Trigger.TRIAL:
                words = "its open time was over"
            case Trigger.FORCED | Trigger.RESET:
                words = f"{row.trigger}: “{row.reason}”" if row.reason else str(row.trigger)
            case Trigger.RELEASED:
                words = f"force ended: “{row.reason}”" if row.reason else "force ended"
                words += "" if row.by else " by itself"
            case _:
                words = row.trigger
        ours = SHORT.get(Cause(row.cause)) if row.new == Mode.OPEN and not row.forced else None
        return f"{ours}: {words}" if ours else words

    @property
    def then(self) -> str:
        """What it leads to: how long it stays open, how long a force holds."""
        row = self.row
        if row.forced:
            return f"until {clock_text(row.forced_until)}" if row.forced_until else "until somebody ends it"
        if row.new == Mode.OPEN and row.trigger != Trigger.RELEASED and row.open_for:
            return f"open for {span_words(row.open_for)}"
        return ""

    @property
    def by(self) -> str:
        """Who did it."""
        if self.row.by:
            return self.row.by
        return {
            Trigger.THRESHOLD: "calls of all processes",
            Trigger.TRIAL_LOST: "clock",
            Trigger.RELEASED: "clock",
        }.get(Trigger(self.row.trigger), "–")


def steps(found: Iterable[Transition]) -> list[Step]:
    """Transitions in words."""
    return [Step(one.row, one.of) for one in found]
