"""The state machine against a second one that was written independently, through any sequence of events.

Times are whole seconds, so that nothing depends on rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from monitoring.breakers import machine
from monitoring.breakers.machine import Fold, Mode, Override, State, Window
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind, Policy

START = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW, LEASE = 10, int(machine.LEASE)
POLICIES = {
    "rolling": Policy(min_volume=4, recovery_timeout=8, recovery_max=30),
    "counting": Policy("counting", failure_threshold=3, success_threshold=2, recovery_timeout=8, recovery_max=30),
    "two trials": Policy("counting", failure_threshold=2, success_threshold=2, recovery_timeout=8, trials=2),
}


@dataclass
class Model:
    """What a breaker should do, in plain words and whole seconds."""

    policy: Policy
    now: int = 0
    mode: str = "CLOSED"
    generation: int = 0
    calls: list[tuple[int, bool]] = field(default_factory=list)
    score: int = 0
    oks: int = 0
    trials: dict[str, int] = field(default_factory=dict)
    openings: int = 0
    opened: int = 0
    closed: int = -1_000
    wait: int = 0
    asked: int = 0
    forced: str = ""
    forced_until: int | None = None
    factor: float = 1.0

    def change(self, mode: str) -> None:
        self.generation += 1
        self.mode = mode
        self.calls, self.score, self.oks = [], 0, 0
        self.trials = {}

    def trip(self, openings: int, asked: int = 0) -> None:
        self.change("OPEN")
        self.openings, self.opened, self.asked = openings, self.now, asked
        self.wait = int(self.policy.recovery_timeout)
        for _ in range(openings - 1):
            self.wait *= 2
        self.wait = min(self.wait, int(self.policy.recovery_max))

    def call(self, ok: bool) -> None:
        self.calls.append((self.now, ok))
        self.score = max(0, self.score + (-1 if ok else 1))
        recent = [one for at, one in self.calls if at > self.now - WINDOW]
        bad = recent.count(False)
        if self.policy.policy == "counting":
            trips = self.score >= self.policy.failure_threshold
        else:
            trips = len(recent) >= self.policy.min_volume and bad * 2 >= len(recent)
        if trips and not self.forced and self.mode == "CLOSED":
            again = self.openings > 0 and self.now - self.closed <= self.wait
            self.trip(self.openings + 1 if again else 1)

    def due(self) -> float:
        return max(self.opened + self.wait * self.factor, self.asked)

    def ask(self, token: str) -> bool:
        if self.forced or self.mode == "CLOSED" or self.now < self.due() or len(self.trials) >= self.policy.trials:
            return False
        if self.mode == "OPEN":
            self.change("HALF_OPEN")
        self.trials[token] = self.now + LEASE
        return True

    def end(self, token: str, word: str, asked: int = 0) -> None:
        if token not in self.trials:
            return
        del self.trials[token]
        if word == "fail":
            self.trip(self.openings + 1, self.now + asked if asked else 0)
        elif word == "ok":
            self.oks += 1
            if self.oks == self.policy.success_threshold:
                self.change("CLOSED")
                self.closed = self.now

    def force(self, mode: str, seconds: int | None) -> None:
        self.change("CLOSED" if self.mode == "CLOSED" else "OPEN")
        self.forced, self.forced_until = mode, None if seconds is None else self.now + seconds

    def tick(self) -> None:
        if self.forced and self.forced_until is not None and self.forced_until <= self.now:
            self.force("", None)
        elif any(until <= self.now for until in self.trials.values()):
            self.trip(self.openings + 1)


ENDINGS = {"ok": OK, "fail": FAIL, "neutral": NEUTRAL}


class Both(RuleBasedStateMachine):
    """Drives both with the same events."""

    policy: Policy

    @initialize()
    def begin(self) -> None:
        self.state, self.model = State(), Model(self.policy)
        self.slots: Counter[tuple[int, int, bool]] = Counter()
        self.tokens: list[str] = []
        self.generations = [0]

    # The machine's side: what the store does, without a database.

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.model.now)

    def go(self, new: State | None) -> None:
        if new is None:
            return
        assert new.generation - self.state.generation in (0, 1)
        assert new.generation > self.state.generation or new.mode is self.state.mode
        self.state = new
        self.generations.append(new.generation)

    def window(self) -> Window:
        recent = [
            (ok, number)
            for (generation, second, ok), number in self.slots.items()
            if generation == self.state.generation and second > self.model.now - WINDOW
        ]
        return Window(sum(n for ok, n in recent if ok), sum(n for ok, n in recent if not ok))

    def count(self, sequence: list[bool]) -> None:
        for ok in sequence:
            self.slots[self.state.generation, self.model.now, ok] += 1
        if self.policy.policy == "rolling":
            self.go(machine.opened(self.state, self.window(), self.state.score, self.policy, self.now))
            return
        fold = Fold()
        for ok in sequence:
            fold = fold.then(ok)
        _score, peak = fold.apply(self.state.score)
        opened = machine.opened(self.state, self.window(), peak, self.policy, self.now)
        self.go(opened or machine.counted(self.state, fold))

    # What may happen.

    @rule(seconds=st.sampled_from([1, 2, 5, 8, 20, 70]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds
        self.model.tick()
        self.go(machine.released(self.state, self.now) or machine.lapsed(self.state, self.policy, self.now))

    @precondition(lambda self: self.state.effective is Mode.CLOSED)
    @rule(sequence=st.lists(st.booleans(), min_size=1, max_size=5))
    def calls_end(self, sequence: list[bool]) -> None:
        generation = self.model.generation
        for ok in sequence:
            # One process's calls at a time: after those that open it, the rest belongs to an older generation.
            if self.model.generation == generation:
                self.model.call(ok)
                if self.policy.policy == "rolling":
                    self.count([ok])
        if self.policy.policy == "counting":
            self.count(sequence)

    @precondition(lambda self: self.state.effective is Mode.CLOSED)
    @rule()
    def everything_fails(self) -> None:
        self.calls_end([False] * 5)

    @precondition(lambda self: self.model.mode != "CLOSED" and not self.model.forced)
    @rule()
    def it_is_time_for_a_trial(self) -> None:
        self.time_passes(max(0, math.ceil(self.model.due()) - self.model.now))
        self.somebody_asks_for_a_trial()

    @precondition(lambda self: self.state.generation > 0)
    @rule(ok=st.booleans(), number=st.integers(1, 9), back=st.integers(1, 3))
    def late_calls_end(self, ok: bool, number: int, back: int) -> None:
        """Of an older generation: they are counted there, and do nothing."""
        self.slots[self.state.generation - back, self.model.now, ok] += number
        self.go(machine.opened(self.state, self.window(), self.state.score, self.policy, self.now))

    @rule()
    def somebody_asks_for_a_trial(self) -> None:
        token = f"t{len(self.tokens)}"
        self.tokens.append(token)
        found = machine.admitted(self.state, token, "", self.policy, self.model.factor, self.now)
        assert self.model.ask(token) is (found is not None)
        self.go(found)

    @precondition(lambda self: self.model.trials)
    @rule(word=st.sampled_from(["fail", "ok"]))
    def every_trial_ends(self, word: str) -> None:
        for token in list(self.model.trials):
            self.model.end(token, word)
            self.go(machine.ended(self.state, token, ENDINGS[word], self.policy, self.now))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), word=st.sampled_from(sorted(ENDINGS)), asked=st.sampled_from([0, 50]))
    def a_trial_ends(self, data: st.DataObject, word: str, asked: int) -> None:
        """One under way, or the last that was asked for: refused, or over already."""
        token = data.draw(st.sampled_from([*self.model.trials, *self.model.trials, self.tokens[-1]]))
        ending = Ending(Kind.LIMITED, asked) if word == "fail" and asked else ENDINGS[word]
        self.model.end(token, word, asked)
        self.go(machine.ended(self.state, token, ending, self.policy, self.now))

    @precondition(lambda self: self.model.trials)
    @rule()
    def a_trial_is_renewed(self) -> None:
        token = next(iter(self.model.trials))
        self.model.trials[token] = self.model.now + LEASE
        self.go(machine.renewed(self.state, token, self.now))

    @rule(mode=st.sampled_from(["OPEN", "CLOSED"]), seconds=st.sampled_from([None, 5, 60]))
    def somebody_forces(self, mode: str, seconds: int | None) -> None:
        until = self.now + timedelta(seconds=seconds) if seconds else None
        self.model.force(mode, seconds)
        self.go(machine.forced(self.state, Override(Mode(mode), "ann", "", self.now, until), self.now))

    @precondition(lambda self: self.model.forced)
    @rule()
    def somebody_ends_the_force(self) -> None:
        self.model.force("", None)
        self.go(machine.forced(self.state, None, self.now))

    @rule()
    def somebody_resets(self) -> None:
        model = self.model
        model.change("CLOSED")
        model.closed, model.openings, model.wait, model.forced, model.forced_until = model.now, 0, 0, "", None
        self.go(machine.reset(self.state, self.now))

    @rule(factor=st.sampled_from([1.0, 0.5]))
    def a_critical_day_begins_or_ends(self, factor: float) -> None:
        self.model.factor = factor

    # What always holds.

    @invariant()
    def they_agree(self) -> None:
        state, model = self.state, self.model
        assert (state.mode, state.generation, state.openings) == (model.mode, model.generation, model.openings)
        assert (state.open_for, state.effective) == (model.wait, model.forced or model.mode)
        assert {one.token: one.until for one in state.trials} == {
            token: START + timedelta(seconds=until) for token, until in model.trials.items()
        }
        if self.policy.policy == "counting" and model.mode == "CLOSED":
            assert state.score == model.score
        if model.mode != "CLOSED":
            assert machine.due_at(state, model.factor) == START + timedelta(seconds=model.due())
            assert state.successes == model.oks
        else:
            assert machine.due_at(state, model.factor) is None

    @invariant()
    def there_are_never_too_many_trials(self) -> None:
        assert len(self.state.trials) <= self.policy.trials
        assert not self.state.trials or self.state.mode is Mode.HALF_OPEN

    @invariant()
    def the_generation_only_rises(self) -> None:
        assert self.generations == sorted(self.generations)
        assert self.generations[-1] == len(set(self.generations)) - 1

    @invariant()
    def a_persons_word_wins(self) -> None:
        if self.state.override:
            assert self.state.effective is self.state.override.mode
            assert machine.admitted(self.state, "x", "", self.policy, 0.0, self.now + timedelta(days=99)) is None


@pytest.mark.parametrize("name", POLICIES)
def test_any_sequence_of_events_does_what_the_model_does(name: str):
    one = type(name, (Both,), {"policy": POLICIES[name]})
    run_state_machine_as_test(one, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))
