"""One process's half: what a person forced, and what it does and keeps while the store is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine

from monitoring.breakers import machine
from monitoring.breakers.local import KEPT_SLOTS, STALE_SECONDS
from monitoring.breakers.machine import Mode, Override, State, Window
from monitoring.breakers.policy import OK, Policy
from tests.monitoring.breakers.fakes import COUNTING, NOW, ROLLING, Clock, Process, interrupt, is_open

# -- people -----------------------------------------------------------------------------------------


def test_a_forced_closed_one_stays_closed_whatever_fails(rolling: Process):
    rolling.learn(State(generation=1, override=Override(Mode.CLOSED, "ann", "", NOW)))
    rolling.fails(50)
    assert not rolling.refuses()
    assert rolling.store.woken == 0


def test_a_forced_open_one_lets_no_trial_through(rolling: Process, clock: Clock):
    rolling.learn(is_open(override=Override(Mode.OPEN, "ann", "", NOW)))
    clock.now += 1e6
    assert rolling.refuses()
    assert rolling.store.asked == []
    assert rolling.guard.is_forced


@pytest.mark.parametrize("away", [False, True])
def test_a_forced_state_holds_to_its_end(rolling: Process, clock: Clock, away: bool):
    until = NOW + timedelta(seconds=60)
    rolling.learn(State(generation=1, override=Override(Mode.OPEN, "ann", "", NOW, until)))
    if away:
        rolling.store.leave()
    clock.now += 59.9
    assert rolling.refuses()
    clock.now += 0.2
    assert not rolling.refuses()
    assert rolling.store.asked == []


def test_a_forced_closed_that_ends_while_the_store_is_away_is_seen_at_the_next_failure(
    rolling: Process, clock: Clock
):
    until = NOW + timedelta(seconds=10)
    rolling.learn(is_open(override=Override(Mode.CLOSED, "ann", "", NOW, until)))
    rolling.store.leave()
    clock.now += 9
    rolling.fails(9)
    assert not rolling.refuses()
    clock.now += 2
    rolling.fails(1)
    assert rolling.refuses()


# -- the store is away ------------------------------------------------------------------------------


def test_its_own_window_opens_it_while_the_store_is_away(rolling: Process, clock: Clock):
    rolling.learn(window=Window(ok=1_000))
    rolling.store.leave()
    clock.now += STALE_SECONDS + 0.1
    rolling.works(2)
    rolling.fails(1)
    assert not rolling.refuses()
    rolling.fails(2)
    assert rolling.refuses()


def test_its_own_window_forgets_after_ten_seconds(rolling: Process, clock: Clock):
    rolling.store.leave()
    clock.now += 10
    rolling.fails(3)
    clock.now += 11
    rolling.works(2)
    rolling.fails(1)  # 1 of 3: too few to judge
    rolling.works()
    assert not rolling.local._opened


def test_a_counting_one_counts_alone_too(counting: Process, clock: Clock):
    counting.learn(State(score=2))
    counting.store.leave()
    clock.now += 3
    counting.works()
    counting.fails(2)
    assert counting.refuses()
    assert counting.local.take_fold().apply(2) == (3, 3)  # which the store is told when it is back


@pytest.mark.parametrize("policy", [ROLLING, COUNTING], ids=["rolling", "counting"])
def test_one_trial_at_a_time_is_made_alone_and_closes_it(clock: Clock, policy: Policy):
    one = Process(clock, policy)
    one.learn()
    one.store.leave()
    clock.now += 3
    one.fails(4 if policy is ROLLING else 3)
    clock.now += 29.9
    assert one.refuses()
    clock.now += 0.1
    passed = one.guard.trial()
    assert passed is not None
    assert passed.alone
    assert one.refuses()
    one.guard.end(passed, OK)
    one.works()
    one.fails(1)
    assert not one.refuses()  # what opened it is forgotten
    assert one.store.asked == []


def test_a_trial_alone_that_fails_opens_it_for_longer(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    rolling.store.leave()
    clock.now += 30
    rolling.fails(1)
    clock.now += 59.9
    assert rolling.refuses()
    clock.now += 0.1
    rolling.fails(1)
    clock.now += 119.9
    assert rolling.refuses()
    clock.now += 0.1
    rolling.works(2)


def test_a_trial_alone_that_says_nothing_lets_the_next_one_in(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    rolling.store.leave()
    clock.now += 30
    with pytest.raises(KeyboardInterrupt):
        rolling.guard.call(interrupt)
    rolling.works(2)


def test_a_trial_alone_that_never_returns_does_not_block_for_ever(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    rolling.store.leave()
    clock.now += 30
    assert rolling.guard.trial() is not None
    clock.now += machine.LONGEST_TRIAL - 1
    assert rolling.guard.trial() is None
    clock.now += 1
    assert rolling.guard.trial() is not None


def test_what_a_trial_alone_found_is_nothing_to_a_store_that_is_back(rolling: Process, clock: Clock):
    rolling.learn(is_open())
    rolling.store.leave()
    clock.now += 30
    passed = rolling.guard.trial()
    assert passed is not None
    rolling.store.away = False
    rolling.guard.end(passed, OK)
    assert rolling.guard.is_open


def test_the_stores_word_replaces_what_was_found_alone(rolling: Process, clock: Clock):
    rolling.store.leave()
    clock.now += 3
    rolling.fails(4)
    assert rolling.refuses()
    rolling.store.away = False
    rolling.learn(State(generation=5))
    assert not rolling.refuses()


def test_a_store_that_was_restored_from_a_backup_is_believed(rolling: Process):
    rolling.learn(is_open())
    assert rolling.refuses()
    rolling.learn(State(generation=0))
    assert not rolling.refuses()


def test_a_service_that_is_archived_is_guarded_here_alone(rolling: Process):
    rolling.learn(is_open())
    assert rolling.refuses()
    rolling.local.learn(None, rolling.clock.now)
    assert not rolling.refuses()
    rolling.fails(3)
    assert rolling.refuses()


def test_what_was_learned_before_a_change_is_forgotten_with_it(rolling: Process, clock: Clock):
    rolling.fails(3)
    rolling.learn(State(generation=2))
    rolling.store.leave()
    clock.now += 3
    rolling.fails(1)
    assert not rolling.refuses()


# -- counts that cannot be stored -------------------------------------------------------------------


def test_counts_that_are_given_back_keep_their_time(rolling: Process, clock: Clock):
    rolling.works(2)
    assert [one.at for one in rolling.local.take()] == [None]
    rolling.local.give_back()
    clock.now += 7
    rolling.fails(1)
    found = {one.at: (one.counts.ok, one.counts.fail) for one in rolling.local.take()}
    assert found == {NOW: (2, 0), None: (0, 1)}


def test_many_successes_that_nobody_looked_at_are_spread_over_their_time(rolling: Process, clock: Clock):
    for _ in range(100):
        rolling.works()
    clock.now += 99
    found = rolling.local.take()
    assert [one.counts.ok for one in found] == [1] * 100
    assert found[0].at == NOW
    assert found[-1].at is None


def test_what_is_kept_is_bounded_and_nothing_of_it_is_lost(rolling: Process, clock: Clock):
    for _ in range(KEPT_SLOTS + 50):
        clock.now += 1
        rolling.local.finished(rolling.local.era, OK)
    found = rolling.local.take()
    assert len(found) == KEPT_SLOTS
    assert sum(one.counts.ok for one in found) == KEPT_SLOTS + 50


def test_calls_made_before_the_store_knew_it_are_counted_in_what_it_finds(clock: Clock):
    one = Process(clock)
    one.fails(2)
    assert one.local.take() == []
    one.learn(State(generation=7))
    assert [(row.generation, row.counts.fail) for row in one.local.take()] == [(7, 2)]


# -- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_wall_clock_that_jumps_changes_nothing(clock: Clock, jump: timedelta):
    one = Process(clock, replace(ROLLING, recovery_timeout=0.05))
    with time_machine.travel(NOW, tick=True) as traveller:
        one.learn()
        one.store.leave()
        one.clock.now += 3
        one.fails(4)
        traveller.shift(jump)
        assert one.refuses()
        one.clock.now += 0.04
        assert one.refuses()
        traveller.shift(jump)
        one.clock.now += 0.02
        one.works(2)
