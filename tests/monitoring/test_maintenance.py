from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from monitoring import maintenance
from monitoring.maintenance import check_recurrence, in_force, occurrence_at, of_service, relevant, upcoming
from monitoring.models import MaintenanceWindow
from tests.monitoring.factories import make_service

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = timedelta(hours=1)
START = datetime(2026, 11, 21, 22, tzinfo=UTC)


def window(
    start: datetime = START, length: timedelta = 2 * HOUR, recurrence: str = "", zone: str = "UTC", **fields: object
) -> MaintenanceWindow:
    made = {"starts_at": start, "ends_at": start + length, "recurrence": recurrence, "time_zone": zone, "reason": "x"}
    return MaintenanceWindow(**made | fields)


class TestOneOff:
    @pytest.mark.parametrize(
        ("moment", "expected"),
        [
            (-timedelta(microseconds=1), False),
            (timedelta(0), True),
            (HOUR, True),
            (2 * HOUR - timedelta(microseconds=1), True),
            (2 * HOUR, False),  # its end is not part of it
            (24 * HOUR, False),
        ],
    )
    def test_it_is_in_force_from_its_start_to_its_end(self, moment: timedelta, expected: bool):
        assert (occurrence_at(window(), START + moment) is not None) is expected

    def test_the_occurrence_tells_its_times(self):
        made = window()
        found = occurrence_at(made, START)
        assert found == maintenance.Occurrence(made, START, START + 2 * HOUR)

    def test_it_ends_when_it_is_cancelled(self):
        made = window(cancelled_at=START + HOUR)
        assert occurrence_at(made, START + HOUR / 2) is not None
        assert occurrence_at(made, START + HOUR) is None


class TestRecurring:
    def test_it_comes_every_week_at_its_hour(self):
        made = window(recurrence="FREQ=WEEKLY;BYDAY=SA")
        for week in range(5):
            start = START + timedelta(weeks=week)
            assert occurrence_at(made, start - timedelta(seconds=1)) is None
            found = occurrence_at(made, start + HOUR)
            assert found is not None
            assert (found.starts_at, found.ends_at) == (start, start + 2 * HOUR)
            assert occurrence_at(made, start + 2 * HOUR) is None

    def test_not_before_its_first_start(self):
        assert occurrence_at(window(recurrence="FREQ=DAILY"), START - timedelta(days=1) + HOUR) is None

    def test_one_over_midnight_holds_on_both_days(self):
        made = window(length=6 * HOUR, recurrence="FREQ=DAILY")
        assert occurrence_at(made, START + timedelta(days=3) + 5 * HOUR) is not None

    def test_it_ends_with_its_count(self):
        made = window(recurrence="FREQ=DAILY;COUNT=2")
        assert occurrence_at(made, START + timedelta(days=1)) is not None
        assert occurrence_at(made, START + timedelta(days=2)) is None

    def test_it_ends_with_its_until(self):
        made = window(recurrence="FREQ=DAILY;UNTIL=20261122T220000")
        assert occurrence_at(made, START + timedelta(days=1)) is not None
        assert occurrence_at(made, START + timedelta(days=2)) is None

    def test_a_start_that_is_no_occurrence_does_not_count(self):
        made = window(recurrence="FREQ=WEEKLY;BYDAY=SU")  # START is a Saturday
        assert occurrence_at(made, START) is None
        assert occurrence_at(made, START + timedelta(days=1)) is not None


class TestSummerTime:
    """Europe/Berlin went to UTC+2 on 29 March 2026 at 01:00 UTC, and back on 25 October 2026 at 01:00 UTC."""

    @pytest.mark.parametrize(
        ("first", "starts"),
        [
            # spring: 23:00 local is 22:00 UTC before, 21:00 UTC after
            (datetime(2026, 3, 27, 23, tzinfo=BERLIN), datetime(2026, 3, 28, 22, tzinfo=UTC)),
            (datetime(2026, 3, 27, 23, tzinfo=BERLIN), datetime(2026, 3, 29, 21, tzinfo=UTC)),
            # 02:30 does not exist on the 29th: it begins at 03:30, which is as long after midnight
            (datetime(2026, 3, 27, 2, 30, tzinfo=BERLIN), datetime(2026, 3, 28, 1, 30, tzinfo=UTC)),
            (datetime(2026, 3, 27, 2, 30, tzinfo=BERLIN), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
            (datetime(2026, 3, 27, 2, 30, tzinfo=BERLIN), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)),
            # autumn
            (datetime(2026, 10, 23, 23, tzinfo=BERLIN), datetime(2026, 10, 24, 21, tzinfo=UTC)),
            (datetime(2026, 10, 23, 23, tzinfo=BERLIN), datetime(2026, 10, 25, 22, tzinfo=UTC)),
            # 02:30 comes twice on the 25th: it begins at the first
            (datetime(2026, 10, 23, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
            (datetime(2026, 10, 23, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)),
        ],
    )
    def test_it_keeps_its_local_hour(self, first: datetime, starts: datetime):
        made = window(first, HOUR, "FREQ=DAILY", "Europe/Berlin")
        found = [one.starts_at for one in upcoming([made], starts - 12 * HOUR, timedelta(days=1))]
        assert found == [starts]
        assert occurrence_at(made, starts) is not None
        assert occurrence_at(made, starts - timedelta(seconds=1)) is None
        assert occurrence_at(made, starts + HOUR) is None

    @pytest.mark.parametrize(
        "day", [datetime(2026, 3, 28, 23, tzinfo=BERLIN), datetime(2026, 10, 24, 23, tzinfo=BERLIN)]
    )
    def test_it_lasts_as_long_as_ever_over_the_change(self, day: datetime):
        made = window(day - timedelta(days=7), 6 * HOUR, "FREQ=WEEKLY", "Europe/Berlin")
        start = day.astimezone(UTC)
        assert occurrence_at(made, start + 6 * HOUR - timedelta(seconds=1)) is not None
        assert occurrence_at(made, start + 6 * HOUR) is None


class TestUpcoming:
    def test_the_soonest_comes_first_and_none_beyond_the_time_asked_for(self):
        soon, later, never = window(START + HOUR), window(START + 5 * HOUR), window(START + 50 * HOUR)
        found = upcoming([never, later, soon], START, timedelta(days=1))
        assert [one.window for one in found] == [soon, later]

    def test_the_next_occurrence_of_a_recurring_one(self):
        found = upcoming([window(recurrence="FREQ=DAILY")], START + timedelta(days=10, hours=1), timedelta(days=2))
        assert [one.starts_at for one in found] == [START + timedelta(days=11)]

    def test_what_is_in_force_is_not_upcoming_and_cancelled_ones_never_are(self):
        assert upcoming([window(), window(START + HOUR, cancelled_at=START)], START, timedelta(days=1)) == []


def test_those_in_force_are_found():
    first, second, other = window(START - 9 * HOUR), window(), window()
    assert in_force([first, second, other], START) == [second, other]
    assert in_force([first], START) == []


@pytest.mark.django_db
def test_relevant_are_those_that_may_come_into_force():
    now = timezone.now()
    rows = {
        "in force": window(now - HOUR),
        "to come": window(now + HOUR),
        "recurring": window(now - timedelta(days=30), recurrence="FREQ=DAILY"),
        "over": window(now - timedelta(days=30)),
        "cancelled": window(now - HOUR, cancelled_at=now),
    }
    for name, row in rows.items():
        row.reason = name
        row.save()
    assert {row.reason for row in relevant(now)} == {"in force", "to come", "recurring"}


@pytest.mark.django_db
def test_a_window_holds_for_its_service_or_for_all():
    one, other = make_service(), make_service()
    own, theirs, general = window(service=one), window(service=other), window()
    assert of_service([own, theirs, general], one.id) == [own, general]


class TestRules:
    @pytest.mark.parametrize(
        "rule",
        [
            "FREQ=DAILY",
            "freq=weekly;byday=su",
            "FREQ=WEEKLY;BYDAY=MO,TU,WE;INTERVAL=2",
            "FREQ=MONTHLY;BYDAY=-1FR",
            "FREQ=MONTHLY;BYMONTHDAY=31",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
            "FREQ=DAILY;COUNT=10",
            "FREQ=DAILY;UNTIL=20300101T000000",
        ],
    )
    def test_usable_ones_pass(self, rule: str):
        check_recurrence(rule)

    @pytest.mark.parametrize(
        ("rule", "why"),
        [
            ("", "not a recurrence rule"),
            ("every sunday", "not a recurrence rule"),
            ("BYDAY=SU", "FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY"),
            ("FREQ=HOURLY", "FREQ must be one of"),
            ("FREQ=SECONDLY", "FREQ must be one of"),
            ("FREQ=SOMETIMES", "FREQ must be one of"),
            ("FREQ=DAILY;BYHOUR=3", "BYHOUR is not allowed"),
            ("FREQ=DAILY;DTSTART=20260101", "DTSTART is not allowed"),
            ("FREQ=WEEKLY;BYDAY=XX", "not a recurrence rule"),
            ("FREQ=WEEKLY;BYDAY=", "not a recurrence rule"),
            ("FREQ=DAILY;NONSENSE=1", "NONSENSE is not allowed"),
            ("FREQ=DAILY;;", "is not allowed"),
            ("FREQ=DAILY;COUNT=x", "not a recurrence rule"),
            ("FREQ=DAILY;INTERVAL=0", "INTERVAL must be 1 to 1000"),
            ("FREQ=DAILY;INTERVAL=-1", "INTERVAL must be 1 to 1000"),
            ("FREQ=DAILY;INTERVAL=99999999999", "INTERVAL must be 1 to 1000"),
            ("FREQ=DAILY;UNTIL=20300101T000000Z", "leave out the Z"),
            ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "never comes true"),
            ("FREQ=DAILY;INTERVAL=7;BYDAY=SU", "may never meet"),
            ("FREQ=MONTHLY;INTERVAL=12;BYMONTH=2", "may never meet"),
            ("FREQ=YEARLY;BYYEARDAY=366", "BYYEARDAY is not allowed"),
            ("FREQ=YEARLY;BYMONTH=4;BYMONTHDAY=31", "never comes true"),
            ("FREQ=DAILY;COUNT=1\nRRULE:FREQ=SECONDLY", "not a recurrence rule"),
            ("FREQ=DAILY;COUNT=1\nEXDATE:20260101", "not a recurrence rule"),
            ("FREQ=DAILY;BYDAY=" + "MO," * 100, "300 characters"),
        ],
    )
    def test_others_are_refused_in_plain_words(self, rule: str, why: str):
        with pytest.raises(ValueError, match=why):
            check_recurrence(rule)

    names = st.sampled_from(
        ["FREQ", "BYDAY", "BYMONTHDAY", "BYMONTH", "INTERVAL", "COUNT", "UNTIL", "BYSETPOS", "WKST"]
    )
    values = st.sampled_from(
        ["DAILY", "WEEKLY", "YEARLY", "MO", "-1FR", "31", "0", "-1", "2030", "", "x", "1,2", "+3"]
    )

    @given(st.lists(st.tuples(names, values), max_size=5))
    def test_whatever_the_rule_it_is_either_usable_or_refused(self, parts: list[tuple[str, str]]):
        rule = ";".join(f"{name}={value}" for name, value in [("FREQ", "DAILY"), *parts])
        try:
            check_recurrence(rule)
        except ValueError:
            return
        occurrence_at(window(recurrence=rule, zone="Europe/Berlin"), START + timedelta(days=400))
