from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.critical import icalevents
from monitoring.critical.icalevents import BadCalendar, between, clean, sane_rule
from tests.monitoring.critical.calendars import BERLIN, NOW, at, calendar, event, spans

MONTH = timedelta(days=31)


def read(*events: str, wanted: Any = None) -> list[tuple[str, str]]:
    return spans(between(clean(calendar(*events), NOW).text, NOW, NOW + MONTH, BERLIN, wanted))


class TestTimes:
    @pytest.mark.parametrize(
        ("told", "came"),
        [
            (event("20261020"), ("Tue 2026-10-20 00:00+0200", "Wed 2026-10-21 00:00+0200")),
            (event("20261020T100000Z", DURATION="PT2H"), ("Tue 2026-10-20 12:00+0200", "Tue 2026-10-20 14:00+0200")),
            (event("20261020T100000", DURATION="PT2H"), ("Tue 2026-10-20 10:00+0200", "Tue 2026-10-20 12:00+0200")),
            (
                event("20261025", RRULE="FREQ=DAILY;COUNT=1"),
                ("Sun 2026-10-25 00:00+0200", "Mon 2026-10-26 00:00+0100"),
            ),
        ],
        ids=["a whole day", "UTC", "a time without a zone", "the day of 25 hours"],
    )
    def test_an_event_is_when_it_says(self, told: str, came: tuple[str, str]):
        assert read(told) == [came]

    def test_one_of_several_days_is_one_span(self):
        text = event("20261020").replace("SUMMARY", "DTEND;VALUE=DATE:20261023\r\nSUMMARY")
        assert read(text) == [("Tue 2026-10-20 00:00+0200", "Fri 2026-10-23 00:00+0200")]

    def test_one_in_another_zone_is_at_its_own_time(self):
        text = event("20261020T090000").replace("DTSTART:", "DTSTART;TZID=America/New_York:")
        assert read(text.replace("SUMMARY", "DURATION:PT1H\r\nSUMMARY")) == [
            ("Tue 2026-10-20 15:00+0200", "Tue 2026-10-20 16:00+0200")
        ]

    def test_a_recurrence_keeps_its_hour_over_the_change_of_clocks(self):
        text = event("20261022T180000", RRULE="FREQ=WEEKLY;COUNT=2", DURATION="PT1H")
        zoned = text.replace("DTSTART:", "DTSTART;TZID=Europe/Berlin:")
        assert [start for start, _end in read(zoned)] == ["Thu 2026-10-22 18:00+0200", "Thu 2026-10-29 18:00+0100"]

    def test_an_exception_of_a_recurrence_is_left_out_and_one_that_moved_is_moved(self):
        text = event("20261020", RRULE="FREQ=WEEKLY;COUNT=3").replace(
            "SUMMARY", "EXDATE;VALUE=DATE:20261103\r\nSUMMARY"
        )
        moved = event("20261029").replace(
            "UID:Fair-20261029", "UID:Fair-20261020\r\nRECURRENCE-ID;VALUE=DATE:20261027"
        )
        assert [start[:14] for start, _end in read(text, moved)] == ["Tue 2026-10-20", "Thu 2026-10-29"]

    def test_a_cancelled_event_is_none(self):
        assert read(event("20261020", STATUS="CANCELLED")) == []

    def test_one_that_ends_before_it_begins_was_written_the_wrong_way_round(self):
        backwards = event("20261020T100000Z").replace("SUMMARY", "DTEND:20261020T090000Z\r\nSUMMARY")
        assert read(backwards) == [("Tue 2026-10-20 11:00+0200", "Tue 2026-10-20 12:00+0200")]

    def test_one_without_an_end_within_a_year_is_none(self):
        assert read(event("20261020T100000Z", DURATION="P9999D")) == []


class TestMatching:
    def test_summary_place_and_categories_count(self):
        one = event("20261020", "Fair")
        two = event("20261021", "Meeting", LOCATION="Fair ground")
        three = event("20261022", "Party", CATEGORIES="fair,fun")
        four = event("20261023", "Nothing")
        assert len(read(one, two, three, four, wanted=lambda text: "fair" in text.lower())) == 3


class TestCleaning:
    def test_what_is_personal_is_not_kept(self):
        text = event(
            "20261020", ATTENDEE="mailto:bride@example.com", ORGANIZER="mailto:a@b.example", DESCRIPTION="Hi"
        )
        kept = clean(calendar(text), NOW).text
        assert "SUMMARY:Fair" in kept
        assert "@" not in kept
        assert "Hi" not in kept

    def test_what_is_long_over_is_not_kept(self):
        assert "SUMMARY" not in clean(calendar(event("20250101")), NOW).text

    @pytest.mark.parametrize(
        "rule",
        [
            "FREQ=SECONDLY",
            "FREQ=MINUTELY;INTERVAL=5",
            "FREQ=HOURLY",
            "FREQ=DAILY;BYHOUR=1,2,3,4;BYMINUTE=0,1,2,3,4,5",
            "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=DAILY;INTERVAL=2;BYDAY=SA",
            "FREQ=WEEKLY;INTERVAL=0",
            "FREQ=NEVER",
        ],
    )
    def test_an_event_that_asks_for_too_much_or_never_comes_is_left_out(self, rule: str):
        cleaned = clean(calendar(event("20261020", "Bad", RRULE=rule), event("20261021", "Good")), NOW)
        assert (cleaned.text.count("BEGIN:VEVENT"), cleaned.left_out) == (1, 1)
        assert "Bad" not in cleaned.text
        assert "Good" in cleaned.text

    def test_one_that_is_daily_since_the_middle_ages_is_left_out(self):
        assert clean(calendar(event("10661014", RRULE="FREQ=DAILY")), NOW).left_out == 1
        assert clean(calendar(event("19661014", RRULE="FREQ=YEARLY")), NOW).left_out == 0

    def test_an_event_without_a_start_is_left_out(self):
        broken = "BEGIN:VEVENT\r\nUID:1\r\nSUMMARY:When\r\nEND:VEVENT"
        assert clean(calendar(broken, event()), NOW).left_out == 1

    @pytest.mark.parametrize(
        "text",
        ["", "<html>Please log in</html>", "BEGIN:VCALENDAR", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR\r\n"],
    )
    def test_what_is_no_calendar_is_refused(self, text: str):
        with pytest.raises(BadCalendar):
            clean(text, NOW)

    def test_too_many_events_are_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(icalevents, "MOST_EVENTS", 2)
        with pytest.raises(BadCalendar, match="it has 3 events, more than 2"):
            clean(calendar(*[event(f"2026102{day}") for day in range(3)]), NOW)

    def test_a_byte_order_mark_does_not_matter(self):
        assert clean("\ufeff" + calendar(event()), NOW).text.count("BEGIN:VEVENT") == 1

    @given(st.text(max_size=400))
    def test_whatever_comes_is_a_calendar_or_is_refused(self, text: str):
        for whole in (text, calendar(text), calendar(event("20261020", RRULE=text.replace("\n", "")))):
            try:
                kept = clean(whole, NOW).text
            except BadCalendar:
                continue
            assert "\x00" not in kept
            between(kept, NOW, NOW + MONTH, BERLIN)

    @given(
        st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
        st.sampled_from(["", ";BYDAY=SA", ";BYMONTHDAY=31", ";BYMONTH=2", ";BYDAY=-1SU", ";INTERVAL=2"]),
        st.integers(1, 28),
    )
    def test_a_sane_recurrence_comes_in_order_and_within_the_time_asked_for(self, often: str, part: str, day: int):
        if not sane_rule(f"FREQ={often}{part}"):
            return
        text = clean(calendar(event(f"202601{day:02}", RRULE=f"FREQ={often}{part}")), NOW).text
        found = between(text, NOW, NOW + MONTH, BERLIN)
        assert [one.starts_at for one in found] == sorted(one.starts_at for one in found)
        assert all(one.starts_at < NOW + MONTH and one.ends_at > NOW for one in found)


def test_of_a_kept_calendar_that_cannot_be_worked_out_there_is_nothing():
    assert icalevents.events_of("nonsense", NOW, NOW + MONTH, BERLIN) == []


def test_a_moment_that_comes_twice_is_its_first():
    assert icalevents.moment(datetime(2026, 10, 25, 2, 30), BERLIN) == at("2026-10-25 02:30")  # noqa: DTZ001
