from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F, Func, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import rollups
from monitoring.histogram import bin_of
from monitoring.models import Rollup
from monitoring.rollups import Counts

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WORDS = ("healthy", "degraded", "critical", "error")

# (check, minutes before noon, outcome, ms)
results = st.lists(
    st.tuples(
        st.integers(1, 4), st.integers(1, 90), st.sampled_from(WORDS), st.none() | st.floats(0.1, 30_000)
    ),
    max_size=60,
)  # fmt: skip


def store(found: list[tuple[int, int, str, float | None]]) -> None:
    """Rollups by the minute, as ``monitoring.store`` leaves them."""
    buckets: dict[tuple[int, int], list[tuple[str, float | None]]] = defaultdict(list)
    for check, back, word, ms in found:
        buckets[check, back].append((word, ms))
    for (check, back), rows in buckets.items():
        times = [ms for _word, ms in rows if ms is not None]
        bins = Counter(map(bin_of, times))
        words = Counter(word for word, _ms in rows)
        row = Rollup.objects.create(
            level=60, check_id=check, start=NOON - timedelta(minutes=back), max_ms=max(times, default=None), **words
        )
        for index, number in bins.items():
            Rollup.objects.filter(pk=row.pk).update(histogram=raw_added(row, index, number))
            row.refresh_from_db()


def raw_added(row: Rollup, index: int, number: int) -> Any:
    """The row's histogram with more in a bin, by the database's own function: its bounds are not 1 to n."""
    return Func(F("histogram"), Value([index] * number), function="wsmon_add_bins")


def expected(found: list[tuple[int, int, str, float | None]]) -> Counts:
    words = Counter(word for _check, _back, word, _ms in found)
    times = [ms for *_rest, ms in found if ms is not None]
    healthy, degraded, critical, error = (words[word] for word in WORDS)
    return Counts(healthy, degraded, critical, error, max(times, default=None), dict(Counter(map(bin_of, times))))


@pytest.mark.django_db
@settings(max_examples=60)
@given(results)
def test_the_database_adds_up_what_was_found(found: list[tuple[int, int, str, float | None]]):
    Rollup.objects.all().delete()
    store(found)
    owners, after = {1: 10, 2: 10, 3: 30}, NOON - timedelta(minutes=61)
    mine = [one for one in found if one[0] in owners and one[1] <= 60]

    whole = rollups.totals(owners, 60, after)
    assert whole == {owner: expected([one for one in mine if owners[one[0]] == owner]) for owner in (10, 30)}
    bare = rollups.totals(owners, 60, after, times=False)
    assert {owner: one.total for owner, one in bare.items()} == {owner: one.total for owner, one in whole.items()}
    assert not any(one.histogram for one in bare.values())

    for owner, parts in rollups.slices(owners, 60, after, 600).items():
        starts = [start for start, _counts in parts]
        assert starts == sorted(set(starts))
        for start, counts in parts:
            back = (NOON - start) / timedelta(minutes=1)
            inside = [one for one in mine if owners[one[0]] == owner and back - 10 < one[1] <= back]
            assert counts == expected(inside)
        together = Counts()
        for _start, counts in parts:
            together.add(counts)
        assert together == whole[owner]


@pytest.mark.django_db
def test_without_checks_there_is_nothing():
    assert rollups.totals({}, 60, NOON) == {}
    assert rollups.slices({}, 60, NOON, 60) == {}


class TestCounts:
    @pytest.mark.parametrize(
        ("row", "letter", "uptime"),
        [
            ((0, 0, 0, 0), ".", None),
            ((3, 0, 0, 0), "h", 1.0),
            ((3, 1, 0, 0), "d", 1.0),
            ((3, 1, 0, 1), "e", 1.0),
            ((3, 1, 4, 1), "c", 0.5),
            ((0, 0, 0, 9), "e", None),
        ],
    )
    def test_a_letter_and_an_uptime(self, row: tuple[int, ...], letter: str, uptime: float | None):
        found = Counts(*row)
        assert (found.letter, found.uptime) == (letter, uptime)

    def test_the_slowest_of_all_is_kept(self):
        found = Counts()
        for slowest in (None, 5.0, 900.0, None, 7.0):
            found.add(Counts(1, 1, slowest_ms=slowest))
        assert found.slowest_ms == 900.0
        assert found.sentence() == "degraded, 5 of 10 probes, slowest 900 ms"
