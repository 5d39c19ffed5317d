"""From NOTIFY to the bytes of an open stream: who may watch, what arrives, and what a fault does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
import pytest
import requests
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from monitoring import alerts
from monitoring.models import Service
from tests.browser.site import Site
from tests.monitoring.factories import make_check, make_service
from tests.sse import Stream
from tests.whole import eventually
from wsmon import hub, live
from wsmon.hub import Hub, Viewer, sse

T = TypeVar("T")


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    served = Site().start()
    yield served
    served.stop()


def staff(name: str = "viewer", *, may_read: bool = True) -> User:
    user = User.objects.create_user(name, password="only-for-tests-1", is_staff=True)
    if may_read:
        user.user_permissions.add(Permission.objects.get(codename="view_service"))
    return user


def session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


def open_streams() -> set[Viewer]:
    """Of every server in this process."""
    return {viewer for one in Hub._open for viewer in one.viewers}


@contextmanager
def stream(site: Site, session: str, query: str = "") -> Iterator[Stream]:
    opened = Stream(site.port, f"/live/{query}", {"Cookie": f"sessionid={session}"})
    try:
        yield opened
    finally:
        opened.close()


# Writing -----------------------------------------------------------------------------------------


def heard_by(listener: psycopg.Connection[tuple[object, ...]], wait: float = 0.5) -> list[Any]:
    return [json.loads(notice.payload) for notice in listener.notifies(timeout=wait)]


@pytest.fixture
def listener(transactional_db: None) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(**hub._connection_parameters()) as opened:
        opened.execute(f"LISTEN {hub.CHANNEL}")
        yield opened


def test_a_change_is_told_when_its_transaction_commits_and_not_before(
    listener: psycopg.Connection[tuple[object, ...]],
) -> None:
    with transaction.atomic():
        live.publish("state", {"services": [1, 2]})
        assert heard_by(listener, 0.2) == []
    assert heard_by(listener) == [["state", {"services": [1, 2]}]]


def test_nothing_is_told_of_a_transaction_that_was_rolled_back(
    listener: psycopg.Connection[tuple[object, ...]],
) -> None:
    with transaction.atomic():
        live.publish("state", {"services": [1]})
        transaction.set_rollback(True)
    assert heard_by(listener, 0.3) == []


def test_many_services_are_cut_into_pieces_that_postgresql_takes(
    listener: psycopg.Connection[tuple[object, ...]],
) -> None:
    ticks = {str(number): [number % 3, 123.4, 1_700_000_000.5, "healthy"] for number in range(2000)}
    live.publish("tick", {"checks": ticks})
    live.publish("state", {"services": list(range(5000))})
    told = heard_by(listener)
    assert {key: value for kind, body in told if kind == "tick" for key, value in body["checks"].items()} == ticks
    assert sorted(n for kind, body in told if kind == "state" for n in body["services"]) == list(range(5000))


@pytest.mark.django_db
def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        live.publish("self", {"problem": "x" * 9000})


# Who may watch -----------------------------------------------------------------------------------


@pytest.mark.django_db
class TestEntitled:
    def test_active_staff_with_the_permission_may(self) -> None:
        keys = {session_of(staff()), session_of(User.objects.create_superuser("root", password="x"))}
        assert live.entitled(keys | {"no-such-session"}) == keys

    def test_staff_without_the_permission_may_not(self) -> None:
        assert live.entitled({session_of(staff(may_read=False))}) == set()

    def test_accounts_that_are_not_staff_or_not_active_may_not(self) -> None:
        user = staff()
        key = session_of(user)
        User.objects.filter(pk=user.pk).update(is_staff=False)
        assert live.entitled({key}) == set()
        User.objects.filter(pk=user.pk).update(is_staff=True, is_active=False)
        assert live.entitled({key}) == set()

    def test_a_changed_password_ends_the_other_sessions(self) -> None:
        user = staff()
        key = session_of(user)
        user.set_password("another-password-2")
        user.save()
        assert live.entitled({key}) == set()

    def test_an_expired_session_may_not(self) -> None:
        key = session_of(staff())
        Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
        assert live.entitled({key}) == set()


@pytest.mark.django_db(transaction=True)
class TestTheEndpoint:
    def test_it_refuses_strangers_and_other_sites(self, site: Site) -> None:
        assert requests.get(site.url + "/live/", timeout=10).status_code == 403
        cookies = {"sessionid": "made-up"}
        assert requests.get(site.url + "/live/", cookies=cookies, timeout=10).status_code == 403
        mine = {"sessionid": session_of(staff())}
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        assert requests.get(site.url + "/live/", cookies=mine, headers=elsewhere, timeout=10).status_code == 403

    @pytest.mark.parametrize(
        "cookie", ['sessionid="; ;;=, [ ', 'sessionid="a\\000b"', "sessionid=" + "x" * 4000, "é"]
    )
    def test_it_survives_a_broken_cookie(self, site: Site, cookie: str) -> None:
        headers = {"Cookie": cookie.encode()}
        assert requests.get(site.url + "/live/", headers=headers, timeout=10).status_code == 403

    def test_it_refuses_other_methods(self, site: Site) -> None:
        cookies = {"sessionid": session_of(staff())}
        assert requests.post(site.url + "/live/", cookies=cookies, timeout=10).status_code == 405

    def test_a_head_says_whether_one_may_watch(self, site: Site) -> None:
        cookies = {"sessionid": session_of(staff())}
        assert requests.head(site.url + "/live/", cookies=cookies, timeout=10).status_code == 200
        assert requests.head(site.url + "/live/", timeout=10).status_code == 403

    def test_a_session_has_so_many_streams_and_the_next_has_to_wait(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "MAX_PER_SESSION", 2)
        user = staff()
        key = session_of(user)
        cookies = {"sessionid": key}
        with stream(site, key) as first:
            first.wait_for("event: hello")
            with stream(site, key) as second:
                second.wait_for("event: hello")
                refused = requests.get(site.url + "/live/", cookies=cookies, timeout=10)
                assert refused.status_code == 429
                assert refused.headers["Content-Type"] == "application/problem+json"
                assert refused.headers["Retry-After"] == "10"
                assert refused.json()["status"] == 429
                assert requests.head(site.url + "/live/", cookies=cookies, timeout=10).status_code == 429
                with stream(site, session_of(user)) as other:  # another browser of the same account
                    other.wait_for("event: hello")
            eventually(lambda: len(open_streams()) == 1, "the others have left")
            with stream(site, key) as again:
                again.wait_for("event: hello")

    def test_an_account_has_so_many_streams_in_all_its_sessions(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "MAX_PER_USER", 2)
        user, other = staff(), staff("other")
        with stream(site, session_of(user)) as first, stream(site, session_of(user)) as second:
            first.wait_for("event: hello")
            second.wait_for("event: hello")
            for who, status in ((user, 429), (other, 200)):
                cookies = {"sessionid": session_of(who)}
                assert requests.head(site.url + "/live/", cookies=cookies, timeout=10).status_code == status

    def test_it_streams_what_a_state_change_touches(self, site: Site) -> None:
        service = make_service("github", name="GitHub")
        make_check(service)
        with stream(site, session_of(staff())) as opened:
            head = opened.wait_for("event: resync").lower()  # LISTEN has begun
            assert "content-type: text/event-stream" in head
            assert "cache-control: no-store" in head
            Service.objects.update(status="critical", reason="<b>refused</b>")
            live.publish("state", {"services": [service.id]})
            opened.wait_for("event: list")
            (row,) = opened.data(f"svc-{service.id}")
            assert 'data-s="critical"' in row
            assert "&lt;b&gt;refused" in row
            assert "0/1" in opened.data("overall")[-1]
            assert json.loads(opened.data("list")[-1])["counts"]["unhealthy"] == 1

    def test_ordinary_results_are_gathered_into_one_event_a_second(self, site: Site) -> None:
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            for number in range(20):
                live.publish("tick", {"checks": {f"{number}0": [number, 10.0, time.time(), "healthy"]}})
            opened.wait_for('"19":')
            ticks = [json.loads(data)["services"] for data in opened.data("tick")]
            assert sum(len(tick) for tick in ticks) == 20
            assert len(ticks) <= 3

    def test_breakers_that_changed_are_named_at_once_and_together(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "RENDER_LIMIT", 30)
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            with transaction.atomic():
                for number in (9, 7, 9):
                    live.publish("breaker", {"services": [number]})
            opened.wait_for("event: breakers")
            assert [json.loads(data) for data in opened.data("breakers")] == [{"ids": [7, 9]}]
            live.publish("breaker", {"services": []})  # any of them
            eventually(lambda: len(opened.data("breakers")) == 2, "the second event")
            live.publish("breaker", {"services": list(range(31))})  # too many to name
            eventually(lambda: len(opened.data("breakers")) == 3, "the third event")
            assert [json.loads(data) for data in opened.data("breakers")[1:]] == [{"ids": []}, {"ids": []}]

    def test_what_is_merely_relayed_is_told_once_at_a_time_and_makes_nobody_fetch(self, site: Site) -> None:
        session = session_of(staff())
        with stream(site, session) as opened:
            opened.wait_for("event: resync")
            before = time.time()
            with transaction.atomic():
                for number in (1, 2):
                    live.publish("deliveries", {"destinations": [number]})
            opened.wait_for("event: deliveries")
            assert [data.strip() for data in opened.data("deliveries")] == [""]
            with stream(site, session, f"?since={before}") as late:
                late.wait_for("event: hello")
                assert late.data("resync") == []

    def test_an_alert_changes_the_count_of_every_page_at_once(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "REGULAR_EVERY", 3600)
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: count-alerts")
            alerts.raise_alert("x", "test", "warning", "Something is odd")
            eventually(lambda: "ws-count" in opened.data("count-alerts")[-1], "the count")

    def test_a_page_that_missed_a_change_is_told_to_fetch(self, site: Site) -> None:
        session = session_of(staff())
        with stream(site, session) as first:
            first.wait_for("event: resync")
            before = time.time()
            live.publish("state", {"services": []})
            time.sleep(0.3)
            with stream(site, session, f"?since={before - 1}") as late:
                late.wait_for("event: resync")
            with stream(site, session, f"?since={time.time() + 1}") as fresh:
                fresh.wait_for("event: self")
                assert "event: resync" not in fresh.text

    def test_signing_out_ends_the_stream(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "PING_EVERY", 0.2)
        monkeypatch.setattr(hub, "RECHECK_EVERY", 1.2)
        with stream(site, session_of(staff("one"))) as gone, stream(site, session_of(staff("two"))) as stays:
            gone.wait_for("event: hello")
            stays.wait_for("event: hello")
            User.objects.filter(username="one").update(is_active=False)
            gone.wait_for("event: signed-out")
            eventually(lambda: gone.ended, "the stream ends")
            assert not stays.ended

    def test_a_lost_listener_is_made_anew_and_pages_fetch_once(self, site: Site) -> None:
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            resyncs = opened.text.count("event: resync")
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
                )
            opened.wait_for('"feed": false')
            eventually(lambda: opened.text.count("event: resync") > resyncs, "a second resync")
            live.publish("tick", {"checks": {"70": [7, 1.0, 2.0, "healthy"]}})
            opened.wait_for('"7":')

    def test_a_malformed_notification_harms_nothing(self, site: Site) -> None:
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            with connection.cursor() as cursor:
                for junk in ("", "{", "[1]", '["state", {"services": ["x"]}]', '["tick", []]', '["state", null]'):
                    cursor.execute("SELECT pg_notify(%s, %s)", [hub.CHANNEL, junk])
            live.publish("tick", {"checks": {"70": [7, 1.0, 2.0, "healthy"]}})
            opened.wait_for('"7":')

    def test_a_rendering_that_fails_lets_pages_fetch_and_goes_on(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = make_service()
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            resyncs = opened.text.count("event: resync")
            with monkeypatch.context() as broken:
                broken.setattr("monitoring.fragments.changed", lambda ids: 1 / 0)
                live.publish("state", {"services": [service.id]})
                eventually(lambda: opened.text.count("event: resync") > resyncs, "a resync")
            time.sleep(1.2)
            live.publish("state", {"services": [service.id]})
            opened.wait_for("event: list")

    def test_more_changes_than_can_be_rendered_become_one_fetch(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "RENDER_LIMIT", 3)
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: resync")
            resyncs = opened.text.count("event: resync")
            live.publish("state", {"services": [1, 2, 3, 4]})
            eventually(lambda: opened.text.count("event: resync") > resyncs, "a resync")
            assert "event: svc-" not in opened.text

    def test_the_server_stops_though_streams_are_open(self, site: Site) -> None:
        with stream(site, session_of(staff())) as opened:
            opened.wait_for("event: hello")
            site.stop()  # asserts that the server's thread ends
            eventually(lambda: opened.ended, "the stream ends")


# The hub without a socket ------------------------------------------------------------------------


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run it in a thread of its own: playwright leaves an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, scenario).result()


def test_an_event_with_several_lines_stays_one_event() -> None:
    assert sse("row", "<li>\n</li>") == b"event: row\ndata: <li>\ndata: </li>\n\n"
    assert sse("resync", "") == b"event: resync\ndata: \n\n"


def test_what_waits_for_a_viewer_is_written_at_once() -> None:
    async def scenario() -> bytes | None:
        viewer = Viewer("key", b"a")
        viewer.offer(b"b")
        viewer.offer(b"c")
        return await viewer.next()

    assert run(scenario()) == b"abc"


def test_a_viewer_that_is_too_slow_is_told_to_fetch_instead() -> None:
    async def scenario() -> tuple[bytes | None, bytes | None]:
        many, large = Viewer("key", b"first"), Viewer("key", b"first")
        for _ in range(hub.QUEUE_CHUNKS + 5):
            many.offer(b"x")
        large.offer(b"x" * (hub.QUEUE_BYTES + 1))
        return await many.next(), await large.next()

    many, large = run(scenario())
    assert many is not None
    assert many.startswith(hub.RESYNC)
    assert len(many) < 200
    assert large == hub.RESYNC


def test_an_ended_viewer_still_gets_what_was_queued() -> None:
    async def scenario() -> list[bytes | None]:
        viewer = Viewer("key", b"bye")
        viewer.end()
        return [await viewer.next(), await viewer.next()]

    assert run(scenario()) == [b"bye", None]


def test_nothing_is_rendered_while_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> bool:
        idle = Hub(lambda keys: keys)
        idle.take('["state", {"services": [1]}]')
        idle.take('["tick", {"checks": {"10": [1, 1, 2, "healthy"]}}]')
        return bool(idle._changed or idle._ticks)

    assert run(scenario()) is False


@pytest.mark.django_db(transaction=True)
def test_the_server_stops_though_another_event_loop_ended_with_its_streams_open(site: Site) -> None:
    async def left_open() -> Hub:
        abandoned = Hub(lambda keys: keys)
        abandoned.join("key", "user", 0.0)
        return abandoned

    abandoned = run(left_open())
    with stream(site, session_of(staff())) as opened:
        opened.wait_for("event: hello")
        site.stop()
        eventually(lambda: opened.ended, "the stream ends")
    assert abandoned not in Hub._open
    site.start()  # its port is free
