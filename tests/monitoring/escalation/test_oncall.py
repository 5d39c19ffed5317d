"""Who is on call, by rotations in the database and calendars that were read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
import responses
from django.utils import timezone

from monitoring.escalation import oncall, running
from monitoring.models import CalendarFeed, Rotation

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PEOPLE = [{"name": "Ana", "channels": ["ana-sms"]}, {"name": "Ben", "channels": ["ben-sms", "ben-mail"]}]
CALENDAR = "\r\n".join(
    [
        "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//EN",
        "BEGIN:VEVENT", "UID:1", "DTSTART:20261128T080000Z", "DTEND:20261128T200000Z", "SUMMARY:Ben", "END:VEVENT",
        "END:VCALENDAR", "",
    ]
)  # fmt: skip


def rotation(slug: str = "ops", **more: Any) -> Rotation:
    return Rotation.objects.create(slug=slug, people=more.pop("people", PEOPLE), **more)


@pytest.mark.django_db
class TestNow:
    def test_by_the_week(self) -> None:
        rotation(starts_on=date(2026, 11, 23))
        found = oncall.now_on_call(NOW)
        assert found["ops"].names == "Ana"
        assert found["ops"].duties[0].until == datetime(2026, 11, 30, 9, tzinfo=UTC)

    def test_by_a_calendar_that_was_read(self) -> None:
        rotation(ical="https://calendar.example/ops.ics", starts_on=date(2026, 11, 23))
        assert oncall.now_on_call(NOW)["ops"].names == "Ana", "nothing was read yet"
        CalendarFeed.objects.create(owner="rotation:ops", text=CALENDAR, read_at=timezone.now())
        assert oncall.now_on_call(NOW)["ops"].names == "Ben"
        assert oncall.now_on_call(NOW.replace(hour=21))["ops"].names == "Ana"

    def test_archived_ones_and_others_are_left_out(self) -> None:
        rotation("old", archived_at=NOW)
        rotation("other", starts_on=date(2026, 11, 23))
        assert list(oncall.now_on_call(NOW)) == ["other"]
        assert oncall.now_on_call(NOW, ["ops", "old"]) == {}

    def test_a_zone_that_is_gone_is_utc_and_odd_people_are_left_out(self) -> None:
        row = rotation(time_zone="Nowhere/Atall", people=[{"name": ""}, "x", *PEOPLE])
        found = oncall.turns_of(row)
        assert (found.zone.key, [one.name for one in found.people]) == ("UTC", ["Ana", "Ben"])


@pytest.mark.django_db
class TestTargets:
    def test_channels_and_rotations_each_channel_once(self) -> None:
        rotation(starts_on=date(2026, 11, 16))
        found = running.targets(["chat", "ben-sms", "rotation:ops", "rotation:none", "chat"], NOW)
        assert [(one.channel, one.recipient) for one in found] == [
            ("chat", ""),
            ("ben-sms", "Ben"),
            ("ben-mail", "Ben"),
        ]


@pytest.mark.django_db
class TestFeeds:
    @responses.activate
    def test_calendars_are_read_and_kept_by_the_name_of_the_rotation(self) -> None:
        responses.get("https://calendar.example/ops.ics", body=CALENDAR, content_type="text/calendar")
        rotation(ical="https://calendar.example/ops.ics")
        rotation("without")
        assert oncall.read_feeds(NOW) == 1
        assert oncall.read_feeds(NOW) == 0, "not again so soon"
        assert oncall.now_on_call(NOW)["ops"].names == "Ben"

    @responses.activate
    def test_what_no_rotation_wants_is_forgotten_and_others_feeds_are_left(self) -> None:
        CalendarFeed.objects.create(owner="rotation:gone", text=CALENDAR)
        CalendarFeed.objects.create(owner="critical:fairs", text=CALENDAR)
        assert oncall.read_feeds(NOW) == 0
        assert list(CalendarFeed.objects.values_list("owner", flat=True)) == ["critical:fairs"]
