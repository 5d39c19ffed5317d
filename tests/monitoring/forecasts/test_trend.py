"""A line through noisy numbers: found where there is one, and only there."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.forecasts import trend
from monitoring.forecasts.trend import FEWEST, MOST, fit, is_steady

HOURS = [place / 10 for place in range(60)]


def noisy(slope: float, noise: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [100 + slope * hour + chance.gauss(0, noise) for hour in HOURS]


def test_a_straight_line_is_found_exactly() -> None:
    found = fit(HOURS, [7 + 3 * hour for hour in HOURS])
    assert found is not None
    assert found.slope == pytest.approx(3)
    assert found.level == pytest.approx(7 + 3 * HOURS[-1])
    assert found.noise == pytest.approx(0, abs=1e-9)
    assert found.signal == pytest.approx(1)


@pytest.mark.parametrize("slope", [20.0, -20.0])
def test_the_bounds_hold_the_true_slope(slope: float) -> None:
    held = 0
    for seed in range(40):
        found = fit(HOURS, noisy(slope, 10, seed))
        assert found is not None
        held += found.slope_low <= slope <= found.slope_high
    assert held >= 34


def test_a_fifth_of_wild_outliers_does_not_move_it() -> None:
    chance = random.Random(3)
    values = [10_000.0 if chance.random() < 0.2 else value for value in noisy(20, 3)]
    found = fit(HOURS, values)
    assert found is not None
    assert found.slope == pytest.approx(20, rel=0.3)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0] * (FEWEST - 1),
        [5.0] * 60,
        [1.0, 2.0] * 30,
        [200.0] * 30 + [500.0] * 30,
        [200.0] * 45 + [500.0] * 15,
        [200.0] * 55 + [500.0] * 5,
        [float(hour % 10) for hour in range(60)],
        [math.sin(hour / 5) for hour in range(60)],
        [float(hour) for hour in range(30)] + [30.0] * 30,
        [float(hour) for hour in range(30)] + [float(30 - hour) for hour in range(30)],
    ],
    ids=[
        "nothing",
        "few",
        "constant",
        "alternating",
        "step",
        "late-step",
        "very-late-step",
        "sawtooth",
        "waves",
        "levelled-off",
        "turned",
    ],
)
def test_what_is_no_lasting_rise_has_no_trend(values: list[float]) -> None:
    assert fit(HOURS[: len(values)], values) is None


def kinds(chance: random.Random) -> dict[str, list[float]]:
    count = len(HOURS)
    return {
        "normal": [chance.gauss(300, 40) for _ in range(count)],
        "long tail": [chance.lognormvariate(5, 0.6) for _ in range(count)],
        "spikes": [300 if chance.random() < 0.9 else 3000 for _ in range(count)],
        "two levels": [chance.choice((250.0, 280.0)) for _ in range(count)],
    }


def test_noise_alone_is_hardly_ever_a_trend() -> None:
    chance = random.Random(4)
    found = [fit(HOURS, values) for _ in range(250) for values in kinds(chance).values()]
    assert sum(one is not None for one in found) == 0


def test_a_clear_rise_is_nearly_always_found() -> None:
    found = [fit(HOURS, noisy(20, 12, seed)) for seed in range(100)]
    assert sum(one is not None for one in found) >= 95


def test_only_the_newest_points_count() -> None:
    hours = [float(place) for place in range(MOST + 50)]
    values = [1e6 - 1000 * hour for hour in hours[:50]] + [3 * hour for hour in hours[50:]]
    found = fit(hours, values)
    assert found is not None
    assert found.slope == pytest.approx(3)


@pytest.mark.parametrize(
    ("values", "rise", "steady"),
    [
        ([1, 2, 3, 4, 5], 4, True),
        ([5, 4, 3, 2, 1], -4, True),
        ([1, 2, 2, 3, 4], 4, True),
        ([1, 2, 2, 2, 4], 4, False),
        ([1, 2, 3, 4, 4], 4, False),
        ([1, 3, 2, 4, 5], 4, False),
    ],
)
def test_steady_is_from_block_to_block_with_one_rest(values: Sequence[float], rise: float, steady: bool) -> None:
    assert is_steady(values, rise) is steady


# whatever the numbers --------------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=60)


@given(NUMBERS)
def test_any_numbers_give_a_line_with_sane_figures_or_none(values: list[float]) -> None:
    found = fit(HOURS[: len(values)], values)
    if found is not None:
        assert trend.STANDING_OUT <= found.signal <= 1
        assert found.slope_low <= found.slope <= found.slope_high
        assert found.noise >= 0


@given(NUMBERS)
def test_mirrored_numbers_have_the_mirrored_line(values: list[float]) -> None:
    one, other = fit(HOURS[: len(values)], values), fit(HOURS[: len(values)], [-value for value in values])
    assert (one is None) == (other is None)
    if one and other:
        assert one.slope == pytest.approx(-other.slope)
        assert one.level == pytest.approx(-other.level)


@given(st.integers(0, 1000), st.sampled_from([0.001, 0.5, 40.0, 1e5]), st.floats(-1e6, 1e6))
def test_units_and_a_constant_change_nothing_else(seed: int, scale: float, more: float) -> None:
    values = noisy(20, 8, seed)
    one, other = fit(HOURS, values), fit(HOURS, [value * scale + more for value in values])
    if one and scale >= 0.5:  # a tiny trend on a huge number drowns in what a float can hold
        assert other is not None
        assert other.slope == pytest.approx(one.slope * scale, rel=1e-3)
        assert other.signal == pytest.approx(one.signal, abs=1e-3)
