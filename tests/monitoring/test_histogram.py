from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.histogram import BINS, FLOOR_MS, GROWTH, bin_of, percentile

TOP_MS = FLOOR_MS * GROWTH ** (BINS - 1)
times = st.floats(FLOOR_MS, TOP_MS)
shares = st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 1.0])


def exact(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


@given(st.lists(times, min_size=1, max_size=300), shares)
def test_a_percentile_is_within_six_percent_of_the_exact_one(values: list[float], share: float):
    found = percentile(Counter(map(bin_of, values)), share)
    assert found == pytest.approx(exact(values, share), rel=0.06)


@given(times)
def test_a_bin_holds_what_falls_into_it(value: float):
    index = bin_of(value)
    assert FLOOR_MS * GROWTH**index == pytest.approx(value, rel=GROWTH - 1 + 1e-9)


@given(times, times)
def test_a_longer_time_never_falls_into_a_lower_bin(one: float, other: float):
    assert (bin_of(min(one, other))) <= bin_of(max(one, other))


@pytest.mark.parametrize(
    ("value", "index"),
    [(-5.0, 0), (0.0, 0), (FLOOR_MS, 0), (0.2501, 0), (0.2807, 1), (1e9, BINS - 1), (TOP_MS * 1.01, BINS - 1)],
)
def test_the_first_and_the_last_bin_take_the_rest(value: float, index: int):
    assert bin_of(value) == index


def test_the_last_bin_lies_above_any_timeout():
    assert TOP_MS > 120_000


def test_nothing_has_no_percentile():
    assert percentile({}, 0.95) is None
    assert percentile({3: 0}, 0.95) is None


def test_percentiles_do_not_fall():
    counted = Counter(bin_of(value) for value in range(1, 1000))
    found = [percentile(counted, share / 100) for share in range(101)]
    assert found == sorted(found)  # type: ignore[type-var]


def test_a_share_that_rounding_puts_past_the_last_result_gives_the_last_bin():
    assert percentile({7: 1}, 1.0000001) == percentile({7: 1}, 1.0)
