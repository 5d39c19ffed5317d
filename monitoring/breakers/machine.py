"""A breaker's state machine: pure functions of (state, what happened, now, policy) that return the next state.

A function returns None when nothing changes. Time is the database's, whoever asks. What is durable of a
breaker is exactly a :class:`State`; each change of it is one row of the transition log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.breakers.policy import LONGEST_RETRY_AFTER, Ending, Kind, Policy

LEASE = 10.0
"""Seconds a trial may go on without its process renewing it."""
LONGEST_TRIAL = 120.0
"""Seconds after which a trial is renewed no more: one that never returns must not block recovery."""


class Mode(StrEnum):
    """The state of a breaker."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Cause(StrEnum):
    """Why it is not closed."""

    OUTAGE = "outage"
    CREDENTIAL = "credential"
    RATE_LIMIT = "rate_limit"
    NONE = ""


class Trigger(StrEnum):
    """What made a transition happen."""

    THRESHOLD = "threshold"
    TRIAL = "trial admitted"
    TRIAL_OK = "trial succeeded"
    TRIAL_FAILED = "trial failed"
    TRIAL_LOST = "trial lost"
    FORCED = "forced"
    RELEASED = "force ended"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Trial:
    """A call let through while HALF_OPEN; whoever holds the token may end it, until the lease runs out."""

    token: str
    until: datetime
    by: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word, above the state: rejects or lets through everything until it expires."""

    mode: Mode
    by: str
    reason: str
    at: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that is shared of a breaker, but for its window's counts."""

    mode: Mode = Mode.CLOSED
    generation: int = 0
    since: datetime | None = None
    opened_at: datetime | None = None
    openings: int = 0
    """How many times in a row it opened: the open time backs off by it."""
    open_for: float = 0.0
    """Seconds from ``opened_at`` to the next trial, before the critical day's factor."""
    not_before: datetime | None = None
    """The other side asked for no call before then (Retry-After)."""
    score: int = 0
    """counting: failures, less successes."""
    successes: int = 0
    """Trials that succeeded since it is HALF_OPEN."""
    trials: tuple[Trial, ...] = ()
    cause: Cause = Cause.NONE
    reason: str = ""
    override: Override | None = None

    @property
    def effective(self) -> Mode:
        """What callers meet: the override, or the state below it."""
        return self.override.mode if self.override else self.mode


@dataclass(frozen=True, slots=True)
class Window:
    """The calls of the present generation within the window. Failures by kind are part of ``fail``."""

    ok: int = 0
    fail: int = 0
    credential: int = 0
    limited: int = 0
    retry_at: datetime | None = None

    @property
    def volume(self) -> int:
        """Completed calls."""
        return self.ok + self.fail

    @property
    def failure_rate(self) -> float | None:
        """Share of the completed calls that failed, 0..1; None without calls."""
        return self.fail / self.volume if self.volume else None

    @property
    def cause(self) -> Cause:
        """Whose fault most of the failures are."""
        ours = {Cause.CREDENTIAL: self.credential, Cause.RATE_LIMIT: self.limited}
        cause, number = max(ours.items(), key=lambda item: item[1])
        return cause if number * 2 > self.fail else Cause.OUTAGE


@dataclass(frozen=True, slots=True)
class Fold:
    """A sequence of calls as one step of the counting policy: score -> max(score + delta, floor).

    The score never falls below 0, so the order of calls matters; this is what remains of it. ``peak`` and
    ``peak_floor`` do the same for the highest score on the way.
    """

    delta: int = 0
    floor: int = 0
    peak: int = 0
    peak_floor: int = 0

    def then(self, ok: bool) -> Fold:
        """One more call at the end."""
        step = -1 if ok else 1
        delta, floor = self.delta + step, max(self.floor + step, 0)
        return Fold(delta, floor, max(self.peak, delta), max(self.peak_floor, floor))

    def followed_by(self, other: Fold) -> Fold:
        """Both sequences, one after the other."""
        return Fold(
            self.delta + other.delta,
            max(self.floor + other.delta, other.floor),
            max(self.peak, self.delta + other.peak),
            max(self.peak_floor, self.floor + other.peak, other.peak_floor),
        )

    def apply(self, score: int) -> tuple[int, int]:
        """(score afterwards, highest score on the way), from ``score``."""
        return max(score + self.delta, self.floor), max(score + self.peak, self.peak_floor, score)


def crossed(window: Window, score: int, policy: Policy) -> bool:
    """Whether a closed breaker opens."""
    if policy.policy == "counting":
        return score >= policy.failure_threshold
    enough = window.volume >= policy.min_volume
    # Whole numbers, so that exactly the threshold opens; the allowance is for 0.1 + 0.2.
    return enough and window.fail + 1e-9 >= policy.error_threshold * window.volume


def due_at(state: State, factor: float) -> datetime | None:
    """When an open breaker may be tried; None when it is not open. ``factor`` is the critical day's."""
    if state.opened_at is None or state.mode is Mode.CLOSED:
        return None
    due = state.opened_at + timedelta(seconds=state.open_for * factor)
    return max(due, state.not_before) if state.not_before else due


def opened(state: State, window: Window, peak: int, policy: Policy, now: datetime) -> State | None:
    """Open a closed breaker whose window or score (its highest lately) crossed the threshold."""
    if state.mode is not Mode.CLOSED or state.override or not crossed(window, peak, policy):
        return None
    soon = state.since is not None and now - state.since <= timedelta(seconds=state.open_for)
    openings = state.openings + 1 if soon and state.openings else 1
    if policy.policy == "counting":
        reason = f"{peak} failures counted, {policy.failure_threshold} open it"
    else:
        reason = f"{window.fail:,} of {window.volume:,} calls failed in {policy.window:g} s"
    return _open(state, openings, window.cause, reason, window.retry_at, policy, now)


def counted(state: State, fold: Fold) -> State | None:
    """Add calls to a closed breaker's score."""
    score, _peak = fold.apply(state.score)
    return replace(state, score=score) if state.mode is Mode.CLOSED and score != state.score else None


def admitted(state: State, token: str, by: str, policy: Policy, factor: float, now: datetime) -> State | None:
    """Let one trial through, if it is time and there is a place."""
    due = due_at(state, factor)
    if state.override or due is None or now < due or len(state.trials) >= policy.trials:
        return None
    trials = (*state.trials, Trial(token, now + timedelta(seconds=LEASE), by))
    if state.mode is Mode.HALF_OPEN:
        return replace(state, trials=trials)
    return _moved(state, Mode.HALF_OPEN, now, successes=0, trials=trials)


def renewed(state: State, token: str, now: datetime) -> State | None:
    """Lengthen a trial's lease, its process being alive."""
    if all(trial.token != token for trial in state.trials):
        return None
    until = now + timedelta(seconds=LEASE)
    return replace(state, trials=tuple(replace(t, until=until) if t.token == token else t for t in state.trials))


def ended(state: State, token: str, ending: Ending, policy: Policy, now: datetime) -> State | None:
    """What a trial's end does. One whose token is not known any more does nothing."""
    if all(trial.token != token for trial in state.trials):
        return None
    rest = tuple(trial for trial in state.trials if trial.token != token)
    if ending.kind is Kind.NEUTRAL:
        return replace(state, trials=rest)
    if ending.failed:
        cause = {Kind.CREDENTIAL: Cause.CREDENTIAL, Kind.LIMITED: Cause.RATE_LIMIT}.get(ending.kind, Cause.OUTAGE)
        wait = min(ending.retry_after or 0.0, LONGEST_RETRY_AFTER)
        retry_at = now + timedelta(seconds=wait) if wait else None
        return _open(state, state.openings + 1, cause, "a trial failed", retry_at, policy, now)
    if state.successes + 1 < policy.success_threshold:
        return replace(state, trials=rest, successes=state.successes + 1)
    return _closed(state, now)


def lapsed(state: State, policy: Policy, now: datetime) -> State | None:
    """Reopen when a trial's lease ran out: its process died, or the call never came back."""
    if state.override or all(trial.until > now for trial in state.trials):
        return None
    return _open(state, state.openings + 1, Cause.OUTAGE, "a trial never came back", None, policy, now)


def forced(state: State, override: Override | None, now: datetime) -> State | None:
    """Put a person's word above the state, or (None) take it away. Trials under way no longer count."""
    if override is None and state.override is None:
        return None
    mode = Mode.OPEN if state.mode is Mode.HALF_OPEN else state.mode
    return _moved(state, mode, now, override=override, trials=(), successes=0, score=0)


def released(state: State, now: datetime) -> State | None:
    """End an override whose time is over."""
    over = state.override and state.override.until and state.override.until <= now
    return forced(state, None, now) if over else None


def reset(state: State, now: datetime) -> State:
    """CLOSED, the next generation, nothing forced, nothing remembered."""
    return replace(_closed(state, now), since=now, override=None, openings=0, open_for=0.0)


def _open(
    state: State, openings: int, cause: Cause, reason: str, retry_at: datetime | None, policy: Policy, now: datetime
) -> State:
    return _moved(
        state, Mode.OPEN, now, opened_at=now, openings=openings, open_for=policy.open_for(openings),
        not_before=retry_at, cause=cause, reason=reason, trials=(), successes=0, score=0,
    )  # fmt: skip


def _closed(state: State, now: datetime) -> State:
    return _moved(
        state, Mode.CLOSED, now, opened_at=None, not_before=None, cause=Cause.NONE, reason="",
        trials=(), successes=0, score=0,
    )  # fmt: skip


def _moved(state: State, mode: Mode, now: datetime, **changes: object) -> State:
    since = state.since if mode is state.mode and mode is not Mode.OPEN else now
    return replace(state, mode=mode, generation=state.generation + 1, since=since, **changes)  # type: ignore[arg-type]
