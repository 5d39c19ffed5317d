"""Who is on call: weeks of the local calendar, over both changes of the clocks, and events of a calendar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.escalation import turns
from monitoring.escalation.turns import Person, Turns

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
ANA, BEN, CAM = (Person(name, (f"{name.lower()}-sms",)) for name in ("Ana", "Ben", "Cam"))
TEAM = Turns((ANA, BEN, CAM), date(2026, 1, 5), time(9), BERLIN)


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=zone or UTC).astimezone(UTC)


@pytest.mark.parametrize(
    ("moment", "name"),
    [
        ("2026-01-05 08:59", None),  # before the first one's first day
        ("2026-01-05 09:00", "Ana"),
        ("2026-01-12 08:59", "Ana"),
        ("2026-01-12 09:00", "Ben"),
        ("2026-01-19 09:00", "Cam"),
        ("2026-01-26 09:00", "Ana"),
        ("2027-01-04 09:00", "Ben"),
    ],
)
def test_by_the_week(moment: str, name: str | None) -> None:
    duty = turns.by_week(TEAM, at(moment, BERLIN))
    assert (duty.person.name if duty else None) == name


@pytest.mark.parametrize(
    ("rotation", "moment", "since", "until"),
    [
        # The clocks go forward on 29 March 2026: the week has 167 hours, its hand-over stays at nine.
        (TEAM, "2026-03-27 12:00", "2026-03-23T08:00", "2026-03-30T07:00"),
        # They go back on 25 October: 169 hours.
        (TEAM, "2026-10-22 12:00", "2026-10-19T07:00", "2026-10-26T08:00"),
        # A hand-over in the hour that is left out, on that very day: when it would have been.
        (
            Turns((ANA, BEN), date(2026, 3, 29), time(2, 30), BERLIN),
            "2026-03-30 00:00",
            "2026-03-29T01:30",
            "2026-04-05T00:30",
        ),
        # In the hour that comes twice: the first time.
        (
            Turns((ANA, BEN), date(2026, 10, 25), time(2, 30), BERLIN),
            "2026-10-26 00:00",
            "2026-10-25T00:30",
            "2026-11-01T01:30",
        ),
        (
            Turns((ANA,), date(2026, 11, 1), time(1, 30), NEW_YORK),
            "2026-11-02 00:00",
            "2026-11-01T05:30",
            "2026-11-08T06:30",
        ),
    ],
)
def test_a_week_is_one_of_the_local_calendar(rotation: Turns, moment: str, since: str, until: str) -> None:
    duty = turns.by_week(rotation, at(moment, rotation.zone))
    assert duty is not None
    assert (duty.since, duty.until) == (at(since), at(until))


def test_without_a_first_day_weeks_change_on_mondays() -> None:
    rotation = Turns((ANA, BEN), handover=time(0))
    for moment in ("2026-11-23 00:00", "2026-11-29 23:59"):
        duty = turns.by_week(rotation, at(moment))
        assert duty is not None
        assert (duty.since, duty.until) == (at("2026-11-23"), at("2026-11-30"))
        assert duty.since.weekday() == 0


def test_nobody_takes_turns_where_nobody_is() -> None:
    assert turns.by_week(Turns(()), at("2026-11-23")) is None
    assert turns.on_call(Turns(()), None, at("2026-11-23")) == []


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
)
moments = st.datetimes(datetime(2011, 1, 1), datetime(2040, 1, 1)).map(lambda one: one.replace(tzinfo=UTC))  # noqa: DTZ001


@given(zone=zones, handover=st.times(), start=st.dates(date(2010, 1, 1), date(2039, 1, 1)), moment=moments)
def test_somebody_is_on_call_at_any_moment_after_the_start_and_weeks_join(
    zone: str, handover: time, start: date, moment: datetime
) -> None:
    rotation = Turns((ANA, BEN, CAM), start, handover.replace(second=0, microsecond=0), ZoneInfo(zone))
    duty = turns.by_week(rotation, moment)
    begins = turns._begins(rotation, start, 0)
    assert (duty is None) == (moment < begins)
    if duty is None:
        return
    assert duty.since <= moment < duty.until
    following = turns.by_week(rotation, duty.until)
    assert following is not None
    assert following.since == duty.until
    order = [ANA, BEN, CAM, ANA]
    assert (duty.person, following.person) in list(pairwise(order))
    assert abs(duty.until - duty.since - timedelta(days=7)) <= timedelta(days=1)  # Apia left out a whole day


# A calendar's events ------------------------------------------------------------------------------


@dataclass
class Event:
    summary: str
    starts_at: datetime
    ends_at: datetime


def event(summary: str, start: str, end: str) -> Event:
    return Event(summary, at(start), at(end))


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        ("Ana", ["Ana"]),
        ("on call: ANA", ["Ana"]),
        ("Ana/Ben", ["Ana", "Ben"]),
        ("Anastasia", []),
        ("Banana", []),
        ("Ana-Maria", ["Ana"]),
        ("nobody", []),
        ("", []),
    ],
)
def test_whom_an_event_names(summary: str, names: list[str]) -> None:
    assert [one.name for one in turns.named_in(summary, [ANA, BEN])] == names


def test_of_two_names_in_one_another_the_longer_is_meant() -> None:
    lee = Person("Ana Lee", ("lee",))
    assert turns.named_in("Ana Lee", [ANA, lee]) == [lee]
    assert turns.named_in("Ana Lee and Ana", [ANA, lee]) == [ANA, lee]
    assert turns.named_in("c++ (Ben)", [Person("c++", ("c",)), BEN])[1] == BEN


def test_everybody_who_is_named_by_an_event_that_is_on() -> None:
    events = [
        event("Ben", "2026-11-28 08:00", "2026-11-28 20:00"),
        event("Ana", "2026-11-28 00:00", "2026-11-29 00:00"),
        event("Ben, longer", "2026-11-28 09:00", "2026-11-28 22:00"),
        event("Cam", "2026-11-28 10:00", "2026-11-28 11:00"),
    ]
    duties = turns.by_events(TEAM.people, events, at("2026-11-28 11:00"))
    assert [(one.person.name, one.until) for one in duties] == [
        ("Ana", at("2026-11-29 00:00")),
        ("Ben", at("2026-11-28 22:00")),
    ]


@pytest.mark.parametrize(
    ("starts_on", "events", "names"),
    [
        (date(2026, 1, 5), [event("Cam", "2026-01-05 00:00", "2026-01-06 00:00")], ["Cam"]),
        (date(2026, 1, 5), [event("Holiday", "2026-01-05 00:00", "2026-01-06 00:00")], ["Ana"]),
        (date(2026, 1, 5), [], ["Ana"]),
        (None, [], []),  # the calendar alone decides
        (date(2026, 1, 5), None, ["Ana"]),
    ],
)
def test_the_calendar_comes_first_and_weeks_fill_its_gaps(
    starts_on: date | None, events: list[Event] | None, names: list[str]
) -> None:
    rotation = Turns(TEAM.people, starts_on, time(9), BERLIN)
    duties = turns.on_call(rotation, events, at("2026-01-05 12:00"))
    assert [one.person.name for one in duties] == names


def test_far_away_times_are_no_error() -> None:
    rotation = Turns((ANA,), date(2100, 1, 1), time(9), BERLIN)
    assert turns.by_week(rotation, datetime(2000, 1, 1, tzinfo=UTC)) is None
    assert turns._begins(rotation, date(9999, 12, 30), 5) > datetime(9999, 12, 1, tzinfo=UTC)
    assert turns._begins(rotation, date(1, 1, 2), -5) < datetime(1, 1, 1, 1, tzinfo=UTC)
