"""The state machine's functions, one at a time: tables, and what holds for any sequence of calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.breakers import machine
from monitoring.breakers.machine import Cause, Fold, Mode, Override, State, Trial, Window
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind, Policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROLLING = Policy()
COUNTING = Policy("counting", success_threshold=2)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def open_state(**fields: Any) -> State:
    return State(mode=Mode.OPEN, generation=1, since=NOW, opened_at=NOW, openings=1, open_for=30.0, **fields)


def half_open(*tokens: str, **fields: Any) -> State:
    trials = tuple(Trial(token, later(machine.LEASE)) for token in tokens)
    return replace(open_state(**fields), mode=Mode.HALF_OPEN, generation=2, trials=trials)


# -- windows ----------------------------------------------------------------------------------------

# (window, whose fault most failures are)
CAUSES = [
    (Window(), Cause.OUTAGE),
    (Window(ok=5), Cause.OUTAGE),
    (Window(fail=10, credential=5), Cause.OUTAGE),
    (Window(fail=10, credential=6), Cause.CREDENTIAL),
    (Window(fail=10, limited=6), Cause.RATE_LIMIT),
    (Window(fail=10, credential=5, limited=5), Cause.OUTAGE),
    (Window(ok=100, fail=1, limited=1), Cause.RATE_LIMIT),
]


@pytest.mark.parametrize(("window", "cause"), CAUSES)
def test_a_cause_takes_more_than_half_of_the_failures(window: Window, cause: Cause):
    assert window.cause is cause


def test_a_rate_needs_calls():
    assert Window().failure_rate is None
    assert Window(ok=3, fail=1).failure_rate == 0.25
    assert Window(ok=3, fail=1).volume == 4


# (ok, fail, threshold, whether it opens), at a volume of 20
CROSSING = [
    (10, 10, 0.5, True),
    (11, 10, 0.5, False),
    (9, 10, 0.5, False),
    (0, 19, 0.5, False),
    (0, 20, 0.5, True),
    (70, 30, 0.1 + 0.2, True),
    (9_999, 1, 0.0001, True),
    (0, 0, 0.5, False),
]


@pytest.mark.parametrize(("ok", "fail", "threshold", "opens"), CROSSING)
def test_exactly_the_threshold_opens_a_rolling_one(ok: int, fail: int, threshold: float, opens: bool):
    assert machine.crossed(Window(ok, fail), 99, Policy(error_threshold=threshold)) is opens


@pytest.mark.parametrize(("score", "opens"), [(0, False), (4, False), (5, True), (6, True)])
def test_the_score_alone_opens_a_counting_one(score: int, opens: bool):
    assert machine.crossed(Window(fail=1_000), score, COUNTING) is opens


# -- folds ------------------------------------------------------------------------------------------

calls = st.lists(st.booleans(), max_size=60)


def fold_of(sequence: list[bool]) -> Fold:
    fold = Fold()
    for ok in sequence:
        fold = fold.then(ok)
    return fold


def one_at_a_time(sequence: list[bool], score: int) -> tuple[int, int]:
    peak = score
    for ok in sequence:
        score = max(score - 1, 0) if ok else score + 1
        peak = max(peak, score)
    return score, peak


@given(calls, st.integers(0, 40))
def test_a_fold_is_the_same_as_its_calls_one_at_a_time(sequence: list[bool], score: int):
    assert fold_of(sequence).apply(score) == one_at_a_time(sequence, score)


@given(calls, calls, st.integers(0, 40))
def test_two_folds_in_a_row_are_the_fold_of_both(first: list[bool], second: list[bool], score: int):
    both = fold_of(first).followed_by(fold_of(second))
    assert both == fold_of(first + second)
    assert both.apply(score) == one_at_a_time(first + second, score)


# -- opening ----------------------------------------------------------------------------------------


def test_a_rolling_one_says_how_many_of_how_many_failed():
    found = machine.opened(State(), Window(1_000, 1_500), 0, ROLLING, NOW)
    assert found is not None
    assert (found.mode, found.generation, found.opened_at, found.openings) == (Mode.OPEN, 1, NOW, 1)
    assert (found.open_for, found.reason) == (30.0, "1,500 of 2,500 calls failed in 10 s")


def test_a_counting_one_says_its_count():
    found = machine.opened(State(score=3), Window(0, 5, limited=5, retry_at=later(90)), 6, COUNTING, NOW)
    assert found is not None
    assert (found.reason, found.cause, found.score) == ("6 failures counted, 5 open it", Cause.RATE_LIMIT, 0)
    assert machine.due_at(found, 1.0) == later(90)


@pytest.mark.parametrize(
    "state",
    [open_state(), half_open("a"), State(override=Override(Mode.CLOSED, "ann", "", NOW))],
    ids=["open", "half open", "forced closed"],
)
def test_only_a_closed_one_that_nobody_forced_opens(state: State):
    assert machine.opened(state, Window(0, 99), 99, ROLLING, NOW) is None


def test_one_that_opens_again_soon_stays_open_for_longer():
    closed = State(since=NOW, openings=2, open_for=60.0)
    again = machine.opened(closed, Window(0, 20), 0, ROLLING, later(60))
    assert again is not None
    assert (again.openings, again.open_for) == (3, 120.0)
    much_later = machine.opened(closed, Window(0, 20), 0, ROLLING, later(61))
    assert much_later is not None
    assert (much_later.openings, much_later.open_for) == (1, 30.0)


def test_a_score_is_written_only_when_it_changes():
    assert machine.counted(State(), Fold().then(True)) is None
    assert machine.counted(State(score=2), Fold().then(False)) == State(score=3)
    assert machine.counted(open_state(), Fold().then(False)) is None


# -- trials -----------------------------------------------------------------------------------------

# (state, seconds from opening, factor, whether a trial is let through)
ADMISSIONS = [
    ("open, before its time", open_state(), 29.9, 1.0, False),
    ("open, at its time", open_state(), 30.0, 1.0, True),
    ("open, on a critical day, at half of its time", open_state(), 15.0, 0.5, True),
    ("open, on a critical day, just before", open_state(), 14.9, 0.5, False),
    ("asked to wait for longer", open_state(not_before=later(99)), 98.0, 1.0, False),
    ("asked to wait for longer, on a critical day", open_state(not_before=later(99)), 98.0, 0.5, False),
    ("waited as long as was asked", open_state(not_before=later(99)), 99.0, 1.0, True),
    ("closed", State(), 99.0, 1.0, False),
    ("half open and free", half_open(), 31.0, 1.0, True),
    ("half open and taken", half_open("a"), 31.0, 1.0, False),
    ("forced open", open_state(override=Override(Mode.OPEN, "ann", "", NOW)), 99.0, 1.0, False),
]


@pytest.mark.parametrize(
    ("state", "seconds", "factor", "passes"), [one[1:] for one in ADMISSIONS], ids=[one[0] for one in ADMISSIONS]
)
def test_a_trial_is_let_through(state: State, seconds: float, factor: float, passes: bool):
    found = machine.admitted(state, "new", "me", ROLLING, factor, later(seconds))
    assert (found is not None) is passes
    if found is not None:
        assert (found.mode, found.trials[-1].token, found.trials[-1].by) == (Mode.HALF_OPEN, "new", "me")
        assert found.generation == 2


def test_as_many_trials_as_the_policy_says():
    policy = Policy(trials=2)
    two = machine.admitted(half_open("a"), "b", "me", policy, 1.0, later(31))
    assert two is not None
    assert [one.token for one in two.trials] == ["a", "b"]
    assert machine.admitted(two, "c", "me", policy, 1.0, later(31)) is None


def test_a_trial_that_succeeds_closes_a_rolling_one():
    found = machine.ended(half_open("a"), "a", OK, ROLLING, later(31))
    assert found is not None
    assert (found.mode, found.generation, found.opened_at, found.since) == (Mode.CLOSED, 3, None, later(31))


def test_a_counting_one_wants_two():
    first = machine.ended(half_open("a"), "a", OK, COUNTING, later(31))
    assert first is not None
    assert (first.mode, first.generation, first.successes, first.trials) == (Mode.HALF_OPEN, 2, 1, ())
    second = machine.ended(replace(first, trials=(Trial("b", later(99)),)), "b", OK, COUNTING, later(32))
    assert second is not None
    assert (second.mode, second.generation, second.successes) == (Mode.CLOSED, 3, 0)


# (ending, cause, seconds until the next trial)
FAILED = [
    (FAIL, Cause.OUTAGE, 60.0),
    (Ending(Kind.CREDENTIAL), Cause.CREDENTIAL, 60.0),
    (Ending(Kind.LIMITED, 90.0), Cause.RATE_LIMIT, 90.0),
    (Ending(Kind.LIMITED, 10.0), Cause.RATE_LIMIT, 60.0),
    (Ending(Kind.FAIL, 1e9), Cause.OUTAGE, 3600.0),
]


@pytest.mark.parametrize(("ending", "cause", "wait"), FAILED)
def test_a_trial_that_fails_opens_it_for_longer(ending: Ending, cause: Cause, wait: float):
    found = machine.ended(half_open("a", "b"), "a", ending, ROLLING, later(31))
    assert found is not None
    assert (found.mode, found.generation, found.openings, found.cause) == (Mode.OPEN, 3, 2, cause)
    assert found.trials == ()
    assert machine.due_at(found, 1.0) == later(31 + wait)


def test_a_trial_that_says_nothing_gives_its_place_back():
    found = machine.ended(half_open("a", "b"), "a", NEUTRAL, ROLLING, later(31))
    assert found is not None
    assert (found.mode, found.generation, [one.token for one in found.trials]) == (Mode.HALF_OPEN, 2, ["b"])


@pytest.mark.parametrize("ending", [OK, FAIL, NEUTRAL])
@pytest.mark.parametrize("state", [State(), open_state(), half_open("b")], ids=["closed", "open", "half open"])
def test_a_token_that_is_not_known_any_more_does_nothing(state: State, ending: Ending):
    assert machine.ended(state, "a", ending, ROLLING, NOW) is None
    assert machine.renewed(state, "a", NOW) is None


def test_a_renewed_trial_has_its_whole_lease_again():
    found = machine.renewed(half_open("a", "b"), "b", later(5))
    assert found is not None
    assert [one.until for one in found.trials] == [later(machine.LEASE), later(5 + machine.LEASE)]


def test_a_trial_that_is_lost_counts_as_failed():
    state = half_open("a")
    assert machine.lapsed(state, ROLLING, later(machine.LEASE - 0.1)) is None
    found = machine.lapsed(state, ROLLING, later(machine.LEASE))
    assert found is not None
    assert (found.mode, found.openings, found.trials) == (Mode.OPEN, 2, ())
    assert machine.lapsed(State(), ROLLING, NOW) is None


# -- people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.OPEN, Mode.CLOSED])
@pytest.mark.parametrize("state", [State(score=3), open_state(), half_open("a")], ids=["closed", "open", "half open"])
def test_a_forced_state_stands_above_the_machines(state: State, mode: Mode):
    found = machine.forced(state, Override(mode, "ann", "why", NOW, later(60)), NOW)
    assert found is not None
    assert found.effective is mode
    assert found.mode is (Mode.CLOSED if state.mode is Mode.CLOSED else Mode.OPEN)
    assert (found.generation, found.trials, found.score) == (state.generation + 1, (), 0)
    assert machine.released(found, later(59)) is None
    over = machine.released(found, later(60))
    assert over is not None
    assert (over.override, over.mode, over.generation) == (None, found.mode, found.generation + 1)


def test_there_is_nothing_to_end_where_nothing_was_forced():
    assert machine.forced(State(), None, NOW) is None
    assert machine.released(open_state(), later(1e6)) is None
    assert machine.released(replace(State(), override=Override(Mode.OPEN, "ann", "", NOW)), later(1e6)) is None


def test_a_lost_trial_means_nothing_while_it_is_forced():
    state = replace(half_open("a"), override=Override(Mode.OPEN, "ann", "", NOW))
    assert machine.lapsed(state, ROLLING, later(99)) is None


def test_a_reset_forgets_everything_but_the_generation():
    state = replace(half_open("a", not_before=later(99), cause=Cause.OUTAGE, reason="x", score=3))
    found = machine.reset(replace(state, override=Override(Mode.OPEN, "ann", "", NOW)), later(5))
    assert found == State(generation=3, since=later(5))
