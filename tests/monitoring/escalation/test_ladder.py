"""The escalation's ladder: sequences of moments in, steps out; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.escalation import ladder
from monitoring.escalation.ladder import Place, Policy, Rung

START = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
CHAT, ANA, BOSS = "chat", "rotation:ops", "boss"
POLICY = Policy("ops", (Rung(0, (CHAT,)), Rung(300, (ANA,)), Rung(900, (BOSS, ANA))), remind_every=1800)


def seconds(number: float) -> datetime:
    return START + timedelta(seconds=number)


def climb(policy: Policy, looks: list[float], *, critical: bool = False) -> list[tuple[float, str, tuple[str, ...]]]:
    """Look at these moments (seconds after the beginning); what was done: (when, what, whom)."""
    place = ladder.begin(policy, START)
    done = []
    for moment in looks:
        step = ladder.next_step(policy, place, seconds(moment), critical)
        if step:
            done.append((moment, ladder.words(policy, step.taken), step.notify))
            place = Place(step.taken, step.next_at)
    return done


SEQUENCES = {
    "nobody acknowledges: step by step, then the last one again and again": (
        POLICY,
        [0, 1, 299, 300, 301, 899, 900, 2699, 2700, 4500],
        False,
        [
            (0, "step 1 of 3", (CHAT,)),
            (300, "step 2 of 3", (ANA,)),
            (900, "step 3 of 3", (BOSS, ANA)),
            (2700, "reminder 1", (BOSS, ANA)),
            (4500, "reminder 2", (BOSS, ANA)),
        ],
    ),
    "a critical day opens one step higher, and the rest comes as much earlier": (
        POLICY,
        [0, 1, 300, 599, 600, 2400],
        True,
        [
            (0, "step 2 of 3", (CHAT, ANA)),
            (600, "step 3 of 3", (BOSS, ANA)),
            (2400, "reminder 1", (BOSS, ANA)),
        ],
    ),
    "a worker that was away for an hour climbs rung by rung": (
        POLICY,
        [3600, 3601, 3899, 3900, 4500],
        False,
        [(3600, "step 1 of 3", (CHAT,)), (3900, "step 2 of 3", (ANA,)), (4500, "step 3 of 3", (BOSS, ANA))],
    ),
    "without reminders it ends with the last step": (
        Policy("ops", (Rung(60, (CHAT,)), Rung(120, (BOSS,)))),
        [0, 59, 60, 119, 120, 100_000],
        False,
        [(60, "step 1 of 2", (CHAT,)), (120, "step 2 of 2", (BOSS,))],
    ),
    "one step alone is the same on a critical day": (
        Policy("ops", (Rung(60, (CHAT,)),)),
        [59, 60, 61],
        True,
        [(60, "step 1 of 1", (CHAT,))],
    ),
    "whom both first steps name is told once": (
        Policy("ops", (Rung(0, (CHAT, ANA)), Rung(60, (ANA, BOSS)))),
        [0, 60],
        True,
        [(0, "step 2 of 2", (CHAT, ANA, BOSS))],
    ),
    "a policy without steps does nothing": (Policy("ops", (), remind_every=60), [0, 60, 120], False, []),
}


@pytest.mark.parametrize(("policy", "looks", "critical", "done"), SEQUENCES.values(), ids=SEQUENCES)
def test_what_is_done_when(
    policy: Policy, looks: list[float], critical: bool, done: list[tuple[float, str, tuple[str, ...]]]
) -> None:
    assert climb(policy, looks, critical=critical) == done


def test_only_a_first_step_without_a_delay_belongs_to_the_opening() -> None:
    first = ladder.next_step(POLICY, ladder.begin(POLICY, START), START)
    assert first is not None
    assert first.opening
    second = ladder.next_step(POLICY, Place(1, START), START)
    assert second is not None
    assert not second.opening
    later = Policy("later", (Rung(60, (CHAT,)),))
    third = ladder.next_step(later, Place(0, START), START)
    assert third is not None
    assert not third.opening


def test_a_place_without_a_time_is_never_due() -> None:
    assert ladder.next_step(POLICY, Place(3, None), seconds(1e6)) is None
    assert ladder.put_right(POLICY, Place(3, None), START) == Place(3, None)


@pytest.mark.parametrize(
    ("due", "after"),
    [
        (3900, 300),  # the clock was put back an hour: at most the wait between two steps
        (300, 300),
        (200, 200),
        (-50, -50),
    ],
)
def test_after_the_clock_was_put_back_a_step_is_due_no_later_than_it_can_be(due: float, after: float) -> None:
    assert ladder.put_right(POLICY, Place(1, seconds(due)), START) == Place(1, seconds(after))


def test_the_longest_wait_is_between_steps_or_reminders() -> None:
    assert POLICY.longest_wait == timedelta(seconds=1800)
    assert Policy("a", (Rung(0, ()), Rung(900, ()))).longest_wait == timedelta(seconds=900)
    assert Policy("a", ()).longest_wait == timedelta(0)


FOR_ALL = Policy("all", (Rung(0, (CHAT,)),), min_severity="warning")
FOR_STRIPE = Policy("stripe", (Rung(0, (CHAT,)),), services=frozenset({"stripe"}), min_severity="info")
STRICT = Policy("strict", (Rung(0, (CHAT,)),), min_severity="critical")


@pytest.mark.parametrize(
    ("severity", "service", "chosen"),
    [
        ("critical", "stripe", "stripe"),
        ("info", "stripe", "stripe"),
        ("critical", "resend", "strict"),
        ("warning", "resend", "all"),
        ("warning", None, "all"),
        ("info", "resend", None),
        ("info", None, None),
    ],
)
def test_the_policy_for_an_alert(severity: str, service: str | None, chosen: str | None) -> None:
    found = ladder.choose([FOR_ALL, STRICT, FOR_STRIPE, Policy("empty", (), min_severity="info")], severity, service)
    assert (found.slug if found else None) == chosen


def test_among_equals_the_first_by_name_is_chosen() -> None:
    others = [Policy(name, STRICT.rungs) for name in ("b", "a", "c")]
    chosen = ladder.choose(others, "critical", None)
    assert chosen is not None
    assert chosen.slug == "a"


def test_steps_are_read_as_the_database_keeps_them() -> None:
    steps = [{"after": 300.0, "notify": ["boss"]}, {"after": 0, "notify": ["ops"]}, {"after": "x"}, {"notify": "no"}]
    assert ladder.rungs_of(steps) == (Rung(0.0, ("ops",)), Rung(300.0, ("boss",)))


gaps = st.lists(st.floats(1, 3600), min_size=1, max_size=6)


@given(
    gaps=gaps, remind=st.none() | st.floats(60, 3600), looks=st.lists(st.floats(0, 100_000)), critical=st.booleans()
)
def test_steps_come_in_order_once_and_never_too_early(
    gaps: list[float], remind: float | None, looks: list[float], critical: bool
) -> None:
    afters = [sum(gaps[:index]) for index in range(len(gaps))]
    policy = Policy("p", tuple(Rung(after, (str(index),)) for index, after in enumerate(afters)), remind)
    place, taken_at, last = ladder.begin(policy, START), START, 0
    for moment in sorted(looks):
        step = ladder.next_step(policy, place, seconds(moment), critical)
        if step is None:
            continue
        jump = 2 if critical and last == 0 and len(gaps) > 1 else 1
        assert step.taken == last + jump
        if last:
            wait = policy.wait(last)
            assert wait is not None
            assert seconds(moment) - taken_at >= wait
        assert step.reminder == (step.taken > len(gaps))
        assert step.notify[-1] == str(min(step.taken, len(gaps)) - 1)
        place, taken_at, last = Place(step.taken, step.next_at), seconds(moment), step.taken


@given(gaps=gaps, remind=st.none() | st.floats(60, 3600), due=st.floats(-1e6, 1e6), taken=st.integers(0, 8))
def test_however_the_clock_jumps_the_next_step_is_due_within_the_longest_wait(
    gaps: list[float], remind: float | None, due: float, taken: int
) -> None:
    afters = [sum(gaps[:index]) for index in range(len(gaps))]
    policy = Policy("p", tuple(Rung(after, ("x",)) for after in afters), remind)
    place = ladder.put_right(policy, Place(taken, seconds(due)), START)
    assert place.due_at is not None
    if policy.wait(taken) is not None:
        assert place.due_at <= START + policy.longest_wait + ladder.JUMP
