from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection

from monitoring import history, store
from monitoring.history import BadCursor
from monitoring.models import Check, ProbeResult, Rollup, StateChange
from monitoring.periods import PERIODS
from monitoring.rollups import Counts
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, 34, 56, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def record(check: Check, back: timedelta, word: str = "healthy", ms: float | None = 100.0, **fields: Any) -> None:
    store.settle([finished(check, outcome(word, ms=ms, **fields), at=NOW - back)])


def log(check: Check, number: int, at: datetime = NOW, **fields: Any) -> None:
    ProbeResult.objects.bulk_create(
        ProbeResult(id=10_000 + place, at=at, check_ref=check, **{"outcome": "healthy"} | fields)
        for place in range(number)
    )


def uptime(checks: Sequence[Check], period: str) -> list[float | None]:
    found = history.counts([check.id for check in checks], period)
    return [found[check.id].uptime for check in checks]


class TestNumbers:
    def test_percentiles_and_uptime_come_from_rollups_alone(self):
        check = make_check()
        for ms in range(10, 1010, 10):
            record(check, MINUTE, ms=float(ms))
        ProbeResult.objects.all().delete()
        found = history.counts([check.id], "1h")[check.id]
        assert (found.total, found.healthy, found.uptime, found.slowest_ms) == (100, 100, 1.0, 1000)
        assert found.percentile(0.50) == pytest.approx(500, rel=0.07)
        assert found.percentile(0.95) == pytest.approx(950, rel=0.07)
        assert found.percentile(0.99) == pytest.approx(990, rel=0.07)

    def test_slow_is_up_and_our_own_errors_count_for_nobody(self):
        check = make_check()
        for word in ("healthy", "degraded", "critical", "critical", "error", "error"):
            record(check, MINUTE, word)
        assert uptime([check], "24h") == [0.5]

    def test_errors_alone_give_no_uptime(self):
        check = make_check()
        record(check, MINUTE, "error")
        assert uptime([check], "24h") == [None]

    def test_each_check_has_its_own(self):
        good, bad = make_check(), make_check()
        record(good, MINUTE)
        record(bad, MINUTE, "critical")
        assert uptime([good, bad], "24h") == [1.0, 0.0]

    def test_results_without_a_time_count_for_uptime_only(self):
        check = make_check()
        record(check, MINUTE, "critical", ms=None)
        found = history.counts([check.id], "1h")[check.id]
        assert (found.percentile(0.5), found.slowest_ms, found.total) == (None, None, 1)

    @pytest.mark.parametrize("period", PERIODS)
    def test_nothing_is_no_number(self, period: str):
        check = make_check()
        assert history.counts([check.id], period) == {check.id: Counts()}
        assert uptime([check], period) == [None]
        assert history.series([check.id], period) == []
        assert {slot.status for slot in history.bars([check.id], period)[check.id]} == {"none"}
        assert history.counts([], period) == {}
        assert history.bars([], period) == {}
        assert history.series([], period) == []

    @pytest.mark.parametrize("period", PERIODS)
    def test_a_period_begins_when_it_says(self, period: str):
        inside, outside = make_check(), make_check()
        length, level = PERIODS[period].length, timedelta(seconds=PERIODS[period].level)
        record(inside, length - timedelta(seconds=1))
        record(outside, length + level)
        assert uptime([inside, outside], period) == [1.0, None]
        assert history.counts([outside.id], period)[outside.id].total == 0
        assert history.series([outside.id], period) == []
        assert len(history.series([inside.id], period)) == 1

    def test_results_are_counted_by_outcome(self):
        check = make_check()
        for word in ("healthy", "critical", "critical", "error"):
            record(check, HOUR, word)
        found = history.counts([check.id], "24h")[check.id]
        assert (found.healthy, found.degraded, found.critical, found.error) == (1, 0, 2, 1)

    def test_the_number_of_queries_does_not_grow(self, django_assert_num_queries: Any):
        checks = [make_check() for _ in range(8)]
        for check in checks:
            for hours in range(5):
                record(check, hours * HOUR)
        ids = [check.id for check in checks]
        for read, queries in ((history.counts, 1), (history.series, 2), (history.bars, 1)):
            with django_assert_num_queries(queries):
                read(ids, "24h")


class TestSeries:
    def test_points_are_in_order_and_gaps_have_none(self):
        check = make_check()
        for back in (50, 20, 21, 5):
            record(check, back * MINUTE, ms=float(back))
        found = history.series([check.id], "1h")
        assert [point.start for point in found] == [
            (NOW - back * MINUTE).replace(second=0) for back in (50, 21, 20, 5)
        ]
        assert [point.count for point in found] == [1, 1, 1, 1]
        assert found[0].p50 == pytest.approx(50, rel=0.06)

    def test_several_checks_make_one_line(self):
        one, other = make_check(), make_check()
        record(one, 10 * MINUTE, ms=100)
        record(other, 10 * MINUTE, "critical", ms=5_000)
        (point,) = history.series([one.id, other.id], "1h")
        assert (point.count, point.failed) == (2, 1)
        assert point.p99 == pytest.approx(5_000, rel=0.06)

    def test_a_day_is_drawn_in_points_of_five_minutes(self):
        check = make_check()
        for back in (60, 61, 62):
            record(check, back * MINUTE)
        found = history.series([check.id], "24h")
        assert [(point.start.minute % 5, point.count) for point in found] == [(0, 3)]

    def test_a_day_of_many_checks_is_drawn_from_fewer_rows(self):
        checks = [make_check() for _ in range(5)]
        for check in checks:
            record(check, 60 * MINUTE, ms=200)
        ids = [check.id for check in checks]
        assert history.chart_steps(ids, "24h") == PERIODS["24h"].chart
        day = PERIODS["24h"]
        Rollup.objects.bulk_create(
            Rollup(level=60, check_id=ids[0], start=NOW - MINUTE * back, healthy=0) for back in range(100, 1440)
        )
        Rollup.objects.bulk_create(
            Rollup(level=60, check_id=ids[1], start=NOW - MINUTE * back, healthy=0) for back in range(100, 300)
        )
        assert history.chart_steps(ids, "24h") == day.chart_of_many
        assert history.chart_steps(ids[:1], "24h") == day.chart
        (point,) = history.series(ids, "24h")
        assert (point.start.timestamp() % 960, point.count) == (0, 5)
        assert point.p50 == pytest.approx(200, rel=0.06)

    def test_our_own_errors_are_failures_in_the_chart(self):
        check = make_check()
        record(check, MINUTE, "error", ms=None)
        assert history.series([check.id], "1h")[0].failed == 1


class TestBars:
    @pytest.mark.parametrize("period", PERIODS)
    def test_there_are_ninety_and_the_last_holds_now(self, period: str):
        check = make_check()
        record(check, timedelta(0), "critical")
        bar = history.bars([check.id], period)[check.id]
        assert len(bar) == 90
        assert bar[-1].status == "critical"
        assert bar[-1].start <= NOW < bar[-1].end
        assert all(one.end == other.start for one, other in itertools.pairwise(bar))
        assert {slot.status for slot in bar[:-2]} == {"none"}

    @pytest.mark.parametrize(
        ("words", "expected", "text"),
        [
            (["healthy"] * 3, "healthy", ""),
            (["healthy", "degraded"], "degraded", "degraded, 1 of 2 probes, slowest 100 ms"),
            (["healthy", "degraded", "error"], "error", "error (ours), 1 of 3 probes"),
            (["error", "critical", "healthy", "critical"], "critical", "critical, 2 of 4 probes failed"),
        ],
    )
    def test_the_worst_outcome_of_a_slot_colours_it(self, words: list[str], expected: str, text: str):
        check = make_check()
        for word in words:
            record(check, 3 * HOUR, word)
        bar = history.bars([check.id], "24h")[check.id]
        (slot,) = [slot for slot in bar if slot.status != "none"]
        assert (slot.status, slot.text) == (expected, text)
        assert slot.start <= NOW - 3 * HOUR < slot.end

    def test_degraded_without_a_time_has_a_shorter_text(self):
        check = make_check()
        record(check, HOUR, "degraded", ms=None)
        (text,) = {slot.text for slot in history.bars([check.id], "24h")[check.id]} - {""}
        assert text == "degraded, 1 of 1 probes"

    def test_a_strip_made_beforehand_reads_the_same(self):
        first = PERIODS["24h"].first_start(NOW)
        bar = history.strip(first, PERIODS["24h"], "." * 88 + "hc", {"89": "critical, 1 of 1 probes failed"})
        assert [slot.status for slot in bar[-3:]] == ["none", "healthy", "critical"]
        assert [slot.text for slot in bar[-2:]] == ["", "critical, 1 of 1 probes failed"]
        assert bar[0].start == first
        assert [bar[place].status for place in (-1, 89, 88)] == ["critical", "critical", "healthy"]
        with pytest.raises(IndexError):
            bar[90]


class TestResults:
    def test_the_newest_come_first(self):
        check = make_check()
        for back in (3, 1, 2):
            record(check, back * MINUTE)
        rows = history.results([check.id]).rows
        assert [row.at for row in rows] == [NOW - back * MINUTE for back in (1, 2, 3)]

    @pytest.mark.parametrize("micro", [0, 1, 123_457, 999_999])
    def test_paging_shows_each_once_even_at_one_instant(self, micro: int):
        check = make_check()
        log(check, 7, NOW.replace(microsecond=micro))
        log(check, 6, NOW.replace(microsecond=micro) - timedelta(microseconds=1))
        seen, cursor, pages = [], None, 0
        while True:
            page = history.results([check.id], before=cursor, limit=2)
            seen += [(row.at, row.id) for row in page.rows]
            cursor, pages = page.next_cursor, pages + 1
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 13
        assert seen == sorted(seen, reverse=True)
        assert pages == 7

    def test_a_full_last_page_has_no_next(self):
        check = make_check()
        log(check, 4)
        assert history.results([check.id], limit=4).next_cursor is None

    def test_they_can_be_filtered(self):
        check, other = make_check(), make_check()
        record(check, 1 * MINUTE)
        record(check, 2 * MINUTE, "critical", category=Category.DNS_ERROR)
        record(check, 3 * MINUTE, "error", category=Category.AUTHENTICATION_ERROR)
        record(other, 4 * MINUTE, "critical", category=Category.DNS_ERROR)
        both = [check.id, other.id]

        def found(ids: list[int], **wanted: Any) -> list[str]:
            return [row.outcome for row in history.results(ids, **wanted).rows]

        assert found([check.id], outcomes=["critical", "error"]) == ["critical", "error"]
        assert found([check.id], outcomes=["healthy", "error"]) == ["healthy", "error"]
        assert found([check.id], outcomes=[]) == []
        assert found(both, categories=["DNS_ERROR"]) == ["critical", "critical"]
        assert found(both, since=NOW - 2 * MINUTE) == ["healthy", "critical"]
        assert found([]) == []

    @pytest.mark.parametrize(
        "cursor", ["", "x", "1", "1-", "-5-3", "1-x", "9" * 40 + "-1", "-", "1\x00-1", "nan-1", "1.5-1"]
    )
    def test_a_cursor_of_somebody_elses_is_refused(self, cursor: str):
        with pytest.raises(BadCursor):
            history.results([1], before=cursor)
        with pytest.raises(BadCursor):
            history.changes(before=cursor)

    def test_a_cursor_with_a_huge_key_is_only_a_place(self):
        check = make_check()
        log(check, 1)
        assert history.results([check.id], before="0-" + "9" * 30).rows == []


class TestChanges:
    def change(self, back: timedelta, check: Check | None = None, **fields: Any) -> StateChange:
        check = check or make_check()
        made = {"service": check.service, "check_ref": check, "old": "healthy", "new": "critical", "at": NOW - back}
        return StateChange.objects.create(**made | fields)

    def test_paging_shows_each_once_though_a_check_and_its_service_change_together(self):
        for back in range(3):
            check = make_check()
            at = timedelta(seconds=back, microseconds=123_457)
            self.change(at, check)
            self.change(at, check, check_ref=None)
        seen, cursor = [], None
        while True:
            page = history.changes(before=cursor, limit=1)
            seen += [row.id for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 6

    def test_of_one_service_and_since_a_moment(self):
        mine = self.change(HOUR)
        self.change(MINUTE)
        assert history.changes(mine.service_id).rows == [mine]
        assert history.changes(mine.service_id, since=NOW - MINUTE).rows == []

    def test_they_bring_their_names_along(self, django_assert_num_queries: Any):
        for back in range(5):
            self.change(back * MINUTE)
        with django_assert_num_queries(1):
            assert all(row.service.slug and row.check_ref for row in history.changes().rows)

    def test_only_changes_of_services_are_counted(self):
        self.change(MINUTE)
        self.change(MINUTE, check_ref=None)
        self.change(2 * DAY, check_ref=None)
        assert history.count_changes(DAY) == 1


def test_reading_a_quarter_takes_few_rows_whatever_the_number_of_results():
    check = make_check(make_service())
    for level, number in ((60, 500), (86_400, 90)):
        Rollup.objects.bulk_create(
            Rollup(level=level, check_id=check.id, start=NOW - timedelta(seconds=level * back), healthy=8_640)
            for back in range(number)
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert history.counts([check.id], "90d")[check.id].total == 90 * 8_640
    assert len(history.series([check.id], "90d")) == 90
