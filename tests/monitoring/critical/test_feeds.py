from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from monitoring import alerts
from monitoring.critical import feeds
from monitoring.critical.feeds import is_due, read_due
from monitoring.models import CalendarFeed
from tests.monitoring.critical.calendars import BERLIN, NOW, calendar, event, spans
from tests.servers import Handler, Peer, Server, answering, http, sending, silent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("loopback_targets")]
OWNER = "critical:fairs"
GOOD = calendar(event("20261020", "Fair")).encode()
MINUTE = timedelta(minutes=1)


def read(handler: Handler, now: datetime = NOW) -> CalendarFeed:
    with Server(handler) as server:
        read_due({OWNER: server.url("/secret-calendar-token.ics")}, "critical", now)
    return CalendarFeed.objects.get(owner=OWNER)


def days() -> list[str]:
    return [start for start, _end in spans(feeds.events(OWNER, NOW, NOW + timedelta(days=31), BERLIN))]


def raised() -> list[str]:
    return [alert.detail for alert in alerts.open_alerts([feeds.ALERT_KIND])]


class TestReading:
    def test_a_good_one_is_kept(self):
        feed = read(answering(GOOD, headers={"ETag": '"1"'}))
        assert (feed.read_at, feed.problem, feed.etag) == (NOW, "", '"1"')
        assert days() == ["Tue 2026-10-20 00:00+0200"]
        assert raised() == []

    def test_it_is_asked_for_again_with_its_etag_and_kept_when_nothing_is_new(self):
        read(answering(GOOD, headers={"ETag": '"1"'}))
        with Server(answering(b"", "304 Not Modified")) as server:
            read_due({OWNER: server.url()}, "critical", NOW + 20 * MINUTE)
            assert b'\r\nIf-None-Match: "1"\r\n' in server.requests[0]
        feed = CalendarFeed.objects.get(owner=OWNER)
        assert (feed.read_at, feed.problem) == (NOW + 20 * MINUTE, "")
        assert days() == ["Tue 2026-10-20 00:00+0200"]

    def test_webcal_is_https(self):
        assert feeds._url("webcal://example.com/a.ics?x=1") == "https://example.com/a.ics?x=1"

    def test_a_remark_about_its_events_is_no_failure(self):
        feed = read(answering(calendar(event(), event("20261021", RRULE="FREQ=HOURLY")).encode()))
        assert feed.problem == "1 of its events cannot be used and are left out"
        assert feed.read_at == NOW
        assert not is_due(feed, NOW + 14 * MINUTE)
        assert raised() == []

    def test_a_reference_is_resolved(self, monkeypatch: pytest.MonkeyPatch):
        with Server(answering(GOOD)) as server:
            monkeypatch.setenv("FAIRS_URL", server.url())
            read_due({OWNER: "env:FAIRS_URL"}, "critical", NOW)
        assert CalendarFeed.objects.get(owner=OWNER).problem == ""

    def test_a_reference_that_leads_nowhere_is_a_problem_at_once(self):
        read_due({OWNER: "env:NOT_SET_ANYWHERE"}, "critical", NOW)
        assert "NOT_SET_ANYWHERE" in CalendarFeed.objects.get(owner=OWNER).problem
        assert len(raised()) == 1

    def test_what_nobody_wants_any_more_is_forgotten_with_its_alert(self):
        read(answering(b"", "404 Not Found"))
        CalendarFeed.objects.create(owner="rotation:ops")
        assert len(raised()) == 1
        read_due({}, "critical", NOW)
        assert list(CalendarFeed.objects.values_list("owner", flat=True)) == ["rotation:ops"]
        assert raised() == []


def endless_calendar(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\nBEGIN:VCALENDAR\r\n")
    for _ in range(3_000):
        peer.send(b"X-COMMENT:" + b"x" * 1000 + b"\r\n")


# (what the feed does, what is said of it)
BROKEN: list[tuple[str, Handler, str]] = [
    ("no calendar", answering(b"<html>Sign in</html>"), "is no iCalendar"),
    ("cut off", answering(GOOD[:60]), "cannot be read as an iCalendar"),
    ("huge", endless_calendar, "larger than 2 MiB"),
    ("binary", answering(bytes(range(256)) * 20), "is no iCalendar"),
    ("gone", answering(b"", "410 Gone"), "it answered 410"),
    ("refused", answering(b"", "403 Forbidden"), "it answered 403"),
]
AWAY: list[tuple[str, Handler, str]] = [
    ("failing", answering(b"", "503 Service Unavailable"), "it answered 503"),
    ("closing", lambda _peer: None, "connection"),
]


class TestBrokenFeeds:
    @pytest.mark.parametrize(("handler", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
    def test_the_last_good_one_stays_and_an_alert_is_raised(self, handler: Handler, words: str):
        read(answering(GOOD))
        feed = read(handler, NOW + 20 * MINUTE)
        assert words in feed.problem
        assert feed.read_at == NOW
        assert days() == ["Tue 2026-10-20 00:00+0200"]
        (detail,) = raised()
        assert words in detail
        assert "The one read 2026-10-17 12:12 UTC stays in force." in detail

    @pytest.mark.parametrize(("handler", "words"), [case[1:] for case in AWAY], ids=[case[0] for case in AWAY])
    def test_one_that_is_away_is_an_alert_only_after_an_hour(self, handler: Handler, words: str):
        read(answering(GOOD))
        feed = read(handler, NOW + 20 * MINUTE)
        assert words in feed.problem.lower()
        assert raised() == []
        read(handler, NOW + 61 * MINUTE)
        assert len(raised()) == 1
        assert days() == ["Tue 2026-10-20 00:00+0200"]

    def test_one_that_was_never_read_is_an_alert_at_once(self):
        read(answering(b"", "503 Service Unavailable"))
        (detail,) = raised()
        assert "None was read yet." in detail

    def test_the_alert_is_resolved_by_the_next_good_one(self):
        read(answering(b"nonsense"))
        read(answering(GOOD), NOW + 6 * MINUTE)
        assert raised() == []
        assert CalendarFeed.objects.get(owner=OWNER).problem == ""

    def test_neither_its_address_nor_its_content_gets_into_messages(self):
        read(answering(b"<html>token=topsecretvalue</html>"))
        told = CalendarFeed.objects.get(owner=OWNER).problem + raised()[0]
        assert "secret" not in told

    def test_one_that_hangs_is_given_up(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(feeds, "TIMEOUT", 0.2)
        assert read(silent).problem

    def test_one_that_lies_about_its_etag_gets_no_empty_calendar(self):
        read(answering(GOOD))
        feed = read(sending(http(b"", "304 Not Modified")), NOW + 20 * MINUTE)
        assert feed.problem == "it answered 304"  # nobody asked with an ETag
        assert days() == ["Tue 2026-10-20 00:00+0200"]


# (minutes after its last reading, was that fine?, is it due?)
TIMES: list[tuple[float, bool, bool]] = [
    (14, True, False),
    (15, True, True),
    (4, False, False),
    (5, False, True),
    (-1, True, True),  # it was read in the future: the clock went back
]


@pytest.mark.parametrize(("minutes", "fine", "due"), TIMES)
def test_a_feed_is_read_now_and_then(minutes: float, fine: bool, due: bool):
    feed = CalendarFeed(owner=OWNER, tried_at=NOW, read_at=NOW if fine else None, problem="" if fine else "away")
    assert is_due(feed, NOW + minutes * MINUTE) is due


def test_one_that_was_never_tried_is_due():
    assert is_due(None, NOW)
    assert is_due(CalendarFeed(owner=OWNER), NOW)


def test_no_http_happens_before_a_feed_is_due(django_assert_max_num_queries: Callable[..., object]):
    read(answering(GOOD))
    with Server(answering(GOOD)) as server:
        assert read_due({OWNER: server.url()}, "critical", NOW + MINUTE) == 0
        assert server.requests == []
