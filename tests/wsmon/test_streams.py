"""Streams for programs: who may read, what a change sends, and what a gap, a slow client and a fault do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from monitoring.breakers import store
from monitoring.breakers.machine import Mode
from monitoring.models import RecoveryFactor
from tests import sse
from tests.browser.site import Site
from tests.monitoring.factories import make_service
from tests.whole import eventually
from wsmon import callers, hub, live, streams, tokens
from wsmon.audit import Actor
from wsmon.hub import Hub
from wsmon.models import ApiToken
from wsmon.streams import Listener, ProgramFeed

T = TypeVar("T")
PATH = "/api/admin/circuit-breakers/stream"


@pytest.fixture(autouse=True)
def forget_limits() -> None:
    callers.reset_limits()


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    served = Site().start()
    yield served
    served.stop()


def token(name: str = "reader", *scopes: str) -> str:
    return tokens.create(name, scopes or ["monitoring:read"], Actor.system("tests"))[1]


def session(name: str = "viewer", *, staff: bool = True, may_read: bool = True) -> str:
    user = User.objects.create_user(name, password="only-for-tests-1", is_staff=staff)
    if may_read:
        user.user_permissions.add(Permission.objects.get(codename="view_service"))
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


class Stream(sse.Stream):
    """An open stream of the breakers."""

    def events(self, name: str) -> list[Any]:
        return [json.loads(data) for data in self.data(name)]

    def settle(self) -> None:
        """Wait until LISTEN has begun: from then on no change is missed, and none is sent twice."""
        eventually(lambda: any(one.listening for one in Hub._open), "the hub listens")
        eventually(lambda: len(self.events("breakers")) >= 1, "the whole list")
        feeds = [feed for one in Hub._open for feed in one.feeds.values()]
        eventually(
            lambda: not any(listener.behind for feed in feeds for listener in feed.viewers), "the list after LISTEN"
        )


@contextmanager
def stream(site: Site, text: str = "", path: str = PATH, **headers: str) -> Iterator[Stream]:
    opened = Stream(site.port, path, headers or bearer(text))
    try:
        yield opened
    finally:
        opened.close()


def answer(site: Site, method: str = "GET", **more: Any) -> requests.Response:
    return requests.request(method, site.url + PATH, timeout=10, stream=True, **more)


def refused(response: requests.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.status_code
    assert response.headers["Content-Type"] == "application/problem+json"
    document = dict(response.json())
    assert document["status"] == status
    return document


# Who may read ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestWhoMayRead:
    def test_strangers_and_unknown_tokens_are_asked_to_authenticate(self, site: Site) -> None:
        for headers in ({}, bearer("wsm_made-up"), {"Authorization": "Basic YTpi"}, {"Cookie": "sessionid=madeup"}):
            response = answer(site, headers=headers)
            refused(response, 401)
            assert response.headers["WWW-Authenticate"].startswith('Bearer realm="wsmon"')

    def test_a_revoked_token_is_unknown(self, site: Site) -> None:
        text = token()
        tokens.revoke(ApiToken.objects.get(), Actor.system("tests"))
        refused(answer(site, headers=bearer(text)), 401)

    def test_a_token_needs_the_scope(self, site: Site) -> None:
        document = refused(answer(site, headers=bearer(token("other", "webhooks:read"))), 403)
        assert "monitoring:read" in document["detail"]

    def test_an_account_needs_to_be_staff_and_to_have_the_permission(self, site: Site) -> None:
        for key in (session("guest", staff=False), session("new", may_read=False)):
            refused(answer(site, cookies={"sessionid": key}), 403)

    def test_a_page_of_another_site_is_refused_though_its_browser_has_a_session(self, site: Site) -> None:
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        refused(answer(site, cookies={"sessionid": session()}, headers=elsewhere), 403)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_other_methods_are_refused(self, site: Site, method: str) -> None:
        response = answer(site, method, headers=bearer(token()))
        refused(response, 405)
        assert response.headers["Allow"] == "GET, HEAD"

    def test_a_head_says_whether_one_may_read(self, site: Site) -> None:
        assert answer(site, "HEAD", headers=bearer(token())).status_code == 200
        assert answer(site, "HEAD").status_code == 401

    def test_many_wrong_tokens_are_told_to_wait(self, site: Site) -> None:
        for _ in range(settings.API_WRONG_TOKENS_PER_MINUTE):
            refused(answer(site, headers=bearer("wsm_wrong")), 401)
        refused(answer(site, headers=bearer("wsm_wrong")), 429)

    def test_a_token_has_so_many_streams_and_the_next_has_to_wait(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "MAX_PER_TOKEN", 1)
        mine, other = token("mine"), token("other")
        with stream(site, mine) as opened:
            opened.settle()
            response = answer(site, headers=bearer(mine))
            refused(response, 429)
            assert response.headers["Retry-After"] == "10"
            with stream(site, other) as another:
                another.settle()

    def test_a_session_has_so_many_streams(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streams, "MAX_PER_SESSION", 1)
        key = session()
        with stream(site, Cookie=f"sessionid={key}") as opened:
            opened.settle()
            refused(answer(site, cookies={"sessionid": key}), 429)

    def test_a_server_that_is_full_or_without_a_database_says_so(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = token()
        with monkeypatch.context() as full:
            full.setattr(streams, "MAX_VIEWERS", 0)
            refused(answer(site, headers=bearer(text)), 503)

        def away(_text: str) -> None:
            raise OperationalError("away")

        monkeypatch.setattr(tokens, "verify", away)
        response = answer(site, headers=bearer(text))
        refused(response, 503)
        assert response.headers["Retry-After"] == "5"

    def test_a_revoked_token_or_one_without_the_scope_ends_its_stream(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub, "PING_EVERY", 0.2)
        monkeypatch.setattr(hub, "RECHECK_EVERY", 1.2)
        with (
            stream(site, token("one")) as gone,
            stream(site, token("two")) as less,
            stream(site, token("3")) as stays,
        ):
            for opened in (gone, less, stays):
                opened.settle()
            tokens.revoke(ApiToken.objects.get(name="one"), Actor.system("tests"))
            ApiToken.objects.filter(name="two").update(scopes=["webhooks:read"])
            eventually(lambda: gone.ended and less.ended, "their streams end")
            assert not stays.ended

    def test_an_account_that_leaves_ends_its_stream(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "PING_EVERY", 0.2)
        monkeypatch.setattr(hub, "RECHECK_EVERY", 1.2)
        with stream(site, Cookie=f"sessionid={session()}") as opened:
            opened.settle()
            User.objects.update(is_active=False)
            eventually(lambda: opened.ended, "the stream ends")


# What is sent ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestWhatIsSent:
    def test_it_begins_with_every_breaker(self, site: Site) -> None:
        make_service("stripe", breaker={"policy": "counting", "failure_threshold": 3})
        make_service("github")
        make_service("old", archived_at=timezone.now())
        with stream(site, token()) as opened:
            opened.settle()
            head = opened.text.lower()
            assert "content-type: text/event-stream" in head
            assert "cache-control: no-store" in head
            assert "retry: 2000\n" in head
            github, stripe = opened.events("breakers")[-1]
        assert github["service"] == "github"
        assert (github["state"], github["forced"], github["generation"]) == ("CLOSED", None, 0)
        assert (github["next_attempt_at"], github["cause"], github["policy"]) == (None, None, "rolling")
        assert github["now"].endswith("+00:00")
        assert (stripe["policy"], stripe["parameters"]["failure_threshold"]) == ("counting", 3)

    def test_a_change_is_told_once_and_only_it(self, site: Site) -> None:
        service = make_service("stripe")
        make_service("github")
        with stream(site, token()) as opened:
            opened.settle()
            lists = len(opened.events("breakers"))
            store.force(service.pk, Mode.OPEN, "me", "moving", 60)
            eventually(lambda: opened.events("breaker"), "the change")
            (item,) = opened.events("breaker")
            assert (item["service"], item["state"], item["forced"]) == ("stripe", "OPEN", "OPEN")
            assert (item["generation"], item["next_attempt_at"]) == (1, None)
            assert item["forced_until"] > item["now"]
            store.reset(service.pk, "me", "moved")
            eventually(lambda: len(opened.events("breaker")) == 2, "the second change")
            assert opened.events("breaker")[1]["state"] == "CLOSED"
            assert len(opened.events("breakers")) == lists

    def test_an_open_breaker_says_when_it_may_be_tried_by_the_servers_clock(self, site: Site) -> None:
        service = make_service("stripe", breaker={"policy": "counting", "failure_threshold": 1})
        fold = store.Fold().then(ok=False)
        with stream(site, token()) as opened:
            opened.settle()
            store.add_to_score(service.pk, 0, fold)
            eventually(lambda: opened.events("breaker"), "the change")
            (item,) = opened.events("breaker")
        assert (item["state"], item["cause"]) == ("OPEN", "outage")
        due, now = (timezone.datetime.fromisoformat(item[name]) for name in ("next_attempt_at", "now"))
        assert 28 < (due - now).total_seconds() <= 30

    def test_a_new_factor_sends_the_whole_list(self, site: Site) -> None:
        make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            lists = len(opened.events("breakers"))
            store.set_recovery_factor(0.5)
            eventually(lambda: len(opened.events("breakers")) > lists, "the list")
            assert opened.events("breaker") == []
        RecoveryFactor.objects.all().delete()

    def test_more_changes_than_are_worth_naming_send_the_whole_list(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "MANY", 2)
        make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            lists = len(opened.events("breakers"))
            live.publish("breaker", {"services": [1, 2, 3]})
            eventually(lambda: len(opened.events("breakers")) > lists, "the list")

    def test_a_service_that_is_gone_sends_nothing(self, site: Site) -> None:
        service = make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            live.publish("breaker", {"services": [service.pk + 999]})
            live.publish("breaker", {"services": [service.pk]})
            eventually(lambda: opened.events("breaker"), "the one that is there")
            assert [item["service"] for item in opened.events("breaker")] == ["stripe"]

    def test_a_silent_stream_is_kept_alive_by_comments(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub, "PING_EVERY", 0.2)
        with stream(site, token()) as opened:
            opened.settle()
            eventually(lambda: opened.text.count(": \n\n") >= 2, "comments")

    def test_pages_and_programs_share_one_listener_and_hear_of_their_own_only(self, site: Site) -> None:
        service = make_service("stripe")
        key = session()
        with stream(site, token()) as program, stream(site, path="/live/", Cookie=f"sessionid={key}") as page:
            program.settle()
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'")
                assert cursor.fetchone()[0] == 1
            live.publish("state", {"services": [service.pk]})
            live.publish("breaker", {"services": [service.pk]})
            eventually(lambda: program.events("breaker"), "the change")
            eventually(lambda: f"event: svc-{service.pk}" in page.text, "the page's change")
            assert "event: svc-" not in program.text
            assert "event: breaker\n" not in page.text

    def test_after_a_lost_listener_the_whole_list_is_sent(self, site: Site) -> None:
        service = make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            lists = len(opened.events("breakers"))
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
                )
            eventually(lambda: len(opened.events("breakers")) > lists, "the list")
            live.publish("breaker", {"services": [service.pk]})
            eventually(lambda: opened.events("breaker"), "the change")

    def test_a_malformed_notification_harms_nothing(self, site: Site) -> None:
        service = make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            with connection.cursor() as cursor:
                for junk in ('["breaker", {}]', '["breaker", null]', '["breaker", {"services": ["x"]}]'):
                    cursor.execute("SELECT pg_notify(%s, %s)", [hub.CHANNEL, junk])
            live.publish("breaker", {"services": [service.pk]})
            eventually(lambda: opened.events("breaker"), "the change")

    def test_a_rendering_that_fails_is_made_up_for_by_the_whole_list(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = make_service("stripe")
        with stream(site, token()) as opened:
            opened.settle()
            lists = len(opened.events("breakers"))
            with monkeypatch.context() as broken:
                broken.setattr(store, "read", lambda: 1 / 0)
                live.publish("breaker", {"services": [service.pk]})
                eventually(lambda: any(one.behind for one in listeners()), "the fault")
            eventually(lambda: len(opened.events("breakers")) > lists, "the list")

    def test_the_server_stops_though_streams_are_open(self, site: Site) -> None:
        with stream(site, token()) as opened:
            opened.settle()
            site.stop()  # asserts that the server's thread ends
            eventually(lambda: opened.ended, "the stream ends")


def listeners() -> list[Any]:
    return [listener for one in Hub._open for feed in one.feeds.values() for listener in feed.viewers]


# A feed without a socket -------------------------------------------------------------------------


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run it in a thread of its own: playwright leaves an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, scenario).result()


async def read(listener: Listener) -> bytes:
    return await asyncio.wait_for(listener.next(), 5) or b""


def render(ids: set[int]) -> list[dict[str, Any]]:
    return [{"id": number} for number in sorted(ids)] or ["everything"]


@contextmanager
def feed_of() -> Iterator[ProgramFeed]:
    owner = Hub(lambda keys: keys)
    feed = ProgramFeed("breaker", render, "monitoring:read", owner)
    task = asyncio.ensure_future(feed.flush())
    yield feed
    task.cancel()
    owner._threads.shutdown()


def test_a_slow_client_gets_the_whole_list_once_it_reads_again() -> None:
    async def scenario() -> list[bytes]:
        with feed_of() as feed:
            listener = feed.join("token:1", "")
            got = [await read(listener), await read(listener)]
            for number in range(hub.QUEUE_CHUNKS + 5):
                feed.take({"services": [number]})
                await asyncio.sleep(hub.STATE_DELAY * 1.5)
            assert listener.behind
            feed.take({"services": [99]})
            while (chunk := await read(listener)) == b": \n\n":
                pass
            feed.take({"services": [100]})
            return [*got, chunk, await read(listener)]

    first, whole, again, change = run(scenario())
    assert first == b"retry: 2000\n\n"
    assert whole == again == b'event: breakers\ndata: ["everything"]\n\n'
    assert change == b'event: breaker\ndata: {"id":100}\n\n'


def test_many_who_join_at_once_share_one_reading_of_the_list() -> None:
    readings = 0

    def counted(ids: set[int]) -> list[dict[str, Any]]:
        nonlocal readings
        readings += 1
        return render(ids)

    async def scenario() -> None:
        with feed_of() as feed:
            feed._render = counted
            joined = [feed.join("token:1", "") for _ in range(50)]
            for _ in range(2):
                await asyncio.gather(*(read(listener) for listener in joined))

    run(scenario())
    assert readings == 1


def test_a_keep_alive_does_not_wait_for_the_list() -> None:
    async def scenario() -> bytes:
        owner = Hub(lambda keys: keys)
        feed = ProgramFeed("breaker", render, "monitoring:read", owner)  # nobody renders: the database is away
        listener = feed.join("token:1", "")
        await read(listener)
        waiting = asyncio.ensure_future(read(listener))
        await asyncio.sleep(0.05)
        feed.keep_alive()
        return await waiting

    assert run(scenario()) == b": \n\n"


def test_changes_that_nobody_reads_are_not_rendered() -> None:
    async def scenario() -> bool:
        with feed_of() as feed:
            feed._render = lambda ids: pytest.fail("rendered")
            feed.take({"services": [1]})
            await asyncio.sleep(0.1)
            return bool(feed._changed)

    assert run(scenario()) is False
