from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.critical import expanding, rules
from monitoring.critical.expanding import WEEKDAYS
from monitoring.critical.rules import Period
from tests.monitoring.critical.calendars import SATURDAYS, at, calendar, event, periods, rule, spans

DAY = timedelta(days=1)
HOUR = 3600.0
OCTOBER = (at("2026-10-12 00:00"), at("2026-10-26 12:00"))


class TestEvery:
    def test_a_saturday_is_a_local_day_with_what_comes_before_and_after(self):
        found = periods([rule(lead=2 * HOUR, trail=2 * HOUR)], *OCTOBER)
        assert spans(found) == [
            ("Fri 2026-10-16 22:00+0200", "Sun 2026-10-18 02:00+0200"),
            ("Fri 2026-10-23 22:00+0200", "Sun 2026-10-25 02:00+0200"),
        ]

    def test_it_says_which_day_and_which_rule(self):
        reason = periods([rule(name="Saturdays", lead=HOUR)], *OCTOBER)[0].reasons[0]
        assert (reason.rule, reason.name, reason.why, reason.kind) == ("days", "Saturdays", "Sat 17 Oct", "every")
        assert spans([reason]) == [("Sat 2026-10-17 00:00+0200", "Sun 2026-10-18 00:00+0200")]

    def test_days_that_follow_each_other_are_one_period(self):
        found = periods([rule({"every": ["saturday", "sunday"]})], *OCTOBER)
        assert spans(found)[0] == ("Sat 2026-10-17 00:00+0200", "Mon 2026-10-19 00:00+0200")
        assert [reason.why for reason in found[0].reasons] == ["Sat 17 Oct", "Sun 18 Oct"]

    def test_a_day_that_is_left_out_is_none(self):
        found = periods([rule(SATURDAYS | {"except": ["2026-10-17"]})], *OCTOBER)
        assert spans(found) == [("Sat 2026-10-24 00:00+0200", "Sun 2026-10-25 00:00+0200")]


class TestDaylightSaving:
    """The clocks of Berlin go forward on 29 March 2026 and back on 25 October 2026."""

    def test_the_day_of_the_change_forward_has_23_hours(self):
        (found,) = periods([rule({"dates": ["2026-03-29"]})], at("2026-03-28 00:00"), at("2026-03-31 00:00"))
        assert found.ends_at - found.starts_at == timedelta(hours=23)

    def test_the_day_of_the_change_back_has_25_hours(self):
        (found,) = periods([rule({"dates": ["2026-10-25"]})], at("2026-10-24 00:00"), at("2026-10-27 00:00"))
        assert found.ends_at - found.starts_at == timedelta(hours=25)

    def test_a_trail_is_a_length_of_time_and_ends_at_the_first_02_00(self):
        found = periods([rule(trail=2 * HOUR)], at("2026-10-24 00:00"), at("2026-10-26 00:00"))
        assert spans(found) == [("Sat 2026-10-24 00:00+0200", "Sun 2026-10-25 02:00+0200")]

    def test_a_trail_of_3_hours_ends_in_the_hour_that_comes_twice(self):
        found = periods([rule(trail=3 * HOUR)], at("2026-10-24 00:00"), at("2026-10-26 00:00"))
        assert spans(found) == [("Sat 2026-10-24 00:00+0200", "Sun 2026-10-25 02:00+0100")]

    def test_a_trail_over_the_change_forward_ends_an_hour_later_by_the_clock(self):
        found = periods([rule(trail=2 * HOUR)], at("2026-03-28 00:00"), at("2026-03-30 00:00"))
        assert spans(found) == [("Sat 2026-03-28 00:00+0100", "Sun 2026-03-29 03:00+0200")]

    def test_a_recurrence_keeps_its_local_hour(self):
        spec = {"rrule": "FREQ=WEEKLY;BYDAY=SA", "starts_at": "2026-01-03 18:00", "lasts": 4 * HOUR}
        found = periods([rule(spec)], at("2026-10-20 00:00"), at("2026-11-02 00:00"))
        assert spans(found) == [
            ("Sat 2026-10-24 18:00+0200", "Sat 2026-10-24 22:00+0200"),
            ("Sat 2026-10-31 18:00+0100", "Sat 2026-10-31 22:00+0100"),
        ]

    def test_a_time_that_is_left_out_counts_with_the_offset_before_it(self):
        spec = {"ranges": [{"from": "2026-03-29 02:30", "to": "2026-03-29 05:00"}]}
        found = periods([rule(spec)], at("2026-03-28 00:00"), at("2026-03-31 00:00"))
        assert spans(found) == [("Sun 2026-03-29 03:30+0200", "Sun 2026-03-29 05:00+0200")]

    def test_a_midnight_that_is_left_out_is_the_moment_of_the_change(self):
        beirut = ZoneInfo("Asia/Beirut")  # 29 March 2026, 00:00 -> 01:00
        (found,) = periods(
            [rule({"dates": ["2026-03-29"]}, zone=beirut)],
            datetime(2026, 3, 27, tzinfo=UTC),
            datetime(2026, 3, 31, tzinfo=UTC),
        )
        assert spans([found], beirut) == [("Sun 2026-03-29 01:00+0300", "Mon 2026-03-30 00:00+0300")]

    def test_a_day_that_does_not_exist_is_none(self):
        apia = ZoneInfo("Pacific/Apia")  # had no 30 December 2011
        low, high = datetime(2011, 12, 28, tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC)
        assert periods([rule({"dates": ["2011-12-30"]}, zone=apia)], low, high) == []


class TestOtherKinds:
    def test_ranges_include_their_last_day_and_may_have_times(self):
        spec = {
            "ranges": [
                {"from": "2026-10-13", "to": "2026-10-14"},
                {"from": "2026-10-20 18:00", "to": "2026-10-21 02:00"},
            ]
        }
        found = periods([rule(spec)], *OCTOBER)
        assert spans(found) == [
            ("Tue 2026-10-13 00:00+0200", "Thu 2026-10-15 00:00+0200"),
            ("Tue 2026-10-20 18:00+0200", "Wed 2026-10-21 02:00+0200"),
        ]
        assert [one.reasons[0].why for one in found] == [
            "Tue 13 Oct to Wed 14 Oct",
            "Tue 20 Oct 18:00 to Wed 21 Oct 02:00",
        ]

    def test_a_range_that_began_long_ago_is_whole(self):
        spec = {"ranges": [{"from": "2026-01-01", "to": "2026-12-31"}]}
        assert spans(periods([rule(spec)], *OCTOBER)) == [("Thu 2026-01-01 00:00+0100", "Fri 2027-01-01 00:00+0100")]

    def test_a_recurrence_of_whole_days_keeps_to_midnights(self):
        spec = {"rrule": "FREQ=MONTHLY;BYDAY=-1SU", "starts_at": "2026-01-25", "lasts": 24 * HOUR}
        found = periods([rule(spec)], *OCTOBER)
        assert spans(found) == [("Sun 2026-10-25 00:00+0200", "Mon 2026-10-26 00:00+0100")]

    def test_holidays_have_their_english_names(self):
        spec = {"holidays": {"country": "DE"}}
        found = periods([rule(spec)], at("2026-12-20 00:00"), at("2027-01-02 00:00"))
        assert [reason.why for one in found for reason in one.reasons] == [
            "Christmas Day",
            "Second Day of Christmas",
            "New Year's Day",
        ]

    def test_holidays_are_picked_by_a_name_in_either_language(self):
        spec: dict[str, Any] = {"holidays": {"country": "DE", "match": ["weihnacht"]}}
        found = periods([rule(spec)], at("2026-12-20 00:00"), at("2027-01-02 00:00"))
        assert spans(found) == [("Fri 2026-12-25 00:00+0100", "Sun 2026-12-27 00:00+0100")]

    def test_those_of_one_state_are_not_those_of_another(self):
        bavaria = rule({"holidays": {"country": "DE", "subdivision": "BY"}})
        berlin = rule({"holidays": {"country": "DE", "subdivision": "BE"}})
        window = (at("2026-11-01 00:00"), at("2026-11-02 00:00"))
        assert len(periods([bavaria], *window)) == 1
        assert periods([berlin], *window) == []

    def test_events_of_a_feed_are_matched_by_text(self):
        text = calendar(event("20261014", "Wedding fair"), event("20261015", "Team lunch"), event("20261022", "EXPO"))
        found = periods(
            [rule({"ical": "env:FAIRS", "match": ["fair", "expo"]}, lead=2 * HOUR)], *OCTOBER, {"days": text}
        )
        assert spans(found) == [
            ("Tue 2026-10-13 22:00+0200", "Thu 2026-10-15 00:00+0200"),
            ("Wed 2026-10-21 22:00+0200", "Fri 2026-10-23 00:00+0200"),
        ]

    def test_a_feed_that_was_never_read_has_no_days(self):
        assert periods([rule({"ical": "env:FAIRS"})], *OCTOBER) == []

    def test_a_rule_that_says_nothing_has_no_days(self):
        assert periods([rule({"lunar": True})], *OCTOBER) == []


class TestManyRules:
    def test_what_overlaps_is_one_period_with_every_reason(self):
        saturdays = rule(slug="saturdays", trail=2 * HOUR)
        fair = rule({"ranges": [{"from": "2026-10-17 18:00", "to": "2026-10-19"}]}, slug="fair")
        (found,) = periods([saturdays, fair], at("2026-10-15 00:00"), at("2026-10-20 12:00"))
        assert spans([found]) == [("Sat 2026-10-17 00:00+0200", "Tue 2026-10-20 00:00+0200")]
        assert [one.rule for one in found.reasons] == ["saturdays", "fair"]

    def test_reasons_hold_for_their_own_time_only(self):
        saturdays = rule(slug="saturdays")
        fair = rule({"ranges": [{"from": "2026-10-17 18:00", "to": "2026-10-19"}]}, slug="fair")
        (found,) = periods([saturdays, fair], at("2026-10-15 00:00"), at("2026-10-20 12:00"))
        assert [one.rule for one in found.reasons_at(at("2026-10-17 12:00"))] == ["saturdays"]
        assert [one.rule for one in found.reasons_at(at("2026-10-17 20:00"))] == ["saturdays", "fair"]
        assert [one.rule for one in found.reasons_at(at("2026-10-18 12:00"))] == ["fair"]

    def test_of_rules_that_contradict_each_other_the_stricter_one_wins(self):
        without = rule(SATURDAYS | {"except": ["2026-10-17"]}, slug="saturdays")
        named = rule({"dates": ["2026-10-17"]}, slug="anyway")
        found = periods([without, named], at("2026-10-16 00:00"), at("2026-10-18 12:00"))
        assert spans(found) == [("Sat 2026-10-17 00:00+0200", "Sun 2026-10-18 00:00+0200")]
        assert [one.rule for one in found[0].reasons] == ["anyway"]

    def test_rules_of_two_zones_overlap_in_time_and_not_by_date(self):
        berlin = rule(slug="berlin")
        tokyo = rule(slug="tokyo", zone=ZoneInfo("Asia/Tokyo"))
        (found,) = periods([berlin, tokyo], at("2026-10-16 00:00"), at("2026-10-19 00:00"))
        assert spans([found]) == [("Fri 2026-10-16 17:00+0200", "Sun 2026-10-18 00:00+0200")]

    def test_no_rules_no_days(self):
        assert periods([], *OCTOBER) == []


class TestLooking:
    found = periods([rule(lead=HOUR)], *OCTOBER)

    @pytest.mark.parametrize(
        ("moment", "holds"),
        [
            ("2026-10-16 22:59", False),
            ("2026-10-16 23:00", True),
            ("2026-10-17 23:59", True),
            ("2026-10-18 00:00", False),  # its end is not part of it
        ],
    )
    def test_a_period_holds_from_its_start_to_its_end(self, moment: str, holds: bool):
        assert (rules.period_at(self.found, at(moment)) is not None) is holds

    def test_the_next_one_is_the_first_that_begins_later(self):
        following = rules.next_after(self.found, at("2026-10-17 12:00"))
        assert following is not None
        assert spans([following])[0][0] == "Fri 2026-10-23 23:00+0200"
        assert rules.next_after(self.found, at("2026-12-01 00:00")) is None

    def test_what_changes_next_is_known(self):
        assert rules.boundaries(self.found, at("2026-10-17 12:00")) == at("2026-10-18 00:00")
        assert rules.boundaries(self.found, at("2026-10-18 12:00")) == at("2026-10-23 23:00")
        assert rules.boundaries(self.found, at("2026-12-01 00:00")) is None


# Whatever the rules are -----------------------------------------------------------------------------

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/St_Johns",
]
days = st.dates(date(2010, 1, 1), date(2030, 12, 31))
spec = st.one_of(
    st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=7, unique=True).map(lambda words: {"every": words}),
    st.lists(days.map(date.isoformat), min_size=1, max_size=5).map(lambda found: {"dates": found}),
    st.tuples(days, st.integers(0, 40)).map(
        lambda one: {"ranges": [{"from": one[0].isoformat(), "to": (one[0] + one[1] * DAY).isoformat()}]}
    ),
    st.tuples(days, st.sampled_from(["DAILY", "WEEKLY", "MONTHLY"]), st.integers(1, 72)).map(
        lambda one: {"rrule": f"FREQ={one[1]}", "starts_at": f"{one[0]} 22:30", "lasts": one[2] * HOUR}
    ),
)
some_rules = st.lists(
    st.builds(
        lambda told, zone, lead, trail, slug: rule(told, slug, ZoneInfo(zone), lead=lead, trail=trail),
        spec,
        st.sampled_from(ZONES),
        st.sampled_from([0.0, HOUR, 2 * HOUR, 26 * HOUR]),
        st.sampled_from([0.0, HOUR, 30 * HOUR]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=5,
)
MINUTES = 20 * 365 * 24 * 60
moments = st.integers(0, MINUTES).map(lambda past: datetime(2010, 2, 1, tzinfo=UTC) + timedelta(minutes=past))


class TestAnyRules:
    @given(some_rules, moments, st.integers(1, 60))
    def test_periods_are_in_order_apart_and_touch_the_time_asked_for(
        self, found: list[Any], since: datetime, length: int
    ):
        until = since + length * DAY
        came = periods(found, since, until)
        for one in came:
            assert one.starts_at < one.ends_at
            assert one.starts_at < until
            assert one.ends_at > since
            assert one.reasons
        for one, other in pairwise(came):
            assert one.ends_at < other.starts_at

    @given(some_rules, moments)
    def test_a_moment_is_in_a_period_exactly_when_some_rule_holds(self, found: list[Any], now: datetime):
        together = rules.period_at(periods(found, now - DAY, now + DAY), now)
        alone = [one for one in found if rules.period_at(periods([one], now - DAY, now + DAY), now)]
        assert (together is not None) == bool(alone)
        if together is not None:
            assert {one.rule for one in together.reasons_at(now)} == {one.slug for one in alone}

    @given(some_rules, moments, st.integers(0, 30), st.integers(0, 30))
    def test_looking_further_changes_nothing_about_a_moment(
        self, found: list[Any], now: datetime, back: int, on: int
    ):
        near = rules.period_at(periods(found, now - DAY, now + DAY), now)
        far = rules.period_at(periods(found, now - DAY - back * DAY, now + DAY + on * DAY), now)
        assert (near is None) == (far is None)
        if near is not None and far is not None:
            assert {(one.rule, one.why) for one in near.reasons_at(now)} == {
                (one.rule, one.why) for one in far.reasons_at(now)
            }

    @given(st.sampled_from(ZONES), days)
    def test_a_day_is_as_long_as_its_clocks_say(self, name: str, day: date):
        zone = ZoneInfo(name)
        span = expanding.day_span(day, 1, zone, "")
        length = span.ends_at - span.starts_at
        assert length == timedelta(0) or timedelta(hours=22) < length < timedelta(hours=26)
        if length:
            assert span.starts_at.astimezone(zone).date() == day
            assert (span.ends_at - timedelta(microseconds=1)).astimezone(zone).date() == day

    @given(some_rules, moments)
    def test_the_next_boundary_is_the_next_change(self, found: list[Any], now: datetime):
        calendar_ = periods(found, now - DAY, now + 40 * DAY)
        boundary = rules.boundaries(calendar_, now)
        if boundary is None:
            return

        def told(moment: datetime) -> set[str]:
            period: Period | None = rules.period_at(calendar_, moment)
            return {f"{one.rule} {one.why}" for one in period.reasons_at(moment)} if period else set()

        before = boundary - timedelta(microseconds=1)
        if before > now:
            assert told(before) == told(now)
